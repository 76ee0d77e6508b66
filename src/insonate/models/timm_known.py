"""DINOv3 and SAM: vision transformers that timm has, known by their keys, in timm's and the authors' names.

Their weights go into timm's own modules (`timm_any`), whose name follows from width, depth and kind of MLP.
Source: Siméoni et al. 2025 (DINOv3, arXiv 2508.10104); Kirillov et al. 2023 (SAM, arXiv 2304.02643).
Page: docs/models/timm.md. Shapes: D channels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from insonate.errors import WeightsError
from insonate.models.layouts import Bundle, register
from insonate.models.vit_weights import size_of
from insonate.weights.source import Converted, Hints, Source

DINOV3 = {
    (192, 12, False): "vit_tiny_patch16_dinov3", (384, 12, False): "vit_small_patch16_dinov3",
    (384, 12, True): "vit_small_plus_patch16_dinov3", (768, 12, False): "vit_base_patch16_dinov3",
    (1024, 24, False): "vit_large_patch16_dinov3", (1280, 32, True): "vit_huge_plus_patch16_dinov3",
    (4096, 40, True): "vit_7b_patch16_dinov3",
}  # fmt: skip
"""(width, depth, gated MLP) → name in timm"""
SAM = {
    (768, 12): "samvit_base_patch16", (1024, 24): "samvit_large_patch16", (1280, 32): "samvit_huge_patch16",
}  # fmt: skip
"""(width, depth) → name in timm"""
SAM_SIDE = 1024
"""pixels that SAM's published tables are of; fine-tunes of 256 go round too"""
SAM_PREFIX = "image_encoder."
RENAMED = {
    "storage_tokens": "reg_token", "ls1.gamma": "gamma_1", "ls2.gamma": "gamma_2", "mlp.w1.": "mlp.fc1_g.",
    "mlp.w2.": "mlp.fc1_x.", "mlp.w3.": "mlp.fc2.", "mlp.lin": "mlp.fc",
}  # fmt: skip
"""the authors' names → timm's"""
NAMED = "Give family=timm timm_name=NAME, see timm.list_models()"


def _is_dinov3(bundle: Bundle) -> bool:
    plain = bundle.has(r"patch_embed\.proj\.weight", r"cls_token", r"blocks\.0\.attn\.qkv\.weight")
    return plain and bundle.has(r"reg_token|storage_tokens") and not bundle.has(r"pos_embed")


def _is_sam(bundle: Bundle) -> bool:
    return bundle.has(rf"({SAM_PREFIX})?neck\.0\.weight", rf"({SAM_PREFIX})?blocks\.0\.attn\.rel_pos_h")


@register("dinov3", ("dinov3",), _is_dinov3)
def convert_dinov3(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """An encoder in timm's or Meta's names.

    Raises:
        WeightsError: no model of this size is published.
    """
    source.ignore(r"rope_embed\.periods$|.*\.bias_mask$", "computed")
    source.ignore(r"mask_token$|local_cls_norm\.|projectors\.", "of the pretraining")
    state = _renamed(source)
    width, depth = _size(state)
    gated = "blocks.0.mlp.fc1_g.weight" in state
    name = DINOV3.get((width, depth, gated))
    if name is None:
        raise WeightsError(bundle.where, f"no DINOv3 is {width} wide and {depth} deep", NAMED)
    biases = {n: state.pop(n) for n in list(state) if n.endswith("attn.qkv.bias")}
    if any(bool(bias.any()) for bias in biases.values()):
        for bias_name, bias in biases.items():  # the keys' is masked: it does not change the attention
            query, _, value = bias.chunk(3)
            holder = bias_name.removesuffix("qkv.bias")
            state |= {f"{holder}q_bias": query.clone(), f"{holder}v_bias": value.clone()}
    if "blocks.0.attn.q_bias" in state:
        name = f"{name}_qkvb"
    return _through_timm("dinov3", name, state, hints)


@register("sam", ("sam",), _is_sam)
def convert_sam(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The image encoder, alone or of a whole SAM.

    Raises:
        WeightsError: no model of this size is published.
    """
    source.ignore(r"(prompt_encoder|mask_decoder)\.", "not of the image encoder")
    source.ignore(r"pixel_(mean|std)$", "in the conventions")
    inside = source.below(SAM_PREFIX) if source.names(SAM_PREFIX) else source
    state = _renamed(inside)
    name = SAM.get(_size(state))
    if name is None:
        raise WeightsError(bundle.where, f"no SAM is {_size(state)[0]} wide", NAMED)
    table = state.get("pos_embed")  # 1 h w D
    if table is None:
        raise WeightsError(bundle.where, "it has no table of positions, SAM's encoders have", NAMED)
    patch = state["patch_embed.proj.weight"].shape[-1]
    side = [table.shape[1] * patch, table.shape[2] * patch]
    hints.say("input_size", side, "its table says so")
    converted = _through_timm("sam", name, state, hints)
    if side != [SAM_SIDE, SAM_SIDE] and converted.backbone is not None:
        converted.backbone["table_size"] = tuple(side)
    return converted


def _through_timm(family: str, name: str, state: Mapping[str, Tensor], hints: Hints) -> Converted:
    hints.assumed.append(f"timm_name {name}: as its size is published")
    options = {"name": "timm", "model": name, "input_size": size_of(hints)}
    return Converted(
        family=family, backbone=options, state={f"net.{other}": tensor for other, tensor in state.items()}
    )


def _renamed(source: Source) -> dict[str, Tensor]:
    state = {}
    for name in source.names():
        new = name
        for theirs, ours in RENAMED.items():
            new = new.replace(theirs, ours)
        state[new] = source.take(name)
    return state


def _size(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width and depth; (0, 0) of what has no blocks."""
    weight = state.get("patch_embed.proj.weight", torch.empty(0))
    blocks = [int(name.split(".")[1]) for name in state if name.startswith("blocks.")]
    return len(weight), 1 + max(blocks, default=-1)
