"""SONICHU: ViT-B/16 of I-JEPA with a ViTPose head for each of nine biometry tasks; and ViTPose itself.

Heads come under three spellings (ViTPose's, Hugging Face's, ours); heads that the card does not list are kept
under their own names. Source: the model card of SONICHU-124M (weights Apache-2.0); Xu et al. 2022 (ViTPose,
arXiv 2204.12484). Page: docs/models/sonichu.md.
Shapes: B items, K points, h w token grid. Points are (x, y) in 0 … 1 of the picture's edges.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from insonate.errors import ModelError, WeightsError, nearest
from insonate.models.backbone import Backbone, Tokens
from insonate.models.heads import ViTPoseHead
from insonate.models.jepa import IMAGE_SIZES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.parts import PARTS
from insonate.models.vit_weights import heads_of, match_table, side_of, size_of, take_vit, vit_options
from insonate.options import Options
from insonate.weights.source import Converted, Hints, Part, Source

LICENSE = "Apache-2.0 (its data: non-commercial)"
SIZE = 256
IDENTITY: tuple[int, ...] = ()
MIRRORED = {
    "FUGC": (1, 0), "fetal_femur": (1, 0), "FA": (0, 1, 3, 2), "HC": (0, 1, 3, 2), "PSAX": (0, 1, 3, 2),
    "A4C": (0, 1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12, 13, 15, 14),
}  # fmt: skip
"""order of a task's points in the mirrored picture; the others keep theirs"""
CONTAINERS = r"(heads|keypoint_heads|task_heads)"
SPELLINGS = [
    (r"(deconv|deconv_layers)\.([0134])\.", r"deconv.\2."),
    (r"deconv1\.", "deconv.0."),
    (r"batchnorm1\.", "deconv.1."),
    (r"deconv2\.", "deconv.3."),
    (r"batchnorm2\.", "deconv.4."),
    (r"(final|final_layer|conv)\.", "final."),
    (r"log_tau$", "log_tau"),
]


class PoseHeadsOptions(Options):
    """Options of ViTPose heads, one a task."""

    name: Literal["pose_heads"] = "pose_heads"
    width: int = Field(ge=1, le=8192)
    """channels of a token"""
    filters: int = Field(default=256, ge=1, le=4096)
    """channels of the deconvolutions"""
    points: dict[str, int]
    """task → number of its points"""


@PARTS.register("pose_heads", config=PoseHeadsOptions)
class PoseHeads(nn.Module):
    """A ViTPose head a task; points by soft-argmax, mirrored pictures averaged on request."""

    def __init__(self, options: PoseHeadsOptions) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {
                task: ViTPoseHead(options.width, count, options.filters)
                for task, count in options.points.items()
            }
        )

    def forward(self, tokens: Tokens, task: str) -> Tensor:
        """Tokens → heat maps B K 4h 4w of a task.

        Raises:
            ModelError: there is no such task.
        """
        if task not in self.heads:
            raise ModelError("task", f"no head is called {task!r}", nearest(task, self.heads))
        return self.heads[task](tokens)

    def predict(self, backbone: Backbone, pixels: Tensor, task: str, *, tta: bool = True) -> Tensor:
        """Points B K 2 of normalised pictures B C H W; `tta`: mean with the mirrored picture.

        Raises:
            ModelError: there is no such task.
        """
        points = edges(self(backbone(pixels), task))
        if not tta:
            return points
        mirrored = edges(self(backbone(pixels.flip(-1)), task))
        mirrored = mirrored[:, list(MIRRORED.get(task, range(points.shape[1])))]
        flipped = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
        return (points + flipped) / 2


def edges(heatmaps: Tensor) -> Tensor:
    """Expected place of each point, B K 2: cell (i, j) of h × w has its centre at ((j+½)/w, (i+½)/h)."""
    rows, columns = heatmaps.shape[-2:]
    probs = heatmaps.float().flatten(2).softmax(-1).view_as(heatmaps)  # B K h w
    x = (torch.arange(columns, device=probs.device) + 0.5) / columns
    y = (torch.arange(rows, device=probs.device) + 0.5) / rows
    return torch.stack([(probs.sum(-2) * x).sum(-1), (probs.sum(-1) * y).sum(-1)], dim=-1)


def _is_sonichu(bundle: Bundle) -> bool:
    heads = bundle.has(CONTAINERS + r"\.[^.]+\.(deconv|deconv_layers)\.0\.weight") or bundle.has(
        CONTAINERS + r"\.[^.]+\.deconv1\.weight"
    )
    return heads and bundle.has(r"backbone\.patch_embed\.proj\.weight")


def _is_vitpose(bundle: Bundle) -> bool:
    return bundle.has(r"keypoint_head\.deconv_layers\.0\.weight", r"backbone\.last_norm\.weight")


def _is_hugging_face(bundle: Bundle) -> bool:
    return bundle.has(r"head\.deconv1\.weight", r"backbone\.embeddings\.position_embeddings")


@register("sonichu", ("sonichu",), _is_sonichu)
def convert_sonichu(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The encoder and all heads, those that the card does not list too."""
    state, options = _encoder(source.below("backbone."), hints)
    names = source.names(CONTAINERS + r"\.")
    tasks: dict[str, dict[str, Tensor]] = {}
    for name in names:
        _, task, inside = name.split(".", 2)
        tasks.setdefault(task, {})[inside] = source.take(name)
    return _converted("sonichu", state, options, tasks, hints, {"license": LICENSE})


@register("vitpose", ("sonichu", "vitpose"), _is_vitpose)
def convert_vitpose(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """ViTPose of its authors (mmpose): one head; its encoder pads pictures by two pixels."""
    encoder = source.below("backbone.")
    return _vitpose(encoder, source.take_prefix("keypoint_head."), hints)


@register("vitpose_hugging_face", ("sonichu", "vitpose"), _is_hugging_face)
def convert_hugging_face(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """ViTPose of transformers."""
    theirs = source.take_prefix("backbone.")
    state: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        new = name
        for pattern, ours in (
            (r"embeddings\.position_embeddings$", "pos_embed"), (r"layernorm\.", "last_norm."),
            (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
            (r"encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
            (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
            (r"encoder\.layer\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
        ):  # fmt: skip
            new = re.sub(f"^{pattern}", ours, new)
        state[new] = tensor
    for name in [name for name in state if ".attention.attention.query." in name]:
        three = [state.pop(name.replace(".query.", f".{kind}.")) for kind in ("query", "key", "value")]
        number, end = name.split(".")[2], name.rpartition(".")[2]
        state[f"blocks.{number}.attn.qkv.{end}"] = torch.cat(three)
    encoder = Source(state, source.where)
    converted = _vitpose(encoder, source.take_prefix("head."), hints)
    encoder.finish()
    return converted


def _vitpose(encoder: Source, head: dict[str, Tensor], hints: Hints) -> Converted:
    state, options = _encoder(encoder, hints, padding=2)
    return _converted("vitpose", state, options, {"pose": head}, hints, {"license": "Apache-2.0"})


def _encoder(source: Source, hints: Hints, padding: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State and options of the encoder; ViTPose adds the class token's position to all others."""
    state = take_vit(source, extra=r"last_norm\.(weight|bias)$")
    state = {name.replace("last_norm.", "norm."): tensor for name, tensor in state.items()}
    options = vit_options(state, hints, source.where)
    options |= {"heads": heads_of(options, IMAGE_SIZES, hints), "patch_padding": padding}
    table = state.get("pos_embed")
    if table is None:
        size = size_of(hints) or hints.assume("input_size", (SIZE, SIZE), "as published")
        options |= {"position": "sincos", "input_size": tuple(size)}
        hints.assumed.append("position sincos: it has no position table")
        return state, options
    if padding:
        state["pos_embed"] = table = table[:, 1:] + table[:, :1]
    options["input_size"] = size = side_of(table.shape[1], options["patch"], hints)
    options["position"] = match_table(table, (1, *(side // options["patch"] for side in size))) or "learned"
    if options["position"] != "learned":
        del state["pos_embed"]
        options["resize_position"] = "interpolate"
    return state, options


def _converted(
    family: str, state: dict[str, Tensor], options: dict[str, Any], tasks: dict[str, dict[str, Tensor]],
    hints: Hints, info: dict[str, Any],
) -> Converted:  # fmt: skip
    heads: dict[str, Tensor] = {}
    temperature = hints.get("temperature")
    tau = torch.tensor([math.log(float(temperature or 1.0))])
    for task, tensors in tasks.items():
        own = {_spelled(name, hints.where): tensor for name, tensor in tensors.items()}
        own.setdefault("log_tau", tau)
        heads |= {f"heads.{task}.{name}": tensor for name, tensor in own.items()}
    part = {
        "name": "pose_heads", "width": options["width"],
        "filters": next(len(t) for name, t in heads.items() if name.endswith("deconv.1.weight")),
        "points": {task: len(heads[f"heads.{task}.final.weight"]) for task in tasks},
    }  # fmt: skip
    parts = {"heads": Part(options=part, state=heads)}
    return Converted(family=family, backbone=options, state=state, parts=parts, info=info)


def _spelled(name: str, where: object) -> str:
    """Our name of a head's tensor.

    Raises:
        WeightsError: no spelling knows it.
    """
    for pattern, ours in SPELLINGS:
        new, hit = re.subn(f"^{pattern}", ours, name)
        if hit:
            return new
    raise WeightsError(where, f"a head has a tensor {name}", "Take heads of ViTPose's classic form")


@exports("sonichu")
def export_sonichu(model: Exportable) -> dict[str, Any]:
    """Encoder and heads in one file."""
    encoder = {f"backbone.{name}": tensor for name, tensor in model.state.items()}
    return encoder | model.parts.get("heads", {})
