"""Vetting: decode files in worker processes before this one does, so that none can take it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from insonate.data import pool
from insonate.data.limits import limited, limits
from insonate.data.media import MediaFile
from insonate.errors import InsonateError

CHUNK = 16
"""frames held at a time"""
SECONDS = 120.0
"""for all frames of a file"""


def vetted(paths: Iterable[Path], *, seconds: float = SECONDS) -> Iterator[tuple[Path, InsonateError | None]]:
    """Each path with the error that decoding all of its frames comes to, in order, one file ahead.

    Args:
        paths: media files.
        seconds: that a file may take, however many frames it has.
    """
    yield from pool.run(partial(_decode, asdict(limits())), paths, 1, seconds=seconds)


def _decode(bounds: Mapping[str, int], path: Path) -> None:
    with limited(**bounds), MediaFile(path) as media:
        for start in range(0, media.info.frames, CHUNK):
            media.read(range(start, min(start + CHUNK, media.info.frames)))
