"""V-JEPA 2.1: an encoder for clips and stills whose levels are normed apart, and its predictor.

Stills have an embedding of their own; tokens are told whether they come from a still or a clip; the rotation
is the mended one (`paired`). In training the normed outputs of four blocks are joined.
Source: V-JEPA 2.1 (arXiv 2603.14482), alif-munim/EchoJEPA. Page: docs/models/vjepa.md.
Shapes: B items, T frames, K context and M target tokens, D channels, L levels, P channels of the predictor.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from insonate.errors import WeightsError
from insonate.models.backbone import BACKBONES, Tokens, as_clip
from insonate.models.conventions import Conventions
from insonate.models.layouts import Bundle, Exportable, exports, register, strip, tensors_of
from insonate.models.parts import PARTS
from insonate.models.positions import ClipGrid
from insonate.models.rope import rope_tables
from insonate.models.transformer import LAYER_NORM_EPS, Block, init_transformer
from insonate.models.vit import CustomVitOptions, PatchEmbed, VisionTransformer
from insonate.models.vit_weights import heads_of, official_vit, size_of, take_vit, vit_options
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

SIZES = {(768, 12): 12, (1024, 24): 16, (1280, 32): 16, (1408, 40): 22, (1664, 48): 26}
TAPS = {48: (11, 23, 37, 47)}
"""depth → blocks that are normed apart, where they are not evenly spaced"""
REACH_PX = {16: 256, 14: 252}
"""patch → side of the pictures that rotary positions are counted as on, where they are scaled"""
KINDS = {"img_mod_embed": "still_token", "video_mod_embed": "clip_token"}
ENCODERS = ("target_encoder", "ema_encoder", "encoder")


class LeveledOptions(CustomVitOptions):
    """Options of the encoders of V-JEPA 2.1."""

    name: str = "vjepa21"
    input_size: tuple[int, int] = (384, 384)
    frames: int = Field(default=16, ge=1, le=1024)
    tubelet: int = Field(default=2, ge=1, le=64)
    position: Literal["rope", "rope_paired"] = "rope_paired"
    final_norm: bool = False
    conventions: Conventions = "vjepa"
    """how media become its input: see docs/models/index.md"""
    levels: int = Field(default=4, ge=1, le=16)
    """evenly spaced blocks that are normed apart, the last one included"""
    joined: int | None = Field(default=None, ge=1, le=16)
    """how many of the last levels are joined for the predictor (1 in distilled models); none = all"""
    rope_reach: int | None = Field(default=None, ge=2, le=1024)
    """rows and columns are counted as if there were so many (`interpolate_rope`); none = one by one"""


class LeveledVit(VisionTransformer):
    """Clips B T C H W; stills B C H W, or clips of one frame, take the embedding of stills."""

    def __init__(self, options: LeveledOptions) -> None:
        super().__init__(
            options,
            width=options.width,
            depth=options.depth,
            heads=options.heads,
            mlp_ratio=options.mlp_ratio,
        )
        count, self.rope_reach = options.levels, options.rope_reach
        self.num_joined = options.joined or count
        evenly = [math.ceil(options.depth * (i + 1) / count) - 1 for i in range(count)]
        self.taps = list(TAPS[options.depth]) if options.depth in TAPS and count == 4 else evenly
        self.norms = nn.ModuleList(nn.LayerNorm(options.width, eps=LAYER_NORM_EPS) for _ in range(count))
        self.still_embed = PatchEmbed(self.spec.channels, options.width, (1, *self.spec.patch[1:]))
        self.still_token = nn.Parameter(torch.zeros(1, 1, options.width))
        self.clip_token = nn.Parameter(torch.zeros(1, 1, options.width))
        init_transformer(self.still_embed, [], depth_scaled=False)

    def clip_grid_of(self, x: Tensor) -> ClipGrid:
        """As of any ViT; a still has one step."""
        if _is_still(x):
            return (1, *super().clip_grid_of(x if x.ndim == 4 else x[:, 0])[1:])
        return super().clip_grid_of(x)

    def embed(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, ClipGrid]:
        """See `VisionTransformer.embed`."""
        grid = self.clip_grid_of(x)
        if _is_still(x):
            tokens = self.still_embed(x if x.ndim == 5 else x[:, None], keep) + self.still_token
        else:
            tokens = self.patch_embed(as_clip(x, self.spec), keep) + self.clip_token
        return self.placed(tokens, grid, keep), grid

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tokens:
        """See `Backbone.forward`."""
        tokens = super().forward(x, keep)
        return tokens._replace(patch=self.norms[-1](tokens.patch))

    def joined(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """The levels that the predictor reads, each normed, side by side: B K LD."""
        tokens, grid = self.embed(x, keep)
        levels: list[Tensor] = []
        for depth, (block, look) in enumerate(zip(self.blocks, self.looks(grid, keep), strict=True)):
            tokens = block(tokens, *look)
            if depth in self.taps:
                levels.append(self.norms[len(levels)](tokens))
        return torch.cat(levels[-self.num_joined :], dim=-1)

    def layers(self) -> list[nn.Module]:
        """See `Backbone.layers`."""
        return [nn.ModuleList([self.patch_embed, self.still_embed]), *self.blocks, self.norms]


@BACKBONES.register("vjepa21", config=LeveledOptions)
def vjepa21(options: LeveledOptions) -> LeveledVit:
    """An encoder of V-JEPA 2.1 of the size in the options: clips and stills."""
    return LeveledVit(options)


class Filled(NamedTuple):
    """What the predictor says."""

    targets: Tensor  # B M O
    context: Tensor  # B K O


class LeveledPredictorOptions(Options):
    """Options of the predictor of V-JEPA 2.1."""

    name: Literal["vjepa21_predictor"] = "vjepa21_predictor"
    inputs: int = Field(ge=1, le=65536)
    """channels of the joined levels"""
    hidden: int = Field(ge=1, le=65536)
    """channels between the two layers of its embedding"""
    width: int = Field(default=384, ge=4, le=4096)
    """channels of the predictor"""
    depth: int = Field(default=12, ge=1, le=64)
    """blocks"""
    heads: int = Field(default=12, ge=1, le=256)
    """attention heads"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLPs in widths"""
    mask_tokens: int = Field(default=2, ge=1, le=64)
    """tokens that stand for hidden patches, one a kind of mask"""
    outputs: int = Field(ge=1, le=65536)
    """channels of what is predicted"""
    context: bool = True
    """whether it also predicts the context"""
    rope_reach: int | None = Field(default=None, ge=2, le=1024)
    """as of the encoder"""


@PARTS.register("vjepa21_predictor", config=LeveledPredictorOptions)
class LeveledPredictor(nn.Module):
    """Features of target tokens, and of the context again, from the joined levels of the context."""

    def __init__(self, options: LeveledPredictorOptions) -> None:
        super().__init__()
        width = options.width
        self.heads, self.rope_reach = options.heads, options.rope_reach
        self.embed = nn.Sequential(
            nn.Linear(options.inputs, options.hidden), nn.GELU(), nn.Linear(options.hidden, width)
        )
        self.mask_token = nn.Parameter(torch.zeros(options.mask_tokens, 1, width))
        self.still_token = nn.Parameter(torch.zeros(1, 1, width))
        self.clip_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(width, options.heads, options.mlp_ratio) for _ in range(options.depth)
        )
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.proj = nn.Linear(width, options.outputs)
        self.proj_context = nn.Linear(width, options.outputs) if options.context else None
        init_transformer(self, self.blocks, depth_scaled=True)

    def forward(
        self, visible: Tensor, context: Tensor, targets: Tensor, grid: ClipGrid, token: int = 0
    ) -> Filled:
        """Joined levels B K LD at cells B K → predictions at `targets` (B M), and at the context."""
        kind = self.still_token if grid[0] == 1 else self.clip_token
        seen = self.embed(visible) + kind  # B K P
        asked = self.mask_token[token].expand(*targets.shape, -1) + kind  # B M P
        tables = rope_tables(grid, seen.shape[-1] // self.heads, "paired", seen.device, self.rope_reach)
        rope = tables.at(torch.cat([context, targets], dim=1))
        tokens = torch.cat([seen, asked], dim=1)
        for block in self.blocks:
            tokens = block(tokens, rope=rope)
        tokens = self.norm(tokens)
        again = tokens[:, : seen.shape[1]]
        context_out = again if self.proj_context is None else self.proj_context(again)
        return Filled(self.proj(tokens[:, seen.shape[1] :]), context_out)


def _is_still(x: Tensor) -> bool:
    return x.ndim == 4 or x.shape[1] == 1


def _parts(bundle: Bundle) -> dict[str, dict[str, Tensor]]:
    found = {name: strip(tensors_of(bundle.content.get(name)))[0] for name in (*ENCODERS, "predictor")}
    return {name: tensors for name, tensors in found.items() if tensors}


def is_leveled(bundle: Bundle) -> bool:
    """Whether it is a checkpoint of V-JEPA 2.1, or its encoder alone."""
    candidates = [bundle.state, *_parts(bundle).values()]
    return any(
        "norms_block.0.weight" in state and "patch_embed_img.proj.weight" in state for state in candidates
    )


@register("vjepa21", ("vjepa", "echojepa"), is_leveled)
def convert_leveled(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder (the EMA one, where there is one) and predictor."""
    parts = _parts(bundle)
    encoders = [name for name in ENCODERS if name in parts]
    which = str(hints.get("which") or (encoders[0] if encoders else ""))
    encoder = source.child(which, parts[which]) if which in parts else source
    state = {re.sub(r"^norms_block\.", "norms.", name): tensor for name, tensor in _taken(encoder).items()}
    for theirs, ours in KINDS.items():
        state[ours] = encoder.take(theirs)
    for end in ("weight", "bias"):
        state[f"still_embed.proj.{end}"] = encoder.take(f"patch_embed_img.proj.{end}")
    options = vit_options(state, hints, source.where)
    for name in ("class_token", "registers", "final_norm"):
        options.pop(name)
    size = size_of(hints) or hints.assume("input_size", (384, 384), "RoPE has no native size")
    options |= {
        "name": "vjepa21", "heads": heads_of(options, SIZES, hints), "input_size": tuple(size),
        "frames": hints.number("frames") or hints.assume("frames", 16, "as published"),
        "levels": len({name for name in state if re.match(r"norms\.\d+\.weight$", name)}),
        "conventions": "vjepa", "rope_reach": _reach(options, hints),
    }  # fmt: skip
    family = str(hints.get("family") or "vjepa")
    converted = Converted(family=family, backbone=options, state=state, info={"which": which})
    if "predictor" in parts:
        predictor = _predictor(source.child("predictor", parts["predictor"]), options, hints)
        converted.parts["predictor"] = predictor
        options["joined"] = max(predictor.options["inputs"] // options["width"], 1)
    for name in bundle.content.keys() - {which, "predictor"} if which else ():
        source.ignored[name] = f"the {which} is taken" if name in encoders else "of the training"
    return converted


def _reach(options: Mapping[str, Any], hints: Hints) -> int | None:
    """Rows and columns that positions are counted as of; none where they are not scaled.

    Raises:
        WeightsError: `interpolate_rope` is neither true nor false, or the patch is of no published model.
    """
    published = (options["width"], options["depth"]) in SIZES
    why = "as in the authors' hub entry" if published else "no model of this size is published"
    scaled = hints.assume("interpolate_rope", published, why)
    if not isinstance(scaled, bool):
        raise WeightsError(hints.where, f"interpolate_rope is {scaled!r}", "Say true or false")
    if not scaled:
        return None
    patch = options["patch"]
    if patch not in REACH_PX:
        raise WeightsError(
            hints.where,
            f"interpolate_rope is not defined for patches of {patch}",
            "Say interpolate_rope=false",
        )
    return int(REACH_PX[patch] // patch)


def _taken(encoder: Source) -> dict[str, Tensor]:
    return take_vit(encoder, extra=r"norms_block\.\d+\.(weight|bias)$")


def _predictor(source: Source, encoder: dict[str, Any], hints: Hints) -> Part:
    state: dict[str, Tensor] = {}
    for theirs, ours in KINDS.items():
        state[ours] = source.take(theirs)
    tokens = sorted(source.names(r"mask_tokens\."), key=lambda name: int(name.split(".")[1]))
    state["mask_token"] = torch.cat([source.take(name) for name in tokens])
    state |= {name.removeprefix("predictor_"): source.take(name) for name in source.names(r"predictor_")}
    width, hidden = state["embed.2.weight"].shape
    heads = hints.number("predictor_heads") or (12 if width == 384 else encoder["heads"])
    hints.assumed.append(f"predictor_heads {heads}: as published")
    options = {
        "name": "vjepa21_predictor", "inputs": state["embed.0.weight"].shape[1], "hidden": hidden,
        "depth": 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks.")),
        "heads": heads, "width": width,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width, "mask_tokens": len(tokens),
        "outputs": len(state["proj.bias"]), "context": "proj_context.weight" in state,
        "rope_reach": encoder["rope_reach"],
    }  # fmt: skip
    return Part(options=options, state=state)


@exports("vjepa21")
def export_leveled(model: Exportable) -> dict[str, Any]:
    """A checkpoint: the encoder under all names that the authors' loaders ask for, and the predictor.

    Raises:
        WeightsError: it is no encoder of V-JEPA 2.1.
    """
    if model.backbone["name"] != "vjepa21":
        raise WeightsError("model", "is no encoder of V-JEPA 2.1", "Take another layout")
    places = [(r"norms\.", "norms_block."), (r"still_embed\.", "patch_embed_img.")]
    places += [(rf"{ours}$", theirs) for theirs, ours in KINDS.items()]
    encoder = {
        _renamed(n, places): t for n, t in official_vit(model.state, (1, 1), split_biases=False).items()
    }
    prefixed = {f"module.backbone.{name}": tensor for name, tensor in encoder.items()}
    content: dict[str, Any] = dict.fromkeys(ENCODERS, prefixed)
    if "predictor" in model.parts:
        state = dict(model.parts["predictor"])
        tokens = state.pop("mask_token")
        predictor = {f"mask_tokens.{i}": tokens[i : i + 1].clone() for i in range(len(tokens))}
        predictor |= {theirs: state.pop(ours) for theirs, ours in KINDS.items()}
        predictor |= {f"predictor_{name}": tensor for name, tensor in state.items()}
        content["predictor"] = {f"module.backbone.{name}": tensor for name, tensor in predictor.items()}
    return content


def _renamed(name: str, places: list[tuple[str, str]]) -> str:
    for ours, theirs in places:
        name = re.sub(f"^{ours}", theirs, name)
    return name
