"""Which task a medium is for: what a classifier of views in the model says, and how sure it is.

A model has one where one of its tasks is called `view`: a classification whose classes are names of tasks (a
class that is none, such as `other`, means that no task fits).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insonate.data.media import probe, read_frames
from insonate.errors import InsonateError, ModelError
from insonate.hub import Model

VIEW, AUTO = "view", "auto"
LOOKED_AT = 8
"""frames of a clip whose chances are averaged"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view and how sure it is."""

    task: str
    chance: float
    """mean probability over the frames looked at, 0 to 1"""


def check_chooser(model: Model) -> None:
    """Refuse a model that cannot tell views.

    Raises:
        ModelError: it has no task `view`, or one whose classes name none of its tasks.
    """
    mend = f"Say --task, one of: {', '.join(name for name in model.tasks if name != VIEW)}"
    if VIEW not in model.tasks:
        raise ModelError("--task auto", "this model has no classifier of views", mend)
    task = model.task_named(VIEW)
    classes = getattr(task.config, "classes", ())
    if not {name.casefold() for name in classes} & {name.casefold() for name in model.tasks}:
        raise ModelError("--task auto", "its classifier of views names none of its tasks", mend)


def view_of(model: Model, path: Path, least: float) -> View:
    """The task that fits a medium.

    Args:
        model: one that `check_chooser` lets pass.
        path: the medium.
        least: chance below which nothing is said.

    Raises:
        InsonateError: it is not sure enough, or sure that no task fits; the three likeliest are named.
        MediaError: the medium cannot be read.
    """
    count = probe(path).frames
    places = np.unique(np.linspace(0, count - 1, LOOKED_AT).round().astype(int))
    frames = read_frames(path, [int(place) for place in places])
    frames = frames[..., None] if frames.ndim == 3 else frames  # T H W C
    said = list(model.stream(frames, tta=False, task=VIEW))
    chances = np.mean([prediction.value for prediction in said], axis=0)
    names, order = said[0].names, np.argsort(-chances)
    best, chance = names[int(order[0])], float(chances[order[0]])
    known = {name.casefold(): name for name in model.tasks}
    if chance >= least and best.casefold() in known:
        return View(task=known[best.casefold()], chance=chance)
    likeliest = ", ".join(f"{names[int(i)]} {chances[i]:.2f}" for i in order[:3])
    what = f"is no view that a task fits ({likeliest})" if chance >= least else f"may be of {likeliest}"
    raise InsonateError(path, f"{what}: no task is chosen", f"Say --task, or --least below {least:g}")
