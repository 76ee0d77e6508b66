"""Freezing: which layers of a backbone learn."""

from __future__ import annotations

from typing import Literal

from insonate.errors import RecipeError
from insonate.models.backbone import Backbone


def freeze(backbone: Backbone, train: Literal["all", "none"] | int) -> None:
    """Let all layers learn, none, or the last few.

    Frozen layers stay in eval mode under `.train()` (see `Backbone.train`).

    Args:
        backbone: changed in place.
        train: "all", "none", or how many of the last layers before the final norm learn (the norm with them).

    Raises:
        RecipeError: `train` is a negative number, or more than there are layers.
    """
    if train == "all":
        backbone.requires_grad_(requires_grad=True)
        return
    layers = backbone.layers()
    count = 0 if train == "none" else int(train)
    if not 0 <= count < len(layers):
        raise RecipeError(
            "backbone.train", f"{count} layers of {len(layers) - 1}", "Give all, none or a smaller number"
        )
    backbone.requires_grad_(requires_grad=False)
    for layer in layers[len(layers) - 1 - count :] if count else []:
        layer.requires_grad_(requires_grad=True)
