"""What each of the nine tasks measures, from points of a known geometry."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from insonate.data.pointsets import POINT_SETS
from insonate.data.spacing import Spacing
from insonate.measure.points import MEASURED, measure

SPACING = Spacing(row_mm=0.25, col_mm=0.5)


def of(name, points_mm):
    """Measurements of points given in mm, through pixels that are not square."""
    points_px = np.asarray(points_mm, dtype=float) / (SPACING.col_mm, SPACING.row_mm)
    return measure(MEASURED[name], points_px, SPACING)


@pytest.mark.parametrize("name", sorted(POINT_SETS))
def test_each_task_tells_just_what_it_says(name):
    points = np.random.default_rng(0).uniform(0, 90, (len(POINT_SETS[name].names), 2))
    found = of(name, points)
    assert tuple(found) == MEASURED[name].names or set(found) == set(MEASURED[name].names)
    assert all(
        one.reference and one.in_range is not None
        for key, one in found.items()
        if key != "rv_mm" and not key.startswith("ad_")
    )
    unscaled = measure(MEASURED[name], points, None)
    assert {one.unit for one in unscaled.values()} == {"px"}
    assert len(unscaled) == sum(key.endswith("_mm") for key in found)
    missing = np.full_like(points, np.nan)
    assert of(name, missing) == {}


def test_birth_canal_and_cervix():
    found = of("AOP", [(50, 50), (30, 50), (50, 60), (60, 90)])
    assert found["aop_deg"].value == pytest.approx(104.036, abs=1e-3)
    assert found["hsd_mm"].value == pytest.approx(10)
    assert found["hsd_mm"].convention == "to the nearest point of the head"
    assert of("FUGC", [(0, 0), (35.2, 0)])["cl_mm"].value == pytest.approx(35.2)


def test_femur_tells_age():
    found = of("fetal_femur", [(10, 10), (72, 10)])
    assert (found["fl_mm"].value, found["ga_weeks"].value) == pytest.approx((62, 32.137), abs=1e-3)


def test_four_chambers_from_two_diameters_each():
    lines = {"LV": (85, 50), "RV": (70, 40), "LA": (50, 40), "RA": (45, 42)}
    points = [p for long, trans in lines.values() for p in ((50, 0), (50, long), (0, 30), (trans, 30))]
    found = of("A4C", points)
    assert found["lv_sphericity_ratio"].value == pytest.approx(50 / 85)
    assert found["rv_lv_ratio"].value == pytest.approx(0.8)
    assert found["la_area_cm2"].value == pytest.approx(math.pi * 2.5 * 2.0)
    # an ellipsoid of one long and two equal short axes
    assert found["lv_ml"].value == pytest.approx(math.pi / 6 * 8.5 * 5.0**2)
    assert found["la_ml"].value == pytest.approx(math.pi / 6 * 5.0 * 4.0**2)
    assert "from two diameters" in found["la_ml"].convention


def test_lines_whose_name_and_place_disagree_say_so():
    found = of("PLAX", np.random.default_rng(0).uniform(0, 90, (22, 2)))
    assert "inferred" in found["vao_mm"].convention
    assert found["lv_mm"].convention == ""


def test_given_points_are_measured_without_torch():
    code = """
import sys
sys.modules["torch"] = None
from insonate.data import Spacing
from insonate.measure.points import MEASURED, measure
found = measure(MEASURED["fetal_femur"], [(10.0, 10.0), (72.0, 10.0)], Spacing(row_mm=1.0, col_mm=1.0))
assert round(found["ga_weeks"].value, 3) == 32.137
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
