"""Layouts: how official checkpoints are recognised (by names and shapes, not by the file's name), converted.

A family's file registers its layouts here. `Bundle` is what was found on the disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from insonate.errors import WeightsError, nearest
from insonate.weights.read import read
from insonate.weights.source import Converted, Hints, Source

WRAPPERS = (
    "state_dict", "model", "model_state_dict", "weights", "module", "teacher", "student", "net", "network",
    "params", "model_state", "ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict",
    "params_ema",
)  # fmt: skip
"""names under which projects keep the state dict in a checkpoint; the first that is there is taken"""
TRAINING = re.compile(r".*(opt|sched|scaler|scheduler|rng|amp|loss|grad|inputs|outputs)", re.IGNORECASE)
"""names of what is no state dict"""
CLIP_CONFIGS = {"vision_cfg", "model_cfg", "text_cfg"}
CONFIGS = ("config", "cfg", "hyper_parameters", "kwargs", "meta")
PREFIXES = (
    "module.", "_orig_mod.", "_forward_module.", "model.", "backbone.", "encoder.", "net.", "network.",
    "base_model.", "teacher.", "student.", "vit.", "visual_encoder.", "feature_extractor.",
)  # fmt: skip
"""taken off where every tensor has it"""
FILES = (
    "model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin",
)  # fmt: skip
SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors"}
LARGEST_CONFIG_BYTES = 10_000_000
MEND = "Give family=NAME, see `insonate models`, or the model that these weights are of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An official checkpoint and what lies beside it."""

    where: Path
    content: dict[str, Any]
    """the whole file"""
    state: dict[str, Tensor]
    """the main state dict, wrappers and common prefixes taken off"""
    stripped: str
    """common prefix that was taken off"""
    config: dict[str, Any] = field(default_factory=dict)
    """of the JSON beside the file and the one in it"""
    clip: dict[str, Any] = field(default_factory=dict)
    """the same of open_clip's configs, which speak of several networks"""
    aside: dict[str, str] = field(default_factory=dict)
    """what else of weight the file holds → why it is not used"""

    def source(self) -> Source:
        """The main state dict, to be taken."""
        return Source(self.state, self.where)

    def has(self, *patterns: str) -> bool:
        """Whether each regular expression matches the whole of some name of the state dict."""
        return all(any(re.fullmatch(pattern, name) for name in self.state) for pattern in patterns)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor of the state dict; () where there is none."""
        tensor = self.state.get(name)
        return () if tensor is None else tuple(tensor.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One form of official checkpoints."""

    name: str
    families: tuple[str, ...]
    """families that come in it"""
    matches: Callable[[Bundle], bool]
    convert: Callable[[Bundle, Hints, Source], Converted]
    """must take or ignore every tensor of the source"""
    when: Literal["first", "last", "named"] = "first"
    """order of trying: plain names first, forms of many projects last, some only for a named family"""


LAYOUTS: dict[str, Layout] = {}


def register(
    name: str,
    families: tuple[str, ...],
    matches: Callable[[Bundle], bool],
    when: Literal["first", "last", "named"] = "first",
) -> Callable[[Any], Any]:
    """Function decorator: the function converts checkpoints that `matches` knows by name."""

    def keep(convert: Any) -> Any:
        LAYOUTS[name] = Layout(name=name, families=families, matches=matches, convert=convert, when=when)
        return convert

    return keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Exportable:
    """A model as it is written in an official layout."""

    backbone: dict[str, Any]
    """options"""
    state: dict[str, Tensor]
    """of the backbone"""
    task: dict[str, Any] | None = None
    head: dict[str, Tensor] = field(default_factory=dict)
    """of the task's head"""
    parts: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """states of the parts"""
    part_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """options of the parts"""
    info: dict[str, Any] = field(default_factory=dict)
    """what is known of the file that it came in"""


EXPORTS: dict[str, Callable[[Exportable], dict[str, Any]]] = {}
"""layout → the content of a file that the authors' code reads"""


def exports(name: str) -> Callable[[Any], Any]:
    """Function decorator: the function writes the layout `name`."""

    def keep(export: Any) -> Any:
        EXPORTS[name] = export
        return export

    return keep


def recognise(bundle: Bundle, family: str | None = None) -> Layout:
    """The layout of a checkpoint.

    Args:
        bundle: the checkpoint.
        family: where the user names it, only layouts of this family are tried.

    Raises:
        WeightsError: no layout knows it.
    """
    known = sorted({name for layout in LAYOUTS.values() for name in layout.families})
    if family is not None and family not in known:
        raise WeightsError(bundle.where, f"no family is called {family!r}", nearest(family, known))
    for layout in sorted(LAYOUTS.values(), key=lambda layout: layout.when):
        asked = layout.when != "named" if family is None else family in layout.families
        if asked and layout.matches(bundle):
            return layout
    if not bundle.state:
        held = sorted(n for n, v in bundle.content.items() if _holds_tensors(v) and not TRAINING.match(n))
        if held:
            raise WeightsError(bundle.where, f"holds {', '.join(held)}: which of them?", "Give which=NAME")
        raise WeightsError(bundle.where, "holds no weights", "Take the checkpoint that was saved with them")
    some = ", ".join(list(bundle.state)[:3])
    what = f"is not of the family {family}" if family else "is of no layout that is known"
    raise WeightsError(bundle.where, f"{what} (it has {some}, …)", MEND)


def open_bundle(path: Path, which: object = None) -> Bundle:
    """Read a checkpoint, or the one in a folder, with the configs beside and in it.

    Args:
        path: the file or folder.
        which: name in the file of the state dict that is taken; none = see `WRAPPERS`.

    Raises:
        WeightsError: there is none, or it is damaged or unsafe.
    """
    file = _weights_file(path)
    names = (
        file.parent / "config.json",
        file.parent / "open_clip_config.json",
        file.with_suffix(".json"),
    )
    return bundle_of(read(file), file, [_read_json(name) for name in names], which)


def bundle_of(
    content: dict[str, Any], where: Path, beside: Sequence[Mapping[str, Any]] = (), which: object = None
) -> Bundle:
    """The content of a checkpoint as a bundle; `beside` are the configs beside it, the later ones win."""
    content = _detached(content)
    config: dict[str, Any] = {}
    clip: dict[str, Any] = {}
    for found in (*beside, *(_configs_in(content.get(name)) for name in CONFIGS)):
        (clip if CLIP_CONFIGS & found.keys() else config).update(found)
    inner = content.get("state_dict")
    if isinstance(inner, Mapping) and not tensors_of(inner) and any(tensors_of(v) for v in inner.values()):
        content = dict(inner)
    aside: dict[str, str] = {}
    state, stripped = strip(_unwrap(content, which, aside))
    return Bundle(
        where=where, content=content, state=state, stripped=stripped, config=config, clip=clip, aside=aside
    )


def strip(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A state dict without the prefixes that all of its names share, and what was taken off."""
    stripped, state = "", dict(tensors)
    while state and (prefix := _common(state)):
        stripped += prefix
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state, stripped


def tensors_of(value: object) -> dict[str, Tensor]:
    """The tensors directly in a mapping."""
    if not isinstance(value, Mapping):
        return {}
    return {str(name): tensor for name, tensor in value.items() if isinstance(tensor, Tensor)}


def hints_of(bundle: Bundle, given: Mapping[str, Any]) -> Hints:
    """What the caller and the configs say; open_clip's are read by its own layout."""
    return Hints(given, bundle.config, bundle.where)


def _common(state: Mapping[str, Tensor]) -> str:
    return next((p for p in PREFIXES if all(name.startswith(p) for name in state)), "")


def _unwrap(content: Mapping[str, Any], which: object, aside: dict[str, str]) -> dict[str, Tensor]:
    """The state dict in a checkpoint; in `aside` goes what else of weight lies beside it."""
    inside = {name: value for name, value in content.items() if _holds_tensors(value)}
    taken = _wrapper(content, inside, which)
    for name in content.keys() - {taken}:
        if taken is not None and name in WRAPPERS and name in inside:
            aside[name] = f"the {taken} is taken, unless which={name} is said"
        elif re.match(r"(optim|opt$|.*scaler|.*sched)", name):
            aside[name] = "of the training"
    return tensors_of(content) if taken is None else _unwrap(inside[taken], which, aside)


def _wrapper(content: Mapping[str, Any], inside: Mapping[str, Any], which: object) -> str | None:
    """Where the state dict is: where it is said, under a usual name, or the only place there is."""
    usual = next((name for name in (which, *WRAPPERS) if isinstance(name, str) and name in inside), None)
    if usual is not None or tensors_of(content):
        return usual
    others = [name for name in inside if not TRAINING.match(name)]
    return others[0] if len(others) == 1 else None


def _detached(content: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain tensors: some projects save them."""
    return {
        name: value.detach() if isinstance(value, Tensor) and value.requires_grad
        else _detached(value) if isinstance(value, Mapping) else value
        for name, value in content.items()
    }  # fmt: skip


def _holds_tensors(value: object) -> bool:
    """Whether it is a state dict, or has some in it."""
    return isinstance(value, Mapping) and bool(
        tensors_of(value) or any(tensors_of(inner) for inner in value.values())
    )


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / name for name in FILES if (path / name).is_file()]
    if not files:
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if len(files) != 1:
            found = ", ".join(file.name for file in files[:3]) or "none"
            raise WeightsError(
                path, f"a folder with one weights file is needed, found {found}", "Give the file"
            )
    return files[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_CONFIG_BYTES:
            return {}
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(path, f"is no JSON ({type(error).__name__})", "Mend it or take it away") from None
    return content if isinstance(content, dict) else {}


def _configs_in(value: object) -> dict[str, Any]:
    """A config in a checkpoint, and the arguments (a dict or JSON) in it."""
    if not isinstance(value, Mapping):
        return {}
    inner = value.get("kwargs")
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except ValueError:
            inner = None
    own = {
        str(name): found
        for name, found in value.items()
        if name in CLIP_CONFIGS or not isinstance(found, Tensor | Mapping)
    }
    return own | (dict(inner) if isinstance(inner, Mapping) else {})
