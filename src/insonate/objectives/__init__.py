"""Objectives: losses over unlabelled samples. May import models and below; never tasks or adapters.

base    what an objective is, and their registry
ijepa   predict the teacher's features of hidden blocks
"""

from collections.abc import Mapping
from typing import Any

from insonate.models.backbone import Backbone
from insonate.models.build import resolve
from insonate.objectives import ijepa
from insonate.objectives.base import OBJECTIVES, Objective, ObjectiveConfig

__all__ = ["OBJECTIVES", "Objective", "ObjectiveConfig", "build_objective", "ijepa"]


def build_objective(backbone: Backbone, options: Mapping[str, Any]) -> Objective:
    """The objective that `options` (with its `name`) describe, over `backbone`.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry, config = resolve(OBJECTIVES, options)
    return entry.make(backbone, config)
