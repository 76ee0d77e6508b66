"""Several tasks in one model: each evaluated by itself, and all together.

Means over tasks answer different questions, so both are told: by image, where the largest task rules,
and by task, where each counts once. Intervals: patients are drawn with replacement; of the mean by task, in
each task by itself. Source of both means: the model card of SONICHU-124M. Shapes: N items, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from insonate.evaluate.evaluation import Evaluation, Scores
from insonate.evaluate.statistics import Interval, bootstrap_mean, bootstrap_mean_of_means
from insonate.tasks.biometry import MEAN_SCORES

BY_TASK = "_by_task"
"""ends the name of a mean in which each task counts once"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverTasks:
    """The mean radial error over several tasks, two ways."""

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


def of_all_sets(sets: Mapping[str, Evaluation], *, task: str, seed: int) -> Evaluation:
    """One evaluation of all tasks: the radial errors by image (`mre_px`, …) and by task (`mre_px_by_task`).

    Args:
        sets: name of the task → its evaluation.
        task: column of the labels.
        seed: of the bootstrap.
    """
    each = list(sets.values())
    patients = tuple(patient for one in each for patient in one.patients)
    scores: Scores = {name: np.concatenate([one.scores[name] for one in each]) for name in MEAN_SCORES}
    metrics = {name: bootstrap_mean(values, patients, seed=seed) for name, values in scores.items()}
    return Evaluation(
        task=task,
        kind=each[0].kind,
        split=each[0].split,
        item_ids=tuple(item for one in each for item in one.item_ids),
        patients=patients,
        scores=scores,
        metrics=metrics | _by_task(sets, seed),
        sets=dict(sets),
        synthetic=any(one.synthetic for one in each),
    )


def _by_task(sets: Mapping[str, Evaluation], seed: int) -> dict[str, Interval]:
    return {
        name + BY_TASK: bootstrap_mean_of_means(
            [(one.scores[name], one.patients) for one in sets.values()], seed=seed
        )
        for name in MEAN_SCORES
    }
