"""Find the insonified region of stills and clips, by motion and intensity, with its geometry.

What a scanner draws around the echoes (text, rulers, logos) is thin, apart and still; echoes fill an area and
move. So the largest filled area, weighed by its motion, is found first, then the simplest outline that fits
it: a rectangle (linear probe, cropped clip), or a sector between two beams and two arcs (phased and curved
probes), clipped to its box. What fits neither keeps its convex hull.

Shapes: T frames, H W pixels, 3 = RGB. Angles are from straight down, to the right positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from insonate.data.outlines import (
    SHARP_FIT,
    Areas,
    Fan,
    Guesses,
    best_outline,
    box_of,
    drawn,
    scaled,
    unclipped,
)
from insonate.data.overlays import Box, Mask, find_text, some
from insonate.data.templates import Templates

Soft = npt.NDArray[np.float32]

LOOK_PX = 480
"""longer side of the picture that is looked at; of a larger one, every second pixel or less"""
LEAST_SHARE = 0.02
"""of the frame; a smaller area is no picture of tissue"""
SECOND_SHARE = 0.12
"""of the largest area, from which another one may be a part of the same picture"""
MOST_HOLE = 0.35
"""of the frame, that a dark cavity may take"""
SOLID = 0.75
"""share of its convex hull that an area without outline must fill"""
FLAT_PX = 7
"""side of a square of one grey, which echoes do not have"""


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
    known = [scaled("fan", p, 1 / step) for p in templates.known(size)] if templates else []
    shape, params, fit, upward = best_outline(guesses, known)
    if shape == "fan":
        params = unclipped(params, guesses.lit[::-1] if upward else guesses.lit)
    learns = templates and shape == "fan" and fit >= SHARP_FIT and not upward
    if templates and learns and not any(params is p for p in known):
        templates.learn(size, scaled(shape, params, step))
    if shape == "other":
        hull = _hull(guesses.strict.echoes)
        if guesses.strict.echoes.sum() < SOLID * hull.sum():
            return None
        found, fan = _enlarged(hull, size), None
    else:
        found, fan = drawn(shape, scaled(shape, params, step), size)
        found = found[::-1] if upward else found
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = found
    if not mask.any():
        return None
    kind: Literal["sector", "curved", "rectangle", "other"] = "other"
    if shape == "rectangle":
        kind = "rectangle"
    elif fan is not None:
        kind = "curved" if fan.near_px > 0.12 * fan.far_px else "sector"
        apex_y = size[0] - 1 - fan.apex_xy[1] if upward else fan.apex_xy[1]
        fan = Fan(
            apex_xy=(fan.apex_xy[0] + left, apex_y + top),
            left_rad=fan.left_rad, right_rad=fan.right_rad, near_px=fan.near_px, far_px=fan.far_px,
            upward=upward,
        )  # fmt: skip
    return Sector(shape=kind, mask=mask, box=box_of(mask), fit=fit, fan=fan)


def has_echoes(frames: np.ndarray) -> bool:
    """Whether there is an area that echoes fill at all, in T H W or T H W 3, uint8; without its outline.

    A black or even picture has none, nor has a page of text.
    """
    return _looked_at(some(frames))[0] is not None


def _looked_at(frames: np.ndarray) -> tuple[Guesses | None, int]:
    """What is seen of every `step`-th pixel, and this step."""
    texts = _drawn_boxes(find_text(frames), frames.shape[1:3])
    step = max(1, round(max(frames.shape[1:3]) / LOOK_PX))
    every = slice(step // 2, None, step)
    return _seen(frames[:, every, every], texts[every, every]), step


# ------------------------------------------------------------------------------------------- filled area


def _seen(frames: np.ndarray, texts: Mask) -> Guesses | None:
    """The largest filled area of echoes, and the background."""
    grey = frames if frames.ndim == 3 else frames.max(-1)  # T H W
    brightest = grey.max(0)
    moved = grey.astype(np.float32).std(0) if len(grey) > 1 else np.zeros(brightest.shape, np.float32)
    flat = _flat(brightest) & (moved < 1)
    black = _black_level(brightest)
    lit = (brightest > black) & ~texts & ~(flat & (brightest > black))  # banners and panels are flat
    if moved.max() > 4:
        lit |= moved > 4
    lit_at_all = (brightest > black) & ~texts
    main = _largest(lit, moved)
    if main is None:
        return None
    drawn = (texts | (flat & (brightest > black))) & ~main
    background = (_at_border(flat & (brightest <= black)) & ~main) | drawn
    dim = _grown(main, background)
    gaps = _hull(main) & ~drawn
    return Guesses(Areas(main, background), Areas(dim, ~dim), Areas(main, background & ~gaps), lit_at_all)


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
    opened = ndimage.binary_opening(_filled(joined), _disc(size), border_value=0)
    labels, count = ndimage.label(opened)
    if not count:
        return None
    weight = ndimage.sum_labels(1 + moved, labels, np.arange(1, count + 1))
    main = 1 + int(np.argmax(weight))
    if (labels == main).mean() < LEAST_SHARE:
        return None
    return np.isin(labels, [main, *_below_or_above(labels, main)])


def _filled(joined: Mask) -> Mask:
    """With its dark cavities; what the frame of a window encloses is none."""
    holes, _ = ndimage.label(ndimage.binary_fill_holes(joined) & ~joined)
    small = np.bincount(holes.ravel()) < MOST_HOLE * joined.size
    return joined | (small[holes] & (holes > 0))


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


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    picture = Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(picture)


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
