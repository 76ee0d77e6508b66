"""Input conventions: how each family wants its media, under a name that travels with the model.

The fields are those of `BackboneSpec`; `mean` and `std` are of grey levels scaled to 0 … 1, one a channel.
Page: docs/models/index.md.
"""

from __future__ import annotations

from typing import Any, Literal

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Conventions = Literal[
    "imagenet", "half", "clip", "echoclip", "vjepa", "echojepa", "echoprime", "panecho", "videomae",
    "sononet", "standardised",
]  # fmt: skip

_CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "resize": "crop",
    "interpolation": "bicubic",
}
_ZOOMED = 1.25
"""their readers of videos leave a tenth of the picture out at each border"""
_VJEPA_MARGIN = 256 / 224

_KNOWN: dict[str, dict[str, Any]] = {
    "imagenet": {},
    "half": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "clip": _CLIP,
    "echoclip": _CLIP | {"margin": _ZOOMED},
    "vjepa": {"resize": "crop", "margin": _VJEPA_MARGIN, "stride": 4},
    "echojepa": {"resize": "crop", "margin": _VJEPA_MARGIN, "stride": 2},
    "echoprime": {
        "mean": (29.110628 / 255, 28.076836 / 255, 29.096405 / 255),
        "std": (47.989223 / 255, 46.456997 / 255, 47.20083 / 255),
        "resize": "crop", "interpolation": "bicubic", "margin": _ZOOMED, "stride": 2,
    },
    "panecho": {},
    "videomae": {"stride": 4},
    "sononet": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},  # it norms each picture by itself
    "standardised": {"standardise": True},  # ours: gain and depth setting shift a whole picture's grey levels
}  # fmt: skip


def conventions(name: str) -> dict[str, Any]:
    """The fields of `BackboneSpec` that a name stands for."""
    return dict(_KNOWN[name])
