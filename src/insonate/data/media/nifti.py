"""NIfTI-1 and NIfTI-2 in one file, gzipped or not.

Shapes: T frames, H W pixels. The file's x runs along W and y along H, so that a picture is the transposed
array of NIfTI tools; z and time run along T. Source: nifti1.h and nifti2.h, nifti.nimh.nih.gov.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from insonate.data.limits import check_geometry
from insonate.data.media.info import MediaInfo, Track, even_times, mean_rate, rate_or_none
from insonate.data.media.volume import Grid, Inflated, Numbers, volume_spacing
from insonate.errors import MediaError

GZIP, GZIP_WBITS = b"\x1f\x8b", 31
DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
    128: "u1",
}  # fmt: skip
RGB24 = 128
MM = {1: 1000.0, 2: 1.0, 3: 0.001}
"""code of the unit of length → mm; 0, unknown, is left unknown"""
SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
MAX_AXES = 7


class Fields(NamedTuple):
    """Where a version keeps its fields: formats of `struct` and places in bytes."""

    size: int
    dim: tuple[str, int]
    datatype: int
    pixdim: tuple[str, int]
    offset: tuple[str, int]
    scale: tuple[str, int]
    units: tuple[str, int]
    magic: tuple[int, tuple[bytes, ...]]
    apart: bytes
    """the magic of a header whose data are in another file"""


VERSIONS = (
    Fields(
        size=348,
        dim=("8h", 40),
        datatype=70,
        pixdim=("8f", 76),
        offset=("f", 108),
        scale=("2f", 112),
        units=("B", 123),
        magic=(344, (b"n+1\0", b"ni1\0")),
        apart=b"ni1\0",
    ),
    Fields(
        size=540,
        dim=("8q", 16),
        datatype=12,
        pixdim=("8d", 104),
        offset=("q", 168),
        scale=("2d", 176),
        units=("i", 500),
        magic=(4, (b"n+2\0", b"ni2\0")),
        apart=b"ni2\0",
    ),
)


def starts(start: bytes) -> bool:
    """Whether a file that starts so is NIfTI, gzipped or not."""
    return _version(_inflated_start(start)) is not None


def opened(path: Path, file: BinaryIO) -> Volume:
    """The volume, its header read.

    Raises:
        MediaError: the header is damaged, of a kind that is not read, or asks for more than the limits.
    """
    return Volume(path, file)


class Volume:
    """A `Medium`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        file.seek(0)
        packed = file.read(2) == GZIP
        file.seek(0)
        head = Inflated(file, GZIP_WBITS).take(540) if packed else file.read(540)
        found = _version(head)
        if found is None:
            raise MediaError(path, "the NIfTI header is damaged", "Copy the file again")
        self.info, grid = _read(path, head, *found)
        self._numbers = Numbers(path, file, grid, wbits=GZIP_WBITS if packed else None)

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`.

        Raises:
            MediaError: a frame is missing or damaged.
        """
        return self._numbers.frames(indices)

    def tracks(self) -> tuple[Track, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing is held open."""


def _inflated_start(start: bytes) -> bytes:
    if not start.startswith(GZIP):
        return start
    try:
        return zlib.decompressobj(GZIP_WBITS).decompress(start, 540)
    except zlib.error:
        return b""


def _version(head: bytes) -> tuple[Fields, str] | None:
    """The version, and the byte order as `struct` writes it."""
    for fields in VERSIONS:
        at, magics = fields.magic
        for order in "<>":
            if head[:4] == struct.pack(f"{order}i", fields.size) and head[at : at + 4] in magics:
                return fields, order
    return None


def _read(path: Path, head: bytes, fields: Fields, order: str) -> tuple[MediaInfo, Grid]:
    if len(head) < fields.size:
        raise MediaError(path, "the NIfTI header is cut short", "Copy the file again")

    def of(place: tuple[str, int]) -> tuple[float, ...]:
        return struct.unpack_from(order + place[0], head, place[1])

    if head[fields.magic[0] :].startswith(fields.apart):
        raise MediaError(path, "holds a NIfTI header alone", "Convert .hdr and .img to one .nii file")
    axes, *sizes = (int(n) for n in of(fields.dim))
    if not 1 <= axes <= MAX_AXES or min(sizes[:axes]) < 1:
        raise MediaError(
            path, f"the NIfTI header claims {axes} axes of {sizes[:axes]}", "Copy the file again"
        )
    width, height, *rest = *sizes[:axes], *([1] * (2 - axes))
    frames = math.prod(rest)
    check_geometry(path, frames, height, width)
    (code,) = of(("h", fields.datatype))
    if code not in DTYPES:
        raise MediaError(path, f"NIfTI data type {code} cannot be read", "Save it as integers or floats")
    dtype = np.dtype(order + DTYPES[int(code)])
    (offset,), (slope, inter) = of(fields.offset), of(fields.scale)
    if not math.isfinite(offset) or not fields.size <= offset < 2**31:
        raise MediaError(path, f"the NIfTI data start at {offset:g}", "Copy the file again")
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise MediaError(path, "the NIfTI scale is not finite", "Save the file again")
    grid = Grid(frames, height, width, 3 if code == RGB24 else 1, dtype, int(offset), slope or 1.0, inter)
    pixdim, (units,) = of(fields.pixdim), of(fields.units)
    factor_mm, tick_s = MM.get(int(units) & 0x07), SECONDS.get(int(units) & 0x38)
    cine = len(rest) > 1 and rest[0] == 1 and rest[1] == frames and tick_s is not None and pixdim[4] > 0
    fps = rate_or_none(1 / (pixdim[4] * (tick_s or 1)), frames) if cine else None
    times_s = even_times(fps, frames)
    info = MediaInfo(
        path=path,
        kind="volume",
        frames=frames,
        height=height,
        width=width,
        fps=mean_rate(times_s),
        times_s=times_s,
        spacing=None if factor_mm is None else volume_spacing(pixdim[1] * factor_mm, pixdim[2] * factor_mm),
    )
    return info, grid
