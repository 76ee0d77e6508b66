"""Fetal abdomen: the planted ellipse and what lies in it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.phantom.abdomen import ABDOMEN, SPINE, STOMACH, VEIN


def test_label_has_the_area_of_the_ellipse_and_ends_at_the_points(stage):
    scene, machine, painting = stage("abdomen", 2)
    label = machine.screen.labels(painting.still.label) > 0
    area = label.sum() * machine.screen.mm_per_px**2
    assert area == pytest.approx(math.pi * scene.a * scene.b, rel=0.02)
    rows, columns = np.nonzero(label)
    points = {k: machine.screen.to_px(*v) for k, v in scene.truth(0.0).points_mm.items()}
    assert rows.min() == pytest.approx(points["vertical_upper"][1], abs=1.5)
    assert rows.max() == pytest.approx(points["vertical_lower"][1], abs=1.5)
    assert columns.max() == pytest.approx(points["horizontal_right"][0], abs=1.5)
    assert columns.min() == pytest.approx(points["horizontal_left"][0], abs=1.5)


def test_fluid_is_dark_and_the_spine_shadows(stage):
    for patient in range(3):
        _, machine, painting = stage("abdomen", patient)
        still, label = painting.still, painting.still.label
        tissue = np.median(still.amp[label == ABDOMEN])
        for part in (STOMACH, VEIN):
            assert np.median(still.amp[label == part]) < 0.2 * tissue
        spine = label == SPINE
        column = np.argmax(spine.sum(0))
        last = np.flatnonzero(spine[:, column])[-1]
        clear = painting.amp[last:, ~spine.any(0)].mean()
        assert painting.amp[last + 4 :, column].mean() < 0.5 * clear
        assert machine.grid.samples == len(label)
