"""Which task a medium is for: what a classifier of views in the model says, and how sure it is."""

from __future__ import annotations

from pathlib import Path

from insonate.deploy.choosing import VIEW, View, check_views, chosen, looked_at
from insonate.hub import Model


def check_chooser(model: Model) -> None:
    """Refuse a model that cannot tell views.

    Raises:
        ModelError: it has no task `view`, or one whose classes name none of its tasks.
    """
    classes = getattr(model.task_named(VIEW).config, "classes", ()) if VIEW in model.tasks else ()
    check_views(model.tasks, classes)


def view_of(model: Model, path: Path, least: float) -> View:
    """The task that fits a medium; `model` is one that `check_chooser` lets pass.

    Raises:
        InsonateError: see `choosing.chosen`.
        MediaError: the medium cannot be read.
    """
    said = list(model.stream(looked_at(path), tta=False, task=VIEW))
    chances = [prediction.value for prediction in said]
    return chosen(path, said[0].names, chances, tasks=model.tasks, least=least)
