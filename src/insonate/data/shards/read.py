"""Items of shards as media: one read a member, its checksum compared before anything is decoded."""

from __future__ import annotations

import functools
import io
import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np

from insonate.data.limits import check
from insonate.data.manifest import Manifest, Row
from insonate.data.media import MediaFile, MediaInfo
from insonate.data.media.regular import open_regular
from insonate.data.shards.index import MEND, read_index
from insonate.data.spacing import spacing_or_none
from insonate.errors import ManifestError, MediaError

MEMBER = "member"
"""column of a manifest that names an item within the tar of `path`"""
OPEN_TARS = 256


class ShardReader:
    """One open tar with its index. It may be used after a fork, and by several threads.

    Raises:
        MediaError: the tar or its index is missing, or they do not belong together.
    """

    def __init__(self, tar: Path) -> None:
        self.tar = tar
        self.members = (index := read_index(tar)).members
        with open_regular(tar) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        if (size := os.fstat(self._descriptor).st_size) != index.tar_bytes:
            raise MediaError(tar, f"has {size} bytes, its index says {index.tar_bytes}", MEND)

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            MediaError: no member is called so, or its bytes are not those that were written.
        """
        member = self.members.get(name)
        if member is None:
            raise MediaError(self.tar, f"holds no {name!r}", MEND)
        check(self.tar, "still_bytes", member.size)
        # `pread` rather than a memory map: a file that is cut short under a map ends the process
        content = os.pread(self._descriptor, member.size, member.offset)
        if len(content) != member.size or crc32(content) != member.crc:
            raise MediaError(self.tar, f"member {name!r} has changed since it was written", MEND)
        return content


def reader(tar: Path) -> ShardReader:
    """The reader of a tar, kept open in this process until the tar is another one.

    Raises:
        MediaError: as for `ShardReader`.
    """
    try:
        status = tar.stat()
    except OSError as error:
        raise MediaError(tar, f"cannot be opened: {error.strerror}", MEND) from None
    return _reader(tar, status.st_ino, status.st_mtime_ns)


@functools.lru_cache(maxsize=OPEN_TARS)
def _reader(tar: Path, *_: int) -> ShardReader:
    return ShardReader(tar)


class ShardItem:
    """One item of a shard, read like a `MediaFile`: `info`, and `read` for frames.

    Args:
        tar: the shard.
        row: of its manifest.

    Raises:
        MediaError: the shard cannot be read.
        ManifestError: the row does not tell the size of the item.
    """

    def __init__(self, tar: Path, row: Row) -> None:
        self._tar, self._member = tar, str(row[MEMBER])
        self._reader = reader(tar)
        if row["height"] is None or row["width"] is None:
            what = f"item {self._member!r} has no height and width"
            raise ManifestError(tar, what, "Take the manifest that was written with the shards")
        frames = row["frames"] or 1
        self.info = MediaInfo(
            path=tar,
            kind="video" if frames > 1 else "image",
            frames=frames,
            height=row["height"],
            width=row["width"],
            fps=row["fps"],
            times_s=tuple(i / row["fps"] for i in range(frames)) if row["fps"] and frames > 1 else None,
            spacing=spacing_or_none(row["spacing_row_mm"], row["spacing_col_mm"]),
            patient_id=row["patient_id"],
            study_id=row["study_id"],
            series_id=row["series_id"],
            vendor=row["vendor"],
        )

    def read(self, indices: Sequence[int] | None = None, *, grey: bool = False) -> np.ndarray:
        """Frames; see `media.read_frames`.

        Raises:
            MediaError: a frame is not there, damaged, or not of the size that the manifest tells.
        """
        asked = range(self.info.frames) if indices is None else indices
        decoded = {i: self._frame(i, grey=grey) for i in sorted(set(asked))}
        if any(frame.ndim == 3 for frame in decoded.values()):
            decoded = {i: _coloured(frame) for i, frame in decoded.items()}
        if not decoded:
            return np.empty((0, self.info.height, self.info.width), np.uint8)
        return np.stack([decoded[i] for i in asked])  # T H W or T H W 3

    def _frame(self, index: int, *, grey: bool) -> np.ndarray:
        name = frame_name(self._member, index)
        with MediaFile(self._tar / name, io.BytesIO(self._reader.read(name))) as file:
            frame = np.asarray(file.read([0], grey=grey)[0])
        if frame.shape[:2] != (self.info.height, self.info.width):
            what = f"{name!r} is {frame.shape[0]}×{frame.shape[1]} px, its row says otherwise"
            raise MediaError(self._tar, what, MEND)
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close: the tar stays open for the next item."""


def open_row(
    manifest: Manifest, row: Row, column: str = "path"
) -> AbstractContextManager[MediaFile | ShardItem]:
    """What a column of a row names, as a medium: a file, or an item of a shard.

    Raises:
        MediaError: it cannot be read.
        ManifestError: the path leads outside the manifest's folder.
    """
    path = manifest.file(row, column)
    if not row.get(MEMBER):
        return MediaFile(path)
    if column == "path":
        return ShardItem(path, row)
    name = side_name(str(row[MEMBER]), column)
    return MediaFile(path / name, io.BytesIO(reader(path).read(name)))


def frame_name(member: str, index: int) -> str:
    """The name in the tar of one frame of an item."""
    return f"{member}.{index:05d}.jpg"


def side_name(member: str, column: str) -> str:
    """The name in the tar of what a path column names, such as a mask."""
    return f"{member}.{column}.png"


def _coloured(frame: np.ndarray) -> np.ndarray:
    return frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
