"""Volume of the left ventricle by summation of discs (Simpson), in one plane or two.

A plane is cut into slices of equal height along the line from the middle of the mitral annulus to the point
of the contour farthest from it; each slice is a disc. Contours are N 2 in mm, closed from the last point to
the first. Source: Lang et al. 2015 (JASE 28:1), 20 discs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from insonate.data.spacing import Spacing
from insonate.measure.quantity import Quantity, quantity
from insonate.measure.ventricle import LANG_2015

DISCS = 20
LENGTHS_APART = 0.10
"""of the longer one; two planes that differ by more are of different cuts: one is foreshortened"""
STEPS_PER_PX = 4
"""at which a mask is sampled along a slice"""


class Plane(NamedTuple):
    """One view, cut."""

    diameters_mm: np.ndarray
    """of the slices from the base to the apex"""
    length_mm: float


def plane_of_contour(contour_mm: np.ndarray, hinges_mm: np.ndarray, discs: int = DISCS) -> Plane:
    """Cut a closed contour.

    Args:
        contour_mm: N 2 (x, y), in order.
        hinges_mm: 2 2, the two ends of the mitral annulus.
        discs: number of slices.

    Raises:
        ValueError: the contour has fewer than 3 points or no length.
    """
    contour = np.asarray(contour_mm, dtype=np.float64)
    if len(contour) < 3:
        raise ValueError(f"a contour has at least 3 points, not {len(contour)}")
    base, along, across, length_mm = _axis(contour, np.asarray(hinges_mm, dtype=np.float64))
    own = (contour - base) @ np.stack([along, across], axis=1)  # N 2: height and side of each point
    heights = (np.arange(discs) + 0.5) / discs * length_mm
    diameters = np.array([_width(own, height) for height in heights])
    return Plane(diameters, length_mm)


def plane_of_mask(mask: np.ndarray, hinges_px: np.ndarray, spacing: Spacing, discs: int = DISCS) -> Plane:
    """Cut the region of a mask; in each slice the stretch nearest to the axis counts.

    Args:
        mask: H W, bool.
        hinges_px: 2 2 (x, y) in pixels.
        spacing: of the mask.
        discs: number of slices.

    Raises:
        ValueError: the mask is empty or has no length.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        raise ValueError("the mask is empty")
    step_mm = np.array([spacing.col_mm, spacing.row_mm])
    points = np.stack([columns, rows], axis=-1) * step_mm  # N 2
    base, along, across, length_mm = _axis(points, np.asarray(hinges_px, dtype=np.float64) * step_mm)
    sides = (points - base) @ across
    fine_mm = float(step_mm.min()) / STEPS_PER_PX
    steps = np.arange(sides.min() - step_mm.max(), sides.max() + 2 * step_mm.max(), fine_mm)  # S
    heights = (np.arange(discs) + 0.5) / discs * length_mm  # discs
    places = base + heights[:, None, None] * along + steps[None, :, None] * across  # discs S 2
    inside = _looked_up(mask, places / step_mm)  # discs S
    diameters = np.array([_stretch(row, steps) * fine_mm for row in inside])
    return Plane(diameters, length_mm)


def volume_one_plane(plane: Plane) -> Quantity:
    """Volume, taking each slice for a circle."""
    volume = math.pi / 4 * plane.length_mm / len(plane.diameters_mm) * float(np.sum(plane.diameters_mm**2))
    return _volume(volume, f"{len(plane.diameters_mm)} discs, one plane", plane)


def volume_two_planes(first: Plane, second: Plane) -> Quantity:
    """Volume, taking each slice for an ellipse; the length is the longer one.

    Lengths that differ by more than 10 % make a doubt.

    Raises:
        ValueError: the planes have different numbers of slices.
    """
    count = len(first.diameters_mm)
    if count != len(second.diameters_mm):
        raise ValueError(f"{count} discs in one plane but {len(second.diameters_mm)} in the other")
    longer, shorter = sorted((first, second), key=lambda plane: plane.length_mm)[::-1]
    product = float(first.diameters_mm @ second.diameters_mm)
    volume = math.pi / 4 * longer.length_mm / count * product
    doubts: tuple[str, ...] = ()
    if shorter.length_mm < (1 - LENGTHS_APART) * longer.length_mm:
        lengths = f"{first.length_mm:.4g} and {second.length_mm:.4g} mm"
        doubts = (f"lengths of the two planes differ by more than {LENGTHS_APART:.0%}: {lengths}",)
    return _volume(volume, f"{count} discs, two planes", longer, doubts)


def _volume(volume_mm3: float, method: str, plane: Plane, doubts: tuple[str, ...] = ()) -> Quantity:
    return quantity(
        "lv_ml", volume_mm3 / 1000, LANG_2015, convention=method, made_of={"lv_long_mm": plane.length_mm},
        doubts=doubts,
    )  # fmt: skip


def _axis(points: np.ndarray, hinges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Middle of the annulus, unit vectors along and across the long axis, and its length.

    Raises:
        ValueError: the length is 0.
    """
    base = hinges.mean(axis=0)
    apex = points[np.linalg.norm(points - base, axis=1).argmax()]
    length = float(np.linalg.norm(apex - base))
    if not length > 0:
        raise ValueError("the contour has no length")
    along = (apex - base) / length
    return base, along, np.array([-along[1], along[0]]), length


def _width(own: np.ndarray, height: float) -> float:
    """Width of a contour (N 2: height, side) at a height: of the stretch at the axis or nearest to it."""
    above = own[:, 0] > height
    crossing = np.flatnonzero(above != np.roll(above, -1))
    start, end = own[crossing], own[(crossing + 1) % len(own)]
    part = (height - start[:, 0]) / (end[:, 0] - start[:, 0])
    sides = np.sort(start[:, 1] + part * (end[:, 1] - start[:, 1]))
    stretches = sides.reshape(-1, 2)
    if len(stretches) == 0:
        return 0.0
    nearest = min(stretches, key=lambda s: max(s[0], -s[1], 0.0))
    return float(nearest[1] - nearest[0])


def _looked_up(mask: np.ndarray, places_px: np.ndarray) -> np.ndarray:
    """The mask at the nearest pixels; False outside."""
    columns, rows = np.rint(places_px).astype(int).transpose(2, 0, 1)
    height, width = mask.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return inside & np.asarray(mask, dtype=bool)[np.where(inside, rows, 0), np.where(inside, columns, 0)]


def _stretch(inside: np.ndarray, steps: np.ndarray) -> int:
    """Number of samples in the run of True that is nearest to the axis (step 0)."""
    edges = np.flatnonzero(np.diff(np.r_[0, inside.astype(np.int8), 0]))
    runs = edges.reshape(-1, 2)  # first, one past the last
    if len(runs) == 0:
        return 0
    first, past = min(runs, key=lambda run: max(steps[run[0]], -steps[run[1] - 1], 0.0))
    return int(past - first)
