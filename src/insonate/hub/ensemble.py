"""Several models as one: the median of their points, or the mean of their weights.

Each member is a model folder with the same points and the same input; what comes out is a `Model` like any
other, which predicts and is evaluated. See `tasks.ensemble` for the maths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from insonate.data.sample import Batch
from insonate.errors import ModelError
from insonate.hub.model import Model
from insonate.tasks.biometry import Biometry
from insonate.tasks.ensemble import (
    BiometryEnsemble,
    KeypointsEnsemble,
    geometric_median_points,
    median_points,
    soup,
)
from insonate.tasks.keypoints import Keypoints

Fusion = Literal["median", "geometric"]
FUSIONS = {"median": median_points, "geometric": geometric_median_points}


def ensemble(models: Sequence[Model], fuse: Fusion = "median") -> Model:
    """One model whose points are the median of those of all.

    Raises:
        ModelError: there is none, or they differ in their points or input, or one has no such task.
    """
    members, first = _members(models), models[0]
    together = (
        BiometryEnsemble([one for one in members if isinstance(one, Biometry)], FUSIONS[fuse])
        if isinstance(members[0], Biometry)
        else KeypointsEnsemble([one for one in members if isinstance(one, Keypoints)], FUSIONS[fuse])
    )
    return Model(first.backbone, together, _info(models, fuse))


def soup_of(models: Sequence[Model], batches: Iterable[Batch]) -> Model:
    """One model with the mean of all weights; its normalisation layers see `batches` anew.

    Raises:
        ModelError: see `ensemble`; or they differ in their architecture.
    """
    mixed: Keypoints | Biometry = soup(_members(models), batches)
    return Model(mixed.backbone, mixed, _info(models, "soup"))


def _members(models: Sequence[Model]) -> list[Any]:
    """Their tasks, all of one class.

    Raises:
        ModelError: see `ensemble`.
    """
    if not models:
        raise ModelError("ensemble", "has no members", "Give at least one model")
    members: list[Keypoints | Biometry] = []
    for number, model in enumerate(models, 1):
        where, task = f"ensemble, model {number}", model.task
        if not isinstance(task, Keypoints | Biometry):
            kind = "no task" if task is None else f"the task {task.kind}"
            raise ModelError(where, f"has {kind}, not keypoints", "Leave it out")
        if model.input != models[0].input:
            what = "takes another input than the first (size, mean, …)"
            raise ModelError(where, what, "Give models of one input")
        if members and type(task) is not type(members[0]):
            what = f"is of {task.config.name}, the first of {members[0].config.name}"
            raise ModelError(where, what, "Give models of one task")
        members.append(task)
    return members


def _info(models: Sequence[Model], fuse: str) -> dict[str, object]:
    return {"ensemble": {"fuse": fuse, "members": [model.digest() for model in models]}}
