"""Cervix: ends of the canal between the two lips."""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.errors import InsonateError
from insonate.phantom.cervix import ANTERIOR, CANAL, LENGTH_MM, POSTERIOR, Neck
from insonate.phantom.physics import stream


@pytest.mark.parametrize("patient", range(4))
def test_canal_runs_from_point_to_point_between_the_lips(patient, stage):
    scene, machine, painting = stage("cervix", patient, size=384)
    label = machine.screen.labels(painting.still.label)
    left, right = (np.array(machine.screen.to_px(*p)) for p in scene.truth(0.0).points_mm.values())
    assert left[0] < right[0]
    axis = (right - left) / np.linalg.norm(right - left)
    rows, columns = np.nonzero(label == CANAL)
    along = (np.stack([columns, rows], 1) - left) @ axis
    pixel = 1 / machine.screen.mm_per_px
    assert along.min() == pytest.approx(0, abs=2.5 * pixel)
    assert along.max() == pytest.approx(np.linalg.norm(right - left), abs=2.5 * pixel)
    normal = np.array([-axis[1], axis[0]])
    middle, sides = (left + right) / 2, []
    for part in (ANTERIOR, POSTERIOR):
        rows, columns = np.nonzero(label == part)
        sides.append(((np.stack([columns, rows], 1) - middle) @ normal).mean())
    assert sides[0] * sides[1] < 0


def test_the_inner_end_is_the_deeper_one(stage):
    for patient in range(4):
        scene, _, _ = stage("cervix", patient)
        truth = scene.truth(0.0)
        depths = [z for _, z in truth.points_mm.values()]
        assert int(np.argmax(depths)) == truth.columns["internal_os_index"]


def test_lengths_are_as_drawn_and_short_necks_open_more_often():
    necks = [Neck.draw(stream(0, n, "anatomy")) for n in range(400)]
    lengths = np.array([neck.length_mm for neck in necks])
    assert LENGTH_MM[0] <= lengths.min() < 22
    assert 48 < lengths.max() <= LENGTH_MM[1]
    funnels = np.array([neck.funnel_mm > 0 for neck in necks])
    assert funnels[lengths < 25].mean() > 2 * funnels[lengths >= 25].mean()
    assert math.isclose(Neck.draw(stream(0, 0, "x"), length_mm=18.0).length_mm, 18.0)


def test_an_impossible_length_is_told():
    with pytest.raises(InsonateError, match="80 mm is not modelled"):
        Neck.draw(stream(0, 0, "anatomy"), length_mm=80)
