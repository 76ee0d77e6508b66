"""I-JEPA, V-JEPA, V-JEPA 2 and EchoJEPA: their official checkpoints and published sizes.

Source: facebookresearch/ijepa, facebookresearch/vjepa2, bowang-lab/EchoJEPA; weights of the first two are
CC BY-NC 4.0 and MIT. The EMA target encoder is taken, which the papers evaluate, unless told otherwise.
Pages: docs/models/ijepa.md, docs/models/vjepa.md. Shapes: N tokens, D channels, P channels of the predictor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from insonate.errors import WeightsError
from insonate.models.backbone import BACKBONES
from insonate.models.conventions import Conventions
from insonate.models.layouts import Bundle, Exportable, exports, register, strip, tensors_of
from insonate.models.parts import PARTS
from insonate.models.positions import TABLES, ClipGrid
from insonate.models.predictor import Position, Predictor
from insonate.models.vit import VisionTransformer, VitOptions
from insonate.models.vit_weights import (
    heads_of,
    match_table,
    official_vit,
    rectangle_of,
    side_of,
    size_of,
    take_vit,
    vit_options,
)
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

IMAGE_SIZES = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16, (1408, 40): 16}
VIDEO_SIZES = IMAGE_SIZES | {(1408, 40): 22, (1664, 48): 26}
"""(width, depth) → heads; ViT-g has 22 heads in V-JEPA 2 and 16 in I-JEPA"""
PREDICTOR_WIDTH, PREDICTOR_HEADS = 384, 12
WHICH = ("target_encoder", "encoder")


class PredictorOptions(Options):
    """Options of the predictor of a JEPA."""

    name: Literal["jepa_predictor", "videomae_decoder"] = "jepa_predictor"
    embed_dim: int = Field(ge=1, le=8192)
    """channels of the encoder's tokens"""
    grid: tuple[int, int, int]
    """frames, rows, columns of the encoder's native grid"""
    width: int = Field(default=PREDICTOR_WIDTH, ge=4, le=4096)
    """channels of the predictor"""
    depth: int = Field(default=6, ge=1, le=64)
    """blocks"""
    heads: int = Field(default=PREDICTOR_HEADS, ge=1, le=256)
    """attention heads"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLPs in widths"""
    position: Position = "sincos"
    """as of the encoder"""
    mask_tokens: int = Field(default=1, ge=1, le=64)
    """tokens that stand for hidden patches, one a kind of mask"""
    outputs: int | None = Field(default=None, ge=1, le=1_000_000)
    """channels of what is predicted; none = those of the encoder's tokens"""


@PARTS.register("videomae_decoder", config=PredictorOptions)
@PARTS.register("jepa_predictor", config=PredictorOptions)
def jepa_predictor(options: PredictorOptions) -> Predictor:
    """The predictor that came with an encoder."""
    return Predictor(**options.model_dump(exclude={"name"}))


class VideoOptions(VitOptions):
    """Options of the encoders of V-JEPA 2."""

    name: str = "vjepa_large"
    input_size: tuple[int, int] = (256, 256)
    frames: int = Field(default=16, ge=1, le=1024)
    tubelet: int = Field(default=2, ge=1, le=64)
    position: Literal["rope", "rope_paired", "sincos_3d", "sincos_3d_even"] = "rope"
    conventions: Conventions = "vjepa"
    """how media become its input: see docs/models/index.md"""


@BACKBONES.register("vjepa_large", config=VideoOptions)
def vjepa_large(options: VideoOptions) -> VisionTransformer:
    """V-JEPA 2 ViT-L, also EchoJEPA-L, 304 M parameters: clips of 16 frames."""
    return VisionTransformer(options, width=1024, depth=24, heads=16, mlp_ratio=4.0)


@BACKBONES.register("vjepa_huge", config=VideoOptions)
def vjepa_huge(options: VideoOptions) -> VisionTransformer:
    """V-JEPA 2 ViT-H, 632 M parameters: clips of 16 frames."""
    return VisionTransformer(options, width=1280, depth=32, heads=16, mlp_ratio=4.0)


@BACKBONES.register("vjepa_giant", config=VideoOptions)
def vjepa_giant(options: VideoOptions) -> VisionTransformer:
    """V-JEPA 2 ViT-g, also EchoJEPA-G, 1012 M parameters: clips of 16 frames."""
    return VisionTransformer(options, width=1408, depth=40, heads=22, mlp_ratio=48 / 11)


@BACKBONES.register("vjepa_gigantic", config=VideoOptions)
def vjepa_gigantic(options: VideoOptions) -> VisionTransformer:
    """ViT-G of V-JEPA 2's code, 1.9 G parameters: clips of 16 frames."""
    return VisionTransformer(options, width=1664, depth=48, heads=26, mlp_ratio=4.0)


def _is_training_checkpoint(bundle: Bundle) -> bool:
    parts = [tensors_of(bundle.content.get(name)) for name in WHICH]
    encoders = [strip(part)[0] for part in parts]
    return any("patch_embed.proj.weight" in part and "norm.weight" in part for part in encoders)


def _is_encoder(bundle: Bundle) -> bool:
    plain = bundle.has(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight", r"norm\.weight")
    video = len(bundle.shape("patch_embed.proj.weight")) == 5
    fixed = "pos_embed" in bundle.state and rectangle_of(bundle.state["pos_embed"]) is not None
    others = bundle.has(r"(cls_token|reg_token|decoder.*|.*gamma.*|.*q_bias|rel_pos.*|patch_embed_img.*)")
    return plain and (video or fixed) and not others


def _is_predictor(bundle: Bundle) -> bool:
    return bundle.has(r"predictor_embed\.weight", r"predictor_blocks\.0\.attn\.qkv\.weight")


@register("jepa", ("ijepa", "vjepa", "echojepa"), _is_training_checkpoint)
def convert_checkpoint(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A training checkpoint with `encoder`, `target_encoder` and `predictor`.

    Raises:
        WeightsError: the part that is asked for is missing, or is not such an encoder.
    """
    which = str(hints.get("which") or next(n for n in WHICH if tensors_of(bundle.content.get(n))))
    found = {name: strip(tensors_of(bundle.content.get(name)))[0] for name in (*WHICH, "predictor")}
    if not found.get(which):
        raise WeightsError(bundle.where, f"has no {which!r}", f"Take one of {', '.join(WHICH)}")
    converted = convert_encoder(bundle, hints, source.child(which, found[which]))
    if found["predictor"]:
        predictor = source.child("predictor", found["predictor"])
        converted.parts["predictor"] = _predictor(predictor, converted.backbone or {}, hints)
    other = WHICH[which == WHICH[0]]
    for name in bundle.content.keys() - {which, "predictor"}:
        source.ignored[name] = f"the {which} is taken" if name == other else "of the training"
    converted.info["which"] = which
    return converted


@register("jepa_encoder", ("ijepa", "vjepa", "echojepa"), _is_encoder)
def convert_encoder(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """An encoder alone."""
    state = take_vit(source)
    options = vit_options(state, hints, source.where)
    video = len(state["patch_embed.proj.weight"].shape) == 5
    options["heads"] = heads_of(options, VIDEO_SIZES if video else IMAGE_SIZES, hints)
    frames = int(hints.number("frames") or hints.assume("frames", 16, "as published")) if video else 1
    options["frames"] = frames
    _positions(state, options, hints)
    if video:
        options["conventions"] = "echojepa" if hints.get("family") == "echojepa" else "vjepa"
    video_like = video or options["position"] in {"rope", "sincos_rows_first"}
    family = str(hints.get("family") or ("vjepa" if video_like else "ijepa"))
    return Converted(
        family=family, backbone=options, state=state,
    )  # fmt: skip


@register("jepa_predictor", ("ijepa", "vjepa", "echojepa"), _is_predictor)
def convert_predictor(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A predictor alone; the encoder's grid must be known.

    Raises:
        WeightsError: it is not.
    """
    patch = hints.number("patch") or 16
    size = size_of(hints)
    if size is None:
        hints.need("input_size", "a predictor alone does not show the encoder's grid")
    assert size is not None
    frames, tubelet = hints.number("frames") or 1, hints.number("tubelet") or 1
    tubelet = tubelet if frames > 1 else 1
    shape = source.shape("predictor_proj.weight")
    video = frames > 1
    encoder = {
        "width": shape[0], "patch": patch, "input_size": size, "frames": frames, "tubelet": tubelet,
        "position": "rope" if "predictor_pos_embed" not in source else "sincos",
        "heads": hints.number("heads") or 0,
    }  # fmt: skip
    return Converted(
        family="vjepa" if video else "ijepa",
        parts={"predictor": _predictor(source, encoder, hints)},
    )  # fmt: skip


def _positions(state: dict[str, Tensor], options: dict[str, Any], hints: Hints) -> None:
    """Kind of positions and native size of an encoder; a fixed table is taken out of the state.

    Raises:
        WeightsError: the config speaks of a table that is not there.
    """
    steps, patch = options["frames"] // options["tubelet"], options["patch"]
    table = state.get("pos_embed")
    if table is None:
        if hints.get("use_rope") is False:
            raise WeightsError(
                hints.where, "use_rope is false, but it has no position table", "Correct the config"
            )
        if hints.get("use_rope") is None:
            hints.assumed.append("position rope: it has no position table")
        options["position"] = "rope"
        size = size_of(hints) or hints.assume("input_size", (256, 256), "RoPE has no native size")
        options["input_size"] = tuple(size)
        return
    rectangle = rectangle_of(table) if steps == 1 and size_of(hints) is None else None
    if rectangle is None:
        options["input_size"] = side_of(table.shape[1] // steps, patch, hints)
    else:
        options["input_size"] = (rectangle[0] * patch, rectangle[1] * patch)
    options["position"] = match_table(table, _grid(options)) or "learned"
    options["resize_position"] = hints.get("resize_position") or "interpolate"
    if options["position"] != "learned":
        del state["pos_embed"]
    else:
        hints.assumed.append("position learned: its table is none of the fixed ones")


def _grid(options: Mapping[str, Any]) -> ClipGrid:
    height, width = options["input_size"]
    patch = options["patch"]
    return options["frames"] // options["tubelet"], height // patch, width // patch


def _predictor(source: Source, encoder: Mapping[str, Any], hints: Hints) -> Part:
    """The predictor beside an encoder.

    Raises:
        WeightsError: its position table is not of the encoder's grid.
    """
    renamed = {name: re.sub(r"^predictor_", "", name) for name in source.names()}
    state = {ours: source.take(name) for name, ours in renamed.items()}
    tokens = sorted(
        (name for name in state if name.startswith("mask_tokens.")), key=lambda n: int(n.split(".")[1])
    )
    if tokens:
        state["mask_token"] = torch.cat([state.pop(name) for name in tokens])
    width, embed_dim = state["embed.weight"].shape
    position = encoder["position"]
    table = state.pop("pos_embed", None)
    if table is not None:
        position = match_table(table, _grid(encoder))
        if position is None:
            raise WeightsError(
                hints.where,
                f"predictor_pos_embed is no table of the grid {_grid(encoder)}",
                "Give input_size and frames",
            )
    heads = hints.number("predictor_heads")
    if heads is None:
        heads = PREDICTOR_HEADS if width == PREDICTOR_WIDTH and position == "rope" else int(encoder["heads"])
        hints.assumed.append(f"predictor_heads {heads}: as published")
    options = {
        "name": "jepa_predictor", "embed_dim": embed_dim, "grid": _grid(encoder), "width": width,
        "depth": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        "heads": heads, "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width, "position": position,
        "mask_tokens": len(state["mask_token"]),
    }  # fmt: skip
    return Part(options=options, state=state)


@exports("jepa_encoder")
def export_encoder(model: Exportable) -> dict[str, Any]:
    """The encoder alone, with its position table where it has one."""
    official = official_vit(model.state, (1, 1), split_biases=False)
    position = model.backbone.get("position")
    if position in TABLES:
        weight = model.state["patch_embed.proj.weight"]
        official["pos_embed"] = TABLES[str(position)](_grid(model.backbone), len(weight))[None].clone()
    return official


@exports("jepa")
def export_checkpoint(model: Exportable) -> dict[str, Any]:
    """A training checkpoint: the encoder as both encoders, and the predictor where there is one."""
    video = model.state["patch_embed.proj.weight"].ndim == 5
    prefix = "module.backbone." if video else "module."
    encoder = {f"{prefix}{name}": tensor for name, tensor in export_encoder(model).items()}
    content: dict[str, Any] = {"encoder": encoder, "target_encoder": encoder, "epoch": 0}
    if "predictor" in model.parts:
        predictor = _official_predictor(model.parts["predictor"], model.backbone, video=video)
        content["predictor"] = {f"{prefix}{name}": tensor for name, tensor in predictor.items()}
    return content


def _official_predictor(
    state: Mapping[str, Tensor], backbone: Mapping[str, Any], *, video: bool
) -> dict[str, Tensor]:
    official = {f"predictor_{name}": tensor for name, tensor in state.items() if name != "mask_token"}
    tokens = state["mask_token"]
    if video:
        official |= {f"mask_tokens.{i}": tokens[i : i + 1].clone() for i in range(len(tokens))}
    else:
        official["mask_token"] = tokens
    position = str(backbone.get("position"))
    if position in TABLES:
        table = TABLES[position](_grid(backbone), len(state["embed.bias"]))
        official["predictor_pos_embed"] = table[None].clone()
    return official
