"""Text that is drawn into the echoes: letters are bright, flat, sharp-edged, and stand in rows.

Shapes: T frames, H W pixels, 3 = RGB. In a clip only what stays on the same place counts, which leaves moving
speckle out. Level writing is found; a single letter, an arrow or slanted writing is not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]

BRIGHT = 130
"""grey from which a pixel may be ink"""
EDGE = 70
"""grey by which ink stands above what lies two pixels beside it"""
MOST_HUE = 30
"""by which the hues of two letters of a word differ"""
SATURATED, SCALE = 100, 40
"""difference of the channels of a full colour, and its standard deviation along a colour scale"""
MOST_SPREAD = 42
"""standard deviation of the grey of a letter: its edges are smoothed"""
LEAST_PX, MOST_PX, MOST_SHARE = 5, 16, 0.045
"""height of a letter; the largest one is so many pixels or that share of the frame's longer side"""
FAR_PX = 400
"""beyond which no letter is a neighbour, whatever its size"""
ROW = 3
"""letters that make writing"""
MARGIN_PX = 3
MOST_FRAMES = 16


def find_text(frames: np.ndarray) -> list[Box]:
    """Boxes (left, top, right, bottom) around writing, anywhere in the frame.

    Args:
        frames: T H W or T H W 3, uint8; sixteen of them are looked at.
    """
    frames = some(frames)
    colour = frames.min(0).astype(np.int16)  # H W or H W 3
    steady = colour if colour.ndim == 2 else colour.max(-1)  # H W
    around = ndimage.grey_opening(steady, size=(7, 7))
    ink = (steady >= BRIGHT) & (steady - around >= EDGE)
    labels, _ = ndimage.label(ink, np.ones((3, 3)))
    letters = [
        _Letter(box, _hue(colour[slices][labels[slices] == number]))
        for number, slices in enumerate(ndimage.find_objects(labels), 1)
        if (box := _letter(labels[slices] == number, slices, steady)) is not None
        and not _is_flow(colour[slices][labels[slices] == number])
    ]
    return [_with_margin(row, ink.shape) for row in _rows(letters)]


def some(frames: np.ndarray) -> np.ndarray:
    """Sixteen frames, spread over the clip."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))]


class _Letter(NamedTuple):
    box: Box
    hue: float
    """by how much the strongest channel leads: 0 for grey; writing has one, Doppler runs through many"""


def _hue(inked: npt.NDArray[np.int16]) -> float:
    if inked.ndim == 1:
        return 0.0
    _, middle, high = np.sort(inked, -1).T
    return float(np.median(high - middle))


def _letter(
    shape: Mask,
    slices: tuple[slice, slice],
    steady: npt.NDArray[np.int16],
) -> Box | None:
    top, bottom, left, right = slices[0].start, slices[0].stop, slices[1].start, slices[1].stop
    height, width = bottom - top, right - left
    if not LEAST_PX <= height <= _tallest(steady) or _num_letters(
        (left, top, right, bottom)
    ) > 1.2 * _num_runs(shape):
        return None
    inner = steady[slices][shape]
    upright = 3 * width <= height  # an I fills its box
    if inner.std() > MOST_SPREAD or not (upright or 0.1 <= shape.mean() <= 0.95):
        return None
    ring = ndimage.binary_dilation(np.pad(shape, 2), iterations=2)
    near = ndimage.binary_dilation(np.pad(shape, 2), iterations=1)
    padded = np.pad(steady, 2, mode="edge")[top : bottom + 4, left : right + 4]
    if np.median(inner) - np.median(padded[ring & ~near]) < EDGE:
        return None
    return left, top, right, bottom


def _is_flow(inked: npt.NDArray[np.int16]) -> bool:
    """Whether colours (N 3) run through a scale, as those of Doppler do; writing has one hue."""
    if inked.ndim == 1:
        return False
    low, middle, high = np.sort(inked, -1).T
    return bool(np.median(high - low) > SATURATED and (high - middle).std() > SCALE)


def _tallest(picture: np.ndarray) -> float:
    return max(MOST_PX, MOST_SHARE * max(picture.shape))


def _num_letters(box: Box) -> float:
    """Letters that such a box may hold: they touch each other in small or bold writing."""
    return max(1.0, (box[2] - box[0]) / (box[3] - box[1]) / 1.1)


def _num_runs(shape: Mask) -> float:
    """Strokes that a row of the shape crosses, on average: many in writing, one in a bright line."""
    return float(shape[:, 0].mean() + (shape[:, 1:] & ~shape[:, :-1]).sum() / len(shape))


def _rows(letters: list[_Letter]) -> list[Box]:
    """Boxes of letters that stand side by side, three or more of like height and hue."""
    waiting, rows = sorted(letters), []
    while waiting:
        row = [waiting.pop(0)]
        for letter in list(waiting):
            if letter.box[0] - row[-1].box[2] > FAR_PX:
                break
            if _beside(row[-1], letter):
                row.append(letter)
                waiting.remove(letter)
        if sum(round(_num_letters(letter.box)) for letter in row) >= ROW:
            edges = np.array([letter.box for letter in row])
            rows.append((*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist()))
    return rows


def _beside(letter: _Letter, other: _Letter) -> bool:
    """Whether two letters may follow each other in a word or line."""
    _, top, right, bottom = letter.box
    low, high = sorted((bottom - top, other.box[3] - other.box[1]))
    level = abs((top + bottom) - (other.box[1] + other.box[3])) <= 0.9 * high
    near = -2 <= other.box[0] - right <= 1.5 * high
    return level and near and high <= 1.6 * low and abs(letter.hue - other.hue) <= MOST_HUE


def _with_margin(box: Box, size: tuple[int, ...]) -> Box:
    left, top, right, bottom = box
    margin = MARGIN_PX + (bottom - top) // 3
    height, width = size
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(width, right + margin),
        min(height, bottom + margin),
    )
