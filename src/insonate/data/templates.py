"""Outlines of sectors by scanner and size, remembered in a file: sought once, then checked in each picture.

The file holds a JSON object a line, and several processes may add to it. It names scanners by a digest only,
since a header's maker and model may hold anything.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from insonate.data.media.info import MediaInfo
from insonate.errors import InsonateError
from insonate.files import append, told

MAX_BYTES = 1 << 24
"""of the file: some fifty thousand outlines"""
MOST = 32
"""outlines of one scanner and size, such as one a depth; what comes later is sought each time"""
NUM_PARAMS = 10
MEND = "Give another file, or remove it: it is learned anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """What is remembered of one scanner."""

    path: Path
    scanner: str

    @classmethod
    def of(cls, path: Path | str, info: MediaInfo) -> Templates:
        """Of the scanner that made a medium: all that name no maker count as one.

        Raises:
            InsonateError: the file is no file of templates.
        """
        text = json.dumps([info.vendor, info.model]).encode()
        templates = cls(path=Path(path), scanner=hashlib.blake2b(text, digest_size=6).hexdigest())
        _lines(templates.path)
        return templates

    def known(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Parameters of `sector`'s outlines, for pictures of this height and width, the first learned first.

        Raises:
            InsonateError: the file is no file of templates.
        """
        lines = _lines(self.path)
        return [params for scanner, of, params in lines if (scanner, of) == (self.scanner, size)]

    def learn(self, size: tuple[int, int], params: np.ndarray) -> None:
        """Add an outline.

        Raises:
            InsonateError: the file cannot be written.
        """
        if len(self.known(size)) >= MOST:
            return
        line = {
            "scanner": self.scanner, "height": size[0], "width": size[1],
            "fan": [round(float(value), 4) for value in params],
        }  # fmt: skip
        append(self.path, ("\n" * self._is_cut() + json.dumps(line) + "\n").encode())

    def _is_cut(self) -> bool:
        """Whether a kill has cut the last line, so that the next one would be spoilt too."""
        if not self.path.exists() or not self.path.stat().st_size:
            return False
        with told(self.path), self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def check_templates(path: Path | str) -> None:
    """Refuse a file that is there and holds something else: to be asked before long work.

    Raises:
        InsonateError: it does.
    """
    _lines(Path(path))


def _lines(path: Path) -> list[tuple[str, tuple[int, int], np.ndarray]]:
    """Scanner, size and parameters, a line each.

    Raises:
        InsonateError: the first line is something else, or the file is too large.
    """
    if not path.exists():
        return []
    with told(path), path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise InsonateError(path, f"is larger than {MAX_BYTES >> 20} MiB", MEND)
    found = []
    for number, line in enumerate(text.splitlines()):
        try:
            found.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == 0:  # later ones were cut by a kill
                raise InsonateError(path, "does not begin with an outline of a scanner", MEND) from None
    return found


def _entry(content: Any) -> tuple[str, tuple[int, int], np.ndarray]:
    """A line's content.

    Raises:
        ValueError: its numbers will not do.
    """
    params = np.array(content["fan"], np.float64)
    height, width = content["height"], content["width"]
    if params.shape != (NUM_PARAMS,) or not all(map(math.isfinite, params)) or np.abs(params).max() > 1e6:
        raise ValueError(params)
    if type(height) is not int or type(width) is not int:
        raise ValueError(height, width)
    return str(content["scanner"]), (height, width), params
