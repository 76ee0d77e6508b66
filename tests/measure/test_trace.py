"""The trace of a loop: a vessel of known width, seen along a line of known place."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.spacing import Spacing
from insonate.measure.trace import BEYOND, HEIGHT_PX, MARGIN_PX, Cursor, draw_trace, sampled

WIDTHS = [20, 24, 28, 24, 16, 12, 16, 20]


def breathing():
    """A dark vessel in bright tissue, and its walls T 2 2."""
    frames = np.full((len(WIDTHS), 100, 80), 200, np.uint8)
    walls = np.zeros((len(WIDTHS), 2, 2))
    for t, width in enumerate(WIDTHS):
        top = 50 - width // 2
        frames[t, top : top + width] = 10
        walls[t] = (40, top - 0.5), (40, top + width - 0.5)
    return frames, walls


def test_the_trace_shows_the_vessel_as_wide_as_it_is():
    frames, walls = breathing()
    cursor = Cursor.along(walls)
    levels = sampled(frames, cursor)
    assert levels.shape[1] == len(WIDTHS)
    step_px = np.linalg.norm(np.diff(cursor.places()[:2], axis=0))
    assert (levels < 100).sum(axis=0) * step_px == pytest.approx(WIDTHS, abs=1.1)
    at = cursor.project(walls)
    assert (at[:, 1] - at[:, 0]) * np.linalg.norm(cursor.end_xy - cursor.start_xy) * (1 + 2 * BEYOND) == (
        pytest.approx(WIDTHS)
    )


def test_the_picture_has_walls_marks_and_axes():
    frames, walls = breathing()
    walls[3] = np.nan
    cursor = Cursor.along(walls)
    picture = draw_trace(
        sampled(frames, cursor), cursor, walls, times_s=[0.1 * t for t in range(8)],
        spacing=Spacing(row_mm=1.0, col_mm=1.0), marks={"widest": 2, "narrowest": 5}, lines=["collapse 57 %"],
    )  # fmt: skip
    pixels = np.asarray(picture).astype(int)
    yellow = (np.abs(pixels - (255, 214, 0)).sum(axis=-1) < 20).any(axis=0)
    assert yellow[MARGIN_PX + 60]
    assert not yellow[MARGIN_PX + 280 : MARGIN_PX + 340].all()
    assert pixels[HEIGHT_PX + 40 :].max() > 200


def test_no_caliper_gives_no_line():
    assert Cursor.along(np.full((4, 2, 2), np.nan)) is None
    assert Cursor.along(np.zeros((4, 2, 2))) is None


def test_colour_frames_and_lines_that_leave_the_picture_are_taken():
    frames = np.full((2, 20, 20, 3), 90, np.uint8)
    cursor = Cursor(start_xy=np.array([10.0, 2.0]), end_xy=np.array([10.0, 18.0]))
    levels = sampled(frames, cursor)
    assert levels[0].max() == 0
    assert levels[len(levels) // 2].min() == 90
