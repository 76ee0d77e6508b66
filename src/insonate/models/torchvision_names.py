"""ConvNeXts under torchvision's names → ours, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from insonate.models.layouts import Bundle
from insonate.weights.source import Source

RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"features\.0\.", "stem."),
    (r"features\.([246])\.", lambda match: f"stages.{int(match[1]) // 2}.downsample."),
    (r"features\.([1357])\.(\d+)\.", lambda match: f"stages.{int(match[1]) // 2}.blocks.{match[2]}."),
]
INSIDE = {"block.0.": "conv_dw.", "block.2.": "norm.", "block.3.": "mlp.fc1.", "block.5.": "mlp.fc2."}


def is_torchvision_convnext(bundle: Bundle) -> bool:
    """Whether it is one of torchvision's ConvNeXts."""
    return bundle.has(r"features\.0\.0\.weight", r"features\.1\.0\.layer_scale", r"classifier\.0\.weight")


def convnext_from_torchvision(source: Source) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Options and state of our backbone, and the norm after the pooling."""
    state: dict[str, Tensor] = {}
    for name in source.names(r"features\."):
        new = name
        for pattern, ours in RULES:
            new = re.sub(f"^{pattern}", ours, new)
        for theirs, ours in INSIDE.items():
            new = new.replace(theirs, ours)
        tensor = source.take(name)
        state[new.replace("layer_scale", "gamma")] = tensor.flatten() if "layer_scale" in new else tensor
    norm = source.take_prefix("classifier.0.")
    blocks = [[int(n.split(".")[3]) for n in state if n.startswith(f"stages.{i}.blocks.")] for i in range(4)]
    options = {
        "name": "convnext", "final_norm": False, "depths": tuple(1 + max(numbers) for numbers in blocks),
        "widths": tuple(len(state[f"stages.{i}.blocks.0.conv_dw.bias"]) for i in range(4)),
    }  # fmt: skip
    return options, state, norm


def convnext_to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of our backbone under torchvision's names."""
    official: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = re.sub(r"^stem\.", "features.0.", name)
        new = re.sub(r"^stages\.(\d)\.downsample\.", lambda match: f"features.{2 * int(match[1])}.", new)
        new = re.sub(
            r"^stages\.(\d)\.blocks\.(\d+)\.",
            lambda match: f"features.{2 * int(match[1]) + 1}.{match[2]}.",
            new,
        )
        if ".blocks." in name:
            for theirs, ours in INSIDE.items():
                new = new.replace(ours, theirs)
        gamma = new.endswith(".gamma")
        new = new.removesuffix("gamma") + "layer_scale" if gamma else new
        official[new] = tensor[:, None, None] if gamma else tensor
    return official
