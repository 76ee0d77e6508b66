"""Text that is drawn into the echoes: letters are of one grey or colour, sharp-edged, and stand in rows.

Four planes are looked at, since no one threshold parts all writing from all tissue: what is bright, what is
brighter than any tissue, what is faint but of one grey, and what is coloured. In each, pieces of the size of
letters are joined to rows, level ones first, then those of other slants. In a clip only what stays on its
place counts, which leaves moving speckle out. A single letter, an arrow, and writing that is darker than what
it stands on are not found.

Shapes: T frames, H W pixels, 3 = RGB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.int16]
Box = tuple[int, int, int, int]

LEAST_PX, MOST_PX, MOST_SHARE = 4, 24, 0.05
"""height of a letter; the largest one is so many pixels or that share of the frame's longer side"""
RATIO = 1.6
"""of the heights of two letters of a word, at most"""
GAP = 1.5
"""between two words, in heights of a letter"""
LONGEST = 8
"""times the height of the tallest letter: a longer piece of ink is none of a word"""
MARGIN_PX = 3
ENDS = 0.9
"""of a letter's height, by which a row is prolonged: its last letter may be a comma, or run into echoes"""
MOST_FRAMES, MOVING = 16, 4
"""frames that are looked at, in two halves, as writing may change on the way; fewer than four one by one"""
SLANTS_DEG = (15, -15, 30, -30, 45, -45, 60, -60, 75, -75, 90)
"""of rows that are not level; one covers some ten degrees to either side"""
SATURATED = 100
"""difference of the channels of a full colour"""
SCALE, SCALE_IN_FLOW = 0.16, 0.06
"""standard deviation of the hue (lead of the strongest channel, as a share of it) from which a piece runs
through a colour scale"""
STREAK = 0.3
"""of its length that a line is wide, at most"""
ONE_COLOUR, ONE_COLOUR_IN_FLOW = 30, 10
"""by which the channels of two letters of a word differ at most; flow runs through a scale, speck by speck"""
MOST_LETTERS = 1500
"""in one plane; more are speckle"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What may be ink in one plane."""

    least: int
    """value from which a pixel may be ink"""
    edge: int
    """by which ink stands above what lies two pixels beside it"""
    spread: int
    """standard deviation of a letter at most: its edges are smoothed"""
    even: int
    """by which the medians of two letters of a word differ at most"""
    row: int
    """letters that make level writing"""
    slanted: int
    """and slanted writing"""


BRIGHT = _Look(least=130, edge=70, spread=42, even=60, row=3, slanted=4)
BRIGHTEST = _Look(least=205, edge=45, spread=30, even=40, row=3, slanted=4)
FAINT = _Look(least=60, edge=30, spread=20, even=16, row=4, slanted=6)
COLOURED = _Look(least=110, edge=80, spread=48, even=40, row=3, slanted=4)


def find_text(frames: np.ndarray, flow: Sequence[Box] = ()) -> list[Box]:
    """Boxes (left, top, right, bottom) around writing, anywhere in the frame; several a row that is slanted.

    Args:
        frames: T H W or T H W 3, uint8; sixteen of them are looked at.
        flow: where the file says that Doppler colour is drawn.
    """
    found: dict[Box, None] = {}
    frames = some(frames)
    for part in frames[:, None] if len(frames) < MOVING else np.array_split(frames, 2):
        found |= dict.fromkeys(_in_part(part.min(0).astype(np.int16), flow))
    return list(found)


def _in_part(colour: Plane, flow: Sequence[Box]) -> Iterator[Box]:
    """Of what stays on its place in a part of a clip: H W or H W 3."""
    grey = colour if colour.ndim == 2 else colour.max(-1)  # H W
    planes = [(grey, BRIGHT), (grey, BRIGHTEST), (grey, FAINT)]
    is_flow = np.zeros(grey.shape, bool)
    if colour.ndim == 3 and (vivid := grey - colour.min(-1)).max() > COLOURED.least:
        planes.append((vivid, COLOURED))
        is_flow = _flow(colour, flow)
    for plane, look in planes:
        yield from _boxes(_letters(plane, look, colour, is_flow), look, grey.shape)


def some(frames: np.ndarray) -> np.ndarray:
    """Sixteen frames, spread over the clip."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))]


# ------------------------------------------------------------------------------------------------ letters


class _Letter(NamedTuple):
    """A piece of ink, or several letters that touch."""

    left: float
    top: float
    right: float
    bottom: float
    ink: float
    """median of the plane"""
    rgb: tuple[float, ...]
    """medians of the channels; empty in a grey picture"""
    in_flow: bool
    points: npt.NDArray[Any]
    """N 2: x, y of its pixels"""
    sure: bool
    """it has the form of a letter; other ink only prolongs rows"""

    @property
    def height(self) -> float:
        return self.bottom - self.top


def _letters(plane: Plane, look: _Look, colour: Plane, flow: Mask) -> list[_Letter]:
    around = ndimage.grey_opening(plane, size=(7, 7))
    ink = (plane >= look.least) & (plane - around >= look.edge)
    labels, _ = ndimage.label(ink, np.ones((3, 3)))
    tallest, any_flow = _tallest(plane), bool(flow.any())
    found = []
    for number, slices in enumerate(ndimage.find_objects(labels), 1):
        sides = [part.stop - part.start for part in slices]
        if max(sides) < 2 or max(sides) > LONGEST * tallest:
            continue
        shape = labels[slices] == number
        inked = colour[slices][shape]
        in_flow = any_flow and bool(flow[slices][shape].mean() > 0.5)
        if _is_scale(inked, in_flow=in_flow):
            continue
        sure = max(sides) >= LEAST_PX and min(sides) <= tallest and _is_inked(shape, slices, plane, look)
        found.append(_letter(shape, slices, plane, inked, in_flow=in_flow, sure=sure))
        if len(found) > MOST_LETTERS:
            return []
    return found


def _letter(
    shape: Mask, slices: tuple[slice, slice], plane: Plane, inked: Plane, *, in_flow: bool, sure: bool
) -> _Letter:
    """`inked`: N or N 3, the colours of its pixels."""
    top, left = slices[0].start, slices[1].start
    y, x = np.nonzero(shape)
    points = np.empty((len(x), 2), np.int64)
    points[:, 0], points[:, 1] = x + left, y + top
    return _Letter(
        left=left, top=top, right=slices[1].stop, bottom=slices[0].stop,
        ink=float(_median(plane[slices][shape])) if sure else 0.0,
        rgb=tuple(_median(inked)) if sure and inked.ndim == 2 else (),
        in_flow=in_flow, points=points, sure=sure,
    )  # fmt: skip


def _median(values: Plane) -> Any:
    """Along the first axis, as NumPy's, whose checks take longer than the few values of a letter."""
    values = np.sort(values, axis=0)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


def _is_inked(shape: Mask, slices: tuple[slice, slice], plane: Plane, look: _Look) -> bool:
    """Whether a piece is of one value, stands out from what is around it and fills its box as a letter."""
    top, bottom, left, right = slices[0].start, slices[0].stop, slices[1].start, slices[1].stop
    height, width = bottom - top, right - left
    inner = plane[slices][shape]
    thin = 3 * min(width, height) <= max(width, height)  # an I fills its box
    if not (thin or 0.1 <= shape.mean() <= 0.95) or inner.std() > look.spread:
        return False
    padded_shape = np.zeros((height + 4, width + 4), bool)
    padded_shape[2:-2, 2:-2] = shape
    near = _spread(padded_shape)
    ring = _spread(near) & ~near
    around = plane[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2]
    if around.shape != ring.shape:
        around = np.pad(around, _lacking(slices, plane.shape), mode="edge")
    return bool(_median(inner) - _median(around[ring]) >= look.edge)


def _spread(mask: Mask) -> Mask:
    """The mask and its neighbours."""
    wider = mask.copy()
    wider[1:] |= mask[:-1]
    wider[:-1] |= mask[1:]
    wider[:, 1:] |= mask[:, :-1]
    wider[:, :-1] |= mask[:, 1:]
    return wider


def _lacking(slices: tuple[slice, slice], size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels that a margin of two around a piece lacks at the frame's border."""
    return [
        (max(0, 2 - part.start), max(0, part.stop + 2 - side))
        for part, side in zip(slices, size, strict=True)
    ]


def _is_scale(inked: npt.NDArray[np.int16], *, in_flow: bool) -> bool:
    """Whether colours (N 3) run through a scale, as those of Doppler; a pen has one hue, dim at its edges."""
    if inked.ndim == 1:
        return False
    low, high = inked.min(-1), inked.max(-1)
    if _median(high - low) <= SATURATED:
        return False
    middle = inked.sum(-1) - low - high
    hue = (high - middle) / np.maximum(high, 1)
    return bool(hue.std() > (SCALE_IN_FLOW if in_flow else SCALE))


def _flow(colour: Plane, told: Sequence[Box]) -> Mask:
    """Where Doppler colour is drawn: where the file says so, and around areas in many colours."""
    found = np.zeros(colour.shape[:2], bool)
    for left, top, right, bottom in told:
        found[top:bottom, left:right] = True
    low, middle, high = np.sort(colour, -1).transpose(2, 0, 1)
    vivid = high - low > SATURATED
    hue = np.where(vivid, (high - middle) / np.maximum(high, 1), 0).astype(np.float32)
    side = 2 * MOST_PX + 1
    count = ndimage.uniform_filter(vivid.astype(np.float32), side)
    mean = ndimage.uniform_filter(hue, side) / np.maximum(count, 1e-6)
    square = ndimage.uniform_filter(hue * hue, side) / np.maximum(count, 1e-6)
    varied = np.sqrt(np.maximum(square - mean * mean, 0)) > SCALE / 2
    return found | (varied & (count > 0.02))


def _tallest(picture: np.ndarray) -> float:
    return max(MOST_PX, MOST_SHARE * max(picture.shape))


# --------------------------------------------------------------------------------------------------- rows


def _boxes(letters: list[_Letter], look: _Look, size: tuple[int, ...]) -> Iterator[Box]:
    """Boxes around the rows of letters, level ones and then those of other slants."""
    tallest = max(MOST_PX, MOST_SHARE * max(size))
    rest = letters
    for slant in (0, *SLANTS_DEG):
        turned = (_turned(letter, slant) for letter in rest if letter.sure)
        fitting = [letter for letter in turned if _fits(letter, tallest)]
        if len(fitting) < 2:
            continue
        rows = list(_rows(fitting, look, look.slanted if slant else look.row))
        ink = [_turned(letter, slant) for letter in rest] if rows else []
        used: set[int] = set()
        for row in rows:
            whole, inked = _grown([fitting[i] for i in row], ink)
            used |= inked
            yield from _tiles(whole, slant, size)
        rest = [letter for i, letter in enumerate(rest) if i not in used]


def _grown(row: list[_Letter], ink: list[_Letter]) -> tuple[tuple[float, ...], set[int]]:
    """The row's box with what other ink prolongs it, by its own length at most; the numbers of that ink.

    Letters that touch each other or the echoes, commas and dots are not found as letters.
    """
    edges = np.array([letter[:4] for letter in row], np.float64)
    left, top = edges[:, :2].min(0).tolist()
    right, bottom = edges[:, 2:].max(0).tolist()
    height, length = bottom - top, right - left
    first, last, slack = left - length, right + length, 0.35 * height
    near = [
        i for i, letter in enumerate(ink)
        if letter.top >= top - slack and letter.bottom <= bottom + slack
        and letter.left >= first and letter.right <= last
    ]  # fmt: skip
    more: set[int] = set()
    while fresh := [
        i for i in near
        if i not in more and ink[i].left <= right + GAP * height and ink[i].right >= left - GAP * height
    ]:  # fmt: skip
        more |= set(fresh)
        left, right = min(left, *(ink[i].left for i in fresh)), max(right, *(ink[i].right for i in fresh))
    return (left, top, right, bottom), more


def _turned(letter: _Letter, slant_deg: int) -> _Letter:
    """The letter as it stands where rows of this slant are level."""
    if not slant_deg:
        return letter
    turned = letter.points @ _axes(slant_deg)  # N 2 @ 2 2
    (left, top), (right, bottom) = turned.min(0).tolist(), turned.max(0).tolist()
    return letter._replace(
        left=left - 0.5, top=top - 0.5, right=right + 0.5, bottom=bottom + 0.5, points=turned
    )


def _axes(slant_deg: int) -> npt.NDArray[np.float64]:
    """Columns: along a row of this slant, and downwards across it."""
    cos, sin = math.cos(math.radians(slant_deg)), math.sin(math.radians(slant_deg))
    return np.array([[cos, -sin], [sin, cos]])


def _fits(letter: _Letter, tallest: float) -> bool:
    """Whether the piece has the height of a letter, and as many strokes as a word of its length."""
    return (
        letter.sure
        and LEAST_PX <= letter.height <= tallest
        and _num_letters(letter) <= 1.2 * _num_runs(letter)
    )


def _num_letters(letter: _Letter) -> float:
    """Letters that such a box may hold: they touch each other in small or bold writing."""
    return max(1.0, (letter.right - letter.left) / letter.height / 1.1)


def _num_runs(letter: _Letter) -> float:
    """Strokes that a row of the shape crosses, on average: many in writing, one in a bright line."""
    x, y = np.round(letter.points - letter.points.min(0)).astype(int).T
    shape = np.zeros((y.max() + 1, x.max() + 3), bool)
    shape[y, x + 1] = True
    shape[:, 1:-1] |= shape[:, :-2] & shape[:, 2:]  # what turning has torn
    return float((shape[:, 1:] & ~shape[:, :-1]).sum() / len(shape))


def _rows(letters: list[_Letter], look: _Look, least: int) -> Iterator[list[int]]:
    """Numbers of letters that stand side by side, so many at least, of like height and ink."""
    waiting = sorted(range(len(letters)), key=lambda i: letters[i][:4])
    while waiting:
        row = [waiting.pop(0)]
        for i in list(waiting):
            if letters[i].left - letters[row[-1]].right > GAP * RATIO * letters[row[-1]].height:
                break  # the others lie farther away
            if _beside(letters[row[-1]], letters[i], look):
                row.append(i)
                waiting.remove(i)
        many = sum(round(_num_letters(letters[i])) for i in row) >= least
        if many and sum(1 + (_num_letters(letters[i]) > 2) for i in row if not _is_streak(letters[i])) >= 2:
            yield row


def _is_streak(letter: _Letter) -> bool:
    """Whether the piece is a line, as fibres and walls are: of a word few letters are."""
    minor, major = np.linalg.eigvalsh(np.cov(letter.points.T))
    return bool(minor < STREAK**2 * major)


def _beside(letter: _Letter, other: _Letter, look: _Look) -> bool:
    """Whether two letters may follow each other in a word or line."""
    low, high = sorted((letter.height, other.height))
    level = abs((letter.top + letter.bottom) - (other.top + other.bottom)) <= 0.9 * high
    near = -2 <= other.left - letter.right <= GAP * high
    alike = abs(letter.ink - other.ink) <= look.even and _one_colour(letter, other)
    return level and near and high <= RATIO * low and alike


def _one_colour(letter: _Letter, other: _Letter) -> bool:
    """Whether both may be drawn with one pen."""
    if not letter.rgb or max(letter.rgb) - min(letter.rgb) <= SATURATED / 2 >= max(other.rgb) - min(
        other.rgb
    ):
        return True  # grey: `ink` is compared
    most = ONE_COLOUR_IN_FLOW if letter.in_flow or other.in_flow else ONE_COLOUR
    return max(abs(one - two) for one, two in zip(letter.rgb, other.rgb, strict=True)) <= most


def _tiles(box: tuple[float, ...], slant_deg: int, size: tuple[int, ...]) -> Iterator[Box]:
    """Level boxes that cover a row with its margin: one of a level row, squares along a slanted one."""
    left, top, right, bottom = box
    across = MARGIN_PX + (bottom - top) / 3
    along = MARGIN_PX + ENDS * (bottom - top)
    left, top, right, bottom = left - along, top - across, right + along, bottom + across
    count = math.ceil((right - left) / (bottom - top)) if slant_deg else 1
    back = _axes(slant_deg).T
    height, width = size
    for part in range(count):
        start, stop = (left + (right - left) * k / count for k in (part, part + 1))
        corners = np.array([[start, top], [stop, top], [start, bottom], [stop, bottom]]) @ back  # 4 2
        x0, y0 = np.maximum(np.floor(corners.min(0)), 0).astype(int).tolist()
        x1, y1 = np.minimum(np.ceil(corners.max(0)), (width, height)).astype(int).tolist()
        if x1 > x0 and y1 > y0:
            yield x0, y0, x1, y1
