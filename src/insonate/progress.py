"""Progress on standard error: a bar on a terminal, else a line now and then; nothing for what is quick.

Functions of the library take a `Track` and are silent by default; the command line hands them `tracked`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""what takes less shows nothing"""
PLAIN_SECONDS = 10.0
"""between two lines where standard error is no terminal"""


class Track(Protocol):
    """Passes items on and may show how far they are."""

    def __call__(self, items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
        """The items; `total` of them, if that is known, for the work called `what`."""


def untracked(items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
    """The items, and nothing shown."""
    return iter(items)


def tracked(items: Iterable[T], *, total: int | None, what: str) -> Iterator[T]:
    """The items, and their progress on standard error."""
    return _bar(items, total, what) if sys.stderr.isatty() else _lines(items, total, what)


def _bar(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, redirect_stdout=False,
    )  # fmt: skip
    with progress:
        task = progress.add_task(escape(what), total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    start = time.monotonic()
    next_line = start + QUIET_SECONDS
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now >= next_line:
            next_line = now + PLAIN_SECONDS
            left = (
                "" if total is None else f" of {total}, {(now - start) / count * (total - count):.0f} s left"
            )
            print(f"{what}: {count}{left}", file=sys.stderr, flush=True)  # noqa: T201  the place for it
