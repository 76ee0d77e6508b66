"""The head formulas on real landmarks: HC18 images whose circumference was measured by sonographers."""

from __future__ import annotations

import csv

import numpy as np

from insonate.data.spacing import Spacing
from insonate.measure import distance_mm, head_circumference


def test_circumference_from_four_real_points_is_the_measured_one(shared_data):
    with (shared_data / "hc18_landmarks" / "landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    ratios = []
    for row in rows:
        points = np.array(
            [float(row[f"{line}_{axis}"]) for line in ("bpd_1", "bpd_2", "ofd_1", "ofd_2") for axis in "xy"]
        )
        bpd_1, bpd_2, ofd_1, ofd_2 = points.reshape(4, 2)
        spacing = Spacing(row_mm=float(row["mm_per_px"]), col_mm=float(row["mm_per_px"]))
        hc = head_circumference(
            float(distance_mm(bpd_1, bpd_2, spacing)), float(distance_mm(ofd_1, ofd_2, spacing))
        )
        assert hc.in_range or hc.value < 50
        ratios.append(hc.value / float(row["hc_mm"]))
    assert len(ratios) == 400
    assert abs(np.median(ratios) - 1) < 0.01
    assert np.percentile(np.abs(np.array(ratios) - 1), 90) < 0.03
