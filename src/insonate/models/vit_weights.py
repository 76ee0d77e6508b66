"""Names and shapes of official ViT checkpoints → the state and the options of our `VisionTransformer`.

What all families share is here; what makes a family is in its own file. Fused and separate query and value
biases, LayerScale under both names, gated MLPs, absolute and relative tables are understood.
Shapes: N patches, P prefix tokens, D channels of a token, O offsets, H heads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from insonate.errors import WeightsError
from insonate.models.positions import TABLES, ClipGrid
from insonate.models.relative import PREFIX_ROWS, offset_index
from insonate.models.transformer import LAYER_NORM_EPS
from insonate.weights.source import Converted, Hints, Part, Source, shown

SAME = re.compile(
    r"(patch_embed\.proj\.(weight|bias)|cls_token|reg_token|pos_embed|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)|blocks\.\d+\.ls[12]\.gamma)$"
)
RENAMED = [
    (re.compile(r"blocks\.(\d+)\.gamma_([12])$"), r"blocks.\1.ls\2.gamma"),
    (re.compile(r"register_tokens$"), r"reg_token"),
    (re.compile(r"rel_pos_bias\.relative_position_bias_table$"), r"rel_pos.table"),
    (re.compile(r"blocks\.(\d+)\.attn\.relative_position_bias_table$"), r"blocks.\1.attn.rel_pos.table"),
]
INDEX = re.compile(r"(rel_pos_bias|blocks\.\d+\.attn)\.relative_position_index$")
LARGEST_DRIFT = 1e-3
"""of a fixed table in a checkpoint: moving averages let it drift a little; bfloat16 rounds more"""
Published = Mapping[tuple[int, int], int]
"""(width, depth) → heads"""


def take_vit(source: Source, extra: str = r"$^") -> dict[str, Tensor]:
    """All tensors of a ViT encoder, under our names; names that match `extra` are kept as they are.

    Raises:
        WeightsError: half of a pair is missing, or a stored index is not that of BEiT.
    """
    state = {}
    for name in source.names():
        if SAME.match(name) or re.match(extra, name):
            state[name] = source.take(name)
            continue
        for pattern, ours in RENAMED:
            if pattern.match(name):
                state[pattern.sub(ours, name)] = source.take(name)
    _take_split_biases(source, state)
    _take_gated_mlps(source, state)
    _take_joint_gates(source, state)
    _check_indices(source, state)
    return state


def vit_options(state: Mapping[str, Tensor], hints: Hints, where: object) -> dict[str, Any]:
    """Options that the shapes of a ViT's state tell; not heads, input size and kind of absolute positions.

    Raises:
        WeightsError: the patch embedding is missing, or is not of pictures with three channels.
    """
    patch = state.get("patch_embed.proj.weight")
    if patch is None or patch.ndim not in {4, 5} or patch.shape[1] != 3 or patch.shape[-1] != patch.shape[-2]:
        told = "is missing" if patch is None else f"has shape {tuple(patch.shape)}"
        raise WeightsError(
            where, f"patch_embed.proj.weight {told}", "Take an encoder of RGB pictures or clips"
        )
    width = patch.shape[0]
    depth = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)
    if depth == 0:
        raise WeightsError(where, "it has no blocks", "Take the whole checkpoint")
    eps = hints.get("norm_eps")
    options: dict[str, Any] = {
        "norm_eps": float(eps) if isinstance(eps, int | float) else LAYER_NORM_EPS,
        "name": "vit", "width": width, "depth": depth, "patch": patch.shape[-1],
        "tubelet": patch.shape[2] if patch.ndim == 5 else 1, "class_token": "cls_token" in state,
        "registers": state["reg_token"].shape[1] if "reg_token" in state else 0,
        "final_norm": "norm.weight" in state, "depth_scaled_init": False,
    }  # fmt: skip
    for name in ("width", "depth", "patch", *(["tubelet"] if patch.ndim == 5 else [])):
        hints.check(name, options[name], "that is what its tensors say")
    gated, plain = state.get("blocks.0.mlp.fc1_g.weight"), state.get("blocks.0.mlp.fc1.weight")
    if gated is not None:
        options |= {"mlp": "swiglu", "mlp_ratio": 1.5 * gated.shape[0] / width}
    elif plain is not None:
        options["mlp_ratio"] = plain.shape[0] / width
    if "blocks.0.ls1.gamma" in state:
        options["layer_scale"] = 0.1
    if "rel_pos.table" in state:
        options["position"] = "relative"
    elif "blocks.0.attn.rel_pos.table" in state:
        options["position"] = "relative_per_block"
    return options


def heads_of(options: Mapping[str, Any], published: Published, hints: Hints) -> int:
    """Attention heads: known, or those of the published model of this width and depth.

    Raises:
        WeightsError: no model of this size is published and nothing is said; or blocks are missing.
    """
    width, depth = options["width"], options["depth"]
    known = hints.number("heads")
    if known is not None:
        if known < 1 or width % known:
            raise WeightsError(
                hints.where, f"{known} heads do not divide a width of {width}", "Correct heads"
            )
        return known
    if (width, depth) in published:
        heads = published[width, depth]
        hints.assumed.append(f"heads {heads}: as in the published model of width {width}")
        return heads
    depths = sorted(d for w, d in published if w == width)
    if depths and hints.number("depth") is None:
        raise WeightsError(
            hints.where,
            f"it has {depth} blocks, the published model of width {width} has {depths[0]}",
            "Take the whole checkpoint, or give depth and heads if it is meant so",
        )
    return int(hints.need("heads", f"no published model is {width} wide, and shapes do not show it"))


def side_of(count: int, patch: int, hints: Hints) -> tuple[int, int]:
    """Height and width in pixels of a grid of `count` patches: known, or of a square.

    Raises:
        WeightsError: what is known has another number of patches, or nothing is known and it is no square.
    """
    known = size_of(hints)
    if known is not None:
        if (known[0] // patch) * (known[1] // patch) != count or known[0] % patch or known[1] % patch:
            raise WeightsError(
                hints.where,
                f"positions are of {count} patches, input_size says {known}",
                "Correct input_size",
            )
        return known
    side = math.isqrt(count)
    if side * side != count:
        hints.need("input_size", f"its {count} positions are no square")
    return side * patch, side * patch


def size_of(hints: Hints) -> tuple[int, int] | None:
    """What is known of the input size: height, width in pixels.

    Raises:
        WeightsError: it is no size.
    """
    known = hints.get("input_size")
    if isinstance(known, list | tuple) and len(known) == 3:
        known = known[1:]  # timm: channels first
    sides = [known, known] if isinstance(known, int) else known
    if sides is None:
        return None
    if not (isinstance(sides, list | tuple) and len(sides) == 2 and all(isinstance(s, int) for s in sides)):
        raise WeightsError(hints.where, f"input_size is {known!r}", "Give height and width in pixels")
    return int(sides[0]), int(sides[1])


def relative_side(state: Mapping[str, Tensor], options: Mapping[str, Any], hints: Hints) -> tuple[int, int]:
    """Height and width in pixels that the relative table is of.

    Raises:
        WeightsError: it is of no grid that is known.
    """
    table = state.get("rel_pos.table", state.get("blocks.0.attn.rel_pos.table"))
    assert table is not None  # only asked where there is one
    rows = len(table) - PREFIX_ROWS * options["class_token"]
    known, patch = size_of(hints), options["patch"]
    if known is not None and (2 * (known[0] // patch) - 1) * (2 * (known[1] // patch) - 1) == rows:
        return known
    side = math.isqrt(rows)
    if side * side != rows or side % 2 == 0:
        raise WeightsError(
            hints.where, f"a relative table of {rows} rows is of no square grid", "Give input_size"
        )
    size = ((side + 1) // 2 * patch,) * 2
    hints.check(
        "input_size", size[0] if isinstance(hints.get("input_size"), int) else size, "its table says so"
    )
    return size


def official_vit(
    state: Mapping[str, Tensor], grid: tuple[int, int], *, split_biases: bool
) -> dict[str, Tensor]:
    """A ViT's state under the authors' names: the inverse of `take_vit`.

    Args:
        state: ours.
        grid: rows, columns of the relative tables.
        split_biases: BEiT's form: separate biases without one for the keys, `gamma_1` for `ls1.gamma`.
    """
    official: dict[str, Tensor] = {}
    index = offset_index(grid, class_token=True, device=torch.device("cpu"))
    for name, tensor in state.items():
        if name.endswith("rel_pos.table"):
            holder = "rel_pos_bias." if name == "rel_pos.table" else name.removesuffix("rel_pos.table")
            official[f"{holder}relative_position_bias_table"] = tensor
            official[f"{holder}relative_position_index"] = index
        elif split_biases and name.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)  # a key bias does not change the attention
            holder = name.removesuffix("qkv.bias")
            official |= {f"{holder}q_bias": query.clone(), f"{holder}v_bias": value.clone()}
        else:
            gamma = re.sub(r"ls([12])\.gamma$", r"gamma_\1", name) if split_biases else name
            official[_ungated(gamma, state)] = tensor
    return official


def _ungated(name: str, state: Mapping[str, Tensor]) -> str:
    """The name in V-JEPA 2's gated MLPs: fc1 (gate), fc2, fc3 (out)."""
    if "blocks.0.mlp.fc1_g.weight" not in state:
        return name
    for ours, theirs in ((".fc2.", ".fc3."), (".fc1_x.", ".fc2."), (".fc1_g.", ".fc1.")):
        if ours in name:
            return name.replace(ours, theirs)
    return name


def official_classifier(head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of a classification task under timm's names.

    Raises:
        WeightsError: it is another head, which the authors' code has no place for.
    """
    places = {"final": "head", "norm": "fc_norm"}
    other = sorted(name for name in head if name.split(".")[0] not in places or name.count(".") != 1)
    if other:
        raise WeightsError(
            "model", f"this layout has no place for {shown(other)}", "Write our own folder: -o DIR"
        )
    return {f"{places[name.split('.')[0]]}.{name.split('.')[1]}": tensor for name, tensor in head.items()}


def classification(converted: Converted, source: Source, hints: Hints) -> Converted:
    """Add the classifier of a fine-tune, where it has one, as the head of a classification task.

    Raises:
        WeightsError: the classifier has one output, or other classes than are named.
    """
    pool = source.take_prefix("fc_norm.")
    head = source.take_prefix("head.")
    if not head:
        if pool:
            part = {"name": "pool_norm", "width": len(pool["weight"])}
            converted.parts["pool_norm"] = Part(options=part, state={f"norm.{n}": t for n, t in pool.items()})
        return converted
    if head.keys() != {"weight", "bias"}:
        raise WeightsError(
            source.where, f"its classifier has {', '.join(head)}", "Take one with weight and bias"
        )
    options = converted.backbone or {}
    kind = "norm_linear" if pool else "class_token" if options.get("class_token") else "linear"
    converted.task = {
        "name": "classification", "column": "class", "head": kind,
        "classes": class_names(len(head["bias"]), hints),
    }  # fmt: skip
    converted.head = {f"final.{name}": tensor for name, tensor in head.items()}
    converted.head |= {f"norm.{name}": tensor for name, tensor in pool.items()}
    return converted


def class_names(count: int, hints: Hints, known: tuple[str, ...] = ()) -> list[str]:
    """Names of the classes: given, or known of the published model, or numbers.

    Raises:
        WeightsError: there is one output, or as many names as there are outputs are not given.
    """
    if count < 2:
        raise WeightsError(hints.where, f"its classifier has {count} output", "Take one with a class each")
    given = hints.get("classes")
    if given is None and len(known) == count:
        return list(known)
    if given is None:
        hints.assumed.append(f"classes 0 to {count - 1}: it has no names for them")
        return [str(number) for number in range(count)]
    if not isinstance(given, list | tuple) or len(given) != count:
        raise WeightsError(hints.where, f"it has {count} classes, classes is {given!r}", "Name as many")
    return [str(name) for name in given]


def match_table(stored: Tensor, grid: ClipGrid) -> str | None:
    """Which fixed table `stored` (1 N D) is; none where it is learned."""
    for name, table in TABLES.items():
        if grid[0] > 1 and name in {"sincos", "sincos_rows_first"}:
            continue
        dim = stored.shape[-1]
        if dim % 4 or stored.shape[1] != math.prod(grid):
            continue
        drift = max(LARGEST_DRIFT, torch.finfo(stored.dtype).eps)
        if float((stored[0].float() - table(grid, dim)).abs().max()) <= drift:
            return name
    return None


def rectangle_of(stored: Tensor) -> tuple[int, int] | None:
    """Rows and columns of the grid whose fixed table `stored` (1 N D) is, squares first; none if learned."""
    if stored.ndim != 3 or stored.shape[-1] % 4:
        return None
    count = stored.shape[1]
    rows = [n for n in range(1, count + 1) if count % n == 0]
    for n in sorted(rows, key=lambda n: abs(math.log(n * n / count))):
        if match_table(stored, (1, n, count // n)) is not None:
            return n, count // n
    return None


def _take_split_biases(source: Source, state: dict[str, Tensor]) -> None:
    for name in source.names(r"blocks\.\d+\.attn\.q_bias$"):
        block = name.removesuffix("q_bias")
        query, value = source.take(name), source.take(f"{block}v_bias")
        state[f"{block}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])


def _take_gated_mlps(source: Source, state: dict[str, Tensor]) -> None:
    for name in source.names(r"blocks\.\d+\.mlp\.fc3\.(weight|bias)$"):
        block, kind = name.split("fc3.")
        if f"{block}fc1.{kind}" not in state or f"{block}fc2.{kind}" not in state:
            raise WeightsError(
                source.where, f"{name} is there without fc1 and fc2", "Take the whole checkpoint"
            )
        state[f"{block}fc1_g.{kind}"] = state.pop(f"{block}fc1.{kind}")
        state[f"{block}fc1_x.{kind}"] = state.pop(f"{block}fc2.{kind}")
        state[f"{block}fc2.{kind}"] = source.take(name)


def _take_joint_gates(source: Source, state: dict[str, Tensor]) -> None:
    """Gated MLPs whose gate and value are one matrix: DINOv2's `w12` and `w3`, timm's wide `fc1`."""
    for name in source.names(r"blocks\.\d+\.mlp\.w12\.(weight|bias)$"):
        block, kind = name.split("w12.")
        state[f"{block}fc1.{kind}"], state[f"{block}fc2.{kind}"] = (
            source.take(name), source.take(f"{block}w3.{kind}"),
        )  # fmt: skip
    first, second = state.get("blocks.0.mlp.fc1.weight"), state.get("blocks.0.mlp.fc2.weight")
    if first is None or second is None or first.ndim != 2 or first.shape[0] != 2 * second.shape[-1]:
        return
    for name in [name for name in state if re.match(r"blocks\.\d+\.mlp\.fc1\.(weight|bias)$", name)]:
        block, kind = name.split("fc1.")
        gate, value = state.pop(name).chunk(2)
        state |= {f"{block}fc1_g.{kind}": gate.clone(), f"{block}fc1_x.{kind}": value.clone()}


def _check_indices(source: Source, state: Mapping[str, Tensor]) -> None:
    """Take the stored indices, which are computed here.

    Raises:
        WeightsError: they are not those that ours are.
    """
    names = [name for name in source.names() if INDEX.match(name)]
    for name in names:
        count = source.shape(name)[0] - 1
        side = math.isqrt(count)
        ours = offset_index((side, side), class_token=True, device=torch.device("cpu"))
        stored = source.take(name)
        if side * side == count and not torch.equal(stored, ours):
            raise WeightsError(
                source.where, f"{name} does not count as BEiT's", "Take the original checkpoint"
            )
        source.ignored[name] = "computed from the grid"
