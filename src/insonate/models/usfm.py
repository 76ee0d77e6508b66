"""USFM: its official checkpoints in every form that goes round.

The pretrained file has one relative table for all blocks, fine-tuned ones have a table a block; the SimMIM
form adds a decoder; Hugging Face's is the Beit port. Weights: CC BY-NC 4.0.
Source: Jiao et al. 2024 (doi 10.1016/j.media.2024.103202), openmedlab/USFM. Page: docs/models/usfm.md.
Shapes: B items, N patches, D channels, h w grid, p patch side.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from insonate.models.backbone import BACKBONES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.parts import PARTS
from insonate.models.vit import VisionTransformer, VitOptions
from insonate.models.vit_weights import (
    classification,
    official_classifier,
    official_vit,
    relative_side,
    take_vit,
    vit_options,
)
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

LICENSE = "CC BY-NC 4.0"
PUBLISHED_SHA256 = "d5fdab3edd140e4ca61471bb4087f91cd7ff2ce270db71b9cab30feda881bd17"
"""of USFM_latest.pth"""
PUBLISHED_TABLE, PUBLISHED_DEPTH = (732, 12), 12
"""shape of its relative table, which all blocks share; blocks"""
HUGGING_FACE = [
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.mask_token$", "mask_token"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.lambda_", r"blocks.\1.gamma_"),
    (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.query\.bias$", r"blocks.\1.attn.q_bias"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.value\.bias$", r"blocks.\1.attn.v_bias"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.relative_position_bias\.", r"blocks.\1.attn."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.relative_position_bias\.", "rel_pos_bias."),
    (r"layernorm\.", "norm."),
    (r"pooler\.layernorm\.", "fc_norm."),
    (r"classifier\.", "head."),
]
"""names of transformers' Beit → those of the authors' code; queries, keys and values are joined apart"""


class UsfmOptions(VitOptions):
    """Options of the encoder of USFM."""

    name: str = "usfm"
    position: Literal["relative", "relative_per_block"] = "relative"
    class_token: bool = True
    layer_scale: float | None = Field(default=0.1, gt=0.0, le=10.0)


@BACKBONES.register("usfm", config=UsfmOptions)
def usfm(options: UsfmOptions) -> VisionTransformer:
    """USFM's ViT-B/16 with relative positions, 85.7 M parameters."""
    return VisionTransformer(options, width=768, depth=12, heads=12, mlp_ratio=4.0)


class SimMimOptions(Options):
    """Options of SimMIM's decoder."""

    name: Literal["simmim_decoder"] = "simmim_decoder"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    patch: int = Field(default=16, ge=1, le=256)
    """side of a patch in pixels"""
    channels: int = Field(default=3, ge=1, le=64)
    """channels of the picture"""
    decoder: bool = True
    """whether the decoder came with the mask token"""


@PARTS.register("simmim_decoder", config=SimMimOptions)
class SimMimDecoder(nn.Module):
    """The token that stands for hidden patches, and a linear map from tokens to pixels.

    Source: Xie et al. 2022 (SimMIM, arXiv 2111.09886).
    """

    def __init__(self, options: SimMimOptions) -> None:
        super().__init__()
        self.patch = options.patch
        self.mask_token = nn.Parameter(torch.zeros(1, 1, options.width))
        pixels = options.channels * options.patch**2
        self.proj = nn.Conv2d(options.width, pixels, kernel_size=1) if options.decoder else None

    def forward(self, features: Tensor) -> Tensor:
        """Tokens as a picture B D h w → pixels B C H W."""
        assert self.proj is not None  # callers look at the options
        return F.pixel_shuffle(self.proj(features), self.patch)


def _is_usfm(bundle: Bundle) -> bool:
    return bundle.has(
        r"blocks\.0\.gamma_1", r"blocks\.0\.attn\.q_bias", r".*relative_position_bias_table"
    ) and (not bundle.has(r"fpn1\..*"))


def _is_simmim(bundle: Bundle) -> bool:
    return bundle.has(r"encoder\.blocks\.0\.gamma_1", r"encoder\.mask_token", r"decoder\.0\.weight")


def _is_hugging_face(bundle: Bundle) -> bool:
    return bundle.has(r"(beit\.)?embeddings\.cls_token", r"(beit\.)?encoder\.layer\.0\.lambda_1") or (
        bundle.stripped.endswith("encoder.") and bundle.has(r"layer\.0\.lambda_1")
    )


def _is_published(bundle: Bundle) -> bool:
    """Whether the tensors are those of USFM_latest.pth: pretrained, without any head or wrapper."""
    return (
        bundle.shape("rel_pos_bias.relative_position_bias_table") == PUBLISHED_TABLE
        and bundle.has("mask_token", "norm.weight", rf"blocks\.{PUBLISHED_DEPTH - 1}\.gamma_1")
        and not bundle.has(r"(head|fc_norm)\..*")
    )


@register("usfm", ("usfm",), _is_usfm)
def convert_usfm(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The authors' encoder: `USFM_latest.pth` (one table), or fine-tuned (a table a block, with a head)."""
    state = take_vit(source)
    options = vit_options(state, hints, source.where)
    table = state.get("rel_pos.table", state.get("blocks.0.attn.rel_pos.table"))
    assert table is not None  # else the layout does not match
    options["heads"] = table.shape[1]
    hints.check("heads", table.shape[1], "its relative table has so many columns")
    options["input_size"] = relative_side(state, options, hints)
    converted = Converted(family="usfm", backbone=options, state=state, info={"license": LICENSE})
    if _is_published(bundle):
        converted.published_sha256 = PUBLISHED_SHA256
    if "mask_token" in source:
        part = SimMimOptions(width=options["width"], patch=options["patch"], decoder=False).model_dump()
        converted.parts["decoder"] = Part(options=part, state={"mask_token": source.take("mask_token")})
    return classification(converted, source, hints)


@register("usfm_simmim", ("usfm",), _is_simmim)
def convert_simmim(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The whole of SimMIM's network: encoder and decoder."""
    converted = convert_usfm(bundle, hints, source.below("encoder."))
    width, patch = (converted.backbone or {})["width"], (converted.backbone or {})["patch"]
    weight, bias = source.take("decoder.0.weight"), source.take("decoder.0.bias")
    options = SimMimOptions(width=width, patch=patch, channels=len(bias) // patch**2).model_dump()
    state = converted.parts["decoder"].state | {"proj.weight": weight, "proj.bias": bias}
    converted.parts["decoder"] = Part(options=options, state=state)
    return converted


@register("usfm_hugging_face", ("usfm",), _is_hugging_face)
def convert_hugging_face(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The port to transformers' Beit."""
    source.ignore(r"(beit\.)?pooler\.dense\.", "pooler of another task")
    names: dict[str, Any] = {}
    for name in source.names():
        plain = name.removeprefix("beit.")
        if re.search(r"attention\.attention\.(query|key|value)\.weight$", name):
            continue
        for pattern, theirs in HUGGING_FACE:
            if re.match(pattern, plain):
                names[re.sub(pattern, theirs, plain)] = source.take(name)
                break
    for name in source.names(r".*attention\.attention\.query\.weight$"):
        parts = [source.take(name.replace(".query.", f".{kind}.")) for kind in ("query", "key", "value")]
        number = re.search(r"layer\.(\d+)\.", name)
        assert number is not None  # the pattern of the names above
        names[f"blocks.{number[1]}.attn.qkv.weight"] = torch.cat(parts)
    translated = Source(names, source.where)
    converted = convert_usfm(bundle, hints, translated)
    translated.finish()
    return converted


@exports("usfm")
def export_usfm(model: Exportable) -> dict[str, Any]:
    """Encoder, mask token and classifier, where there are such, under the authors' names."""
    patch, (height, width) = model.backbone.get("patch", 16), model.backbone["input_size"]
    official = official_vit(model.state, (height // patch, width // patch), split_biases=True)
    if "decoder" in model.parts:
        official["mask_token"] = model.parts["decoder"]["mask_token"]
    return official | official_classifier(model.head)


@exports("usfm_simmim")
def export_simmim(model: Exportable) -> dict[str, Any]:
    """Encoder and decoder of SimMIM."""
    decoder = model.parts.get("decoder", {})
    plain = {f"encoder.{name}": tensor for name, tensor in export_usfm(model).items()}
    ends = ("weight", "bias")
    return plain | {f"decoder.0.{end}": decoder[f"proj.{end}"] for end in ends if f"proj.{end}" in decoder}
