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
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage, optimize
from scipy.spatial import ConvexHull, QhullError

Mask = npt.NDArray[np.bool_]
Soft = npt.NDArray[np.float32]
Params = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]

LOOK_PX = 480
"""longer side of the picture that is looked at; of a larger one, every second pixel or less"""
COARSE_PX, FINE_PX = 80, 160
"""longer side of the pictures in which the outline is sought, then refined"""
MOST_FRAMES = 16
"""that are looked at, spread over the clip"""
LEAST_SHARE = 0.02
"""of the frame; a smaller area is no picture of tissue"""
SECOND_SHARE = 0.05
"""of the largest area, from which another one may be a part of the same picture"""
OUTSIDE_COST = 2.0
"""of a bright pixel that the outline leaves out, against a dark one that it takes in: echoes may be missing
within the sector, never outside it"""
GOOD_FIT = 0.87
"""overlap of outline and filled area below which no simple outline is believed"""
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


def find_sector(frames: np.ndarray, within: Box | None = None) -> Sector | None:
    """The insonified region; `None` where no area of echoes is found.

    Args:
        frames: T H W or T H W 3, uint8; a still has T = 1. Sixteen of them are looked at.
        within: left, top, right, bottom of where to look, such as the box of a calibrated region.
    """
    height, width = frames.shape[1:3]
    left, top, right, bottom = within or (0, 0, width, height)
    chosen = np.unique(np.linspace(0, len(frames) - 1, MOST_FRAMES).astype(int))
    picked = frames[chosen, top:bottom, left:right]
    step = max(1, round(max(picked.shape[1:3]) / LOOK_PX))
    area = _filled(picked[:, step // 2 :: step, step // 2 :: step])  # h w
    if area is None:
        return None
    shape, params, fit = _best_outline(area)
    if shape == "other":
        found, fan = _enlarged(_hull(area), (bottom - top, right - left)), None
    else:
        found, fan = _drawn(shape, _scaled(shape, params, step), (bottom - top, right - left))
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


# ------------------------------------------------------------------------------------------- filled area


def _filled(frames: np.ndarray) -> Mask | None:
    """H W: the largest filled area of echoes."""
    grey = frames if frames.ndim == 3 else frames.max(-1)  # T H W
    brightest = grey.max(0)
    moved = grey.astype(np.float32).std(0) if len(grey) > 1 else np.zeros(brightest.shape, np.float32)
    dark = _black_level(brightest)
    lit = brightest > dark
    if moved.max() > 4:
        lit |= moved > 4
    size = max(1, round(min(lit.shape) / 60))
    joined = ndimage.binary_closing(np.pad(lit, size), _disc(size))[size:-size, size:-size]
    opened = ndimage.binary_opening(_filled_holes(joined), _disc(size), border_value=0)
    labels, count = ndimage.label(opened)
    if not count:
        return None
    weight = ndimage.sum_labels(1 + moved, labels, np.arange(1, count + 1))
    main = 1 + int(np.argmax(weight))
    if (labels == main).mean() < LEAST_SHARE:
        return None
    return np.isin(labels, [main, *_below_or_above(labels, main)])


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


def _filled_holes(lit: Mask) -> Mask:
    """Dark cavities within; also those that the frame's border cuts."""
    return ndimage.binary_fill_holes(lit)


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


def _best_outline(mask: Mask) -> tuple[str, Params, float]:
    """Name, parameters and overlap of the simplest outline that fits."""
    coarse_scale, fine_scale = (min(1.0, side / max(mask.shape)) for side in (COARSE_PX, FINE_PX))
    coarse, fine = _resized(mask, coarse_scale), _resized(mask, fine_scale)
    whole = _resized(_hull(mask), fine_scale)
    box = np.array(_box(mask), float)
    best = ("rectangle", box, _overlap("rectangle", _scaled("rectangle", box, fine_scale), fine))
    if best[2] < SURE_FIT:
        starts = [_refined("fan", start, coarse, (6.0, 0.08)) for start in _fan_starts(coarse)]
        start = max(starts, key=lambda params: _overlap("fan", params, coarse))
        start = _scaled("fan", _scaled("fan", start, 1 / coarse_scale), fine_scale)
        fan = _refined("fan", start, fine, (1.5, 0.02))
        fit = max(_overlap("fan", fan, area) for area in (fine, whole))
        if fit > best[2] + 0.01:
            best = ("fan", _scaled("fan", fan, 1 / fine_scale), fit)
    return best if best[2] >= GOOD_FIT else ("other", box, best[2])


def _scaled(shape: str, params: Params, scale: float) -> Params:
    """The parameters for a picture `scale` times as large; apexes are at pixel centres, boxes at edges."""
    scaled = params * np.where(_LENGTHS[shape], scale, 1.0)
    if shape == "fan":
        scaled[:2] = (params[:2] + 0.5) * scale - 0.5
    return scaled


def _fan_starts(area: Soft) -> list[Params]:
    """First guesses: beams along the left and right edges, as steep lines through the outermost pixels."""
    filled = area > 0.5
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
        starts.append(_fan_from(area, (left[0] * y + left[1], y), angles, box))
    for half in (0.4, 0.65):
        top = float(last[0] - first[0]) / 2
        starts.append(_fan_from(area, (middle, box[1] - top / math.tan(half)), (-half, half), box))
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
    area: Soft,
    apex: tuple[float, float],
    angles: tuple[float, float],
    box: Params,
) -> Params:
    y, x = np.nonzero(area > 0.5)
    radius = np.hypot(x - apex[0], y - apex[1])
    near, far = np.quantile(radius, [0.002, 0.998])
    return np.array([*apex, *angles, near, far, *box])


def _refined(shape: str, start: Params, area: Soft, steps: tuple[float, float]) -> Params:
    """The parameters near `start` at the least cost; first steps of so many pixels and radians."""
    total = float(area.sum())

    def cost(values: Params) -> float:
        drawn = _soft(shape, values, area.shape)
        both = float((drawn * area).sum())
        return (OUTSIDE_COST * (total - both) + float(drawn.sum()) - both) / total

    simplex = np.vstack([start, start + np.diag(np.where(_LENGTHS[shape], steps[0], steps[1]))])
    options = {"initial_simplex": simplex, "maxfev": 50 * len(start), "xatol": 0.02, "fatol": 1e-5}
    return optimize.minimize(cost, start, method="Nelder-Mead", options=options).x


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


def _overlap(shape: str, params: Params, area: Soft) -> float:
    drawn = _soft(shape, params, area.shape)
    return float(np.minimum(drawn, area).sum() / max(1.0, float(np.maximum(drawn, area).sum())))


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
