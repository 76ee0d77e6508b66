"""The beating heart: volumes, views and landmarks against geometry and our own measurements."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from insonate.data.pointsets import POINT_SETS
from insonate.data.spacing import Spacing
from insonate.errors import InsonateError
from insonate.measure.discs import plane_of_mask, volume_one_plane, volume_two_planes
from insonate.phantom.heart import PATHOLOGIES, VIEWS, Anatomy, Chambers, Plane, volume, world_from_probe
from insonate.phantom.heart.chambers import Distances
from insonate.phantom.heart.items import by_hand
from insonate.phantom.heart.poses import checked
from insonate.phantom.heart.section import Section
from insonate.phantom.heart.solids import Xyz
from insonate.phantom.heart.tissue import LABELS
from insonate.phantom.heart.truth import TASKS
from insonate.phantom.physics import Grid, stream
from insonate.phantom.vendors import VENDORS

ADULTS = range(4)


def anatomy(patient: int, pathology: str = "normal", **changes: object) -> Anatomy:
    drawn = Anatomy.draw(stream(5, patient, "anatomy"), pathology=pathology)
    return replace(drawn, **changes)


def plane(patient: int, view: str, pathology: str = "normal", **changes: object) -> Plane:
    chambers = Chambers(anatomy(patient, pathology, **changes))
    return Plane(chambers, volume(5), stream(5, patient, view), view=view)


def voxels(chambers: Chambers, phase: float, step_mm: float) -> tuple[Distances, float]:
    a = chambers.anatomy
    side = np.arange(-70, 70, step_mm, dtype=np.float32)
    up = np.arange(-10, a.length_mm + a.apex_wall_mm + 12, step_mm, dtype=np.float32)
    x, y, z = np.meshgrid(side, side, up, indexing="ij", sparse=False)
    return chambers.distances(Xyz(x, y, z), chambers.beat.moment(phase)), step_mm**3 / 1000


CASES = [
    anatomy(0), anatomy(1, ef_pct=25.0), anatomy(2, "rv_pressure", rvsp_mmhg=80.0),
    anatomy(3, "regional", ef_pct=35.0), anatomy(4, "paediatric"),
]  # fmt: skip


@pytest.mark.parametrize("who", CASES, ids=[a.pathology for a in CASES])
def test_voxels_of_the_cavity_have_the_volumes_and_the_ejection_fraction(who):
    chambers = Chambers(who)
    step_mm = 1.6 if who.radius_mm > 17 else 1.2
    volumes = []
    for phase in (0.0, chambers.beat.end_systole):
        distances, voxel_ml = voxels(chambers, phase, step_mm)
        volumes.append(float((distances.lv < 0).sum()) * voxel_ml)
        assert volumes[-1] == pytest.approx(chambers.beat.moment(phase).volume_ml, rel=0.03)
    assert 100 * (1 - volumes[1] / volumes[0]) == pytest.approx(who.ef_pct, abs=0.8)
    assert volumes[0] == pytest.approx(chambers.beat.edv_ml, rel=0.03)


def test_the_wall_keeps_its_volume():
    chambers = Chambers(anatomy(0))
    walls = []
    for phase in (0.0, chambers.beat.end_systole):
        d, voxel_ml = voxels(chambers, phase, 1.6)
        walls.append(float(((d.epi < 0) & (d.lv >= 0)).sum()) * voxel_ml)
    assert walls[1] == pytest.approx(walls[0], rel=0.05)
    assert walls[0] * 1.05 == pytest.approx(chambers.beat.mass_g, rel=0.08)


def ventricle_plane(shown: Plane, phase: float):
    """Slices of the cavity in the plane of a view, by our own disc summation on its true mask."""
    t_s = phase * shown.chambers.beat.period_s
    shown._breath = 0.25, 0.0, 0.0
    cut = Section(shown, shown.moment(t_s), t_s)
    step_mm = 0.5
    x, z = np.meshgrid(np.arange(-60, 60, step_mm), np.arange(5, 170, step_mm))
    mask = cut.at(x, z).lv < 0
    hinges = np.array(cut.hinges(cut.lay.mitral, cut.lay.mitral_mm))
    return plane_of_mask(mask, (hinges - [-60, 5]) / step_mm, Spacing(row_mm=step_mm, col_mm=step_mm))


@pytest.mark.parametrize("ef_pct", [20.0, 40.0, 62.0])
def test_disc_summation_on_true_masks_gives_the_ejection_fraction_within_two_points(ef_pct):
    four, two = (plane(1, view, ef_pct=ef_pct) for view in ("A4C", "A2C"))
    end = four.chambers.beat.end_systole
    cuts = [[ventricle_plane(shown, phase) for shown in (four, two)] for phase in (0.0, end)]
    both = [volume_two_planes(*pair).value for pair in cuts]
    one = [volume_one_plane(pair[0]).value for pair in cuts]
    assert 100 * (1 - both[1] / both[0]) == pytest.approx(ef_pct, abs=2)
    assert 100 * (1 - one[1] / one[0]) == pytest.approx(ef_pct, abs=3)
    assert both[0] == pytest.approx(four.chambers.beat.edv_ml, rel=0.08)


def test_regional_walls_move_less_where_they_are_ill():
    beat = Chambers(anatomy(0, "regional", ef_pct=40.0, wall_motion=(0.0, 0.0) + (1.0,) * 15)).beat
    now = beat.moment(beat.end_systole)
    angle = np.radians(np.array([60.0, 240.0], np.float32))
    where = np.cos(angle) * 20, np.sin(angle) * 20, np.full(2, 0.2 * 85, np.float32)
    still, moving = beat.motion_at(*where, now)
    assert still < 0.4 < 0.9 < moving


def test_pressure_flattens_the_septum_and_widens_the_right_ventricle():
    calm, loaded = (Chambers(anatomy(0, rvsp_mmhg=p)) for p in (25.0, 85.0))
    now = loaded.beat.moment(loaded.beat.end_systole)
    angle = np.linspace(0, 2 * math.pi, 721)
    radius = np.linspace(5, 45, 401)[:, None]
    at = Xyz(
        *(
            np.float32(c)
            for c in (radius * np.cos(angle), radius * np.sin(angle), now.centre_mm + 0 * radius * angle)
        )
    )
    plain = replace(loaded.anatomy, shears=((0.0, 0.1, 0.0),) * 5)
    inside = Chambers(plain).distances(at, now).lv < 0
    edge = radius[inside.sum(0) - 1, 0]
    x, y = edge * np.cos(angle), edge * np.sin(angle)
    assert np.ptp(y) / np.ptp(x) == pytest.approx(loaded.anatomy.eccentricity(1.0), abs=0.03)
    size = [float((voxels(c, 0.0, 3.0)[0].rv < 0).sum()) for c in (calm, loaded)]
    assert size[1] > 1.1 * size[0]


def seen(view: str, patient: int = 0) -> dict[str, float]:
    """Area in cm² of each structure in the exact view at end-diastole, or with the mitral valve open."""
    shown = plane(patient, view)
    if view == "PSAX-MV":
        shown.start = shown.chambers.beat.end_systole + 0.15
    grid = Grid(VENDORS["Northlight"], shown.depth_mm, 160)
    label = shown.frame(shown.static(grid), 0.0).label
    area = grid.line_pitch_mm[:, None] * grid.step_mm * np.ones_like(grid.x_mm) / 100
    return {name: float(area[label == number].sum()) for number, name in enumerate(LABELS)}


MUST = {
    "A4C": ("lv", "rv", "la", "ra", "myocardium"), "A2C": ("lv", "la"), "A3C": ("lv", "la", "aorta"),
    "A5C": ("lv", "rv", "ra", "aorta"), "PLAX": ("lv", "rv", "la", "aorta", "lvot"),
    "PSAX-AV": ("aorta", "rv", "la", "ra", "pulmonary"), "PSAX-MV": ("lv", "rv", "leaflet"),
    "PSAX-PM": ("lv", "rv", "papillary"), "SC4C": ("lv", "rv", "la", "ra", "liver"),
    "SCIVC": ("cava", "ra", "liver"),
}  # fmt: skip
LESS = {"leaflet": 0.3, "papillary": 0.4, "lvot": 0.5}
ABSENT = {"A4C": ("aorta",), "A2C": ("aorta", "ra"), "PSAX-PM": ("la", "ra", "aorta"), "SCIVC": ("lv", "la")}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_what_it_must_and_not_what_it_must_not(view):
    for patient in (0, 1):
        area = seen(view, patient)
        for name in MUST[view]:
            assert area[name] > LESS.get(name, 2.0), (patient, name, area[name])
        for name in ABSENT.get(view, ()):
            assert area[name] < 1.0, (patient, name, area[name])


def test_left_ventricle_is_right_of_the_right_one_in_a4c():
    shown = plane(0, "A4C")
    grid = Grid(VENDORS["Northlight"], shown.depth_mm, 160)
    label = shown.frame(shown.static(grid), 0.0).label
    middle = {name: grid.x_mm[label == LABELS.index(name)].mean() for name in ("lv", "rv", "la", "ra")}
    assert middle["lv"] > middle["rv"] + 20
    assert middle["la"] > middle["ra"] + 20


@pytest.mark.parametrize("view", list(TASKS))
def test_landmarks_of_a_view_are_all_there_and_named_as_the_task_has_them(view):
    for patient in ADULTS:
        points = plane(patient, view).truth(0.0).points_mm
        assert set(points) == set(POINT_SETS[TASKS[view]].names)
        gone = {name for name, spot in points.items() if not np.isfinite(spot).all()}
        assert gone <= {"AAO_p1", "AAO_p2"}  # the aorta may leave the plane


def test_a4c_landmarks_lie_on_the_chambers_and_keep_their_order():
    for patient in ADULTS:
        shown = plane(patient, "A4C")
        points = {k: np.array(v) for k, v in shown.truth(0.0).points_mm.items()}
        cut = Section(shown, shown.moment(0.0), 0.0)
        for chamber in ("LV", "RV", "LA", "RA"):
            for end in (1, 2):
                spot = points[f"{chamber}_trans_p{end}"]
                field = getattr(cut.at(spot[:1], spot[1:]), chamber.lower())
                assert abs(float(field[0])) < 0.6
            assert points[f"{chamber}_trans_p1"][0] < points[f"{chamber}_trans_p2"][0]
        assert points["LV_long_p1"][1] < points["LV_long_p2"][1] < points["LA_long_p2"][1]
        assert np.linalg.norm(points["LV_long_p2"] - points["LA_long_p1"]) < 0.1


def test_plax_shares_points_of_one_line_and_orders_the_root():
    for patient in ADULTS:
        points = plane(patient, "PLAX").truth(0.0).points_mm
        assert points["RV_p2"] == points["IVS_p1"]
        assert points["IVS_p2"] == points["LV_p1"]
        assert points["LV_p2"] == points["LVPW_p1"]
        shown = [n for n in ("LVOT", "AV", "VAO", "STJ", "AAO") if np.isfinite(points[f"{n}_p1"]).all()]
        right = [points[f"{name}_p1"][0] for name in shown]
        assert right == sorted(right)
        length = {
            n: math.dist(points[f"{n}_p1"], points[f"{n}_p2"]) for n in ("LV", "IVS", "LVPW", "VAO", "AV")
        }
        assert length["VAO"] > length["AV"]
        assert 36 < length["LV"] < 62
        assert 5 < length["IVS"] < 16


def test_landmarks_follow_the_beat():
    shown = plane(0, "PLAX", ef_pct=62.0)
    end = shown.chambers.beat.end_systole * shown.chambers.beat.period_s
    wide = [math.dist(*(shown.truth(t_s).points_mm[f"LV_p{i}"] for i in (1, 2))) for t_s in (0.0, end)]
    assert 0.2 < 1 - wide[1] / wide[0] < 0.45


def test_poses_are_rigid_and_an_impossible_one_is_refused():
    chambers = Chambers(anatomy(0))
    for view in VIEWS:
        turn = world_from_probe(chambers, view)[:3, :3]
        assert np.allclose(turn.T @ turn, np.eye(3), atol=1e-9)
        assert np.linalg.det(turn) > 0
    inside, far, skewed, mirrored, lost = (world_from_probe(chambers, "A4C").copy() for _ in range(5))
    inside[:3, 3] += 60 * inside[:3, 2]
    far[:3, 3] -= 200 * far[:3, 2]
    skewed[0, 0] += 0.3
    mirrored[:3, 0] *= -1
    lost[1, 3] = np.nan
    for placed, told in (
        (inside, "from the heart's surface"), (far, "outside"), (skewed, "no rotation"),
        (mirrored, "no rotation"), (lost, "no rotation"), (inside[:3], "no rotation"),
    ):  # fmt: skip
        with pytest.raises(InsonateError, match=told):
            Plane(chambers, volume(5), stream(5, 0, "x"), view="A4C", placed=placed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ef_pct": 90.0}, "ejection fraction of 90 %"),
        ({"ef_pct": 60.0, "wall_motion": (0.0,) * 13 + (1.0,) * 4}, "cannot come about"),
        ({"heart_rate_bpm": 400.0}, "heart rate of 400"),
        ({"radius_mm": 80.0}, "left ventricle of"),
        ({"length_mm": float("nan")}, "left ventricle of nan"),
        ({"wall_mm": -2.0}, "wall of -2 mm"),
        ({"scale": 3.0}, "3 times a mean adult"),
        ({"effusion_mm": 90.0}, "effusion of 90 mm"),
        ({"rvsp_mmhg": 300.0}, "RV pressure of 300 mmHg"),
        ({"wall_motion": (1.0,) * 16}, "16 segments"),
        ({"wall_motion": (9.0,) + (1.0,) * 16}, "1 to 9"),
    ],
)
def test_an_impossible_heart_is_one_clear_line(changes, told):
    with pytest.raises(InsonateError, match=told) as caught:
        Chambers(anatomy(0, **changes))
    assert "\n" not in str(caught.value)


def test_every_pathology_can_be_drawn_and_children_are_small():
    for kind in PATHOLOGIES:
        for patient in range(6):
            Chambers(anatomy(patient, kind))
    small = [anatomy(patient, "paediatric") for patient in range(20)]
    assert min(a.length_mm for a in small) < 50 < max(a.length_mm for a in small)
    assert np.corrcoef([a.bsa_m2 for a in small], [a.radius_mm for a in small])[0, 1] > 0.9
    efs = [Anatomy.draw(stream(0, n, "anatomy")).ef_pct for n in range(200)]
    assert min(efs) < 22
    assert max(efs) > 70


def test_unbending_goes_back():
    chambers = Chambers(anatomy(2))
    place = np.array([12.0, -7.0, 40.0])
    real = chambers.unbent(place)
    there = chambers.bent(Xyz(*(np.float64(v) for v in real)))
    assert np.allclose(np.array(there, dtype=float), place, atol=1e-4)


def test_no_drawn_patient_fails_whatever_the_ejection_fraction():
    for ef_pct in (15.0, 45.0, 46.0, 75.0):
        for patient in range(60):
            beat = Chambers(Anatomy.draw(stream(3, patient, "anatomy"), ef_pct=ef_pct)).beat
            assert beat.moment(beat.end_systole).volume_ml == pytest.approx(beat.esv_ml)


@pytest.mark.parametrize("kind", PATHOLOGIES)
def test_a_hand_near_every_exact_pose_stays_outside_the_heart(kind):
    for patient in range(8):
        chambers = Chambers(anatomy(patient, kind))
        for view in VIEWS:
            near = by_hand(world_from_probe(chambers, view), chambers.anatomy.scale, stream(5, patient, view))
            checked(chambers, near)
