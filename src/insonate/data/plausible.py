"""Whether predicted points could be a person's: lengths, proportions and order as the task's labels have.

Bounds come from the labelled pictures themselves, so that no size in mm is needed. What a set's anatomy rules
out at once (a head twice as long as wide, an apex below its valve) is refused with any labels.
Shapes: N labelled pictures, K points, F features; (x, y) in pixels of the original, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOWEST_PERCENT, HIGHEST_PERCENT = 0.5, 99.5
"""of the labels; what lies beyond is refused"""
FEWEST, SLACK = 5, 4.0
"""labels of which nothing is learned if there are fewer; and the share of their range by which n labels let
points go beyond it, times n: a few labels do not show the whole range"""
ROUND = ("HC", "FA")
LEAST_ROUND = 0.6
"""shorter over longer diameter of a head or an abdomen"""
DOWNWARDS: dict[str, tuple[tuple[int, ...], ...]] = {"A4C": ((0, 1, 9), (4, 5, 13))}
"""points that lie one below the other: apex, valve, roof of the atrium, of the left and of the right heart"""
ALONG: dict[str, tuple[int, ...]] = {"PLAX": (16, 14, 8, 10, 12)}
"""starts of lines that follow along x, either way: outflow tract, annulus, sinus, junction, aorta"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the labels of one task allow."""

    task: str
    """name of the point set, or anything for points of one's own"""
    low: np.ndarray
    """F"""
    high: np.ndarray
    """F"""

    def allow(self, points_xy: np.ndarray, hw: tuple[int, int]) -> bool:
        """Whether points K 2 on a picture of this height and width could be labels."""
        if not inside(points_xy, hw) or not anatomical(points_xy, self.task):
            return False
        found = features(points_xy, hw)
        return bool(np.isfinite(found).all() and (found >= self.low).all() and (found <= self.high).all())


def bounds(task: str, labels: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> Bounds:
    """Of N labelled pictures, each its points K 2 and its height and width; a missing point tells nothing.

    Raises:
        ValueError: there is no label.
    """
    if not labels:
        raise ValueError(f"no labels of {task}")
    rows = np.stack([features(points_xy, hw) for points_xy, hw in labels])  # N F
    known = np.isfinite(rows)
    low, high = np.full(rows.shape[1], -np.inf), np.full(rows.shape[1], np.inf)
    for i in np.flatnonzero(known.sum(axis=0) >= FEWEST):
        low[i], high[i] = np.percentile(rows[known[:, i], i], [LOWEST_PERCENT, HIGHEST_PERCENT])
        slack = SLACK / known[:, i].sum() * (high[i] - low[i])
        low[i], high[i] = low[i] - slack, high[i] + slack
    return Bounds(task=task, low=low, high=high)


def features(points_xy: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Lengths of the lines 0-1, 2-3, … in diagonals of the picture, then each over their mean; F = 2 · lines.

    With an odd number of points the lines are 0-1, 1-2, ….
    """
    points = np.asarray(points_xy, dtype=np.float64)
    step = 2 if len(points) % 2 == 0 else 1
    lines = points[1::step] - points[:-1:step]
    lengths = np.linalg.norm(lines, axis=-1) / np.hypot(*hw)
    mean = lengths.mean() if len(lengths) else 0.0
    return np.concatenate([lengths, lengths / mean if mean > 0 else np.full(len(lengths), np.nan)])


def inside(points_xy: np.ndarray, hw: tuple[int, int]) -> bool:
    """Whether all points lie on the picture."""
    size = np.array([hw[1], hw[0]])
    return bool(((points_xy >= -0.5) & (points_xy <= size - 0.5)).all())


def anatomical(points_xy: np.ndarray, task: str) -> bool:
    """Whether the points keep what the anatomy of a named set always has."""
    if task in ROUND:
        first, second = (np.linalg.norm(points_xy[i] - points_xy[i + 1]) for i in (0, 2))
        if min(first, second) < LEAST_ROUND * max(first, second):
            return False
    for order in DOWNWARDS.get(task, ()):
        if (np.diff(points_xy[list(order), 1]) <= 0).any():
            return False
    if task in ALONG:
        middles = [points_xy[start : start + 2, 0].mean() for start in ALONG[task]]
        steps = np.diff(middles)
        return bool((steps > 0).all() or (steps < 0).all())
    return True
