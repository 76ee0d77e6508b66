"""Agreement of measured numbers with their truth, and success rates of points. Shapes: N items, K points.

Errors of points are told in pixels of the original, and in mm where the spacing is known; a missing point is
left out and counted. Limits of agreement: Bland & Altman 1986 (Lancet 327:307). ICC(2,1), two-way random,
absolute agreement, single measure: Shrout & Fleiss 1979 (Psychol Bull 86:420).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insonate.evaluate.statistics import Interval, bland_altman, bootstrap_mean, bootstrap_pooled
from insonate.tasks.base import Prediction

SUCCESS_PX, SUCCESS_MM = (2.0, 4.0, 10.0, 20.0), (1.0, 2.0, 5.0)
CURVE_PX = 50.0
"""where the curve of success rates ends; the area under it is told as a part of this"""
CURVE_STEPS = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a measurement agrees with its truth; intervals over patients."""

    name: str
    unit: str
    statistics: dict[str, Interval]
    """mean_abs_error, bias, sd, low, high (the limits of agreement) and icc; empty below two items"""
    predicted: np.ndarray
    """N, items where both are known"""
    truth: np.ndarray
    """N"""
    missing: int
    """items whose truth is known and plausible, but not the prediction"""
    implausible: int
    """items left out since their truth is out of its range"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "unit": self.unit, "items": len(self.truth), "missing": self.missing,
            "implausible": self.implausible,
            "statistics": {name: interval.to_dict() for name, interval in self.statistics.items()},
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PointErrors:
    """Radial errors of the points of a task."""

    per_point: dict[str, Interval]
    """point → mean radial error in px"""
    per_point_mm: dict[str, Interval]
    """the same in mm, over the items whose spacing is known"""
    success: dict[str, Interval]
    """threshold (`2px`, `1mm`) → part of the labelled points found within it, mean over items"""
    curve: tuple[np.ndarray, np.ndarray]
    """thresholds in px from 0 to 50, and the part of all labelled points found within each"""
    area: float
    """under the curve, as a part of 1"""
    missing: int
    """points without a label"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        thresholds, rates = self.curve
        return {
            "per_point_px": {name: interval.to_dict() for name, interval in self.per_point.items()},
            "per_point_mm": {name: interval.to_dict() for name, interval in self.per_point_mm.items()},
            "success": {name: interval.to_dict() for name, interval in self.success.items()},
            "curve": {"threshold_px": thresholds.tolist(), "rate": rates.tolist(), "area": self.area},
            "missing_points": self.missing,
        }  # fmt: skip


def agreements(
    predictions: Sequence[Prediction], truths: Sequence[Prediction], *, resamples: int, seed: int = 0
) -> dict[str, Agreement]:
    """The agreement of each measurement that any truth has; `resamples` of the patients for intervals."""
    names = dict.fromkeys(name for truth in truths for name in truth.measurements)
    return {name: _agreement(name, predictions, truths, resamples, seed) for name in names}


def icc(ratings: np.ndarray) -> float:
    """ICC(2,1) of N items measured in R ways (N R); NaN below two items or where nothing varies."""
    count, raters = ratings.shape
    if count < 2:
        return math.nan
    mean = ratings.mean()
    of_items = raters * ((ratings.mean(axis=1) - mean) ** 2).sum() / (count - 1)
    of_raters = count * ((ratings.mean(axis=0) - mean) ** 2).sum() / (raters - 1)
    rest = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0) + mean
    error = (rest**2).sum() / ((count - 1) * (raters - 1))
    total = of_items + (raters - 1) * error + raters * (of_raters - error) / count
    return float((of_items - error) / total) if total > 0 else math.nan


def point_errors(
    predictions: Sequence[Prediction], truths: Sequence[Prediction], *, seed: int = 0
) -> PointErrors | None:
    """Errors by point and success rates; None where the task has no points or no item."""
    if not truths or truths[0].kind != "keypoints":
        return None
    patients = [truth.meta.patient_id for truth in truths]
    apart = np.stack([p.placed() - t.value for p, t in zip(predictions, truths, strict=True)])  # N K 2
    radial_px = np.linalg.norm(apart, axis=-1)  # N K
    labelled = np.stack([np.isfinite(truth.value).all(axis=-1) for truth in truths])  # N K
    radial_mm = np.linalg.norm(apart * _mm_per_px(truths), axis=-1)
    success = {f"{t:g}px": _success(radial_px, labelled, t) for t in SUCCESS_PX}
    success |= {f"{t:g}mm": _success(radial_mm, labelled & np.isfinite(radial_mm), t) for t in SUCCESS_MM}
    thresholds = np.linspace(0, CURVE_PX, CURVE_STEPS)
    found = np.sort(radial_px[labelled & np.isfinite(radial_px)])
    rates = np.searchsorted(found, thresholds, side="right") / max(1, labelled.sum())

    def by_point(radial: np.ndarray) -> dict[str, Interval]:
        known = np.where(labelled, radial, np.nan)  # N K
        return {
            name: bootstrap_mean(column, patients, seed=seed)
            for name, column in zip(truths[0].names, known.T, strict=True)
        }

    return PointErrors(
        per_point=by_point(radial_px),
        per_point_mm=by_point(radial_mm),
        success={name: bootstrap_mean(part, patients, seed=seed) for name, part in success.items()},
        curve=(thresholds, rates),
        area=float((rates[1:] + rates[:-1]).mean() / 2),
        missing=int((~labelled).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTasks:
    """The mean radial error over several tasks, two ways; they answer different questions, so give both."""

    weighted: float
    """each image counts once: the task with most images rules it"""
    unweighted: float
    """each task counts once"""
    images: dict[str, int]


def over_tasks(errors: Mapping[str, float], images: Mapping[str, int]) -> OverTasks:
    """Means over tasks of their mean radial errors; `images` is the number in each.

    Raises:
        ValueError: the tasks differ, or there is none, or a task has no image.
    """
    if not errors or set(errors) != set(images) or min(images.values()) < 1:
        raise ValueError(f"errors of {sorted(errors)} but images of {dict(images)}")
    counts = np.array([images[task] for task in errors], dtype=np.float64)
    values = np.array(list(errors.values()))
    return OverTasks(
        weighted=float(counts @ values / counts.sum()), unweighted=float(values.mean()), images=dict(images)
    )


def _agreement(
    name: str, predictions: Sequence[Prediction], truths: Sequence[Prediction], resamples: int, seed: int
) -> Agreement:
    found = [prediction.measurements.get(name) for prediction in predictions]
    wanted = [truth.measurements.get(name) for truth in truths]
    plausible = np.array([one is not None and one.in_range is not False for one in wanted])
    predicted = np.array([math.nan if one is None else one.value for one in found])  # N
    truth = np.array([math.nan if one is None else one.value for one in wanted])  # N
    both = plausible & np.isfinite(predicted) & np.isfinite(truth)
    predicted_known, truth_known = predicted[both], truth[both]
    patients = [truths[int(i)].meta.patient_id for i in np.flatnonzero(both)]

    def statistic(items: np.ndarray) -> dict[str, float]:
        return _statistics(predicted_known[items], truth_known[items])

    enough = int(both.sum()) > 1
    return Agreement(
        name=name,
        unit=next(one.unit for one in wanted if one is not None),
        statistics=bootstrap_pooled(statistic, patients, resamples=resamples, seed=seed) if enough else {},
        predicted=predicted_known,
        truth=truth_known,
        missing=int((plausible & ~both).sum()),
        implausible=sum(one is not None and one.in_range is False for one in wanted),
    )


def _statistics(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    limits = bland_altman(predicted, truth)
    return {
        "mean_abs_error": float(np.abs(limits.differences).mean()), "bias": limits.bias,
        "sd": float(limits.differences.std(ddof=1)), "low": limits.low, "high": limits.high,
        "icc": icc(np.stack([predicted, truth], axis=1)),
    }  # fmt: skip


def _success(radial: np.ndarray, labelled: np.ndarray, threshold: float) -> np.ndarray:
    """Part of each item's labelled points within the threshold, N; one that was not found counts as far."""
    counts = labelled.sum(axis=1)
    hits = (labelled & (radial <= threshold)).sum(axis=1)
    return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def _mm_per_px(truths: Sequence[Prediction]) -> np.ndarray:
    """N 1 2 (x, y); NaN where unknown."""
    steps = [
        (math.nan, math.nan) if s is None else (s.col_mm, s.row_mm) for s in (t.meta.spacing for t in truths)
    ]
    return np.array(steps)[:, None]
