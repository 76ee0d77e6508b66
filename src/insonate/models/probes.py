"""Probes of V-JEPA 2 and EchoJEPA: small networks that read the tokens of a frozen encoder.

The attentive probe lets a learned query look at all tokens, after some self-attention between them; in its
multi-view form each token knows of which view and clip of a study it is, and missing views are hidden.
Source: Assran et al. 2025 (V-JEPA 2, arXiv 2506.09985); EchoJEPA (bowang-lab/EchoJEPA).
Page: docs/models/vjepa.md.
Shapes: B studies, V views, C clips a view, N tokens of all of them in this order, D channels, O outputs,
H heads, d = D / H, Q queries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from insonate.errors import ModelError, WeightsError
from insonate.models.layouts import Bundle, Exportable, exports, register, strip, tensors_of
from insonate.models.parts import PARTS
from insonate.models.transformer import Block, Mlp, init_transformer
from insonate.models.vit_weights import class_names
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

PROBE_EPS = 1e-5
PROBE_HEADS = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
"""width → heads of the published probes"""
FAMILIES = ("vjepa", "echojepa")
ECHOJEPA_VIEWS = (
    "A2C", "A3C", "A4C", "A5C", "Exclude/Other", "PLAX", "PSAX-AP", "PSAX-AV", "PSAX-MV", "PSAX-PM", "SSN",
    "Subcostal", "TEE",
)  # fmt: skip
"""classes of EchoJEPA's view probe; 13 of another family have no names"""


class CrossAttention(nn.Module):
    """Queries look at tokens; there is no projection after it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)

    def forward(self, query: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Queries B Q D and tokens B N D → B Q D; `bias` is added to the logits B H Q N."""
        q = self.q(query).view(*query.shape[:2], self.num_heads, -1).transpose(1, 2)  # B H Q d
        kv = self.kv(tokens).view(*tokens.shape[:2], 2, self.num_heads, -1)  # B N 2 H d
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)  # B H N d
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


class CrossBlock(nn.Module):
    """The last block of an attentive probe: the tokens are normed, the query is not."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=PROBE_EPS)
        self.xattn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=PROBE_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio + 1e-6))

    def forward(self, query: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `CrossAttention.forward`."""
        query = query + self.xattn(query, self.norm1(tokens), bias)
        return query + self.mlp(self.norm2(query))


class ProbeOptions(Options):
    """Options of any probe."""

    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    outputs: int = Field(ge=1, le=100_000)
    """classes, or values"""
    classes: tuple[str, ...] = ()
    """names of its classes; empty where it gives values"""
    values: tuple[str, ...] = ()
    """names of several values"""
    mean: tuple[float, ...] = ()
    """of each value: the probe gives (value - mean) / std; none: the value itself"""
    std: tuple[PositiveFloat, ...] = ()
    """see mean"""
    taps: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """blocks of the encoder, from 0, whose normed tokens it reads, one after the other; none = the last"""
    final: Literal["linear", "regressor", "mlp"] = "linear"
    """name of its last layer in the authors' files"""


class AttentiveProbeOptions(ProbeOptions):
    """Options of an attentive probe."""

    name: Literal["attentive_probe"] = "attentive_probe"
    heads: int = Field(default=16, ge=1, le=256)
    """attention heads; the width is a multiple of it"""
    depth: int = Field(default=1, ge=1, le=64)
    """blocks, the last of which is the query's"""
    mlp_ratio: float = Field(default=4.0, gt=0.0, le=16.0)
    """hidden width of the MLPs in widths"""
    views: int = Field(default=1, ge=1, le=64)
    """views of a study"""
    clips: int = Field(default=1, ge=1, le=64)
    """clips of a view"""
    slots: Literal["none", "factorised", "joint"] = "none"
    """what a token is told of its place in the study: nothing, view and clip apart, or both together"""


@PARTS.register("attentive_probe", config=AttentiveProbeOptions)
class AttentiveProbe(nn.Module):
    """Self-attention between the tokens, a query that looks at them, a linear layer."""

    def __init__(self, options: AttentiveProbeOptions) -> None:
        super().__init__()
        self.config = options
        width = options.width
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(width, options.heads, options.mlp_ratio, eps=PROBE_EPS) for _ in range(options.depth - 1)
        )
        self.cross = CrossBlock(width, options.heads, options.mlp_ratio)
        self.final = nn.Linear(width, options.outputs)
        nn.init.trunc_normal_(self.query, std=0.02)
        init_transformer(self, self.blocks, depth_scaled=True)
        if options.slots == "factorised":
            self.view_embed = nn.Embedding(options.views, width)
            self.clip_embed = nn.Embedding(options.clips, width)
        elif options.slots == "joint":
            self.slot_embed = nn.Embedding(options.views * options.clips, width)

    def forward(self, tokens: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Tokens B N D → B O.

        Args:
            tokens: of all clips of a study, view by view.
            ignore: B N, True where a token is of a missing clip.

        Raises:
            ModelError: the tokens are no multiple of the slots.
        """
        return self.final(self.pool(tokens, ignore)[:, 0])

    def pool(self, tokens: Tensor, ignore: Tensor | None = None) -> Tensor:
        """As `forward`, before the linear layer: B 1 D."""
        tokens = tokens + self._slots(tokens.shape[1])
        bias = None
        if ignore is not None:
            lowest = torch.finfo(tokens.dtype).min
            bias = tokens.new_zeros(ignore.shape).masked_fill(ignore, lowest)[:, None, None, :]  # B 1 1 N
        for block in self.blocks:
            tokens = block(tokens, bias)
        return self.cross(self.query.expand(tokens.shape[0], -1, -1), tokens, bias)

    def _slots(self, count: int) -> Tensor | float:
        """What is added to the tokens to tell their slots: N D.

        Raises:
            ModelError: the tokens are no multiple of the slots.
        """
        if self.config.slots == "none":
            return 0.0
        slots = self.config.views * self.config.clips
        if count % slots:
            raise ModelError(
                "study", f"{count} tokens are no multiple of {slots} slots", "Give all views, empty ones too"
            )
        if self.config.slots == "joint":
            each = self.slot_embed.weight  # VC D
        else:
            each = (self.view_embed.weight[:, None] + self.clip_embed.weight[None]).flatten(0, 1)  # VC D
        return each.repeat_interleave(count // slots, dim=0)  # N D


class PooledProbeOptions(ProbeOptions):
    """Options of a probe on the mean of the tokens."""

    name: Literal["linear_probe", "mlp_probe"] = "linear_probe"
    hidden: int | None = Field(default=None, ge=1, le=65536)
    """channels between the two layers of mlp_probe; none = width"""


@PARTS.register("linear_probe", config=PooledProbeOptions)
class LinearProbe(nn.Module):
    """Norm and a linear layer on the mean of the tokens."""

    def __init__(self, options: PooledProbeOptions) -> None:
        super().__init__()
        self.config = options
        self.norm = nn.LayerNorm(options.width, eps=PROBE_EPS)
        self.final: nn.Module = nn.Linear(options.width, options.outputs)

    def forward(self, tokens: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Tokens B N D → B O; `ignore` (B N) is True for tokens that do not count."""
        return self.final(self.norm(_mean(tokens, ignore)))


@PARTS.register("mlp_probe", config=PooledProbeOptions)
class MlpProbe(LinearProbe):
    """Norm and two layers on the mean of the tokens."""

    def __init__(self, options: PooledProbeOptions) -> None:
        super().__init__(options)
        hidden = options.hidden or options.width
        self.final = nn.Sequential(
            nn.Linear(options.width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, options.outputs)
        )


class GridProbeOptions(ProbeOptions):
    """Options of a probe that knows roughly where in a picture a token lies."""

    name: Literal["grid_probe"] = "grid_probe"
    rows: int = Field(ge=1, le=4096)
    """of the grid of tokens"""
    columns: int = Field(ge=1, le=4096)
    """of the grid of tokens"""
    cells: int = Field(default=4, ge=1, le=64)
    """per side, into which the grid is averaged"""


@PARTS.register("grid_probe", config=GridProbeOptions)
class GridProbe(nn.Module):
    """Mean of the tokens in each of a few cells of the picture, norm, and a linear layer on all of them."""

    down: Tensor
    across: Tensor

    def __init__(self, options: GridProbeOptions) -> None:
        super().__init__()
        self.config = options
        self.norm = nn.LayerNorm(options.width, eps=PROBE_EPS, elementwise_affine=False)
        self.final = nn.Linear(options.width * options.cells**2, options.outputs)
        self.register_buffer("down", _averages(options.rows, options.cells), persistent=False)
        self.register_buffer("across", _averages(options.columns, options.cells), persistent=False)

    def features(self, tokens: Tensor) -> Tensor:
        """Tokens B N D of one picture each → B F.

        Raises:
            ModelError: they are no grid of this size.
        """
        rows, columns = self.config.rows, self.config.columns
        if tokens.shape[1] != rows * columns:
            raise ModelError(
                "probe", f"{tokens.shape[1]} tokens are no {rows} × {columns}", "Give single pictures"
            )
        grid = tokens.reshape(-1, rows, columns, tokens.shape[-1])  # B h w D
        means = torch.einsum("bhwd,ih,jw->bijd", grid, self.down.to(grid), self.across.to(grid))
        return self.norm(means.flatten(1, 2)).flatten(1)  # B F

    def forward(self, tokens: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Tokens B N D → B O; `ignore` is for probes of studies."""
        return self.final(self.features(tokens))


def _averages(size: int, cells: int) -> Tensor:
    """C N: makes means of N neighbours in each of C cells, as adaptive pooling does, which graphs lack."""
    weights = torch.zeros(cells, size)
    for cell in range(cells):
        first, behind = cell * size // cells, -(-(cell + 1) * size // cells)
        weights[cell, first:behind] = 1 / (behind - first)
    return weights


def _mean(tokens: Tensor, ignore: Tensor | None) -> Tensor:
    if ignore is None:
        return tokens.mean(dim=1)  # B D
    seen = (~ignore).to(tokens.dtype)[..., None]  # B N 1
    return (tokens * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)  # B D


def _is_attentive(bundle: Bundle) -> bool:
    return bundle.has(r"pooler\.query_tokens")


def _is_pooled(bundle: Bundle) -> bool:
    layers = {name.rpartition(".")[0] for name in bundle.state}
    return layers in ({"norm", "linear"}, {"norm", "regressor"}, {"norm", "mlp.0", "mlp.3"})


def _is_sweep(bundle: Bundle) -> bool:
    heads = bundle.content.get("classifiers")
    return isinstance(heads, list) and bool(heads) and bool(tensors_of(heads[0]))


@register("probe_sweep", FAMILIES, _is_sweep)
def convert_sweep(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The checkpoint of an evaluation: a list of probes, of which `which` says the one to take.

    Raises:
        WeightsError: there is no such probe.
    """
    probes = bundle.content["classifiers"]
    number = int(hints.number("which") or hints.assume("which", 0, f"the first of {len(probes)} probes"))
    if not 0 <= number < len(probes):
        raise WeightsError(bundle.where, f"has no probe {number}, but {len(probes)}", "Count from 0")
    state = strip(tensors_of(probes[number]))[0]
    convert = convert_attentive if "pooler.query_tokens" in state else convert_pooled
    source.ignored["classifiers"] = f"all but number {number}"
    return convert(bundle, hints, source.child("probe", state))


@register("attentive_probe", FAMILIES, _is_attentive)
def convert_attentive(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """An attentive probe, of one view or several.

    Raises:
        WeightsError: heads, views or clips must be said and are not.
    """
    width = source.shape("pooler.query_tokens")[-1]
    final = "linear" if "linear.weight" in source else "regressor"
    state = {"query": source.take("pooler.query_tokens")}
    state |= {f"cross.{name}": t for name, t in source.take_prefix("pooler.cross_attention_block.").items()}
    state |= {f"blocks.{name}": t for name, t in source.take_prefix("pooler.blocks.").items()}
    state |= {f"final.{name}": t for name, t in source.take_prefix(f"{final}.").items()}
    heads = hints.number("heads")
    if heads is None and width in PROBE_HEADS:
        heads = PROBE_HEADS[width]
        hints.assumed.append(f"heads {heads}: as in the published probes of width {width}")
    heads = heads or int(hints.need("heads", f"no published probe is {width} wide"))
    options: dict[str, Any] = {
        "name": "attentive_probe", "width": width, "outputs": len(state["final.bias"]), "heads": heads,
        "depth": 1 + len({n.split(".")[1] for n in state if n.startswith("blocks.")}),
        "mlp_ratio": state["cross.mlp.fc1.weight"].shape[0] / width,
        **_slots_of(source, state, hints), **_meaning(len(state["final.bias"]), final, hints),
    }  # fmt: skip
    return _probe(options, state, final)


@register("pooled_probe", FAMILIES, _is_pooled)
def convert_pooled(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A linear or MLP probe on the mean of the tokens; classifier and regressor have the same names."""
    state = {f"norm.{name}": tensor for name, tensor in source.take_prefix("norm.").items()}
    final = next(name for name in ("linear", "regressor", "mlp") if source.names(name))
    linear = final != "mlp"
    state |= {f"final.{name}": tensor for name, tensor in source.take_prefix(f"{final}.").items()}
    options = {
        "name": "linear_probe" if linear else "mlp_probe", "width": len(state["norm.weight"]),
        "hidden": None if linear else len(state["final.0.bias"]),
        "outputs": (count := len(state["final.bias" if linear else "final.3.bias"])),
        **_meaning(count, final, hints),
    }  # fmt: skip
    return _probe(options, state, final)


def _slots_of(source: Source, state: dict[str, Tensor], hints: Hints) -> dict[str, Any]:
    views, clips = hints.number("views"), hints.number("clips")
    if "view_embed.weight" in source:
        state["view_embed.weight"] = source.take("view_embed.weight")
        state["clip_embed.weight"] = source.take("clip_embed.weight")
        return {
            "slots": "factorised", "views": len(state["view_embed.weight"]),
            "clips": len(state["clip_embed.weight"]),
        }  # fmt: skip
    if "slot_embed.weight" in source:
        state["slot_embed.weight"] = source.take("slot_embed.weight")
        slots = len(state["slot_embed.weight"])
        if clips is None and views is None:
            hints.assumed.append(f"views {slots}: its {slots} slots are taken as one clip a view")
        views = views or slots // (clips or 1)
        return {"slots": "joint", "views": views, "clips": slots // views}
    return {"slots": "none"}


def _meaning(count: int, final: str, hints: Hints) -> dict[str, Any]:
    """What its outputs are, and the blocks that it reads.

    Raises:
        WeightsError: names are given for other than its classes or values, or blocks that are no numbers.
    """
    taps = hints.get("taps")
    if taps is not None and not (isinstance(taps, list | tuple) and all(type(tap) is int for tap in taps)):
        raise WeightsError(hints.where, f"taps is {taps!r}", "Give the numbers of the blocks, from 0")
    read = {"taps": tuple(taps or ())}
    if count > 1 and final != "regressor" and hints.get("values") is None:
        views = hints.get("family") == "echojepa" and count == len(ECHOJEPA_VIEWS)
        if views and hints.get("classes") is None:
            hints.assumed.append("classes: EchoJEPA's 13 views, as there are so many")
        return read | {"classes": class_names(count, hints, ECHOJEPA_VIEWS if views else ())}
    if hints.get("classes") is not None:
        raise WeightsError(hints.where, "it gives values, no classes", "Leave out classes, or say values")
    return read | _values(count, hints)


def _values(count: int, hints: Hints) -> dict[str, Any]:
    """Names of several values, and the mean and deviation that they were standardised by.

    Raises:
        WeightsError: there are other than one a value, or one of mean and deviation is lacking.
    """
    names = _each("values", count, hints)
    if names is None and count > 1:
        names = [f"probe_{number}" for number in range(count)]
        hints.assumed.append(f"values probe_0 to probe_{count - 1}: it has no names for them")
    mean, std = _each("target_mean", count, hints), _each("target_std", count, hints)
    if (mean is None) != (std is None):
        raise WeightsError(hints.where, "one of target_mean and target_std is lacking", "Give both, or none")
    if mean is None or std is None:
        hints.assumed.append(
            "values as the probe gives them, most likely standardised: say target_mean, target_std"
        )
    try:
        scale = {"mean": tuple(map(float, mean or ())), "std": tuple(map(float, std or ()))}
    except ValueError:
        raise WeightsError(
            hints.where, f"target_mean {mean} or target_std {std} is no number", "Give numbers"
        ) from None
    return {"values": tuple(map(str, names or ())), **scale}


def _each(name: str, count: int, hints: Hints) -> list[Any] | None:
    """What is said of each value; None where nothing is.

    Raises:
        WeightsError: it is said of more or fewer.
    """
    said = hints.get(name)
    if said is None:
        return None
    each = list(said) if isinstance(said, list | tuple) else [said]
    if len(each) != count or len(set(map(str, each))) < (count if name == "values" else 1):
        raise WeightsError(
            hints.where, f"it gives {count} values, {name} is {said!r}", "Say one of each, names that differ"
        )
    return each


def _probe(options: Mapping[str, Any], state: dict[str, Tensor], final: str) -> Converted:
    part = Part(options={**options, "final": final}, state=state)
    return Converted(family="vjepa", parts={"probe": part})


@exports("attentive_probe")
@exports("pooled_probe")
def export_probe(model: Exportable) -> dict[str, Any]:
    """The probe alone, under the authors' names.

    Raises:
        WeightsError: there is none.
    """
    if "probe" not in model.parts:
        raise WeightsError("model", "has no probe", "Take another layout")
    final = model.part_options["probe"]["final"]
    places = [
        (r"query$", "pooler.query_tokens"), (r"cross\.", "pooler.cross_attention_block."),
        (r"blocks\.", "pooler.blocks."), (r"final\.", f"{final}."),
    ]  # fmt: skip
    official: dict[str, Any] = {}
    for name, tensor in model.parts["probe"].items():
        new = name
        for ours, theirs in places:
            new = re.sub(f"^{ours}", theirs, new)
        official[new] = tensor
    return official


@exports("probe_sweep")
def export_sweep(model: Exportable) -> dict[str, Any]:
    """A checkpoint of the evaluation with this probe alone.

    Raises:
        WeightsError: there is none.
    """
    return {"classifiers": [{f"module.{name}": tensor for name, tensor in export_probe(model).items()}]}
