"""Orders of points: the internal one that models are trained with, and the official one of labels and scores.

A line without an anatomical direction has two ends that only a rule tells apart. The challenge puts the upper
end of A4C's and PSAX's lines first, which is near random where a line lies level; inside, such lines run from
left to right, and results are put into the official order at the very end. A pair that differs by less than a
pixel along the axis of its rule is a tie: it keeps its order and can be flagged. Source: the label files of
FU_Biometry 2026. Shapes: … any, K points, R rules; (x, y) in pixels of the original, y down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

TIE_PX = 1.0
"""a smaller difference along a rule's axis does not tell the ends apart"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRule:
    """Points `start` and `start + 1` are ordered along an axis."""

    start: int
    axis: Literal[0, 1]
    """0: the smaller x comes first; 1: the smaller y"""
    descending: bool = False
    """the larger one comes first"""


def by_x(*starts: int) -> tuple[PairRule, ...]:
    """Pairs whose left end comes first."""
    return tuple(PairRule(start=start, axis=0) for start in starts)


def by_x_descending(*starts: int) -> tuple[PairRule, ...]:
    """Pairs whose right end comes first."""
    return tuple(PairRule(start=start, axis=0, descending=True) for start in starts)


def by_y(*starts: int) -> tuple[PairRule, ...]:
    """Pairs whose upper end comes first."""
    return tuple(PairRule(start=start, axis=1) for start in starts)


_DIAMETERS = by_y(0) + by_x_descending(2)
INTERNAL: dict[str, tuple[PairRule, ...]] = {
    "AOP": (),
    "FUGC": by_x(0),
    "FA": _DIAMETERS,
    "HC": _DIAMETERS,
    "IVC": by_y(0),
    "PLAX": (),
    "PSAX": by_y(0) + by_x(2),
    "A4C": by_x(2, 6, 10, 14),
    "fetal_femur": by_x(0),
}
"""name of the point set → rules; the long axes of A4C, AOP and PLAX have an anatomical direction and none"""
OFFICIAL = INTERNAL | {"PSAX": by_y(0, 2), "A4C": by_y(*range(0, 16, 2))}


def to_internal(points_xy: np.ndarray, name: str) -> np.ndarray:
    """Points … K 2 of the named set in the internal order; before any augmentation."""
    return ordered(points_xy, INTERNAL[name])


def to_official(points_xy: np.ndarray, name: str) -> np.ndarray:
    """Points … K 2 of the named set in the order of labels and scores; in pixels of the original."""
    return ordered(points_xy, OFFICIAL[name])


def ordered(points_xy: np.ndarray, rules: Sequence[PairRule]) -> np.ndarray:
    """Points … K 2 with each rule's pair in its order; ties, and pairs with a missing point, stay."""
    points = np.array(points_xy, dtype=np.float64)
    for rule in rules:
        pair = points[..., rule.start : rule.start + 2, :]  # … 2 2
        wrong = _step(points, rule) <= -TIE_PX  # NaN compares as False
        points[..., rule.start : rule.start + 2, :] = np.where(
            wrong[..., None, None], pair[..., ::-1, :], pair
        )
    return points


def ties(points_xy: np.ndarray, rules: Sequence[PairRule]) -> np.ndarray:
    """Whether each rule's pair is a tie, … R; False where a point is missing."""
    points = np.asarray(points_xy, dtype=np.float64)
    steps = [np.abs(_step(points, rule)) < TIE_PX for rule in rules]
    return np.stack(steps, axis=-1) if steps else np.zeros((*points.shape[:-2], 0), dtype=bool)


def _step(points: np.ndarray, rule: PairRule) -> np.ndarray:
    """How far the pair runs along its rule's axis, …; negative against the rule."""
    step = points[..., rule.start + 1, rule.axis] - points[..., rule.start, rule.axis]
    return np.asarray(-step if rule.descending else step)
