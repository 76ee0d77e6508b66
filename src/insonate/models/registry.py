"""A registry maps a name to a class (or function) and its options, no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from insonate.errors import RecipeError, nearest
from insonate.options import Options

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """What is registered under a name."""

    make: Callable[..., T]
    config: type[Options]


class Registry(Generic[T]):
    """Names of one kind of thing (`kind` is the word used in errors)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, config: type[Options] = Options) -> Callable[[Any], Any]:
        """Class or function decorator: put it under `name`, with its options class."""

        def keep(make: Any) -> Any:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(make, config)
            return make

        return keep

    def __getitem__(self, name: str) -> Entry[T]:
        if name not in self._entries:
            raise RecipeError(
                f"{self.kind}.name", f"no {self.kind} is called {name!r}", nearest(name, self._entries)
            )
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)
