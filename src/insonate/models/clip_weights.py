"""Official checkpoints of open_clip with a timm image tower → backbone, projection and text tower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from insonate.models.layouts import Bundle, Exportable, exports, register
from insonate.models.timm_vit import convert_timm, is_vit
from insonate.models.vit_weights import official_vit, size_of
from insonate.weights.source import Converted, Hints, Part, Source

FAMILIES = ("echoclip", "echoclip_r", "biomedclip", "clip")
CEDARS = "Cedars-Sinai Academic Software License"
LICENSES = {"echoclip": CEDARS, "echoclip_r": CEDARS, "biomedclip": "MIT"}
CLIP_VOCABULARY = 49408
SIZE = 224
TEXT = (
    ("resblocks.*.ln_1.", "blocks.*.norm1."),
    ("resblocks.*.ln_2.", "blocks.*.norm2."),
    ("resblocks.*.attn.in_proj_", "blocks.*.attn.qkv."),
    ("resblocks.*.attn.out_proj.", "blocks.*.attn.proj."),
    ("resblocks.*.mlp.c_fc.", "blocks.*.mlp.fc1."),
    ("resblocks.*.mlp.c_proj.", "blocks.*.mlp.fc2."),
)
BERT = (
    ("embeddings.word_embeddings.", "token_embed."),
    ("embeddings.position_embeddings.", "pos_embed."),
    ("embeddings.token_type_embeddings.", "type_embed."),
    ("embeddings.LayerNorm.", "norm."),
    ("encoder.layer.*.attention.output.dense.", "blocks.*.attn.proj."),
    ("encoder.layer.*.attention.output.LayerNorm.", "blocks.*.norm1."),
    ("encoder.layer.*.intermediate.dense.", "blocks.*.mlp.fc1."),
    ("encoder.layer.*.output.dense.", "blocks.*.mlp.fc2."),
    ("encoder.layer.*.output.LayerNorm.", "blocks.*.norm2."),
)
"""beginnings of names, theirs and ours; * = the number of the block"""
Names = tuple[tuple[str, str], ...]


def _is_clip(bundle: Bundle) -> bool:
    return bundle.has(r"(visual\.)?trunk\.(stem\.0|patch_embed\.proj)\.weight")


def _is_convnext(bundle: Bundle) -> bool:
    return bundle.has(r"stem\.0\.weight", r"stages\.0\.blocks\.0\.conv_dw\.weight", r"stages\.3\..*")


@register("open_clip", FAMILIES, _is_clip)
def convert_clip(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """Image tower with its projection, and the text tower where it is whole."""
    prefix = "visual." if source.names(r"visual\.") else ""
    trunk = source.below(f"{prefix}trunk.")
    _say_size(bundle, hints)
    convolutional = "stem.0.weight" in trunk
    converted = (
        convert_convnext(bundle, hints, trunk) if convolutional else convert_timm(bundle, hints, trunk)
    )
    options = converted.backbone or {}
    options["conventions"] = "clip"
    projection = f"{prefix}head.proj.weight"
    if projection in source:
        _add_projection(converted, source.take(projection), convolutional=convolutional)
    text = _bert(source, hints) if source.names(r"text\.") else _text(bundle, source, hints)
    if text is not None:
        converted.parts["text"] = text
    if "logit_scale" in source:
        converted.info["logit_scale"] = float(source.take("logit_scale"))
    converted.info["tower"] = prefix
    converted.family = _family(hints, options, text)
    if converted.family.startswith("echoclip"):
        options["conventions"] = "echoclip"
    converted.info["license"] = LICENSES.get(converted.family, "")
    return converted


@register("biomedclip_trunk", ("biomedclip",), is_vit, when="named")
def convert_trunk(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """The image tower of BiomedCLIP without its projection."""
    converted = convert_timm(bundle, hints, source)
    (converted.backbone or {})["conventions"] = "clip"
    converted.info["license"] = LICENSES["biomedclip"]
    return converted


@register("convnext", ("convnext", *FAMILIES), _is_convnext, when="last")
def convert_convnext(bundle: Bundle, hints: Hints, source: Source) -> Converted:
    """A ConvNeXt trunk with timm's names, whose norm comes after the pooling."""
    source.ignore(r"head\.fc\.", "classifier of ImageNet")
    norm = source.take_prefix("head.norm.")
    state = source.take_prefix("stem.")
    state = {f"stem.{name}": tensor for name, tensor in state.items()}
    state |= {f"stages.{name}": tensor for name, tensor in source.take_prefix("stages.").items()}
    stages = [[name for name in state if name.startswith(f"stages.{i}.blocks.")] for i in range(4)]
    size = size_of(hints) or hints.assume(
        "input_size", (SIZE, SIZE), "a convolutional trunk does not show it"
    )
    options = {
        "name": "convnext", "input_size": tuple(size), "final_norm": False,
        "depths": tuple(1 + max(int(name.split(".")[3]) for name in names) for names in stages),
        "widths": tuple(state[f"stages.{i}.blocks.0.conv_dw.bias"].shape[0] for i in range(4)),
        "conv_mlp": state["stages.0.blocks.0.mlp.fc1.weight"].ndim == 4,
    }  # fmt: skip
    family = str(hints.get("family") or "convnext")
    if family in FAMILIES:
        options["conventions"] = "clip"
    parts = {}
    if norm:
        pool = {"name": "pool_norm", "width": len(norm["weight"])}
        parts["pool_norm"] = Part(options=pool, state={f"norm.{name}": t for name, t in norm.items()})
    return Converted(family=family, backbone=options, state=state, parts=parts)


def _add_projection(converted: Converted, weight: Tensor, *, convolutional: bool) -> None:
    options = {
        "name": "clip_image", "outputs": weight.shape[0], "width": weight.shape[1],
        "pool": "mean" if convolutional else "class",
    }  # fmt: skip
    state = {"proj.weight": weight}
    if convolutional:
        state |= converted.parts.pop("pool_norm").state
    converted.parts["image"] = Part(options=options, state=state)


def _text(bundle: Bundle, source: Source, hints: Hints) -> Part | None:
    """CLIP's own text tower; none where there is none, or its token embedding was left out."""
    if "token_embedding.weight" not in source:
        whole = r"(transformer\.|positional_embedding$|text_projection$|ln_final\.)"
        source.ignore(whole, "a text tower without its token embedding")
        return None
    state = {"token_embed.weight": source.take("token_embedding.weight")}
    state["pos_embed"] = source.take("positional_embedding")
    state["proj.weight"] = source.take("text_projection").T.contiguous()
    state |= {f"norm.{name}": tensor for name, tensor in source.take_prefix("ln_final.").items()}
    state |= _renamed(source.take_prefix("transformer."), TEXT)
    vocabulary, width = state["token_embed.weight"].shape
    return Part(
        options={
            "name": "clip_text", "width": width, "vocabulary": vocabulary, "context": len(state["pos_embed"]),
            "heads": _text_heads(bundle, width, hints), "outputs": len(state["proj.weight"]),
            **_depth_and_ratio(state, width),
        },
        state=state,
    )  # fmt: skip


def _bert(source: Source, hints: Hints) -> Part:
    source.ignore(r"text\.transformer\.embeddings\.position_ids$", "counts from 0")
    source.ignore(r"text\.transformer\.pooler\.", "not read by this model")
    tower = source.take_prefix("text.transformer.")
    state = {f"proj.{name}": tensor for name, tensor in source.take_prefix("text.proj.").items()}
    for name in [name for name in tower if ".attention.self.query." in name]:
        three = [tower.pop(name.replace(".query.", f".{kind}.")) for kind in ("query", "key", "value")]
        number, end = name.split(".")[2], name.rpartition(".")[2]
        state[f"blocks.{number}.attn.qkv.{end}"] = torch.cat(three)
    state |= _renamed(tower, BERT)
    vocabulary, width = state["token_embed.weight"].shape
    heads = hints.number("text_heads") or max(width // 64, 1)
    hints.assumed.append(f"text_heads {heads}: of 64 channels, as in BERT")
    return Part(
        options={
            "name": "bert_text", "width": width, "vocabulary": vocabulary, "heads": heads,
            "context": len(state["pos_embed.weight"]), "hidden": len(state["proj.0.weight"]),
            "outputs": len(state["proj.2.weight"]), **_depth_and_ratio(state, width),
        },
        state=state,
    )  # fmt: skip


def _depth_and_ratio(state: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    return {"depth": depth, "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width}


def _text_heads(bundle: Bundle, width: int, hints: Hints) -> int:
    config = bundle.clip.get("model_cfg", bundle.clip)
    known = hints.number("text_heads") or config.get("text_cfg", {}).get("heads")
    if isinstance(known, int):
        return known
    hints.assumed.append(f"text_heads {max(width // 64, 1)}: of 64 channels, as in CLIP")
    return max(width // 64, 1)


def _say_size(bundle: Bundle, hints: Hints) -> None:
    """Tell the hints what open_clip's config says of the image tower."""
    config = bundle.clip.get("model_cfg", bundle.clip)
    size = config.get("vision_cfg", {}).get("image_size")
    if size is not None and hints.get("input_size") is None:
        hints.set("input_size", size)


def _family(hints: Hints, options: Mapping[str, Any], text: Part | None) -> str:
    said = hints.get("family")
    if said is not None:
        return str(said)
    if text is not None and text.options["name"] == "bert_text":
        return "biomedclip"
    if options.get("widths") == (128, 256, 512, 1024):
        other = text is not None and text.options["vocabulary"] != CLIP_VOCABULARY
        return "echoclip_r" if other else "echoclip"
    return "clip"


def _renamed(tensors: Mapping[str, Tensor], names: Names, *, back: bool = False) -> dict[str, Tensor]:
    """Tensors under our names, or `back` under theirs; those that have no other keep their own.

    On the way in the audit then refuses these.
    """
    pairs = [pair[::-1] if back else pair for pair in names]
    rules = [(re.escape(old).replace(r"\*", r"(\d+)"), new.replace("*", r"\1")) for old, new in pairs]
    state = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, place in rules:
            new, hit = re.subn(f"^{pattern}", place, name)
            if hit:
                break
        state[new] = tensor
    return state


@exports("open_clip")
def export_clip(model: Exportable) -> dict[str, Any]:
    """Image tower, projection and text tower as open_clip names them; `logit_scale` where it is known."""
    tower = model.info.get("tower", "visual.")
    convolutional = model.backbone["name"].startswith("convnext")
    trunk = model.state if convolutional else official_vit(model.state, (1, 1), split_biases=False)
    official: dict[str, Any] = {f"{tower}trunk.{name}": tensor for name, tensor in trunk.items()}
    for name, tensor in model.parts.get("pool_norm", {}).items():
        official[f"{tower}trunk.head.{name}"] = tensor
    for name, tensor in model.parts.get("image", {}).items():
        place = "head.proj.weight" if name == "proj.weight" else f"trunk.head.{name}"
        official[tower + place] = tensor
    text = dict(model.parts.get("text", {}))
    if text:
        bert = model.part_options["text"]["name"] == "bert_text"
        official |= _official_bert(text) if bert else _official_text(text)
    if "logit_scale" in model.info:
        official["logit_scale"] = torch.tensor(model.info["logit_scale"])
    return official


def _official_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's text tower: the inverse of `_text`."""
    official = {
        "token_embedding.weight": state.pop("token_embed.weight"),
        "positional_embedding": state.pop("pos_embed"),
        "text_projection": state.pop("proj.weight").T.contiguous(),
    }
    official |= {f"ln_final.{end}": state.pop(f"norm.{end}") for end in ("weight", "bias")}
    return official | {
        f"transformer.{name}": tensor for name, tensor in _renamed(state, TEXT, back=True).items()
    }


def _official_bert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """BERT's text tower: the inverse of `_bert`."""
    official = {f"text.{name}": state.pop(name) for name in list(state) if name.startswith("proj.")}
    for name in [name for name in state if ".attn.qkv." in name]:
        number, end = name.split(".")[1], name.rpartition(".")[2]
        three = zip(("query", "key", "value"), state.pop(name).chunk(3), strict=True)
        place = f"text.transformer.encoder.layer.{number}.attention.self"
        official |= {f"{place}.{kind}.{end}": tensor.clone() for kind, tensor in three}
    renamed = _renamed(state, BERT, back=True)
    return official | {f"text.transformer.{name}": tensor for name, tensor in renamed.items()}


@exports("convnext")
def export_convnext(model: Exportable) -> dict[str, Any]:
    """The trunk alone."""
    norm = {f"head.{name}": tensor for name, tensor in model.parts.get("pool_norm", {}).items()}
    return model.state | norm
