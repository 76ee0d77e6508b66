"""Evaluation: what a model scored, item by item and in all; comparing two of them. Shapes: N items."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insonate.errors import InsonateError
from insonate.evaluate.agreement import Agreement
from insonate.evaluate.points import PointErrors
from insonate.evaluate.report import Picture
from insonate.evaluate.statistics import Interval, paired_difference

Scores = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model scored on one split; the arrays go item by item."""

    task: str
    """column of the label"""
    kind: str
    split: str
    item_ids: tuple[str, ...]
    patients: tuple[str, ...]
    scores: Scores
    """name → N; NaN where it does not apply to an item"""
    metrics: dict[str, Interval]
    trivial: dict[str, Interval] = field(default_factory=dict)
    """the same of the answer without looking; empty without training labels"""
    gain: dict[str, Interval] = field(default_factory=dict)
    """model minus trivial, paired by item"""
    groups: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    """site, vendor → its value → metric; only where there are two values or more"""
    agreements: dict[str, Agreement] = field(default_factory=dict)
    """measurement → bias, limits of agreement, ICC"""
    points: PointErrors | None = None
    """errors by point and success rates, of keypoints"""
    sets: dict[str, Evaluation] = field(default_factory=dict)
    """of a model of several tasks: each by its name"""
    synthetic: bool = False
    examples: tuple[Picture, ...] = ()
    """best, median and worst items, drawn"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: all but the pictures."""
        table = _intervals_to_dict
        return {
            "task": self.task, "kind": self.kind, "split": self.split, "synthetic": self.synthetic,
            "metrics": table(self.metrics), "trivial": table(self.trivial), "gain": table(self.gain),
            "groups": {
                column: {name: table(metrics) for name, metrics in values.items()}
                for column, values in self.groups.items()
            },
            "agreement": {name: one.to_dict() for name, one in self.agreements.items()},
            "points": None if self.points is None else self.points.to_dict(),
            "sets": {name: one.to_dict() for name, one in self.sets.items()},
            "items": [
                {"item_id": item, "patient_id": patient, "scores": {n: s[i] for n, s in self.scores.items()}}
                for i, (item, patient) in enumerate(zip(self.item_ids, self.patients, strict=True))
            ],
        }  # fmt: skip


def compare_evaluations(first: Evaluation, second: Evaluation, *, seed: int = 0) -> dict[str, Interval]:
    """Score by score the mean difference `first - second` over the items that both have, paired by item.

    Raises:
        InsonateError: they have no item in common.
    """
    place = {item: i for i, item in enumerate(second.item_ids)}
    pairs = [(i, place[item]) for i, item in enumerate(first.item_ids) if item in place]
    if not pairs:
        raise InsonateError(
            "comparison", "the two evaluations have no item in common", "Evaluate both on the same split"
        )
    ours, theirs = (np.asarray(indices) for indices in zip(*pairs, strict=True))
    patients = [first.patients[i] for i in ours]
    return {
        name: paired_difference(first.scores[name][ours], second.scores[name][theirs], patients, seed=seed)
        for name in first.scores
        if name in second.scores
    }


def _intervals_to_dict(intervals: dict[str, Interval]) -> dict[str, dict[str, float | str | None]]:
    return {name: interval.to_dict() for name, interval in intervals.items()}
