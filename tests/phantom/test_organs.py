"""Organs around a lesion."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.phantom.organs import LESION


@pytest.mark.parametrize("organ", ["breast", "thyroid", "liver"])
def test_lesion_lies_in_the_picture_and_is_as_large_as_told(organ, stage):
    for patient in range(6):
        scene, machine, painting = stage(organ, patient)
        mask = machine.screen.labels(painting.still.label) == LESION
        rows, columns = np.nonzero(mask)
        extent_mm = max(np.ptp(rows), np.ptp(columns)) * machine.screen.mm_per_px
        columns_of = scene.truth(0.0).columns
        assert 0.7 * columns_of["lesion_long_mm"] < extent_mm < 1.8 * columns_of["lesion_long_mm"]
        assert columns_of["lesion_short_mm"] <= columns_of["lesion_long_mm"]
        assert 0 < rows.min() < rows.max() < machine.screen.size - 1


def test_both_classes_occur_in_each_organ(stage):
    for organ in ("breast", "thyroid", "liver"):
        classes = {stage(organ, n, size=64)[0].lesion.lesion_class for n in range(10)}
        assert classes == {"benign", "malignant"}
