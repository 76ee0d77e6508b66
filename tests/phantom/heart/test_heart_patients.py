"""What disease and growth do to the heart, measured on the label maps of exact planes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from insonate.phantom.heart import Anatomy, Chambers, Plane, volume
from insonate.phantom.heart.section import Section
from insonate.phantom.heart.solids import Xyz
from insonate.phantom.heart.tissue import LV, PAPILLARY, RV
from insonate.phantom.physics import Grid, stream
from insonate.phantom.vendors import VENDORS

STILL = ((0.0, 0.1, 0.0),) * 5
"""shears that bend nothing"""


def heart(patient: int = 0, pathology: str = "normal", **changes: object) -> Chambers:
    drawn = Anatomy.draw(stream(5, patient, "anatomy"), pathology=pathology)
    return Chambers(replace(drawn, **changes))


def short_axis(
    chambers: Chambers, phase: float, step_mm: float = 1.0
) -> tuple[Section, np.ndarray, np.ndarray]:
    """The exact plane of PSAX-PM at a phase without breath or hand, and its square of places in mm."""
    shown = Plane(chambers, volume(5), stream(5, 0, "x"), view="PSAX-PM")
    cut = Section(shown, chambers.beat.moment(phase), 0.0)
    reach = 110 * chambers.anatomy.scale
    x, z = np.meshgrid(np.arange(-reach, reach, step_mm), np.arange(5, 2 * reach, step_mm))
    return cut, x, z


def flatness(chambers: Chambers) -> float:
    """Diameter of the cavity along the septum over that across it, at end-systole."""
    cut, x, z = short_axis(chambers, chambers.beat.end_systole)
    inside = cut.at(x, z).lv < 0
    places = cut.plane.places(x[inside].astype(np.float32), z[inside].astype(np.float32))
    return float(np.ptp(places.y) / np.ptp(places.x))


def test_the_septum_flattens_step_by_step_with_the_pressure_of_the_right_ventricle():
    pressures = (25.0, 50.0, 75.0, 95.0)
    shown = [heart(rvsp_mmhg=p, shears=STILL) for p in pressures]
    found = [flatness(chambers) for chambers in shown]
    assert found == sorted(found)
    for ratio, chambers in zip(found, shown, strict=True):
        assert ratio == pytest.approx(chambers.anatomy.eccentricity(1.0), abs=0.08)
    assert found[0] == pytest.approx(1.0, abs=0.05)
    assert found[-1] > 1.4


def test_the_right_ventricle_of_the_picture_grows_with_its_pressure():
    areas = []
    for pressure in (25.0, 60.0, 95.0):
        shown = Plane(heart(rvsp_mmhg=pressure), volume(5), stream(5, 0, "x"), view="A4C")
        grid = Grid(VENDORS["Northlight"], shown.depth_mm, 160)
        label = shown.frame(shown.static(grid), 0.0).label
        area = grid.line_pitch_mm[:, None] * grid.step_mm * np.ones_like(grid.x_mm)
        areas.append(float(area[label == RV].sum() / area[np.isin(label, (LV, PAPILLARY))].sum()))
    assert areas[0] < areas[1] < areas[2]
    assert areas[2] > 1.15 * areas[0]


def inward_mm(chambers: Chambers, angle_deg: float) -> float:
    """How far the inner wall comes in at an angle of the middle short axis, from diastole to systole."""
    steps = np.arange(2.0, 60.0, 0.1, dtype=np.float32)
    found = []
    for phase in (0.0, chambers.beat.end_systole):
        now = chambers.beat.moment(phase)
        height = chambers.anatomy.length_mm * (1 - 0.5 * now.shortening)
        angle = math.radians(angle_deg)
        at = [np.float32(c) for c in (steps * math.cos(angle), steps * math.sin(angle), height + 0 * steps)]
        d = chambers.distances(Xyz(*at), now)
        found.append(float(steps[np.flatnonzero(d.lv < 0)[-1]]))
    return found[0] - found[1]


@pytest.mark.parametrize(("ill", "angle_deg"), [((1, 7, 13), 60.0), ((4, 10, 15), 240.0)])
def test_an_akinetic_wall_stands_still_and_the_opposite_one_moves(ill, angle_deg):
    motion = tuple(0.0 if n + 1 in ill else 1.0 for n in range(17))
    chambers = heart(ef_pct=42.0, wall_motion=motion, shears=STILL)
    still, moving = (inward_mm(chambers, angle) for angle in (angle_deg, angle_deg + 180))
    assert still < 0.35 * moving
    assert moving > 5
    even = heart(ef_pct=42.0, shears=STILL)
    assert inward_mm(even, angle_deg) == pytest.approx(inward_mm(even, angle_deg + 180), abs=0.3)


def test_a_dyskinetic_wall_moves_outwards():
    motion = tuple(-0.3 if n + 1 in (1, 7, 13) else 1.0 for n in range(17))
    assert inward_mm(heart(ef_pct=35.0, wall_motion=motion, shears=STILL), 60.0) < 0


def children() -> list[Anatomy]:
    return [Anatomy.draw(stream(8, n, "anatomy"), pathology="paediatric") for n in range(80)]


def test_children_grow_from_neonate_to_teenager():
    drawn = children()
    newborn = [a for a in drawn if a.age_years < 0.1]
    toddlers = [a for a in drawn if 1 <= a.age_years < 3]
    teens = [a for a in drawn if a.age_years > 13]
    assert newborn
    assert teens
    for group, length_mm, edv_ml, rate in (
        (newborn, (22, 42), (2, 14), (115, 165)), (toddlers, (34, 60), (8, 50), (90, 140)),
        (teens, (62, 95), (40, 160), (60, 95)),
    ):  # fmt: skip
        for a in group:
            assert length_mm[0] < a.length_mm < length_mm[1]
            assert edv_ml[0] < Chambers(a).beat.edv_ml < edv_ml[1]
            assert rate[0] < a.heart_rate_bpm < rate[1]
    volumes = [Chambers(a).beat.edv_ml / a.bsa_m2**1.3 for a in drawn]
    assert max(volumes) < 4 * min(volumes)  # what is left when growth is taken out


def test_a_small_heart_is_seen_from_nearer_and_by_a_higher_frequency():
    drawn = children()
    small, large = min(drawn, key=lambda a: a.scale), max(drawn, key=lambda a: a.scale)
    depths = [Plane(Chambers(a), volume(5), stream(5, 0, "x"), view="A4C").depth_mm for a in (small, large)]
    assert depths[0] < 0.5 * depths[1]
    assert VENDORS["Harbor"].tuned(small.scale).f_mhz > 2 * VENDORS["Harbor"].tuned(1.0).f_mhz


def test_plax_of_a_patient_measures_within_adult_ranges():
    names = ("LV", "IVS", "LVPW", "VAO", "LA")
    limits = {"LV": (35, 62), "IVS": (5, 16), "LVPW": (5, 16), "VAO": (24, 44), "LA": (22, 52)}
    for patient in range(6):
        shown = Plane(heart(patient), volume(5), stream(5, patient, "x"), view="PLAX")
        points = shown.truth(0.0).points_mm
        for name in names:
            low, high = limits[name]
            assert low < math.dist(points[f"{name}_p1"], points[f"{name}_p2"]) < high, (patient, name)
