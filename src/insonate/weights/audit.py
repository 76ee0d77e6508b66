"""Put weights into a module, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from insonate.errors import WeightsError

SHOWN = 3
"""names in an error"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was loaded."""

    tensors: int
    numbers: int
    converted: tuple[str, ...] = ()
    """names of tensors whose type was changed to the module's"""


def load_into(module: nn.Module, state_dict: Mapping[str, Any], where: object) -> Report:
    """Load a state dict whose names and shapes are exactly the module's.

    Args:
        module: changed in place, but only if everything fits.
        state_dict: names to tensors.
        where: the file, for errors.

    Raises:
        WeightsError: a tensor is missing, unexpected, or of another shape or kind; the first three are named.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    wrong = [
        f"{name} {_shape(state_dict[name])} for {_shape(tensor)}"
        for name, tensor in own.items()
        if name in state_dict and not _fits(state_dict[name], tensor)
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    if any(found.values()):
        told = [_first(kind, names) for kind, names in found.items() if names]
        raise WeightsError(where, "; ".join(told), _mend(missing, unexpected))
    module.load_state_dict(state_dict, strict=True)
    return Report(
        tensors=len(own),
        numbers=sum(tensor.numel() for tensor in own.values()),
        converted=tuple(name for name, tensor in own.items() if state_dict[name].dtype != tensor.dtype),
    )


def _fits(given: object, wanted: Tensor) -> bool:
    return (
        isinstance(given, Tensor)
        and given.shape == wanted.shape
        and given.is_floating_point() == wanted.is_floating_point()
        and given.is_complex() == wanted.is_complex()
    )


def _shape(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{'×'.join(map(str, value.shape)) or 'scalar'} {str(value.dtype).removeprefix('torch.')}"


def _first(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{more}"


def _mend(missing: list[str], unexpected: list[str]) -> str:
    for prefix in sorted({name.split(".", 1)[0] + "." for name in unexpected if "." in name}):
        if missing and all(prefix + name in unexpected for name in missing):
            return f"All its names start with {prefix!r}: take that off, or load it with the model it is of"
    return "Build the model that these weights are of, or take the weights of this one"
