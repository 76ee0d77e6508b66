"""The simplest outline of an area of echoes: a rectangle, or a sector between two beams and two arcs.

Shapes: H W pixels. Angles are from straight down, to the right positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage, optimize

from insonate.data.overlays import Box, Mask

Soft = npt.NDArray[np.float32]
Params = npt.NDArray[np.float64]

COARSE_PX, FINE_PX = 80, 160
"""longer side of the pictures in which the outline is sought, then refined"""
OUTSIDE_COST = 2.0
"""of a bright pixel that the outline leaves out, against a dark one that it takes in: echoes may be missing
within the sector, never outside it"""
NEUTRAL_COST = 0.05
"""of a pixel within that is neither echo nor surely background"""
GOOD_FIT = 0.87
"""overlap of outline and filled area below which no simple outline is believed"""
DIM_SHARE = 0.06
"""of the echoes: more than this beside them that is not surely background may be dim echoes"""
DIM_FIT = 0.94
"""overlap from which an outline of echoes and dim echoes together is believed"""
SHARP_FIT = 0.955
"""overlap from which a sector is believed at once"""
KNOWN_FIT = 0.965
"""overlap from which a remembered sector is believed: nothing is moved to make it fit"""
WIDER = 1.3
"""times the width at the bottom that a sector which opens upwards has at the top, at least"""
ALIKE = 0.017
"""by which a sector must fit better than a rectangle: it has more to bend"""
TILT_COST = 0.05
"""of a radian by which a sector is not upright: probes look straight down"""
SURE_FIT = 0.985
"""overlap from which the area's own box is its outline"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fan:
    """A sector between two beams and two arcs around one apex, in pixels of the frame."""

    apex_xy: tuple[float, float]
    """may lie above the frame: where the beams of a curved probe would meet"""
    left_rad: float
    right_rad: float
    near_px: float
    """radius of the probe's face; 0 for a phased probe"""
    far_px: float
    """radius of the deepest echoes: the depth is `far_px - near_px`"""
    upward: bool = False
    """the probe is at the bottom, as tongues are shown: angles are from straight up"""

    @property
    def depth_px(self) -> float:
        """From the probe's face to the deepest echoes."""
        return self.far_px - self.near_px


class Areas(NamedTuple):
    """What is surely in and surely out, each H W; the rest may be either."""

    echoes: Any
    black: Any


class Guesses(NamedTuple):
    """Three ways to see a picture."""

    strict: Areas
    """all that is flat and reaches the border is background"""
    dim: Areas
    """what is joined to the echoes and not flat is dim echoes"""
    loose: Areas
    """dark gaps between echoes may be of them"""
    lit: Mask
    """all that is not black, of whatever kind"""


_LENGTHS: dict[str, Any] = {
    "rectangle": np.array([1, 1, 1, 1], bool),
    "fan": np.array([1, 1, 0, 0, 1, 1, 1, 1, 1, 1], bool),
}
"""which parameters are lengths; rectangle: left, top, right, bottom; fan: apex x y, left and right angle,
near and far radius, then the box that clips it"""
LEFT, RIGHT, BOTTOM = 6, 8, 9
"""places of the box's sides among a fan's parameters"""


def unclipped(params: Params, lit: Mask) -> Params:
    """The sector without those sides of its box behind which it goes on: a shadow may be of one even grey.

    It does where all is lit up to its beams and arcs, and black behind them.
    """
    height, width = lit.shape
    for side, edge in ((LEFT, 0.0), (RIGHT, float(width)), (BOTTOM, float(height))):
        wider = params.copy()
        wider[side] = edge
        whole = _soft("fan", wider, lit.shape) > 0.5
        more = whole & (_soft("fan", params, lit.shape) <= 0.5)
        behind = ndimage.binary_dilation(more, iterations=4) & ~ndimage.binary_dilation(whole)
        if more.sum() > 10 and behind.sum() > 10 and lit[more].mean() > 0.95 and lit[behind].mean() < 0.1:
            params = wider
    return params


class Outline(NamedTuple):
    """The simplest outline that fits."""

    shape: str
    params: Params
    fit: float
    upward: bool = False
    """the parameters are those of the picture upside down"""


def best_outline(guesses: Guesses, known: list[Params]) -> Outline:
    """The simplest outline that fits; of sectors a known one first, one that opens upwards last."""
    box = np.array(box_of(guesses.strict.echoes), float)
    scale = min(1.0, FINE_PX / max(guesses.strict.echoes.shape))
    loose = Areas(*(_resized(area, scale) for area in guesses.loose))
    best = Outline("rectangle", box, _overlap("rectangle", scaled("rectangle", box, scale), loose))
    if best.fit >= SURE_FIT:
        return best
    has_dim = guesses.dim.echoes.sum() > (1 + DIM_SHARE) * guesses.strict.echoes.sum()
    looks = (*((guesses.dim,) if has_dim else ()), guesses.strict, guesses.loose)
    for areas in looks if known else ():
        fan, fit = _best_known(areas, known)
        if fit >= KNOWN_FIT:
            return Outline("fan", fan, fit)
    for areas in looks:
        found = _best_of(areas)
        if found.fit >= (DIM_FIT if areas is guesses.dim else SHARP_FIT):
            return found
        if areas is not guesses.dim and found.fit > best.fit + 0.01:
            best = found
    for areas in (guesses.strict, guesses.loose) if _widens_upward(guesses.strict.echoes) else ():
        fan, fit = _best_fan(Areas(*(area[::-1] for area in areas)))
        if fit >= max(DIM_FIT, best.fit + 0.02):
            best = Outline("fan", fan, fit, upward=True)
    return best if best.fit >= GOOD_FIT else Outline("other", box, best.fit)


def _widens_upward(echoes: Mask) -> bool:
    """Whether the echoes are narrower at the bottom of their box than at the top: the probe is there."""
    _, top, _, bottom = box_of(echoes)
    rows = max(1, (bottom - top) // 10)
    return bool(echoes[top : top + rows].sum() > WIDER * echoes[bottom - rows : bottom].sum())


def _best_of(areas: Areas) -> Outline:
    """The sector that fits best, or the rectangle where it fits about as well."""
    fan, fit = _best_fan(areas)
    scale = min(1.0, FINE_PX / max(areas.echoes.shape))
    fine = Areas(*(_resized(area, scale) for area in areas))
    box = scaled("rectangle", np.array(box_of(areas.echoes), float), scale)
    box = _refined("rectangle", box, fine, (2.0, 0.0))
    flat = _overlap("rectangle", box, fine)
    if flat >= max(GOOD_FIT, fit - ALIKE):
        return Outline("rectangle", scaled("rectangle", box, 1 / scale), flat)
    return Outline("fan", fan, fit)


def _best_known(areas: Areas, known: list[Params]) -> tuple[Params, float]:
    """The known sector of least cost, and its overlap."""
    scale = min(1.0, FINE_PX / max(areas.echoes.shape))
    fine = Areas(*(_resized(area, scale) for area in areas))
    cost = _Cost("fan", fine)
    best = min(known, key=lambda params: cost(scaled("fan", params, scale)))
    return best, _overlap("fan", scaled("fan", best, scale), fine)


def _best_fan(areas: Areas) -> tuple[Params, float]:
    """Parameters of the sector that fits best, and its overlap."""
    largest = max(areas.echoes.shape)
    coarse_scale, fine_scale = (min(1.0, side / largest) for side in (COARSE_PX, FINE_PX))
    coarse, fine = (Areas(*(_resized(a, scale) for a in areas)) for scale in (coarse_scale, fine_scale))
    starts = [_refined("fan", seed, coarse, (6.0, 0.08)) for seed in _fan_starts(coarse.echoes > 0.5)]
    start = min(starts, key=_Cost("fan", coarse))
    start = scaled("fan", scaled("fan", start, 1 / coarse_scale), fine_scale)
    fan = _refined("fan", start, fine, (1.5, 0.02))
    return scaled("fan", fan, 1 / fine_scale), _overlap("fan", fan, fine)


def scaled(shape: str, params: Params, scale: float) -> Params:
    """The parameters for a picture `scale` times as large; apexes are at pixel centres, boxes at edges."""
    scaled = params * np.where(_LENGTHS[shape], scale, 1.0)
    if shape == "fan":
        scaled[:2] = (params[:2] + 0.5) * scale - 0.5
    return scaled


def _fan_starts(filled: Mask) -> list[Params]:
    """First guesses: beams along the left and right edges, as steep lines through the outermost pixels."""
    box = np.array(box_of(filled), float)
    width = filled.shape[1]
    rows = np.flatnonzero(filled.any(1))
    first = filled.argmax(1)[rows]
    last = width - 1 - filled[:, ::-1].argmax(1)[rows]
    widening = slice(0, max(3, int(np.argmax(last - first)) + 1))
    left = _line(rows[widening], first[widening], inner=first[widening] > 0)
    right = _line(rows[widening], last[widening], inner=last[widening] < width - 1)
    starts = []
    middle = (box[0] + box[2]) / 2
    if left is not None and right is not None and right[0] - left[0] > 0.05:
        y = (left[1] - right[1]) / (right[0] - left[0])
        angles = math.atan(left[0]), math.atan(right[0])
        starts.append(_fan_from(filled, (left[0] * y + left[1], y), angles, box))
    for half in (0.4, 0.65):
        top = float(last[0] - first[0]) / 2
        starts.append(_fan_from(filled, (middle, box[1] - top / math.tan(half)), (-half, half), box))
    return starts


def _line(rows: np.ndarray, columns: np.ndarray, *, inner: np.ndarray) -> tuple[float, float] | None:
    """Column = slope · row + offset through most of the points; the rest (text, shadows) is passed over."""
    y, x = rows[inner].astype(float), columns[inner].astype(float)
    if len(y) < 6:
        return None
    pairs = np.random.default_rng(0).integers(len(y), size=(300, 2))
    pairs = pairs[np.abs(y[pairs[:, 0]] - y[pairs[:, 1]]) > len(y) / 5]
    if not len(pairs):
        return None
    slope = (x[pairs[:, 1]] - x[pairs[:, 0]]) / (y[pairs[:, 1]] - y[pairs[:, 0]])
    offset = x[pairs[:, 0]] - slope * y[pairs[:, 0]]
    votes = (np.abs(x - slope[:, None] * y - offset[:, None]) < 1.5).sum(1)
    best = int(np.argmax(votes))
    return float(slope[best]), float(offset[best])


def _fan_from(
    filled: Mask,
    apex: tuple[float, float],
    angles: tuple[float, float],
    box: Params,
) -> Params:
    y, x = np.nonzero(filled)
    radius = np.hypot(x - apex[0], y - apex[1])
    near, far = np.quantile(radius, [0.002, 0.998])
    return np.array([*apex, *angles, near, far, *box])


def _refined(shape: str, start: Params, areas: Areas, steps: tuple[float, float]) -> Params:
    """The parameters near `start` at the least cost; first steps of so many pixels and radians."""
    simplex = np.vstack([start, start + np.diag(np.where(_LENGTHS[shape], steps[0], steps[1]))])
    options = {"initial_simplex": simplex, "maxfev": 50 * len(start), "xatol": 0.02, "fatol": 1e-5}
    found = optimize.minimize(_Cost(shape, areas), start, method="Nelder-Mead", options=options)
    return found.x


class _Cost:
    """What an outline costs, as a function of its parameters: called thousands of times for a picture."""

    def __init__(self, shape: str, areas: Areas) -> None:
        echoes, black = (np.asarray(area, np.float32) for area in areas)
        self._shape, self._canvas = shape, _Canvas(echoes.shape)
        total = echoes.sum()
        price = (1 - NEUTRAL_COST) * black - (OUTSIDE_COST + NEUTRAL_COST) * echoes + NEUTRAL_COST
        self._price = (price / total).ravel()

    def __call__(self, params: Params) -> float:
        tilt = TILT_COST * abs(float(params[2] + params[3])) if self._shape == "fan" else 0.0
        return tilt + OUTSIDE_COST + float(self._canvas.draw(self._shape, params).ravel() @ self._price)


class _Canvas:
    """Outlines in pictures of one size; their pixels are written over by the next."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self._y, self._x = (np.arange(side, dtype=np.float64) for side in size[:2])
        self._inside, self._other = np.empty(size, np.float32), np.empty(size, np.float32)

    def draw(self, shape: str, params: Params) -> Soft:
        """H W in 0 to 1: how much of each pixel lies within, so that parts of a pixel count."""
        x, y, inside = self._x, self._y, self._inside
        left, top, right, bottom = params[-4:]
        across_box, down_box = np.minimum(x - left, right - x - 1), np.minimum(y - top, bottom - y - 1)
        np.minimum(_single(across_box), _single(down_box)[:, None], out=inside)
        inside += 0.5
        if shape == "fan":
            self._narrow(x - params[0], y - params[1], *params[2:6].tolist())
        inside += 0.5
        np.maximum(inside, 0, out=inside)
        return np.minimum(inside, 1, out=inside)

    def _narrow(
        self, across: Params, down: Params, left_rad: float, right_rad: float, near_px: float, far_px: float
    ) -> None:
        """To the signed distances in px from the two beams and the two arcs."""
        inside, other = self._inside, self._other
        for side, angle in ((1, left_rad), (-1, right_rad)):
            columns, rows = side * math.cos(angle) * across, -side * math.sin(angle) * down
            np.minimum(inside, np.add(_single(columns), _single(rows)[:, None], out=other), out=inside)
        np.add(_single(across * across), _single(down * down)[:, None], out=other)
        np.sqrt(other, out=other)
        other -= near_px
        np.minimum(inside, other, out=inside)
        np.subtract(far_px - near_px, other, out=other)
        np.minimum(inside, other, out=inside)


def _single(values: Params) -> Soft:
    return values.astype(np.float32)


def _soft(shape: str, params: Params, size: tuple[int, ...]) -> Soft:
    """H W in 0 to 1: how much of each pixel lies within."""
    return _Canvas(size).draw(shape, params)


def _overlap(shape: str, params: Params, areas: Areas) -> float:
    """Intersection over union of outline and echoes; what may be either does not count."""
    drawn = _soft(shape, params, areas.echoes.shape)
    both = float((drawn * areas.echoes).sum())
    return both / max(1.0, float(areas.echoes.sum() + (drawn * areas.black).sum()))


def drawn(shape: str, params: Params, size: tuple[int, ...]) -> tuple[Mask, Fan | None]:
    """The outline in a picture of this height and width, and its geometry where it is a sector."""
    mask = _soft(shape, params, size) >= 0.5
    if shape == "rectangle":
        return mask, None
    return mask, Fan(
        apex_xy=(float(params[0]), float(params[1])),
        left_rad=float(params[2]),
        right_rad=float(params[3]),
        near_px=max(0.0, float(params[4])),
        far_px=float(params[5]),
    )


def _resized(mask: Mask, scale: float) -> Soft:
    height, width = (max(2, round(side * scale)) for side in mask.shape)
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float32) / np.float32(255)


def box_of(mask: Mask) -> Box:
    """Left, top, right, bottom of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
