"""Truth of the scenes: points, circumference, masks and classes, measured on what was drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from insonate.measure.ellipse import ellipse_perimeter
from insonate.measure.growth import size_at_intergrowth
from insonate.phantom.fetus import Fetus
from insonate.phantom.head import BRAIN, SKULL, Head
from insonate.phantom.items import Order, render
from insonate.phantom.lesion import CLASSES, Lesion
from insonate.phantom.orders import FORMATS
from insonate.phantom.organs import Breast
from insonate.phantom.physics import Grid, lattice, stream
from insonate.phantom.scene import Texture, ellipse_distance, into, out_of, segment_distance
from insonate.phantom.vendors import VENDORS


def ordered(scene: str, patient: int, **changes: int) -> Order:
    return Order(**{"scene": scene, "seed": 7, "patient": patient, "item": 0, "size": 256} | changes)


def fetal(patient: int, **changes: int) -> Order:
    return ordered("head", patient, **changes)


def lesion(patient: int, **changes: int) -> Order:
    return ordered("breast", patient, **changes)


@pytest.fixture(scope="module")
def heads():
    return [render(fetal(patient)) for patient in range(8)]


@pytest.fixture(scope="module")
def lesions():
    return [render(lesion(patient)) for patient in range(12)]


def test_hc_from_the_four_points_is_the_drawn_hc(heads):
    for item in heads:
        upper, lower, right, left = (
            np.array(item.row["keypoints_hc"]).reshape(4, 2) * item.row["spacing_row_mm"]
        )
        a, b = math.dist(left, right) / 2, math.dist(upper, lower) / 2
        assert ellipse_perimeter(a, b) == pytest.approx(item.row["hc_mm"], rel=3e-3)


def test_points_come_in_the_official_order_inside_the_picture(heads):
    for item in heads:
        points = np.array(item.row["keypoints_hc"]).reshape(4, 2)
        upper, lower, right, left = points
        assert upper[1] < lower[1]
        assert right[0] > left[0]
        assert (points > 0).all()
        assert (points < 255).all()


def test_points_lie_on_the_boundary_of_the_head_label(heads):
    for item in heads:
        mask = item.mask > 0
        points = np.array(item.row["keypoints_hc"]).reshape(4, 2)
        centre = points.mean(0)
        for point in points:
            outward = (point - centre) / np.linalg.norm(point - centre)
            column, row = np.rint(point - 2 * outward).astype(int)
            assert mask[row, column]
            column, row = np.rint(point + 2 * outward).astype(int)
            assert not mask[row, column]


def test_head_mask_has_the_area_of_the_ellipse(heads):
    for item in heads:
        upper, lower, right, left = np.array(item.row["keypoints_hc"]).reshape(4, 2)
        area = math.pi / 4 * math.dist(left, right) * math.dist(upper, lower)
        assert (item.mask > 0).sum() == pytest.approx(area, rel=0.02)


def test_skull_is_bright_and_fluid_filled_brain_dark(heads):
    for item in heads:
        frame = item.frames[0]
        assert 15 < frame.mean() < 130
        inner = frame[item.mask > 0]
        assert np.percentile(inner, 97) > 1.8 * np.median(inner)


def test_points_follow_the_head_through_a_clip():
    scene = Head(Fetus.draw(stream(0, 1, "a")), lattice(0), stream(0, 1, "b"))
    grid = Grid(VENDORS["Fern"], scene.depth_mm, 320)
    cache = scene.static(grid)
    for t_s in (0.0, 0.3):
        label = scene.frame(cache, t_s).label
        for x, z in scene.truth(t_s).points_mm.values():
            centre = scene.after(*scene.centre, t_s)
            for share, expected in ((0.97, True), (1.03, False)):
                px, pz = (c + share * (p - c) for p, c in zip((x, z), centre, strict=True))
                nearest = np.argmin((grid.x_mm - px) ** 2 + (grid.z_mm - pz) ** 2)
                assert (label.ravel()[nearest] in {SKULL, BRAIN}) == expected


def test_head_size_follows_the_growth_chart():
    # published: 32 weeks, HC 300 mm is z = 0.585
    mean, spread = size_at_intergrowth("hc_mm", 32)
    assert (300 - mean) / spread == pytest.approx(0.5854, abs=1e-3)
    fetuses = [Fetus.draw(stream(0, n, "anatomy")) for n in range(60)]
    for fetus in fetuses:
        mean, spread = size_at_intergrowth("hc_mm", fetus.ga_weeks)
        assert abs(fetus.hc_mm - mean) <= 2.6 * spread
        assert ellipse_perimeter(fetus.ofd_mm / 2, fetus.bpd_mm / 2) == pytest.approx(fetus.hc_mm)
    assert np.ptp([fetus.ga_weeks for fetus in fetuses]) > 20


def test_heads_are_turned_both_ways():
    turns = [Head(Fetus.draw(stream(0, 1, "a")), lattice(0), stream(0, n, "b")).tilt_rad for n in range(60)]
    assert max(turns) > math.radians(18)
    assert min(turns) < -math.radians(18)
    assert max(map(abs, turns)) <= math.radians(25)


def test_lesion_mask_is_the_lesion(lesions):
    for item in lesions:
        mask = item.mask > 0
        rows, columns = np.nonzero(mask)
        extent_mm = max(np.ptp(rows), np.ptp(columns)) * item.row["spacing_row_mm"]
        assert 0.75 * item.row["lesion_long_mm"] < extent_mm < 1.8 * item.row["lesion_long_mm"]
        assert rows.min() > 0
        assert columns.min() > 0
        assert rows.max() < 255
        assert columns.max() < 255


def test_most_lesions_are_darker_than_their_surroundings(lesions):
    darker = 0
    for item in lesions:
        mask = item.mask > 0
        rows, _ = np.nonzero(mask)
        band = np.zeros_like(mask)
        band[rows.min() : rows.max()] = True
        frame = item.frames[0].astype(float)
        darker += frame[mask].mean() < frame[band & ~mask & (frame > 0)].mean()
    assert darker >= 10


def test_both_classes_occur_and_differ_in_their_descriptors(lesions):
    assert {item.row["lesion_class"] for item in lesions} == set(CLASSES)
    drawn = {c: [Lesion.draw(c, stream(0, n, c)) for n in range(150)] for c in CLASSES}
    ratio = {c: np.mean([x.ratio for x in drawn[c]]) for c in CLASSES}
    assert ratio["malignant"] > ratio["benign"] + 0.15
    rays = {c: np.mean([bool(x.rays) for x in drawn[c]]) for c in CLASSES}
    assert rays["malignant"] > 0.25 > 0.05 > rays["benign"] > 0  # swapped groups: no perfect rule
    cysts = {c: np.mean([x.cyst for x in drawn[c]]) for c in CLASSES}
    assert cysts["benign"] > 0.2 > 0.05 > cysts["malignant"]


def test_cyst_enhances_and_shadowing_lesion_darkens_what_is_behind():
    base = Lesion.draw("benign", stream(0, 0, "x"))
    behind = {}
    for posterior_db in (8.0, -14.0):
        changes = {"posterior_db": posterior_db, "long_mm": 12.0, "ratio": 0.7, "specks": (), "rim_mm": 0.0}
        shown = replace(base, **changes)
        scene = Breast(shown, lattice(0, 0.12), stream(0, 0, "y"), width_mm=42, f_mhz=9)
        grid = Grid(VENDORS["Slate"], scene.depth_mm, 256)
        att = scene.frame(scene.static(grid), 0).att
        column = np.argmin(np.abs(grid.lateral - scene.centre[0]))
        edge = 0 if scene.centre[0] > 0 else -1
        path = 2 * 9 * grid.step_mm / 10 * att.sum(0)
        behind[posterior_db] = path[edge] - path[column]
    assert behind[8.0] > 3
    assert behind[-14.0] == pytest.approx(-14, abs=2.5)


@pytest.mark.parametrize("order", [fetal(3), lesion(4), fetal(2, item=1, size=128), lesion(2, frames=3)])
def test_the_same_order_gives_the_same_bytes(order):
    first, again = render(order), render(order)
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.row == again.row
    assert first.frames.shape == (order.frames, order.size, order.size)


def test_patients_items_and_seeds_differ(heads):
    pictures = {item.frames.tobytes() for item in heads}
    pictures |= {render(fetal(0, item=1)).frames.tobytes(), render(fetal(0, seed=8)).frames.tobytes()}
    assert len(pictures) == len(heads) + 2


def test_both_items_of_a_patient_show_one_fetus_on_one_machine():
    first, second = render(fetal(5)).row, render(fetal(5, item=1)).row
    for column in ("patient_id", "study_id", "vendor", "hc_mm", "ga_weeks"):
        assert first[column] == second[column]
    assert first["series_id"] != second["series_id"]


def test_a_clip_changes_a_little_from_frame_to_frame():
    frames = render(fetal(1, frames=6, size=128)).frames.astype(float)
    shown = frames[0] > 4
    near = np.corrcoef(frames[0][shown], frames[1][shown])[0, 1]
    far = np.corrcoef(frames[0][shown], frames[5][shown])[0, 1]
    assert 1 > near > far > 0.3


def test_a_longer_clip_starts_with_the_same_frames():
    short, long = (render(lesion(1, frames=n, size=128)).frames for n in (2, 4))
    assert np.array_equal(short, long[:2])


def test_turned_frame_goes_there_and_back():
    x, z = out_of(3.0, -2.0, (5.0, 40.0), 0.4)
    u, v = into(np.float32([[x]]), np.float32([[z]]), (5.0, 40.0), 0.4)
    assert float(u[0, 0]) == pytest.approx(3, abs=1e-4)
    assert float(v[0, 0]) == pytest.approx(-2, abs=1e-4)


def test_distances_vanish_on_their_shapes():
    angle = np.linspace(0, 6, 20, dtype=np.float32)[None]
    assert np.abs(ellipse_distance(40 * np.cos(angle), 30 * np.sin(angle), 40, 30)).max() < 1e-3
    assert float(
        segment_distance(np.float32([[5.0]]), np.float32([[3.0]]), (0, 0), (4, 0))[0, 0]
    ) == pytest.approx(math.sqrt(10))


def test_patients_see_the_lattice_at_different_places():
    places = {Texture(lattice(0), stream(0, n, "acquisition")).x_mm for n in range(5)}
    assert len(places) == 5


def test_formats_have_extensions():
    assert set(FORMATS) == {"png", "mp4", "dicom"}
