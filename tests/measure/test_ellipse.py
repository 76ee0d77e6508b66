"""Ellipses and distances against numbers from the exact elliptic integral and plain geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import ellipe

from insonate.data.spacing import Spacing
from insonate.measure.ellipse import (
    angle_deg,
    distance_mm,
    distance_px,
    ellipse_area,
    ellipse_perimeter,
    square_diameters,
    upright_diameters,
)


@pytest.mark.parametrize(
    ("first", "second", "perimeter"),
    [(90, 115, 323.2116173071), (47, 62, 172.0283810244), (95, 99, 304.7669), (60, 56, 182.2665)],
)
def test_perimeter_gives_the_published_numbers(first, second, perimeter):
    assert ellipse_perimeter(first / 2, second / 2) == pytest.approx(perimeter, abs=6e-5)


@pytest.mark.parametrize("ratio", [0.6, 0.75, 0.9, 1.0])
def test_perimeter_agrees_with_the_elliptic_integral(ratio):
    assert ellipse_perimeter(ratio, 1.0) == pytest.approx(4 * ellipe(1 - ratio**2), rel=1e-7)


def test_circle_point_and_negative_axes():
    assert ellipse_perimeter(2.0, 2.0) == pytest.approx(4 * math.pi)
    assert ellipse_perimeter(0.0, 0.0) == 0.0
    assert ellipse_area(2.0, 3.0) == pytest.approx(6 * math.pi)
    with pytest.raises(ValueError, match="-1"):
        ellipse_perimeter(-1.0, 2.0)


def test_distance_scales_the_vector_before_the_norm():
    spacing = Spacing(row_mm=2.0, col_mm=0.5)
    assert distance_px([0, 0], [3, 4]) == pytest.approx(5.0)
    assert distance_mm([0, 0], [6, 2], spacing) == pytest.approx(5.0)  # 3 mm right, 4 mm down


def test_angle_of_progression_of_known_points():
    square = Spacing(row_mm=0.3, col_mm=0.3)
    assert angle_deg([100, 100], [60, 100], [100, 180], square) == pytest.approx(90.0)
    assert angle_deg([100, 100], [60, 100], [120, 180], square) == pytest.approx(104.036, abs=1e-3)
    assert angle_deg([100, 100], [40, 70], [150, 220], square) == pytest.approx(139.185, abs=1e-3)
    stretched = Spacing(row_mm=0.3, col_mm=0.6)
    assert angle_deg([100, 100], [60, 100], [120, 180], stretched) == pytest.approx(116.565, abs=1e-3)


@pytest.mark.parametrize("spacing", [None, Spacing(row_mm=0.2, col_mm=0.7)])
@pytest.mark.parametrize("project", [square_diameters, upright_diameters])
def test_projection_keeps_lengths_and_is_idempotent(project, spacing):
    rng = np.random.default_rng(0)
    step = (1, 1) if spacing is None else (0.7, 0.2)
    for _ in range(20):
        points = np.array([[120, 60], [124, 180], [200, 118], [50, 122]]) + rng.normal(0, 8, (4, 2))
        made = project(points, spacing)
        first, second = (made[0] - made[1]) * step, (made[2] - made[3]) * step
        assert np.linalg.norm(first) == pytest.approx(
            distance_px(points[0] * step, points[1] * step), abs=1e-9
        )
        assert np.linalg.norm(second) == pytest.approx(
            distance_px(points[2] * step, points[3] * step), abs=1e-9
        )
        assert first @ second == pytest.approx(0, abs=1e-9)
        assert np.allclose(made[0] + made[1], made[2] + made[3])
        assert made[0, 1] < made[1, 1]
        assert made[2, 0] > made[3, 0]
        assert np.allclose(project(made, spacing), made)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float64, (4, 2), elements=st.floats(0, 1000)))
def test_projection_turns_to_where_most_of_the_diameters_lies(points):
    halves = [np.linalg.norm(points[i] - points[i + 1]) / 2 for i in (0, 2)]
    assume(min(halves) > 1e-3)
    made = square_diameters(points, None)
    centre = points.mean(axis=0)
    assert np.allclose([made[0] + made[1], made[2] + made[3]], 2 * centre)
    assert abs((made[0] - made[1]) @ (made[2] - made[3])) < 1e-6 * (1 + halves[0] * halves[1])
    assert [np.linalg.norm(made[i] - made[i + 1]) / 2 for i in (0, 2)] == pytest.approx(halves)
    assert np.allclose(square_diameters(made, None), made, atol=1e-6 * max(halves))

    def along_axes(turn_rad):
        """How much of the given diameters lies along the made ones' axes, turned."""
        cos, sin = np.cos(turn_rad), np.sin(turn_rad)
        axes = [(made[i] - made[i + 1]) / 2 / half for i, half in zip((0, 2), halves, strict=True)]
        turned = np.array(axes) @ [[cos, sin], [-sin, cos]]
        return sum(
            ((points[i] - points[i + 1]) / 2 @ axis) ** 2 for i, axis in zip((0, 2), turned, strict=True)
        )

    assert (
        along_axes(0) >= max(along_axes(0.05), along_axes(-0.05), along_axes(0.5)) - 1e-6 * max(halves) ** 2
    )


def test_projection_of_a_collapsed_diameter_only_recentres():
    points = np.array([[10.0, 10], [10, 10], [20, 10], [0, 12]])
    assert np.isfinite(square_diameters(points, None)).all()
    upright = upright_diameters(points, None)
    assert np.allclose(upright[2] - upright[3], [20, -2])
