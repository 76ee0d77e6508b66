"""The sector of a clip is what moves: neither a larger panel that stands still, nor a scanner's borders."""

from __future__ import annotations

import numpy as np
import pytest
from test_templates import fan, overlap

from insonate.data.media import MediaFile
from insonate.data.sector import find_sector

FRAMES = 8
PANEL = (270, 10, 590, 230)
"""left, top, right, bottom: larger than the sector beside it"""


def beside_a_panel(*, still):
    """T 240 600: a sector of speckle beside a panel of greys that stands still, and where the sector is."""
    frames = np.zeros((FRAMES, 240, 600), np.uint8)
    inside = np.zeros(frames.shape[1:], bool)
    for t in range(FRAMES):
        speckle, inside[30:210, 10:250] = fan(seed=0 if still else t)
        frames[t, 30:210, 10:250] = speckle[0]
    left, top, right, bottom = PANEL
    frames[:, top:bottom, left:right] = np.linspace(60, 200, right - left)
    return frames, inside


def test_what_moves_is_the_sector_though_a_larger_panel_stands_beside_it():
    frames, inside = beside_a_panel(still=False)
    left, top, right, bottom = PANEL
    assert (right - left) * (bottom - top) > 2 * inside.sum()
    assert overlap(find_sector(frames).mask, inside) >= 0.97


def test_without_motion_the_larger_area_is_taken():
    """The control: it is the motion that tells them apart."""
    frames, _ = beside_a_panel(still=True)
    assert find_sector(frames).box == pytest.approx(PANEL, abs=2)


@pytest.mark.parametrize(
    ("name", "strips"),
    [
        ("heavy-borders", [(452, 20, 480, 235), (60, 340, 440, 360)]),
        ("echo-with-borders", [(453, 20, 480, 210), (55, 340, 425, 360)]),
    ],
)
def test_borders_of_the_scanners_screen_are_left_out(shared_data, name, strips):
    """`strips`: left, top, right, bottom of the buttons beside and below the echoes, read off a picture."""
    with MediaFile(shared_data / "echo_clips" / "mp4" / f"sonocrop_{name}.mp4") as file:
        frames = file.read(range(0, 120, 8))
    sector = find_sector(frames)
    for left, top, right, bottom in strips:
        assert frames[:, top:bottom, left:right].max() > 60
        assert not sector.mask[top:bottom, left:right].any()
    _, _, right, bottom = sector.box
    assert right <= strips[0][0]
    assert bottom <= strips[1][1]
