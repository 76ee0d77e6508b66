"""Find the insonified region of stills and clips, by motion and intensity, with its geometry.

What a scanner draws around the echoes (text, rulers, logos) is thin, apart and still; echoes fill an area and
move. So the largest filled area, weighed by its motion, is found first, then the simplest outline that fits
it: a rectangle (linear probe, cropped clip), or a sector between two beams and two arcs (phased and curved
probes), clipped to its box. What fits neither keeps its convex hull.

Shapes: T frames, H W pixels, 3 = RGB. Angles are from straight down, to the right positive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage, optimize
from scipy.spatial import ConvexHull, QhullError

from insonate.data.overlays import Box, Mask, find_text, some
from insonate.data.templates import Templates

Soft = npt.NDArray[np.float32]
Params = npt.NDArray[np.float64]

LOOK_PX = 480
"""longer side of the picture that is looked at; of a larger one, every second pixel or less"""
COARSE_PX, FINE_PX = 80, 160
"""longer side of the pictures in which the outline is sought, then refined"""
LEAST_SHARE = 0.02
"""of the frame; a smaller area is no picture of tissue"""
SECOND_SHARE = 0.12
"""of the largest area, from which another one may be a part of the same picture"""
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
SOLID = 0.75
"""share of its convex hull that an area without outline must fill"""
FLAT_PX = 7
"""side of a square of one grey, which echoes do not have"""
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

    @property
    def depth_px(self) -> float:
        """From the probe's face to the deepest echoes."""
        return self.far_px - self.near_px


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sector:
    """Where the echoes are."""

    shape: Literal["sector", "curved", "rectangle", "other"]
    """`sector`: the beams meet at the probe's face; `curved`: behind it"""
    mask: Mask
    """H W: True within"""
    box: Box
    """left, top, right, bottom of the mask; right and bottom are one past the last pixel"""
    fit: float
    """overlap (intersection over union) of the outline with the filled area, 0 to 1"""
    fan: Fan | None = None

    def crop(self, frames: np.ndarray) -> np.ndarray:
        """The frames (T H W or T H W 3) within the box, black outside the mask."""
        left, top, right, bottom = self.box
        return self.masked(frames)[:, top:bottom, left:right]

    def masked(self, frames: np.ndarray) -> np.ndarray:
        """The frames (T H W or T H W 3), black outside the mask."""
        keep = self.mask if frames.ndim == 3 else self.mask[..., None]
        return np.where(keep, frames, np.uint8(0))


def find_sector(
    frames: np.ndarray, within: Box | None = None, *, templates: Templates | None = None
) -> Sector | None:
    """The insonified region; `None` where no area of echoes is found.

    Args:
        frames: T H W or T H W 3, uint8; a still has T = 1. Sixteen of them are looked at.
        within: left, top, right, bottom of where to look, such as the box of a calibrated region.
        templates: outlines of this scanner; one that fits is taken, one that is found for sure is added.

    Raises:
        InsonateError: the file of the templates is another one, or cannot be written.
    """
    height, width = frames.shape[1:3]
    left, top, right, bottom = within or (0, 0, width, height)
    guesses, step = _looked_at(some(frames)[:, top:bottom, left:right])
    if guesses is None:
        return None
    size = (bottom - top, right - left)
    known = [_scaled("fan", p, 1 / step) for p in templates.known(size)] if templates else []
    shape, params, fit = _best_outline(guesses, known)
    if templates and shape == "fan" and fit >= SHARP_FIT and not any(params is p for p in known):
        templates.learn(size, _scaled(shape, params, step))
    if shape == "other":
        hull = _hull(guesses.strict.echoes)
        if guesses.strict.echoes.sum() < SOLID * hull.sum():
            return None
        found, fan = _enlarged(hull, size), None
    else:
        found, fan = _drawn(shape, _scaled(shape, params, step), size)
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = found
    if not mask.any():
        return None
    kind: Literal["sector", "curved", "rectangle", "other"] = "other"
    if shape == "rectangle":
        kind = "rectangle"
    elif fan is not None:
        kind = "curved" if fan.near_px > 0.12 * fan.far_px else "sector"
        fan = Fan(
            apex_xy=(fan.apex_xy[0] + left, fan.apex_xy[1] + top),
            left_rad=fan.left_rad, right_rad=fan.right_rad, near_px=fan.near_px, far_px=fan.far_px,
        )  # fmt: skip
    return Sector(shape=kind, mask=mask, box=_box(mask), fit=fit, fan=fan)


def has_echoes(frames: np.ndarray) -> bool:
    """Whether there is an area that echoes fill at all, in T H W or T H W 3, uint8; without its outline.

    A black or even picture has none, nor has a page of text.
    """
    return _looked_at(some(frames))[0] is not None


def _looked_at(frames: np.ndarray) -> tuple[_Guesses | None, int]:
    """What is seen of every `step`-th pixel, and this step."""
    texts = _drawn_boxes(find_text(frames), frames.shape[1:3])
    step = max(1, round(max(frames.shape[1:3]) / LOOK_PX))
    every = slice(step // 2, None, step)
    return _seen(frames[:, every, every], texts[every, every]), step


# ------------------------------------------------------------------------------------------- filled area


class _Areas(NamedTuple):
    """What is surely in and surely out, each H W; the rest may be either."""

    echoes: Any
    black: Any


class _Guesses(NamedTuple):
    """Three ways to see a picture."""

    strict: _Areas
    """all that is flat and reaches the border is background"""
    dim: _Areas
    """what is joined to the echoes and not flat is dim echoes"""
    loose: _Areas
    """dark gaps between echoes may be of them"""


def _seen(frames: np.ndarray, texts: Mask) -> _Guesses | None:
    """The largest filled area of echoes, and the background."""
    grey = frames if frames.ndim == 3 else frames.max(-1)  # T H W
    brightest = grey.max(0)
    moved = grey.astype(np.float32).std(0) if len(grey) > 1 else np.zeros(brightest.shape, np.float32)
    flat = _flat(brightest) & (moved < 1)
    black = _black_level(brightest)
    lit = (brightest > black) & ~texts & ~(flat & (brightest > black))  # banners and panels are flat
    if moved.max() > 4:
        lit |= moved > 4
    main = _largest(lit, moved)
    if main is None:
        return None
    drawn = (texts | (flat & (brightest > black))) & ~main
    background = (_at_border(flat & (brightest <= black)) & ~main) | drawn
    dim = _grown(main, background)
    gaps = _hull(main) & ~drawn
    return _Guesses(_Areas(main, background), _Areas(dim, ~dim), _Areas(main, background & ~gaps))


def _grown(echoes: Mask, background: Mask) -> Mask:
    """The echoes with what is joined to them and not surely background."""
    labels, _ = ndimage.label(ndimage.binary_opening(~background, _disc(3)) | echoes)
    joined = np.unique(labels[echoes])
    return np.isin(labels, joined[joined > 0])


def _at_border(mask: Mask) -> Mask:
    """The parts that touch the frame's border: dark cavities do not."""
    labels, _ = ndimage.label(mask)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, np.unique(edges[edges > 0]))


def _flat(grey: npt.NDArray[np.uint8]) -> Mask:
    """Squares of one grey."""
    highest, lowest = (
        f(grey, FLAT_PX, mode="nearest") for f in (ndimage.maximum_filter, ndimage.minimum_filter)
    )
    return ndimage.binary_dilation(highest - lowest <= 1, np.ones((FLAT_PX, FLAT_PX)))


def _largest(lit: Mask, moved: Soft) -> Mask | None:
    size = max(1, round(min(lit.shape) / 60))
    joined = ndimage.binary_closing(np.pad(lit, size), _disc(size))[size:-size, size:-size]
    opened = ndimage.binary_opening(ndimage.binary_fill_holes(joined), _disc(size), border_value=0)
    labels, count = ndimage.label(opened)
    if not count:
        return None
    weight = ndimage.sum_labels(1 + moved, labels, np.arange(1, count + 1))
    main = 1 + int(np.argmax(weight))
    if (labels == main).mean() < LEAST_SHARE:
        return None
    return np.isin(labels, [main, *_below_or_above(labels, main)])


def _drawn_boxes(boxes: list[Box], size: tuple[int, ...]) -> Mask:
    drawn = np.zeros(size, bool)
    for left, top, right, bottom in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


def _below_or_above(labels: npt.NDArray[np.int32], main: int) -> list[int]:
    """Areas that a dark band parts from the largest one: as wide or narrower, and straight above or below."""
    found, boxes = [], ndimage.find_objects(labels)
    columns = boxes[main - 1][1]
    width, size = columns.stop - columns.start, int((labels == main).sum())
    for number, (_, across) in enumerate(boxes, 1):
        own = across.stop - across.start
        over = min(across.stop, columns.stop) - max(across.start, columns.start)
        large = int((labels == number).sum()) > SECOND_SHARE * size
        if number != main and large and over > 0.8 * own and own < 1.2 * width:
            found.append(number)
    return found


def _black_level(brightest: np.ndarray) -> int:
    """Grey up to which a pixel is background: what compression adds to the commonest dark value."""
    histogram = np.bincount(brightest.ravel(), minlength=256)[:64]
    if histogram.sum() < 0.03 * brightest.size:
        return 0
    return int(np.argmax(histogram)) + 5


def _disc(radius: int) -> Mask:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius + 1


def _resized(mask: Mask, scale: float) -> Soft:
    height, width = (max(2, round(side * scale)) for side in mask.shape)
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float32) / np.float32(255)


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    picture = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture)


def _box(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _hull(mask: Mask) -> Mask:
    """The convex hull."""
    edge = mask & ~ndimage.binary_erosion(mask)
    points = np.argwhere(edge)[:, ::-1]
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return mask
    picture = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(picture).polygon([(int(x), int(y)) for x, y in corners], fill=1, outline=1)
    return np.asarray(picture)


# ----------------------------------------------------------------------------------------------- outlines

_LENGTHS: dict[str, Any] = {
    "rectangle": np.array([1, 1, 1, 1], bool),
    "fan": np.array([1, 1, 0, 0, 1, 1, 1, 1, 1, 1], bool),
}
"""which parameters are lengths; rectangle: left, top, right, bottom; fan: apex x y, left and right angle,
near and far radius, then the box that clips it"""


def _best_outline(guesses: _Guesses, known: list[Params]) -> tuple[str, Params, float]:
    """Name, parameters and overlap of the simplest outline that fits; of sectors a known one first."""
    box = np.array(_box(guesses.strict.echoes), float)
    scale = min(1.0, FINE_PX / max(guesses.strict.echoes.shape))
    loose = _Areas(*(_resized(area, scale) for area in guesses.loose))
    flat = _overlap("rectangle", _scaled("rectangle", box, scale), loose)
    if flat >= SURE_FIT:
        return "rectangle", box, flat
    best = ("rectangle", box, flat)
    has_dim = guesses.dim.echoes.sum() > (1 + DIM_SHARE) * guesses.strict.echoes.sum()
    looks = (*((guesses.dim,) if has_dim else ()), guesses.strict, guesses.loose)
    for areas in looks if known else ():
        fan, fit = _best_known(areas, known)
        if fit >= KNOWN_FIT:
            return "fan", fan, fit
    for areas in looks:
        fan, fit = _best_fan(areas)
        if fit >= (DIM_FIT if areas is guesses.dim else SHARP_FIT):
            return "fan", fan, fit
        if areas is not guesses.dim and fit > best[2] + 0.01:
            best = ("fan", fan, fit)
    return best if best[2] >= GOOD_FIT else ("other", box, best[2])


def _best_known(areas: _Areas, known: list[Params]) -> tuple[Params, float]:
    """The known sector of least cost, and its overlap."""
    scale = min(1.0, FINE_PX / max(areas.echoes.shape))
    fine = _Areas(*(_resized(area, scale) for area in areas))
    best = min(known, key=lambda params: _cost("fan", _scaled("fan", params, scale), fine))
    return best, _overlap("fan", _scaled("fan", best, scale), fine)


def _best_fan(areas: _Areas) -> tuple[Params, float]:
    """Parameters of the sector that fits best, and its overlap."""
    largest = max(areas.echoes.shape)
    coarse_scale, fine_scale = (min(1.0, side / largest) for side in (COARSE_PX, FINE_PX))
    coarse, fine = (_Areas(*(_resized(a, scale) for a in areas)) for scale in (coarse_scale, fine_scale))
    starts = [_refined("fan", seed, coarse, (6.0, 0.08)) for seed in _fan_starts(coarse.echoes > 0.5)]
    start = min(starts, key=lambda params: _cost("fan", params, coarse))
    start = _scaled("fan", _scaled("fan", start, 1 / coarse_scale), fine_scale)
    fan = _refined("fan", start, fine, (1.5, 0.02))
    return _scaled("fan", fan, 1 / fine_scale), _overlap("fan", fan, fine)


def _scaled(shape: str, params: Params, scale: float) -> Params:
    """The parameters for a picture `scale` times as large; apexes are at pixel centres, boxes at edges."""
    scaled = params * np.where(_LENGTHS[shape], scale, 1.0)
    if shape == "fan":
        scaled[:2] = (params[:2] + 0.5) * scale - 0.5
    return scaled


def _fan_starts(filled: Mask) -> list[Params]:
    """First guesses: beams along the left and right edges, as steep lines through the outermost pixels."""
    box = np.array(_box(filled), float)
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


def _refined(shape: str, start: Params, areas: _Areas, steps: tuple[float, float]) -> Params:
    """The parameters near `start` at the least cost; first steps of so many pixels and radians."""
    simplex = np.vstack([start, start + np.diag(np.where(_LENGTHS[shape], steps[0], steps[1]))])
    options = {"initial_simplex": simplex, "maxfev": 50 * len(start), "xatol": 0.02, "fatol": 1e-5}
    found = optimize.minimize(lambda p: _cost(shape, p, areas), start, method="Nelder-Mead", options=options)
    return found.x


def _cost(shape: str, params: Params, areas: _Areas) -> float:
    drawn = _soft(shape, params, areas.echoes.shape)
    total, echoes, black = areas.echoes.sum(), (drawn * areas.echoes).sum(), (drawn * areas.black).sum()
    neutral = drawn.sum() - echoes - black
    return float((OUTSIDE_COST * (total - echoes) + black + NEUTRAL_COST * neutral) / total)


def _soft(shape: str, params: Params, size: tuple[int, ...]) -> Soft:
    """H W in 0 to 1: how much of each pixel lies within, so that parts of a pixel count."""
    y, x = np.ogrid[: size[0], : size[1]]
    left, top, right, bottom = params[-4:]
    across_box, down_box = np.minimum(x - left, right - x - 1), np.minimum(y - top, bottom - y - 1)
    inside = np.minimum(across_box, down_box) + 0.5
    if shape == "fan":
        across, down = x - params[0], y - params[1]
        radius = np.hypot(across, down)
        # signed distances in px from the two beams and the two arcs
        beams = np.minimum(
            across * math.cos(params[2]) - down * math.sin(params[2]),
            -across * math.cos(params[3]) + down * math.sin(params[3]),
        )
        arcs = np.minimum(radius - params[4], params[5] - radius)
        inside = np.minimum(inside, np.minimum(beams, arcs))
    return np.clip(inside + 0.5, 0, 1).astype(np.float32)


def _overlap(shape: str, params: Params, areas: _Areas) -> float:
    """Intersection over union of outline and echoes; what may be either does not count."""
    drawn = _soft(shape, params, areas.echoes.shape)
    both = float((drawn * areas.echoes).sum())
    return both / max(1.0, float(areas.echoes.sum() + (drawn * areas.black).sum()))


def _drawn(shape: str, params: Params, size: tuple[int, ...]) -> tuple[Mask, Fan | None]:
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
