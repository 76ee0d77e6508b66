"""Scenes that are painted once and moved."""

from __future__ import annotations

import time

import numpy as np
import pytest

from insonate.phantom.cast import ROLES
from insonate.phantom.painting import Canvas
from insonate.phantom.physics import Grid
from insonate.phantom.vendors import VENDORS


@pytest.mark.parametrize("scene", [name for name in ROLES if name not in {"cava", "lung"}])
def test_truth_goes_where_the_tissue_goes(scene, stage):
    made, _, _ = stage(scene)
    for t_s in (0.2, 0.5):
        for place in [(0.0, 40.0), (-20.0, 60.0)]:
            there = made.after(*place, t_s)
            x, z = made.before(*(np.full((1, 1), c, np.float32) for c in there), t_s)
            assert (float(x[0, 0]), float(z[0, 0])) == pytest.approx(place, abs=1e-3)


@pytest.mark.parametrize("scene", ["head", "pelvis", "breast"])
def test_moved_labels_keep_their_area_and_move_with_the_points(scene, stage):
    made, machine, painting = stage(scene, size=256)
    first, later = (machine.screen.labels(made.frame(painting, t).label) > 0 for t in (0.0, 0.4))
    assert later.sum() == pytest.approx(first.sum(), rel=0.03)
    pivot = np.array(made.pivot_mm())
    shift_px = (np.array(made.after(*pivot, 0.4)) - pivot) / machine.screen.mm_per_px
    assert np.hypot(*shift_px) < 20
    if scene != "pelvis":  # the sector cuts that head
        centres = [np.argwhere(m).mean(0)[::-1] for m in (first, later)]
        assert centres[1] - centres[0] == pytest.approx(shift_px, abs=2)


def test_a_frame_that_hardly_moved_looks_like_the_one_before(stage):
    made, machine, painting = stage("head", 1)
    frames = machine.clip(made.frame(painting, t) for t in (0.0, 1e-4)).astype(float)
    assert np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1] > 0.98


def test_moving_costs_a_small_part_of_painting(stage):
    made, machine, painting = stage("head", 2, size=256)

    def cost(work) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    paint = min(cost(lambda: made.static(machine.grid)) for _ in range(3))
    move = min(cost(lambda: made.frame(painting, 0.1)) for _ in range(5))
    assert move < paint / 10


def test_later_strokes_cover_earlier_ones_and_wipe_their_echoes():
    grid = Grid(VENDORS["Slate"], 40.0, 128)
    canvas = Canvas(grid, -10.0, 0.5)
    away = grid.z_mm - np.float32(20)
    canvas.echo(away, 1.0, width_mm=1.0)
    assert canvas.spec.max() > 0.9
    canvas.blend(np.abs(away) - 5, 0.5, -30.0, 0.1)
    inside = np.abs(away) < 3
    assert canvas.level_db[inside] == pytest.approx(-30, abs=0.5)
    assert canvas.spec[inside].max() < 0.05
    canvas.fill(away > 10, 2.0, 3.0, label=4)
    assert set(np.unique(canvas.label)) == {0, 4}
    canvas.block(canvas.label == 4, 12.0)
    assert (canvas.loss > 0).sum() == grid.vendor.lines
