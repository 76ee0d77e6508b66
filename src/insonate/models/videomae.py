"""VideoMAE and EchoMAE: encoder and decoder of masked video pretraining, and fine-tuned encoders.

Positions are a fixed table that is not stored. The decoder is the same network as a JEPA's predictor: it
fills in hidden tokens from visible ones, with pixels of patches as its outputs.
Source: Tong et al. 2022 (arXiv 2203.12602), MCG-NJU/VideoMAE, CC BY-NC 4.0. Page: docs/models/videomae.md.
Shapes: N tokens of a clip, D channels, P channels of the decoder.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from insonate.models.backbone import BACKBONES
from insonate.models.conventions import Conventions
from insonate.models.jepa import IMAGE_SIZES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.vit import Position, VisionTransformer, VitOptions
from insonate.models.vit_weights import (
    classification,
    heads_of,
    official_classifier,
    official_vit,
    size_of,
    take_vit,
    vit_options,
)
from insonate.weights.source import Converted, Hints, Part, Source

LICENSE = "CC BY-NC 4.0"
FRAMES, SIZE = 16, 224
DECODER_HEADS = {192: 3, 384: 6, 512: 8, 640: 8}


class VideoMaeOptions(VitOptions):
    """Options of the encoders of VideoMAE."""

    name: str = "videomae_base"
    frames: int = Field(default=FRAMES, ge=1, le=1024)
    tubelet: int = Field(default=2, ge=1, le=64)
    position: Position = "sinusoid"
    resize_position: Literal["recompute", "interpolate"] = "interpolate"
    conventions: Conventions = "videomae"
    """how media become its input: see docs/models/index.md"""


@BACKBONES.register("videomae_base", config=VideoMaeOptions)
def videomae_base(options: VideoMaeOptions) -> VisionTransformer:
    """VideoMAE ViT-B, 86 M parameters: clips of 16 frames."""
    return VisionTransformer(options, width=768, depth=12, heads=12, mlp_ratio=4.0)


@BACKBONES.register("videomae_large", config=VideoMaeOptions)
def videomae_large(options: VideoMaeOptions) -> VisionTransformer:
    """VideoMAE ViT-L, also EchoMAE, 304 M parameters: clips of 16 frames."""
    return VisionTransformer(options, width=1024, depth=24, heads=16, mlp_ratio=4.0)


def _is_video(bundle: Bundle, prefix: str) -> bool:
    video = len(bundle.shape(f"{prefix}patch_embed.proj.weight")) == 5
    return video and f"{prefix}blocks.0.attn.q_bias" in bundle.state


def _is_encoder(bundle: Bundle) -> bool:
    return _is_video(bundle, "")


def _is_pretrained(bundle: Bundle) -> bool:
    return _is_video(bundle, "encoder.") and bundle.has(
        r"encoder_to_decoder\.weight", r"decoder\.head\.weight"
    )


@register("videomae", ("videomae", "echomae"), _is_encoder)
def convert_encoder(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """An encoder, with the classifier of a fine-tune where there is one."""
    state = take_vit(source)
    options = vit_options(state, hints, source.where)
    options["heads"] = heads_of(options, IMAGE_SIZES, hints)
    size = size_of(hints) or hints.assume("input_size", (SIZE, SIZE), "its fixed positions are not stored")
    frames = hints.number("frames") or hints.assume("frames", FRAMES, "as published")
    options |= {
        "input_size": tuple(size), "frames": frames, "position": "sinusoid", "resize_position": "interpolate",
        "conventions": "videomae",
    }  # fmt: skip
    family = str(hints.get("family") or "videomae")
    converted = Converted(family=family, backbone=options, state=state, info={"license": LICENSE})
    return classification(converted, source, hints)


@register("videomae_pretrained", ("videomae", "echomae"), _is_pretrained)
def convert_pretrained(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder and decoder of the pretraining."""
    converted = convert_encoder(bundle, hints, source.below("encoder."))
    options = converted.backbone or {}
    grid = (
        options["frames"] // options["tubelet"],
        *(side // options["patch"] for side in options["input_size"]),
    )
    weight = source.take("encoder_to_decoder.weight")
    state = {"embed.weight": weight, "embed.bias": torch.zeros(len(weight), dtype=weight.dtype)}
    state["mask_token"] = source.take("mask_token")
    state |= take_vit(source.below("decoder."), extra=r"head\.(weight|bias)$")
    state = {re.sub(r"^head\.", "proj.", name): tensor for name, tensor in state.items()}
    width = len(weight)
    heads = hints.number("predictor_heads") or DECODER_HEADS.get(width) or hints.need(
        "predictor_heads", f"no published decoder is {width} wide"
    )  # fmt: skip
    part = {
        "name": "videomae_decoder", "embed_dim": options["width"], "grid": grid, "width": width,
        "depth": 1 + max(int(n.split(".")[1]) for n in state if n.startswith("blocks.")), "heads": heads,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width, "position": "sinusoid",
        "outputs": len(state["proj.weight"]),
    }  # fmt: skip
    converted.parts["decoder"] = Part(options=part, state=state)
    return converted


@exports("videomae")
def export_encoder(model: Exportable) -> dict[str, Any]:
    """Encoder, with the classifier where there is one."""
    return official_vit(model.state, (1, 1), split_biases=True) | official_classifier(model.head)


@exports("videomae_pretrained")
def export_pretrained(model: Exportable) -> dict[str, Any]:
    """Encoder and decoder under the authors' names."""
    official: dict[str, Tensor] = {
        f"encoder.{name}": tensor for name, tensor in export_encoder(model).items()
    }
    decoder = dict(model.parts["decoder"])
    official["encoder_to_decoder.weight"] = decoder.pop("embed.weight")
    official["mask_token"] = decoder.pop("mask_token")
    decoder.pop("embed.bias")  # zero: the original has none
    plain = official_vit(decoder, (1, 1), split_biases=True)
    return official | {
        f"decoder.{re.sub(r'^proj[.]', 'head.', name)}": tensor for name, tensor in plain.items()
    }
