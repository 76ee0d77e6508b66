"""Arrays of numbers as frames: what NIfTI and MetaImage share.

Shapes: T frames, H W pixels, 3 = RGB; the first axis of the file runs along W, the second along H, all others
along T. Whole numbers from 0 to 255 throughout a file are kept (masks hold class numbers); else the file's
own range is mapped to 0 to 255.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from insonate.data.limits import check
from insonate.data.media.medium import stacked
from insonate.data.spacing import Spacing, spacing_or_none
from insonate.errors import MediaError

CHUNK_BYTES = 2**20
PLACEHOLDER = (1.0, 1.0)
"""what writers put where they know no spacing; no ultrasound pixel is 1 mm"""


class Grid(NamedTuple):
    """How the numbers lie in the file."""

    frames: int
    height: int
    width: int
    channels: int
    dtype: np.dtype
    offset: int
    """of the first frame, in bytes, after inflation"""
    slope: float = 1.0
    inter: float = 0.0

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return self.height * self.width * self.channels * self.dtype.itemsize


class Numbers:
    """Reads frames of a grid; from packed data up to the last frame wanted."""

    def __init__(self, path: Path, file: BinaryIO, grid: Grid, *, wbits: int | None, start: int = 0) -> None:
        """`wbits` as zlib takes it, or `None` for data as they are; `start`: of the data in `file`, in bytes.

        Raises:
            MediaError: the file is shorter than its header says, or inflates to more than the limit.
        """
        self.path, self.grid = path, grid
        self._file, self._wbits, self._start = file, wbits, start
        self._range: tuple[float, float] | None = None
        self._source: Inflated | None = None
        self._next = 0
        """the frame that the stream stands at: reading on needs no new start"""
        total = grid.offset + grid.frames * grid.frame_bytes
        if wbits is not None:
            check(path, "inflated_bytes", total)
            return
        got = file.seek(0, 2) - start - grid.offset
        if got < grid.frames * grid.frame_bytes:
            raise self._short(max(0, got) // grid.frame_bytes)

    def frames(self, indices: list[int]) -> np.ndarray:
        """The frames at `indices` (ascending): T H W or T H W 3, uint8.

        Raises:
            MediaError: one is missing or damaged.
        """
        grid = self.grid
        if grid.dtype == np.uint8 and (grid.slope, grid.inter) == (1.0, 0.0):
            return stacked([self._array(data) for data in self._bytes(indices)])
        low, high = self._file_range()
        return stacked([self._eight_bits(self._array(data), low, high) for data in self._bytes(indices)])

    def _bytes(self, indices: list[int]) -> Iterator[bytes]:
        size, offset = self.grid.frame_bytes, self.grid.offset
        if self._wbits is None:
            for index in indices:
                self._file.seek(self._start + offset + index * size)
                yield self._whole(self._file.read(size), index)
            return
        for index in indices:
            if self._source is None or index < self._next:
                self._file.seek(self._start)
                self._source, self._next = Inflated(self._file, self._wbits), 0
                self._source.skip(offset)
            self._source.skip((index - self._next) * size)
            self._next = index + 1
            yield self._whole(self._source.take(size), index)

    def _whole(self, data: bytes, index: int) -> bytes:
        if len(data) < self.grid.frame_bytes:
            raise self._short(index)
        return data

    def _array(self, data: bytes) -> np.ndarray:
        grid = self.grid
        shape = (grid.height, grid.width) if grid.channels == 1 else (grid.height, grid.width, grid.channels)
        return np.frombuffer(data, grid.dtype).reshape(shape)

    def _eight_bits(self, stored: np.ndarray, low: float, high: float) -> np.ndarray:
        values = self._values(stored)
        if high > low:
            values = (values - low) * (255 / (high - low))
        return np.clip(np.rint(np.nan_to_num(values)), 0, 255).astype(np.uint8)

    def _values(self, stored: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            values = stored.astype(np.float64) * self.grid.slope + self.grid.inter
        values[~np.isfinite(values)] = np.nan
        return values

    def _file_range(self) -> tuple[float, float]:
        """What becomes 0 and 255: those themselves where all values are such whole numbers."""
        if self._range is None:
            grid = self.grid
            check(self.path, "decoded_bytes", grid.frames * grid.frame_bytes)
            low, high, whole = np.inf, -np.inf, True
            for data in self._bytes(list(range(grid.frames))):
                values = self._values(self._array(data))
                known = values[np.isfinite(values)]
                low, high = min(low, known.min(initial=np.inf)), max(high, known.max(initial=-np.inf))
                whole = whole and bool((known == np.rint(known)).all())
            kept = whole and low >= 0 and high <= 255
            self._range = (0.0, 255.0) if kept or low > high else (float(low), float(high))
        return self._range

    def _short(self, index: int) -> MediaError:
        what = f"frame {index} of {self.grid.frames} is cut short"
        return MediaError(self.path, what, "The file is damaged: copy or export it again")


class Inflated:
    """A deflated stream, read in order and never further than asked."""

    def __init__(self, file: BinaryIO, wbits: int) -> None:
        self._file, self._wbits = file, wbits
        self._inflater = zlib.decompressobj(wbits)
        self._packed, self._left = b"", b""

    def take(self, count: int) -> bytes:
        """The next bytes; fewer where the stream ends."""
        parts: list[bytes] = []
        while count and (piece := self._piece(count)):
            parts.append(piece)
            count -= len(piece)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        while count and (piece := self._piece(count)):
            count -= len(piece)

    def _piece(self, most: int) -> bytes:
        while not self._left:
            if self._inflater.eof:  # gzip files may hold several members
                self._packed = self._inflater.unused_data
                self._inflater = zlib.decompressobj(self._wbits)
            packed = self._packed or self._file.read(2**16)
            self._left = self._inflater.decompress(packed, CHUNK_BYTES)  # may hold some back without a tail
            self._packed = self._inflater.unconsumed_tail
            if not (packed or self._left):
                return b""
        piece, self._left = self._left[:most], self._left[most:]
        return piece


def volume_spacing(col_mm: float, row_mm: float) -> Spacing | None:
    """Of a header whose unit is known; the placeholder 1 × 1 is unknown."""
    return None if (col_mm, row_mm) == PLACEHOLDER else spacing_or_none(row_mm, col_mm)
