"""Volumes by discs against ellipsoids, and against real masks whose volume is told."""

from __future__ import annotations

import csv
import io
import math
import zipfile

import numpy as np
import pytest
from PIL import Image

from insonate.data.spacing import Spacing
from insonate.measure.discs import Plane, plane_of_contour, plane_of_mask, volume_one_plane, volume_two_planes
from insonate.measure.ventricle import ejection_fraction, lv_volume_area_length


def half_ellipse(diameter_mm, length_mm, turn_rad=0.0, points=181):
    """A ventricle with its base at the origin: contour and hinges."""
    angles = np.linspace(0, math.pi, points)
    own = np.stack([diameter_mm / 2 * np.cos(angles), length_mm * np.sin(angles)], axis=1)
    turn = np.array([[math.cos(turn_rad), -math.sin(turn_rad)], [math.sin(turn_rad), math.cos(turn_rad)]])
    contour = own @ turn.T + (120, 40)
    return contour, contour[[0, -1]]


def analytic(diameter_mm, length_mm):
    heights = (np.arange(20) + 0.5) / 20
    return Plane(diameter_mm * np.sqrt(1 - heights**2), length_mm)


def test_half_ellipsoids_of_known_volume():
    for diameter, length, discs in ((45, 80, 84.850), (35, 65, 41.705)):
        assert volume_one_plane(analytic(diameter, length)).value == pytest.approx(discs, abs=6e-4)
    both = volume_two_planes(analytic(45, 80), analytic(49, 80))
    assert both.value == pytest.approx(92.392, abs=6e-4)
    assert both.in_range
    assert "two planes" in both.convention


def test_a_turned_contour_gives_volume_and_length():
    plane = plane_of_contour(*half_ellipse(45, 80, 0.4))
    assert plane.length_mm == pytest.approx(80.0, abs=0.01)
    assert volume_one_plane(plane).value == pytest.approx(84.844, abs=6e-4)
    assert lv_volume_area_length(math.pi / 4 * 4.5 * 8.0, 80).value == pytest.approx(84.823, abs=6e-4)


def test_direction_and_start_of_the_contour_do_not_matter():
    contour, hinges = half_ellipse(45, 80, 0.4)
    expected = volume_one_plane(plane_of_contour(contour, hinges)).value
    for other in (contour[::-1], np.roll(contour, 50, axis=0)):
        assert volume_one_plane(plane_of_contour(other, hinges[::-1])).value == pytest.approx(expected)


def test_a_mask_gives_the_volume_of_its_contour():
    spacing = Spacing(row_mm=0.4, col_mm=0.8)
    _, hinges = half_ellipse(45, 80, 0.4)
    turn = np.array([[math.cos(0.4), math.sin(0.4)], [-math.sin(0.4), math.cos(0.4)]])
    rows, columns = np.mgrid[0:400, 0:300]
    own = (np.stack([columns * 0.8, rows * 0.4], axis=-1) - (120, 40)) @ turn.T
    mask = ((own / (22.5, 80)) ** 2).sum(axis=-1) <= 1
    mask &= own[..., 1] >= 0
    plane = plane_of_mask(mask, hinges / (0.8, 0.4), spacing)
    assert plane.length_mm == pytest.approx(80, abs=1)
    assert volume_one_plane(plane).value == pytest.approx(84.84, rel=0.02)


def test_planes_of_different_length_and_shapes_without_length_are_told():
    apart = volume_two_planes(analytic(45, 80), analytic(45, 70))
    assert "differ by more than 10%" in apart.doubts[0]
    assert apart.in_range is False
    assert volume_two_planes(analytic(45, 80), analytic(45, 73)).in_range
    with pytest.raises(ValueError, match="20 discs"):
        volume_two_planes(analytic(45, 80), plane_of_contour(*half_ellipse(45, 80), discs=10))
    with pytest.raises(ValueError, match="3 points"):
        plane_of_contour(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="no length"):
        plane_of_contour(np.zeros((4, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="empty"):
        plane_of_mask(np.zeros((4, 4), bool), np.zeros((2, 2)), Spacing(row_mm=1, col_mm=1))


def test_real_masks_give_the_volumes_told_beside_them(shared_data):
    folder = shared_data / "camus_4ch"
    with (folder / "metadata.csv").open() as file:
        told = {row["file"]: row for row in csv.DictReader(file)}
    with (folder / "landmarks_derived_256.csv").open() as file:
        marks = list(csv.DictReader(file))[:60]
    volumes, fractions, expected = {}, [], []
    with zipfile.ZipFile(folder / "camus4ch_256.zip") as archive:
        for row in marks:
            mask = np.asarray(Image.open(io.BytesIO(archive.read(f"masks/{row['file']}")))) == 1
            hinges = np.array(
                [[float(row[f"ma_{side}_{axis}"]) for axis in "xy"] for side in ("left", "right")]
            )
            step = float(row["mm_per_px"])
            plane = plane_of_mask(mask, hinges, Spacing(row_mm=step, col_mm=step))
            volumes[row["patient"], row["phase"]] = volume_one_plane(plane)
    for patient in {patient for patient, _ in volumes}:
        found = ejection_fraction(volumes[patient, "ED"], volumes[patient, "ES"])
        fractions.append(found.value)
        expected.append(float(told[f"{patient}_4CH_ED.png"]["ef_singleplane_derived"]))
    assert len(fractions) == 30
    assert np.mean(fractions) == pytest.approx(np.mean(expected), abs=1.0)
    assert np.corrcoef(fractions, expected)[0, 1] > 0.97
