"""Input conventions: how each family wants its pictures, under a name that travels with the model.

Shapes: values of `mean` and `std` are of grey levels scaled to 0 … 1, one a channel.
"""

from __future__ import annotations

from typing import Any, Literal

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Conventions = Literal["imagenet", "clip", "half"]

_KNOWN: dict[str, dict[str, Any]] = {
    "imagenet": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "clip": {
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    },
    "half": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
}


def conventions(name: str) -> dict[str, Any]:
    """The fields of `BackboneSpec` that a name stands for."""
    return dict(_KNOWN[name])
