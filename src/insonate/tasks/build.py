"""From options to a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insonate.models.backbone import Backbone
from insonate.models.build import resolve
from insonate.tasks.base import TASKS, Task


def build_task(backbone: Backbone, options: Mapping[str, Any]) -> Task:
    """The task on `backbone` that `options` (with its `name`) describe; what is None takes its default.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry, config = resolve(TASKS, options)
    return entry.make(backbone, config)
