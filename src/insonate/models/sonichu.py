"""SONICHU: ViT-B/16 of I-JEPA with a ViTPose head for each of nine biometry tasks; and ViTPose itself.

Heads come under three spellings (ViTPose's, Hugging Face's, ours); heads that the card does not list are kept
under their own names. The heads become the task `biometry`, that of ViTPose the task `keypoints`. Source: the
model card of SONICHU-124M (weights Apache-2.0); Xu et al. 2022 (ViTPose, arXiv 2204.12484). Page:
docs/models/sonichu.md. Shapes: K points.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from insonate.data.pointsets import POINT_SETS
from insonate.errors import ModelError, WeightsError
from insonate.models.jepa import IMAGE_SIZES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.vit_weights import heads_of, match_table, side_of, size_of, take_vit, vit_options
from insonate.weights.source import Converted, Hints, Source

LICENSE = "Apache-2.0 (its data: non-commercial)"
SIZE = 256
COLUMN = "keypoints"
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
    heads: dict[str, Tensor] = {}
    for task, tensors in tasks.items():
        heads |= {f"heads.{task}.{name}": tensor for name, tensor in _head(tensors, hints).items()}
    counts = {task: len(heads[f"heads.{task}.final.weight"]) for task in tasks}
    known = [task for task, points in POINT_SETS.items() if counts.get(task) == len(points.names)]
    options_of_task = {
        "name": "biometry", "column": COLUMN, "points": known, "project": False,
        "extra_heads": {task: count for task, count in counts.items() if task not in known},
        "head_width": _width(heads),
    }  # fmt: skip
    info = {"license": LICENSE}
    return Converted(
        family="sonichu", backbone=options, state=state, task=options_of_task, head=heads, info=info
    )


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
    own = _head(head, hints)
    names = [f"pose_p{i + 1}" for i in range(len(own["final.weight"]))]
    task = {
        "name": "keypoints",
        "column": COLUMN,
        "names": names,
        "project": False,
        "head_width": _width(own),
    }
    return Converted(
        family="vitpose", backbone=options, state=state, task=task, head=own, info={"license": "Apache-2.0"}
    )


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


def _head(tensors: dict[str, Tensor], hints: Hints) -> dict[str, Tensor]:
    """A head under our names; without a sharpness of its own it gets the one that is told, else 1."""
    own = {_spelled(name, hints.where): tensor for name, tensor in tensors.items()}
    own.setdefault("log_tau", torch.tensor([math.log(float(hints.get("temperature") or 1.0))]))
    return own


def _width(heads: dict[str, Tensor]) -> int:
    """Channels of the transposed convolutions."""
    return next(len(tensor) for name, tensor in heads.items() if name.endswith("deconv.1.weight"))


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
    """Encoder and heads in one file.

    Raises:
        ModelError: it has not a head a task.
    """
    if not any(re.match(r"heads\.[^.]+\.deconv\.", name) for name in model.head):
        raise ModelError(
            "layout sonichu", "this model has not a whole head a task", "Train with heads: per_task"
        )
    return {f"backbone.{name}": tensor for name, tensor in model.state.items()} | model.head
