"""TinyUSFM: encoder, classification and segmentation fine-tunes, both ways.

A ViT-Tiny with twelve heads of 16 channels: a DeiT-Tiny with three heads has the same names and shapes and
other outputs, so the family must be said or be plain from the file. Weights: distilled from USFM's, which are
CC BY-NC 4.0.
Source: TinyUSFM (arXiv 2510.19239), MacDunno/TinyUSFM. Page: docs/models/tinyusfm.md.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from insonate.errors import WeightsError
from insonate.models.backbone import BACKBONES
from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.timm_vit import convert_timm, is_vit
from insonate.models.vit import VisionTransformer, VitOptions
from insonate.models.vit_weights import class_names, official_classifier, official_vit
from insonate.weights.source import Converted, Hints, Source

LICENSE = "CC BY-NC 4.0 (Apache-2.0 by its README, but distilled from USFM's weights)"
WIDTH, DEPTH, HEADS, TAPS = 192, 12, 12, (3, 5, 7, 11)
IMAGENET_CLASSES = 1000
PLACES = {
    "neck": "neck.projections", "laterals": "decode_head.lateral_convs", "smooth": "decode_head.fpn_convs",
    "final": "decode_head.conv_seg",
}  # fmt: skip
"""parts of our segmentation head and of theirs"""


class TinyUsfmOptions(VitOptions):
    """Options of the encoder of TinyUSFM."""

    name: str = "tinyusfm"
    position: Literal["learned"] = "learned"
    class_token: bool = True


@BACKBONES.register("tinyusfm", config=TinyUsfmOptions)
def tinyusfm(options: TinyUsfmOptions) -> VisionTransformer:
    """TinyUSFM's ViT-Tiny/16 with twelve heads, 5.5 M parameters."""
    return VisionTransformer(options, width=WIDTH, depth=DEPTH, heads=HEADS, mlp_ratio=4.0)


def _is_encoder(bundle: Bundle) -> bool:
    """As handed out: everything under `model.`, as wide as a ViT-Tiny."""
    wide = bundle.shape("patch_embed.proj.weight")[:1] == (WIDTH,)
    return is_vit(bundle) and wide and "model." in bundle.stripped and bundle.has("cls_token")


def _is_segmentation(bundle: Bundle) -> bool:
    return bundle.has(
        r"backbone\.cls_token", r"neck\.projections\.0\.weight", r"decode_head\.conv_seg\.weight"
    )


@register("tinyusfm_plain", ("tinyusfm",), is_vit, when="named")
@register("tinyusfm", ("tinyusfm",), _is_encoder)
def convert_tinyusfm(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Encoder and classification fine-tunes.

    Raises:
        WeightsError: it is a ViT-Tiny: of three heads, or ImageNet's classes.
    """
    said = hints.number("heads")
    if said is not None and said != HEADS:
        raise WeightsError(
            hints.where, f"it has {said} heads, TinyUSFM has {HEADS}", "It is a ViT-Tiny: heads=3"
        )
    if "head.weight" in source and source.shape("head.weight")[0] == IMAGENET_CLASSES:
        raise WeightsError(
            hints.where, f"it classifies {IMAGENET_CLASSES} classes: a ViT-Tiny of ImageNet", "Give heads=3"
        )
    if said is None:
        hints.say("heads", HEADS, "as TinyUSFM has them; shapes do not show it")
    hints.set("family", "tinyusfm")
    converted = convert_timm(bundle, hints, source)
    converted.info["license"] = LICENSE
    return converted


@register("tinyusfm_segmentation", ("tinyusfm",), _is_segmentation)
def convert_segmentation(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Segmentation fine-tunes; one logit for two classes becomes two."""
    converted = convert_tinyusfm(bundle, hints, source.below("backbone."))
    options: dict[str, Any] = converted.backbone or {}
    depth = options["depth"]
    last = tuple(range(depth - len(TAPS), depth))
    why = f"its last blocks; the published model of {DEPTH} blocks has {TAPS}"
    options["raw_taps"] = TAPS if depth == DEPTH else hints.assume("taps", last, why)
    head: dict[str, Tensor] = {}
    for ours, theirs in PLACES.items():
        head |= {f"{ours}.{name}": tensor for name, tensor in source.take_prefix(f"{theirs}.").items()}
    if len(head["final.bias"]) == 1:
        for name in ("final.weight", "final.bias"):
            head[name] = torch.cat([torch.zeros_like(head[name]), head[name]])
    converted.head = head
    converted.task = {
        "name": "segmentation", "column": "mask", "head": "tinyusfm", "width": len(head["laterals.0.0.bias"]),
        "classes": class_names(len(head["final.bias"]), hints),
    }  # fmt: skip
    return converted


@exports("tinyusfm")
def export_tinyusfm(model: Exportable) -> dict[str, Any]:
    """Encoder, with the classifier where there is one, as the authors' loaders take it: all under `model.`.

    Raises:
        WeightsError: it is no such encoder.
    """
    return {f"model.{name}": tensor for name, tensor in export_plain(model).items()}


@exports("tinyusfm_plain")
def export_plain(model: Exportable) -> dict[str, Any]:
    """The same under plain names, for files that came so.

    Raises:
        WeightsError: it is no such encoder.
    """
    _check(model)
    return official_vit(model.state, (1, 1), split_biases=False) | official_classifier(model.head)


@exports("tinyusfm_segmentation")
def export_segmentation(model: Exportable) -> dict[str, Any]:
    """Encoder and segmentation head; two classes become one logit, as in the authors' code.

    Raises:
        WeightsError: it has another head.
    """
    _check(model)
    if (model.task or {}).get("head") != "tinyusfm":
        raise WeightsError("model", "has no segmentation head of TinyUSFM", "Train with task.head=tinyusfm")
    head = dict(model.head)
    if len(head["final.bias"]) == 2:
        for name in ("final.weight", "final.bias"):
            head[name] = head[name][1:] - head[name][:1]
    official = {f"backbone.{n}": t for n, t in official_vit(model.state, (1, 1), split_biases=False).items()}
    for name, tensor in head.items():
        place, rest = name.split(".", 1)
        official[f"{PLACES[place]}.{rest}"] = tensor
    return official


def _check(model: Exportable) -> None:
    """Refuse what the authors' code would load as something else.

    Raises:
        WeightsError: it is no TinyUSFM.
    """
    options = model.backbone
    named = options["name"] == "tinyusfm"
    if not named and (options.get("heads") != HEADS or not options.get("class_token")):
        raise WeightsError("model", f"is no TinyUSFM, but {options['name']}", "Take another layout")
