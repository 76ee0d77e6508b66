"""Inferior vena cava: width over the breath, collapse and pressure."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.errors import InsonateError
from insonate.measure.venous import ivc_collapsibility, right_atrial_pressure
from insonate.phantom.cava import CAVA, Breathing
from insonate.phantom.physics import stream


def test_a_breath_shows_the_planted_collapse(stage):
    scene, _, _ = stage("cava", 1)
    times = np.arange(scene.clip_frames) / scene.fps
    widths = [scene.truth(t).columns["ivc_mm"] for t in times]
    found = ivc_collapsibility(max(widths), min(widths)).value
    columns = scene.truth(0.0).columns
    assert found == pytest.approx(columns["ivc_collapse_percent"], abs=1)
    assert columns["rap_mmhg"] == right_atrial_pressure(max(widths), found).value


@pytest.mark.parametrize("patient", range(3))
def test_the_lumen_is_as_wide_as_the_truth_at_all_times(patient, stage):
    scene, machine, painting = stage("cava", patient, size=384)
    for t_s in (0.0, 0.9, 2.1):
        truth = scene.truth(t_s)
        upper, lower = (np.array(p) for p in truth.points_mm.values())
        assert np.linalg.norm(lower - upper) == pytest.approx(truth.columns["ivc_mm"], rel=1e-4)
        label = scene.frame(painting, t_s).label
        shown = []
        for share in np.linspace(-0.6, 1.6, 221):
            row, column = machine.grid.index_of(*np.array([upper + share * (lower - upper)]).T)
            shown.append(label[int(np.rint(row[0])), int(np.rint(column[0]))] == CAVA)
        width = np.sum(shown) / 100 * truth.columns["ivc_mm"]
        assert width == pytest.approx(truth.columns["ivc_mm"], abs=1.3)


def test_widest_at_the_end_of_expiration():
    breathing = Breathing.draw(stream(0, 0, "x"), widest_mm=20, collapse_percent=60)
    end = -breathing.start / breathing.rate_hz
    assert breathing.width_mm(end) == pytest.approx(20)
    assert breathing.width_mm(end + 0.5 / breathing.rate_hz) == pytest.approx(8)


@pytest.mark.parametrize("wrong", [{"widest_mm": 60}, {"collapse_percent": 120}])
def test_what_is_not_modelled_is_told(wrong):
    with pytest.raises(InsonateError, match="not modelled"):
        Breathing.draw(stream(0, 0, "anatomy"), **wrong)
