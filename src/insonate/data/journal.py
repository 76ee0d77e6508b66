"""What a scan has read so far, beside the manifest that it makes: one that is cut off goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from insonate.data.columns import Row
from insonate.files import append, lock, told

FLUSH_S = 0.5
"""work of so long may be lost by a kill"""


class Journal:
    """A line for each row: a digest of the row and of what scan it is of, and the row as JSON."""

    def __init__(self, path: Path, scan: str) -> None:
        self._path, self._scan = path, scan
        self._waiting: list[str] = []
        self._flushed_s = time.monotonic()

    def rows(self, names: Collection[str]) -> dict[str, Row]:
        """What an earlier scan of the same kind read of these files, by their path.

        Lines that a kill has cut, or that are damaged, are passed over.
        """
        wanted = set(names)
        with told(self._path), self._path.open(encoding="utf-8", errors="replace") as lines:
            found = [self._row(line.rstrip("\n")) for line in lines]
        return {row["path"]: row for row in found if row is not None and row["path"] in wanted}

    def add(self, row: Row) -> None:
        """Note what a file told."""
        text = json.dumps(row)
        self._waiting.append(f"{self._digest(text)} {text}\n")
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting, on lines of its own: a kill may have cut the one before."""
        if self._waiting:
            append(self._path, "".join(["\n", *self._waiting]).encode())
            self._waiting.clear()
        self._flushed_s = time.monotonic()

    def _row(self, line: str) -> Row | None:
        digest, _, text = line.partition(" ")
        return dict(json.loads(text)) if text and digest == self._digest(text) else None

    def _digest(self, text: str) -> str:
        return hashlib.sha256(f"{self._scan}{text}".encode()).hexdigest()[:16]


@contextlib.contextmanager
def journal_of(out: Path, scan: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a scan into `out`, held against other processes; removed when the block succeeds.

    Args:
        out: the manifest, which is written in the block.
        scan: what the rows depend on besides the files; rows of a scan that differs in it do not count.

    Yields:
        The journal.

    Raises:
        RunError: another process scans into `out`.
        InsonateError: the place cannot be written.
    """
    path = out.with_name(f".{out.name}.partial")
    with lock(path):
        journal = Journal(path, json.dumps(scan, sort_keys=True))
        try:
            yield journal
        except BaseException:
            journal.flush()
            if path.stat().st_size == 0:
                path.unlink()
            raise
        path.unlink()
