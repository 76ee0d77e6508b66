"""ViT checkpoints with timm's names: MAE, DeiT, DINOv2, and what is built on them.

Names and shapes do not tell the number of heads, so it is known for the published sizes only; and they do not
tell a TinyUSFM from a ViT-Tiny, so for that width it must be said. Page: docs/models/timm.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from insonate.errors import WeightsError
from insonate.models.jepa import IMAGE_SIZES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.vit_weights import (
    classification,
    heads_of,
    official_classifier,
    official_vit,
    side_of,
    size_of,
    take_vit,
    vit_options,
)
from insonate.weights.source import Converted, Hints, Source

SIZES = {size: heads for size, heads in IMAGE_SIZES.items() if size[0] != 192} | {(1536, 40): 24}
TINY = 192
TEACHER_HEADS = r"((dino|ibot)_head\.|head\.(mlp|last_layer)\b).*"


def is_vit(bundle: Bundle) -> bool:
    """Whether it is a ViT of pictures with timm's names and a learned table."""
    plain = bundle.has(r"patch_embed\.proj\.weight", r"pos_embed", r"blocks\.0\.attn\.qkv\.bias")
    return (
        plain and len(bundle.shape("patch_embed.proj.weight")) == 4 and not bundle.has(r"predictor.*|stem.*")
    )


@register("timm_vit", ("vit", "mae", "dinov2"), is_vit, when="last")
def convert_timm(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """An encoder, with or without class token, registers, LayerScale and classifier.

    Raises:
        WeightsError: the number of heads must be said.
    """
    source.ignore(r"decoder", "MAE's decoder")
    source.ignore(r"mask_token$", "of the pretraining")
    state = take_vit(source)
    options = vit_options(state, hints, source.where)
    family = str(hints.get("family") or "vit")
    options["heads"] = _tiny_heads(options, family, hints) or heads_of(options, SIZES, hints)
    table = state["pos_embed"]
    if options["class_token"] and table.shape[1] == _patches(table.shape[1], options, hints):
        table = state["pos_embed"] = F.pad(table, (0, 0, 1, 0))  # its class token has no position
    count = table.shape[1] - options["class_token"]
    options |= {"position": "learned", "input_size": _side(count, options["patch"], hints)}
    converted = Converted(family=family, backbone=options, state=state)
    return classification(converted, source, hints)


def _is_teacher(bundle: Bundle) -> bool:
    return bundle.has(r"backbone\.patch_embed\.proj\.weight", r"backbone\.pos_embed", TEACHER_HEADS)


@register("dino_teacher", ("vit", "dinov2"), _is_teacher)
def convert_teacher(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A checkpoint of DINO's or DINOv2's training: the teacher's (or student's) encoder without its heads."""
    source.ignore(TEACHER_HEADS, "a head of the pretraining")
    return convert_timm(bundle, hints, source.below("backbone."))


@exports("timm_vit")
@exports("biomedclip_trunk")
def export_timm(model: Exportable) -> dict[str, Any]:
    """Encoder, and classifier where there is one, under timm's names.

    Raises:
        WeightsError: its positions are not learned, so that timm would add others.
    """
    if "pos_embed" not in model.state:
        raise WeightsError("model", "has no learned positions", "Take another layout")
    official = official_vit(_joined(model.state), (1, 1), split_biases=False)
    if "reg_token" in official and not bool(official["pos_embed"][:, 0].any()):
        official["pos_embed"] = official["pos_embed"][:, 1:].clone()  # see convert_timm
    return official | official_classifier(model.head)


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with the gate and value of each MLP as one matrix, as timm has them."""
    joined = {}
    for name, tensor in state.items():
        if ".fc1_g." in name:
            joined[name.replace("fc1_g", "fc1")] = torch.cat([tensor, state[name.replace("fc1_g", "fc1_x")]])
        elif ".fc1_x." not in name:
            joined[name] = tensor
    return joined


def _patches(rows: int, options: Mapping[str, Any], hints: Hints) -> int:
    """Patches of a table with so many rows: those of a square, or of the size that is said."""
    said, patch = size_of(hints), options["patch"]
    if said is not None and (said[0] // patch) * (said[1] // patch) in {rows, rows - 1}:
        return (said[0] // patch) * (said[1] // patch)
    return rows if math.isqrt(rows) ** 2 == rows else rows - 1


def _side(count: int, patch: int, hints: Hints) -> tuple[int, int]:
    """The native size: of the table, whatever a config says of the size it is used at."""
    said = size_of(hints)
    if (
        said is not None
        and (said[0] // patch) * (said[1] // patch) != count
        and round(count**0.5) ** 2 == count
    ):
        side = round(count**0.5) * patch
        hints.assumed.append(
            f"input_size {side}: its table is of {count} patches, not of the {said} that is said"
        )
        return side, side
    return side_of(count, patch, hints)


def _tiny_heads(options: dict[str, object], family: str, hints: Hints) -> int | None:
    """Heads of a model as wide as ViT-Tiny.

    Raises:
        WeightsError: neither the family nor the heads are said.
    """
    if family == "tinyusfm" or options["width"] != TINY:
        return None
    if hints.number("heads") is None:
        raise WeightsError(
            hints.where,
            "TinyUSFM (12 heads) and ViT-Tiny (3 heads) have the same names and shapes",
            "Give family=tinyusfm, or heads=3",
        )
    return None
