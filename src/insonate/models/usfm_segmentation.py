"""USFM's segmentation networks: the pyramid after the encoder, and the attention-to-mask (ATM) head.

The head's queries, one a class, look at the pyramid from coarse to fine; the attention of a stage's last
layer, before its softmax and averaged over the heads, is the mask.
Source: Zhang et al. 2022 (SegViT, arXiv 2210.05844), openmedlab/USFM. Page: docs/models/usfm.md.
Shapes: B items, D channels of the encoder, E channels of the head, Q classes, N places, h w of a level.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from insonate.models.backbone import token_map
from insonate.models.layouts import Bundle, register
from insonate.models.parts import PARTS
from insonate.models.transformer import Attention, ReluMlp
from insonate.models.usfm import LICENSE, convert_usfm
from insonate.models.vit import VisionTransformer
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

EPS = 1e-5
TAPS = (3, 5, 7, 11)
HEADS = 12


class PyramidOptions(Options):
    """Options of USFM's pyramid."""

    name: Literal["usfm_pyramid"] = "usfm_pyramid"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    taps: list[int]
    """blocks, from 0, that are read: as many levels, fine to coarse"""


@PARTS.register("usfm_pyramid", config=PyramidOptions)
class UsfmPyramid(nn.Module):
    """Maps of four blocks at 4, 2, 1 and ½ of the token grid."""

    def __init__(self, options: PyramidOptions) -> None:
        super().__init__()
        self.taps, width = options.taps, options.width
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, 2), nn.BatchNorm2d(width), nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, 2),
        )  # fmt: skip
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width, 2, 2))

    def forward(self, backbone: VisionTransformer, x: Tensor) -> list[Tensor]:
        """Image B C H W → maps B D 4h 4w, B D 2h 2w, B D h w, and B D h/2 w/2 where there is a fourth tap."""
        maps = [token_map(tokens) for tokens in backbone.intermediate(x, self.taps, normed=False)]
        levels = [self.fpn1(maps[0]), self.fpn2(maps[1]), maps[2]]
        return levels + [F.max_pool2d(level, 2) for level in maps[3:]]


class CrossAttention(nn.Module):
    """Queries look at places; the logits, averaged over the heads, come along."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, query: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries B Q E and places B N E → B Q E, and the logits B Q N."""
        q, k, v = (
            layer(x).view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # B H · d
            for layer, x in ((self.q, query), (self.k, places), (self.v, places))
        )
        logits = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5  # B H Q N
        seen = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)  # B Q E
        return self.proj(seen), logits.mean(dim=1)


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the places, an MLP; norms after the sums."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn, self.cross, self.mlp = (
            Attention(width, heads),
            CrossAttention(width, heads),
            ReluMlp(width, hidden),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=EPS) for _ in range(3))

    def forward(self, query: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """See `CrossAttention.forward`."""
        query = self.norm1(query + self.attn(query))
        seen, logits = self.cross(query, places)
        query = self.norm2(query + seen)
        return self.norm3(query + self.mlp(query)), logits


class AtmOptions(Options):
    """Options of the ATM head."""

    name: Literal["atm_head"] = "atm_head"
    width: int = Field(ge=1, le=8192)
    """channels of the encoder's maps"""
    inner: int = Field(default=384, ge=1, le=8192)
    """channels of the head"""
    classes: int = Field(ge=1, le=4096)
    """one query each"""
    stages: int = Field(default=3, ge=1, le=8)
    """levels of the pyramid that are read"""
    layers: int = Field(default=3, ge=1, le=32)
    """of each stage"""
    heads: int = Field(default=HEADS, ge=1, le=256)
    """attention heads"""
    hidden: int = Field(default=1536, ge=1, le=65536)
    """channels between the layers of the MLPs"""


@PARTS.register("atm_head", config=AtmOptions)
class AtmHead(nn.Module):
    """A map a class from a pyramid."""

    def __init__(self, options: AtmOptions) -> None:
        super().__init__()
        inner = options.inner
        self.query = nn.Embedding(options.classes, inner)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(options.width, inner), nn.LayerNorm(inner, eps=EPS))
            for _ in range(options.stages)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(DecoderLayer(inner, options.heads, options.hidden) for _ in range(options.layers))
            for _ in range(options.stages)
        )
        self.final = nn.Linear(inner, options.classes + 1)

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels, fine to coarse → B Q H W of `size`: class probabilities times mask probabilities."""
        logits, masks = self.look(levels)
        masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        probs = logits.softmax(dim=-1)[..., :-1]  # B Q Q; the last class is "no object"
        return torch.einsum("bqc,bqhw->bchw", probs, masks.sigmoid())

    def look(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits B Q Q+1 and mask logits B Q h w on the finest level."""
        levels = levels[: len(self.stages)][::-1]  # coarse to fine
        size = levels[-1].shape[-2:]
        query = self.query.weight.expand(len(levels[0]), -1, -1)  # B Q E
        masks: Tensor | None = None
        for level, project, stage in zip(levels, self.project, self.stages, strict=True):
            places = project(level.flatten(2).transpose(1, 2))  # B N E
            logits = places  # of the last layer, once it has run: a stage has one at least
            for layer in stage.children():
                query, logits = layer(query, places)
            picture = logits.view(*logits.shape[:2], *level.shape[-2:])  # B Q h w
            picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False)
            masks = picture if masks is None else masks + picture
        assert masks is not None  # there is at least one stage
        return self.final(query), masks


def _is_pyramid(bundle: Bundle) -> bool:
    return bundle.has(r"(backbone\.)?fpn1\.0\.weight", r"(backbone\.)?blocks\.0\.gamma_1")


def _is_head(bundle: Bundle) -> bool:
    return bundle.has(r"input_proj_1\.weight", r"decoder_1\.layers\.0\.multihead_attn\.q\.weight")


@register("usfm_segmentation", ("usfm",), _is_pyramid)
def convert_segmentation(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder and pyramid; with its head where that is the ATM head."""
    whole = bool(source.names(r"backbone\."))
    encoder = source.below("backbone.") if whole else source
    pyramid = {name: encoder.take(name) for name in encoder.names(r"fpn[12]\.")}
    converted = convert_usfm(bundle, hints, encoder)
    options = converted.backbone or {}
    depth = options["depth"]
    atm = whole and bool(source.names(r"decode_head\.input_proj_1\."))
    taps = (TAPS[1:] if atm else TAPS) if depth > TAPS[-1] else tuple(range(depth))
    part = {"name": "usfm_pyramid", "width": options["width"], "taps": list(hints.get("taps") or taps)}
    converted.parts["pyramid"] = Part(options=part, state=pyramid)
    if atm:
        converted.parts["head"] = _atm(source.below("decode_head."), hints)
    source.ignore(r"auxiliary_head\.", "of the training")
    return converted


@register("usfm_atm_head", ("usfm",), _is_head)
def convert_head(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The ATM head alone."""
    return Converted(family="usfm", parts={"head": _atm(source, hints)}, info={"license": LICENSE})


def _atm(source: Source, hints: Hints) -> Part:
    source.ignore(r"loss_decode\.", "of the loss")
    places = {
        "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.": "attn.proj.", "multihead_attn.": "cross.", "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
    }  # fmt: skip
    state = {"query.weight": source.take("q.weight")}
    state |= {f"final.{name}": tensor for name, tensor in source.take_prefix("class_embed.").items()}
    stages = len(source.names(r"input_proj_\d+\.weight$"))
    for i in range(stages):
        for part, inside in (("input_proj", "0"), ("proj_norm", "1")):
            tensors = source.take_prefix(f"{part}_{i + 1}.")
            state |= {f"project.{i}.{inside}.{name}": tensor for name, tensor in tensors.items()}
        for name, tensor in source.take_prefix(f"decoder_{i + 1}.layers.").items():
            number, own = name.split(".", 1)
            for theirs, ours in places.items():
                own = own.replace(theirs, ours) if own.startswith(theirs) else own
            state[f"stages.{i}.{number}.{own}"] = tensor
    classes, inner = state["query.weight"].shape
    heads = hints.number("predictor_heads")
    if heads is None:
        heads = HEADS
        hints.assumed.append(f"predictor_heads {heads}: of the segmentation head, as published")
    options: dict[str, Any] = {
        "name": "atm_head", "width": state["project.0.0.weight"].shape[1], "inner": inner, "classes": classes,
        "stages": stages, "layers": len({n.split(".")[2] for n in state if n.startswith("stages.0.")}),
        "heads": heads, "hidden": len(state["stages.0.0.mlp.fc1.bias"]),
    }  # fmt: skip
    return Part(options=options, state=state)
