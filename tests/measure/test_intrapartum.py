"""Angle of progression and head-symphysis distance against worked values and geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.data.spacing import Spacing
from insonate.measure import intrapartum as birth
from insonate.measure.intrapartum import Ellipse

HEAD = Ellipse(centre_xy=(190.0, 230.0), semi_a=110.0, semi_b=85.0, tilt_rad=0.3)
VERTEX, SUPERIOR = np.array([200.0, 80.0]), np.array([130.0, 85.0])


@pytest.mark.parametrize(
    ("vertex", "superior", "tangent", "degrees"),
    [
        ((100, 100), (40, 70), (150, 220), 139.185),
        ((100, 100), (60, 100), (100, 180), 90.000),
        ((100, 100), (60, 100), (120, 180), 104.036),
    ],
)
def test_angles_of_known_points(vertex, superior, tangent, degrees):
    angle = birth.angle_of_progression(vertex, superior, tangent)
    assert angle.value == pytest.approx(degrees, abs=6e-4)
    assert (angle.unit, angle.in_range) == ("deg", True)
    assert math.isnan(birth.angle_of_progression(vertex, vertex, tangent).value)


def test_both_tangents_and_the_caudal_one():
    first, second = birth.tangent_points(HEAD, VERTEX)
    assert first == pytest.approx((281.799, 195.184), abs=6e-4)
    assert second == pytest.approx((104.736, 166.796), abs=6e-4)
    angles = [birth.angle_of_progression(VERTEX, SUPERIOR, point).value for point in (first, second)]
    assert angles == pytest.approx([121.295, 38.251], abs=6e-4)
    assert birth.caudal_tangent(HEAD, VERTEX, SUPERIOR) == pytest.approx(first)


def test_a_tangent_has_no_singular_place():
    for x in (110.0, 300.0, 190.0 + 110.0):  # also above the end of the axis, where a slope is infinite
        for head in (HEAD, Ellipse(centre_xy=(190, 230), semi_a=110, semi_b=85, tilt_rad=0)):
            for point in birth.tangent_points(head, np.array([x, 60.0])):
                own = head.inward(point) / (head.semi_a, head.semi_b)
                assert own @ own == pytest.approx(1)
                normal = own / (head.semi_a, head.semi_b)
                assert normal @ (head.inward([x, 60.0]) - head.inward(point)) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="inside the head"):
        birth.tangent_points(HEAD, np.array([190.0, 230.0]))


def test_head_symphysis_distances_of_a_circle():
    circle = Ellipse(centre_xy=(0.0, 50.0), semi_a=30.0, semi_b=30.0, tilt_rad=0.4)
    vertex, superior = np.array([18.0, 0.0]), np.array([-20.0, 0.0])
    nearest = birth.hsd_nearest_of(circle, vertex)
    assert nearest.value == pytest.approx(math.hypot(18, 50) - 30, abs=1e-4)
    straight = birth.hsd_infrapubic(circle, vertex, superior)
    assert straight.value == pytest.approx(50 - 24, abs=1e-9)  # 18² + 24² = 30²
    assert nearest.convention != straight.convention
    assert math.isnan(birth.hsd_infrapubic(circle, np.array([40.0, 0.0]), superior).value)


def test_masks_give_the_ellipses_that_they_were_made_of():
    spacing = Spacing(row_mm=0.5, col_mm=0.25)
    head = Ellipse(centre_xy=(60.0, 70.0), semi_a=40.0, semi_b=30.0, tilt_rad=0.5)
    bone = Ellipse(centre_xy=(40.0, 15.0), semi_a=14.0, semi_b=4.0, tilt_rad=0.2)
    rows, columns = np.mgrid[0:260, 0:480]
    places = np.stack([columns * spacing.col_mm, rows * spacing.row_mm], axis=-1)
    found = []
    for one in (head, bone):
        own = one.inward(places) / (one.semi_a, one.semi_b)
        found.append(birth.ellipse_of_mask((own**2).sum(axis=-1) <= 1, spacing))
    assert found[0].centre_xy == pytest.approx(head.centre_xy, abs=0.05)
    assert (found[0].semi_a, found[0].semi_b) == pytest.approx((40, 30), abs=0.1)
    lower, upper = birth.symphysis_ends(found[1], found[0])
    axis = 14 * np.array([math.cos(0.2), math.sin(0.2)])
    assert lower == pytest.approx(np.array([40, 15]) + axis, abs=0.2)
    assert upper == pytest.approx(np.array([40, 15]) - axis, abs=0.2)
    with pytest.raises(ValueError, match="3 pixels"):
        birth.ellipse_of_mask(np.zeros((4, 4), bool), spacing)


def test_cervical_length():
    assert birth.cervical_length(320 * 0.11).value == pytest.approx(35.2)
    assert birth.cervical_length(30 * 0.11).in_range
    assert not birth.cervical_length(320).in_range
