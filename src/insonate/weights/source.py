"""An official checkpoint on its way into our modules: each tensor is taken, ignored with a reason or refused.

Shapes: those of the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from insonate.errors import WeightsError

SHOWN = 3
"""names in an error"""


class Source:
    """Named tensors that are taken one by one; what is left at the end is a fault.

    Args:
        tensors: the state dict, prefixes of wrappers taken off.
        where: the file, for errors.
    """

    def __init__(self, tensors: Mapping[str, Any], where: object) -> None:
        self.where = where
        self.ignored: dict[str, str] = {}
        """name → why it is not used"""
        self.children: dict[str, Source] = {}
        """sources of other parts of the same file, by the part's name"""
        self.all = dict(tensors)
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def names(self, pattern: str = "") -> list[str]:
        """Names not yet taken whose start matches the regular expression."""
        return [name for name in self._left if re.match(pattern, name)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, which stays.

        Raises:
            WeightsError: there is no such tensor.
        """
        return tuple(self._tensor(name).shape)

    def take(self, name: str) -> Tensor:
        """A tensor, which counts as used.

        Raises:
            WeightsError: there is no such tensor, or it was taken before.
        """
        tensor = self._tensor(name)
        del self._left[name]
        return tensor

    def take_prefix(self, prefix: str) -> dict[str, Tensor]:
        """All tensors whose names start with `prefix`, without it."""
        found = [name for name in self._left if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.take(name) for name in found}

    def ignore(self, pattern: str, why: str) -> None:
        """Leave out the tensors whose start matches the regular expression."""
        for name in self.names(pattern):
            self.ignored[name] = why
            del self._left[name]

    def below(self, prefix: str) -> Source:
        """The tensors under a prefix as a source of their own; here they count as used."""
        return self.child(prefix.rstrip("."), self.take_prefix(prefix))

    def child(self, name: str, tensors: Mapping[str, Any]) -> Source:
        """Another part of the same file as a source of its own, which is finished with this one.

        Tensors that are in both count as the child's.
        """
        theirs = {id(tensor) for tensor in tensors.values()}
        for own in [own for own, tensor in self._left.items() if id(tensor) in theirs]:
            del self._left[own], self.all[own]
        self.children[name] = Source(tensors, self.where)
        return self.children[name]

    def finish(self) -> None:
        """Check that nothing is left here and in the children.

        Raises:
            WeightsError: a tensor is; the first three are named.
        """
        for child in self.children.values():
            child.finish()
        if self._left:
            raise WeightsError(
                self.where,
                f"{len(self._left)} tensors have no place in this model: {shown(list(self._left))}",
                "These are weights of another model than their names say",
            )

    def _tensor(self, name: str) -> Tensor:
        found = self._left.get(name)
        if not isinstance(found, Tensor):
            raise WeightsError(self.where, f"the tensor {name} is missing", "Take the whole checkpoint")
        return found


class Hints:
    """What shapes cannot tell: from the caller, else a config beside or in the file, else assumed aloud.

    Args:
        given: of the caller.
        found: of configs; names of other projects are translated.
        where: the file, for errors.
    """

    def __init__(self, given: Mapping[str, Any], found: Mapping[str, Any], where: object) -> None:
        self.where = where
        self.assumed: list[str] = []
        """sentences for people"""
        self._given = {_known(name): value for name, value in given.items() if value is not None}
        self._found = {_known(name): value for name, value in found.items() if value is not None}
        self.used: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def get(self, name: str) -> Any:
        """The value, or None."""
        self.used.add(name)
        return self._given.get(name, self._found.get(name))

    def number(self, name: str) -> int | None:
        """The value as a whole number, or None.

        Raises:
            WeightsError: it is none.
        """
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, list | tuple) and value and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise WeightsError(self.where, f"{name} is {value!r}, no whole number", f"Give {name}=NUMBER")
        return int(value)

    def assume(self, name: str, value: Any, why: str) -> Any:
        """What is known of `name`, or else `value`, and that is told."""
        known = self.get(name)
        if known is not None:
            return known
        self.assumed.append(f"{name} {value}: {why}")
        return value

    def say(self, name: str, value: Any, why: str) -> None:
        """Take `value` for `name`, which is told."""
        self.assumed.append(f"{name} {value}: {why}")
        self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        """Take `value` for `name`."""
        self._given[name] = value

    def need(self, name: str, why: str) -> Any:
        """What is known of `name`.

        Raises:
            WeightsError: nothing is.
        """
        known = self.get(name)
        if known is None:
            raise WeightsError(
                self.where,
                f"{name} cannot be told: {why}",
                f"Give {name}=…, or put it in a config.json beside it",
            )
        return known

    def check(self, name: str, value: Any, why: str) -> None:
        """Refuse where something else than `value` is known of `name`.

        Raises:
            WeightsError: it is.
        """
        known = self.get(name)
        if known is not None and known != value:
            raise WeightsError(
                self.where,
                f"{name} is said to be {known}, but is {value}: {why}",
                "Correct the config or argument",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module beside the encoder: its registry name and options, and its weights under our names."""

    options: dict[str, Any]
    state: dict[str, Tensor]


@dataclass(slots=True, kw_only=True)
class Converted:
    """An official checkpoint in our words."""

    family: str
    layout: str = ""
    prefix: str = ""
    """that all names of the file had before them"""
    backbone: dict[str, Any] | None = None
    """registry name and options; none where the file holds only a head"""
    state: dict[str, Tensor] = field(default_factory=dict)
    """of the backbone"""
    task: dict[str, Any] | None = None
    """registry name and options, where the file holds a task's head"""
    head: dict[str, Tensor] = field(default_factory=dict)
    """of the task's head"""
    parts: dict[str, Part] = field(default_factory=dict)
    """predictor, decoder, text tower, probe, …"""
    published_sha256: str = ""
    """of the published file that has these very tensors; empty where none is known"""
    info: dict[str, Any] = field(default_factory=dict)
    """licence, source, what is particular"""


ALIASES = {
    "num_heads": "heads", "num_attention_heads": "heads", "n_heads": "heads", "img_size": "input_size",
    "image_size": "input_size", "crop_size": "input_size", "resolution": "input_size", "num_frames": "frames",
    "frames_per_clip": "frames", "tubelet_size": "tubelet", "patch_size": "patch", "embed_dim": "width",
    "hidden_size": "width", "num_hidden_layers": "depth", "num_layers": "depth",
    "num_views": "views", "clips_per_view": "clips", "layer_norm_eps": "norm_eps",
    "architecture": "timm_name",
}  # fmt: skip
"""names in other projects' configs → ours"""


def _known(name: str) -> str:
    return ALIASES.get(name, name)


def shown(names: list[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
