"""Fetal femur: its ends and its shadow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.phantom.femur import FEMUR


@pytest.mark.parametrize("patient", range(4))
def test_points_are_the_ends_of_the_label(patient, stage):
    scene, machine, painting = stage("femur", patient, size=384)
    rows, columns = np.nonzero(machine.screen.labels(painting.still.label) == FEMUR)
    left, right = (np.array(machine.screen.to_px(*p)) for p in scene.truth(0.0).points_mm.values())
    axis = (right - left) / np.linalg.norm(right - left)
    along = (np.stack([columns, rows], 1) - left) @ axis
    assert along.min() == pytest.approx(0, abs=2.5)
    assert along.max() == pytest.approx(np.linalg.norm(right - left), abs=2.5)
    assert math.dist(left, right) * machine.screen.mm_per_px == pytest.approx(scene.fetus.fl_mm, rel=1e-6)


def test_bone_is_bright_and_casts_a_shadow(stage):
    for patient in range(3):
        _, machine, painting = stage("femur", patient)
        bone = painting.still.label == FEMUR
        power = machine.power(painting.still)
        assert power[bone].mean() > 3 * power[~bone].mean()
        last = painting.amp[-1] / painting.still.amp[-1]  # what came through to the bottom
        shadowed = bone.sum(0) > 2
        assert np.median(last[shadowed]) < 0.5 * np.median(last[~shadowed])
