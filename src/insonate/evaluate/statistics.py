"""Intervals by patient: the bootstrap of means, of pooled metrics and of paired differences; Bland–Altman.

Patients are drawn with replacement, never items: images of one patient are not independent. Intervals are
percentile intervals (Efron & Tibshirani 1993, ch. 13); below about 20 patients they are too narrow.
Shapes: N items, P patients, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
POOLED_RESAMPLES = 200
"""of metrics that need all items at once: each resample costs a full computation"""
CHUNK = 4_000_000
"""drawn counts (resamples × patients) held in memory at once"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A number with its 95 % interval; `low` and `high` are NaN where there is none: see `no_interval`."""

    value: float
    low: float
    high: float
    items: int
    patients: int

    @property
    def no_interval(self) -> str:
        """Why there is no interval; empty where there is one."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return ""
        return {0: "no item has it", 1: "no interval: one patient"}.get(self.patients, "no interval")

    def text(self, number: Callable[[float], str]) -> str:
        """`value (low to high)`, each told by `number`, or `value (no interval: one patient)`."""
        spread = self.no_interval or f"{number(self.low)} to {number(self.high)}"
        return f"{number(self.value)} ({spread})"

    def to_dict(self) -> dict[str, float | str | None]:
        """For JSON: `low` and `high` are null where `no_interval` says why."""
        low, high = (None, None) if self.no_interval else (self.low, self.high)
        return {"value": self.value, "low": low, "high": high, "no_interval": self.no_interval or None,
                "items": self.items, "patients": self.patients}  # fmt: skip


def bootstrap_mean(
    scores: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean over items with its interval over patients.

    Each patient enters through its sum and its number of scores, so a resample costs two products.

    Args:
        scores: N; NaN = this score does not apply to the item, which is left out.
        patients: N patient ids; an item with the empty id counts as a patient of its own.
        resamples: number of bootstrap samples.
        seed: of the draws; equal seeds give equal intervals.

    Raises:
        ValueError: the lengths differ.
    """
    values = np.asarray(scores, dtype=np.float64)  # N
    group = patient_index(patients)  # N
    if len(values) != len(group):
        raise ValueError(f"{len(values)} scores but {len(group)} patients")
    known = np.isfinite(values)
    if not known.any():
        return Interval(value=np.nan, low=np.nan, high=np.nan, items=0, patients=0)
    group, values = np.unique(group[known], return_inverse=True)[1], values[known]
    sums, counts = np.bincount(group, values), np.bincount(group).astype(np.float64)  # P, P
    if len(sums) == 1:
        return Interval(value=float(values.mean()), low=np.nan, high=np.nan, items=len(values), patients=1)
    low, high = _percentiles(_drawn_means(sums, counts, resamples, seed))
    return Interval(value=float(values.mean()), low=low, high=high, items=len(values), patients=len(sums))


def bootstrap_mean_of_means(
    groups: Sequence[tuple[np.ndarray, Sequence[str]]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean over groups of their mean scores; the patients of each group are drawn by themselves.

    Args:
        groups: scores N and patient ids N of each; a group whose scores are all NaN is left out.
        resamples: number of bootstrap samples.
        seed: of the draws.
    """
    means, drawn, items, patients = [], [], 0, 0
    for number, (scores, ids) in enumerate(groups):
        known = np.isfinite(scores)
        if not known.any():
            continue
        group = np.unique(patient_index(ids)[known], return_inverse=True)[1]
        sums, counts = np.bincount(group, scores[known]), np.bincount(group).astype(np.float64)
        means.append(scores[known].mean())
        drawn.append(_drawn_means(sums, counts, resamples, seed + number))  # R
        items, patients = items + int(known.sum()), patients + len(sums)
    if not means:
        return Interval(value=np.nan, low=np.nan, high=np.nan, items=0, patients=0)
    low, high = _percentiles(np.mean(drawn, axis=0)) if patients > len(means) else (np.nan, np.nan)
    return Interval(value=float(np.mean(means)), low=low, high=high, items=items, patients=patients)


def paired_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of `first - second` over the same items, with its interval over patients.

    Items where either score is NaN are left out. Zero outside the interval: the models differ.

    Raises:
        ValueError: the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} scores of the first model but {len(second)} of the second")
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return bootstrap_mean(difference, patients, resamples=resamples, seed=seed)


def bootstrap_pooled(
    statistic: Callable[[np.ndarray], Mapping[str, float]],
    patients: Sequence[str],
    *,
    resamples: int = POOLED_RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of statistics that need all items at once (AUROC, R², …).

    Args:
        statistic: item indices (M, with repeats) → name → value; NaN where it is undefined for them.
        patients: N patient ids; an item with the empty id counts as a patient of its own.
        resamples: number of bootstrap samples; undefined ones are left out.
        seed: of the draws.
    """
    group = patient_index(patients)  # N
    num_patients = int(group.max()) + 1 if len(group) else 0
    if num_patients == 0:
        return {}
    values = statistic(np.arange(len(group)))
    rows = (
        []
        if num_patients == 1
        else [
            statistic(_items(group, counts))
            for drawn in _draws(num_patients, resamples, seed)
            for counts in drawn
        ]
    )
    intervals = {}
    for name, value in values.items():
        low, high = _percentiles(np.asarray([row[name] for row in rows], dtype=np.float64))
        intervals[name] = Interval(
            value=float(value), low=low, high=high, items=len(group), patients=num_patients
        )
    return intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Agreement of two ways to measure the same thing; all in the unit of the measurements."""

    means: np.ndarray
    differences: np.ndarray
    """prediction minus truth, N"""
    bias: float
    low: float
    high: float
    """limits of agreement: bias ± 1.96 standard deviations of the differences"""


def bland_altman(predicted: Sequence[float] | np.ndarray, truth: Sequence[float] | np.ndarray) -> BlandAltman:
    """Bias and limits of agreement over the items where both numbers are known.

    Source: Bland & Altman 1986 (Lancet 327:307).
    """
    predicted, truth = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    known = np.isfinite(predicted) & np.isfinite(truth)
    means, differences = (predicted[known] + truth[known]) / 2, predicted[known] - truth[known]
    bias = float(differences.mean()) if len(differences) else np.nan
    spread = 1.96 * float(differences.std(ddof=1)) if len(differences) > 1 else np.nan
    return BlandAltman(means=means, differences=differences, bias=bias, low=bias - spread, high=bias + spread)


def patient_index(patients: Sequence[str]) -> np.ndarray:
    """A number 0…P-1 for each item; items of one patient share it, an empty id stands alone."""
    numbers: dict[object, int] = {}
    keys: list[object] = [patient or (i,) for i, patient in enumerate(patients)]
    return np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _draws(num_patients: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each patient is drawn, in chunks of r × P."""
    random = np.random.default_rng(seed)
    step = max(1, CHUNK // num_patients)
    even = np.full(num_patients, 1 / num_patients)
    for start in range(0, resamples, step):
        yield random.multinomial(num_patients, even, size=min(step, resamples - start))


def _drawn_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means R of scores whose sums and numbers by patient are given."""
    return np.concatenate([(drawn @ sums) / (drawn @ counts) for drawn in _draws(len(sums), resamples, seed)])


def _items(group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Indices of the items of the drawn patients, each as often as its patient was drawn."""
    return np.repeat(np.arange(len(group)), counts[group])


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return np.nan, np.nan
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
