"""Several models as one: the median of their points, or the mean of their weights.

Each member is a model folder with the same points and the same input; what comes out is a `Model` like any
other, which predicts and is evaluated. See `tasks.ensemble` for the maths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from insonate.data.sample import Batch
from insonate.errors import ModelError
from insonate.hub.model import Model
from insonate.tasks.ensemble import KeypointsEnsemble, geometric_median_points, median_points, soup
from insonate.tasks.keypoints import Keypoints

Fusion = Literal["median", "geometric"]
FUSIONS = {"median": median_points, "geometric": geometric_median_points}


def ensemble(models: Sequence[Model], fuse: Fusion = "median") -> Model:
    """One model whose points are the median of those of all.

    Raises:
        ModelError: there is none, or they differ in their points or input, or one has no such task.
    """
    members = _members(models)
    first = models[0]
    return Model(first.backbone, KeypointsEnsemble(members, FUSIONS[fuse]), _info(models, fuse))


def soup_of(models: Sequence[Model], batches: Iterable[Batch]) -> Model:
    """One model with the mean of all weights; its normalisation layers see `batches` anew.

    Raises:
        ModelError: see `ensemble`; or they differ in their architecture.
    """
    mixed = soup(_members(models), batches)
    return Model(mixed.backbone, mixed, _info(models, "soup"))


def _members(models: Sequence[Model]) -> list[Keypoints]:
    if not models:
        raise ModelError("ensemble", "has no members", "Give at least one model")
    members: list[Keypoints] = []
    for number, model in enumerate(models, 1):
        if not isinstance(model.task, Keypoints):
            kind = "no task" if model.task is None else f"the task {model.task.kind}"
            raise ModelError(f"ensemble, model {number}", f"has {kind}, not keypoints", "Leave it out")
        if model.input != models[0].input:
            raise ModelError(
                f"ensemble, model {number}",
                "takes another input than the first (size, mean, …)",
                "Give models of one input",
            )
        members.append(model.task)
    return members


def _info(models: Sequence[Model], fuse: str) -> dict[str, object]:
    return {"ensemble": {"fuse": fuse, "members": [model.digest() for model in models]}}
