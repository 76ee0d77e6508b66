"""A disk that fails: stands in for `insonate.files.disk`."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from insonate import files


class FaultDisk(files.Disk):
    """Call `fail_at` (from 1) fails: with an OSError, once or for good, or by the death of the process."""

    def __init__(
        self, fail_at: int = 0, *, error: int = errno.ENOSPC, lasting: bool = False, die: bool = False
    ):
        self.fail_at, self.error, self.lasting, self.die = fail_at, error, lasting, die
        self.calls: list[tuple[str, str]] = []

    @property
    def failed(self) -> bool:
        """Whether the moment of the fault was reached."""
        return bool(self.fail_at) and len(self.calls) >= self.fail_at

    def _call(self, name: str, path: object) -> None:
        self.calls.append((name, Path(str(path)).name))
        count = len(self.calls)
        if count == self.fail_at or (self.lasting and self.failed):
            if self.die:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path: Path) -> BinaryIO:
        self._call("open", path)
        return super().open(path)

    def write(self, file: BinaryIO, data: bytes) -> None:
        if self.fail_at == len(self.calls) + 1:
            super().write(file, data[: len(data) // 2])  # a full disk takes a part
            file.flush()
        self._call("write", file.name)
        super().write(file, data)

    def fsync(self, file: BinaryIO) -> None:
        self._call("fsync", file.name)
        file.flush()  # the tests cut no power: a true fsync would only take their time

    def replace(self, source: Path, target: Path) -> None:
        self._call("replace", target)
        super().replace(source, target)

    def exchange(self, first: Path, second: Path) -> None:
        self._call("exchange", second)
        super().exchange(first, second)

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)
        super().unlink(path)

    def fsync_dir(self, path: Path) -> None:
        self._call("fsync_dir", path)


@contextmanager
def standing_in(disk: FaultDisk) -> Iterator[FaultDisk]:
    """`disk` in the place of the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "disk", disk)
        yield disk
