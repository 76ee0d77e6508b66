"""Agreement of measured numbers with their truth. Shapes: N items.

Limits of agreement: Bland & Altman 1986 (Lancet 327:307). ICC(2,1), two-way random,
absolute agreement, single measure: Shrout & Fleiss 1979 (Psychol Bull 86:420).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insonate.evaluate.statistics import Interval, bland_altman, bootstrap_pooled
from insonate.tasks.base import Prediction


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
