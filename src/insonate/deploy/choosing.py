"""Which task a medium is for, by the chances of views that a classifier gives; needs no torch.

A model has such a classifier where one of its tasks is called `view`: a classification whose classes are
names of tasks (a class that is none, such as `other`, means that no task fits).
Shapes: T frames, C classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insonate.data.media import probe, read_frames
from insonate.errors import InsonateError, ModelError

VIEW, AUTO = "view", "auto"
LEAST = 0.6
"""chance of a view, below which `auto` chooses no task"""
LOOKED_AT = 8
"""frames of a clip whose chances are averaged"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view and how sure it is."""

    task: str
    chance: float
    """mean probability over the frames looked at, 0 to 1"""


def check_views(tasks: Sequence[str], classes: Iterable[str]) -> None:
    """Refuse a model of these tasks, whose classifier of views knows these classes, if it cannot tell views.

    Raises:
        ModelError: it has no task `view`, or one whose classes name none of its tasks.
    """
    mend = f"Say --task, one of: {', '.join(name for name in tasks if name != VIEW)}"
    if VIEW not in tasks:
        raise ModelError("--task auto", "this model has no classifier of views", mend)
    if not {name.casefold() for name in classes} & {name.casefold() for name in tasks}:
        raise ModelError("--task auto", "its classifier of views names none of its tasks", mend)


def looked_at(path: Path) -> np.ndarray:
    """Frames of a medium that are asked about, evenly spread: T H W C, uint8.

    Raises:
        MediaError: the medium cannot be read.
    """
    count = probe(path).frames
    places = np.unique(np.linspace(0, count - 1, LOOKED_AT).round().astype(int))
    frames = read_frames(path, [int(place) for place in places])
    return frames[..., None] if frames.ndim == 3 else frames  # T H W C


def chosen(
    path: Path, names: Sequence[str], frames: Sequence[np.ndarray], *, tasks: Iterable[str], least: float
) -> View:
    """The task that fits a medium.

    Args:
        path: the medium.
        names: C, of the classes.
        frames: chances C of each frame.
        tasks: of the model.
        least: chance below which nothing is said.

    Raises:
        InsonateError: it is not sure enough, or sure that no task fits; the three likeliest are named.
    """
    chances = np.mean(frames, axis=0)
    order = np.argsort(-chances)
    best, chance = names[int(order[0])], float(chances[order[0]])
    known = {name.casefold(): name for name in tasks}
    if chance >= least and best.casefold() in known:
        return View(task=known[best.casefold()], chance=chance)
    likeliest = ", ".join(f"{names[int(i)]} {chances[i]:.2f}" for i in order[:3])
    what = f"is no view that a task fits ({likeliest})" if chance >= least else f"may be of {likeliest}"
    raise InsonateError(path, f"{what}: no task is chosen", f"Say --task, or --least below {least:g}")
