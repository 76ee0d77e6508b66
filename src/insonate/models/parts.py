"""Parts: modules that come with an official encoder (predictor, decoder, text tower, probe), by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from insonate.models.build import resolve
from insonate.models.registry import Registry

PARTS: Registry[nn.Module] = Registry("part")


def build_part(options: Mapping[str, Any]) -> nn.Module:
    """The part that `options` (with its `name`) describe.

    Raises:
        RecipeError: an unknown name, an unknown option, or a value out of range.
    """
    entry, config = resolve(PARTS, options)
    return entry.make(config)
