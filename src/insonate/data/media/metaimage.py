"""MetaImage (MHA, MHD) and its tracked sequences, as the PLUS toolkit writes them.

Shapes: T frames, H W pixels. Pictures of a sequence come in one orientation whatever the file's: columns run
to the marked side of the probe, rows away from it (MF), which is how PLUS defines the Image coordinates that
its transforms speak of. Sources: itk.org MetaIO format; PLUS toolkit, "Sequence metafile" and
"Ultrasound image orientation".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from insonate.data.limits import check, check_geometry
from insonate.data.media.info import MediaInfo, Track, mean_rate, times_or_none
from insonate.data.media.regular import open_regular
from insonate.data.media.volume import Grid, Numbers, volume_spacing
from insonate.errors import InsonateError, MediaError
from insonate.files import inside

ZLIB_WBITS = 15
DTYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4",
    "MET_INT": "i4", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
MAX_AXES = 7
LONGEST_LINE = 2**16
POSE = re.compile(r"Seq_Frame(\d{4,})_(\w+?)To([A-Z]\w*)Transform(Status)?")
TIME = re.compile(r"Seq_Frame(\d{4,})_Timestamp")
ACROSS, AWAY = "MU", "FN"
"""letters of an orientation: to the marked or unmarked side; far from or near to the probe"""


def starts(start: bytes) -> bool:
    """Whether a file that starts so is a MetaImage."""
    return start.startswith(b"ObjectType") or (start.startswith(b"NDims") and b"DimSize" in start)


def opened(path: Path, file: BinaryIO) -> Sequence:
    """The picture or sequence, its header read.

    Raises:
        MediaError: the header is damaged, of a kind that is not read, or asks for more than the limits.
    """
    return Sequence(path, file)


class Sequence:
    """A `Medium`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._fields = _fields(path, file)
        grid = _grid(path, self._fields)
        self._orientation = _orientation(path, self._fields)
        self._other, offset = _data_file(path, self._fields)
        try:
            source, start = (file, file.tell()) if self._other is None else (self._other, offset)
            packed = _flag(self._fields, "CompressedData")
            self._numbers = Numbers(path, source, grid, wbits=ZLIB_WBITS if packed else None, start=start)
            self.info = self._facts(grid)
        except BaseException:
            self.close()
            raise

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`.

        Raises:
            MediaError: a frame is missing or damaged.
        """
        frames = self._numbers.frames(indices)
        letters = self._orientation
        if letters and letters[0] in AWAY:
            frames, letters = frames.swapaxes(1, 2), letters[::-1]
        if letters.startswith("U"):
            frames = frames[:, :, ::-1]
        if letters.endswith("N"):
            frames = frames[:, ::-1]
        return np.ascontiguousarray(frames)

    def tracks(self) -> tuple[Track, ...]:
        """See `Medium`.

        Raises:
            MediaError: a matrix is no 16 finite numbers.
        """
        found: dict[tuple[str, str], Track] = {}
        status: dict[tuple[str, str, int], bool] = {}
        for key, value in self._fields.items():
            match = POSE.fullmatch(key)
            if match is None or int(match[1]) >= self.info.frames:
                continue
            frame, pair = int(match[1]), (match[2], match[3])
            if match[4]:
                status[*pair, frame] = value == "OK"
                continue
            track = found.setdefault(pair, _lost(*pair, self.info.frames))
            track.matrices[frame] = _matrix(self.path, key, value)
            track.valid[frame] = True
        for (source, target, frame), seen in status.items():
            if (source, target) in found:
                found[source, target].valid[frame] &= seen
        return tuple(found.values())

    def close(self) -> None:
        """Close the file of the numbers, where it is another one."""
        if self._other is not None:
            self._other.close()

    def _facts(self, grid: Grid) -> MediaInfo:
        height, width = grid.height, grid.width
        spacing = _numbers_of(
            self.path, self._fields, "ElementSpacing", self._fields.get("ElementSize", "1 1")
        )
        col_mm, row_mm = spacing[:2] if len(spacing) > 1 else (1.0, 1.0)
        if self._orientation and self._orientation[0] in AWAY:
            height, width, col_mm, row_mm = width, height, row_mm, col_mm
        times_s = self._times(grid.frames)
        return MediaInfo(
            path=self.path,
            kind="volume",
            frames=grid.frames,
            height=height,
            width=width,
            fps=mean_rate(times_s),
            times_s=times_s,
            spacing=volume_spacing(col_mm, row_mm),
        )

    def _times(self, frames: int) -> tuple[float, ...] | None:
        stamps = {int(m[1]): value for key, value in self._fields.items() if (m := TIME.fullmatch(key))}
        try:
            return times_or_none([float(stamps[i]) for i in range(frames)])
        except (KeyError, ValueError):
            return None


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """The header; leaves `file` at the data that follow it.

    Raises:
        MediaError: it is damaged, or longer than the limit.
    """
    file.seek(0)
    fields: dict[str, str] = {}
    while line := file.readline(LONGEST_LINE):
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            raise MediaError(path, "the MetaImage header is damaged", "Copy the file again")
        fields[key.strip()] = value.strip()
        check(path, "header_bytes", file.tell())
        if key.strip() == "ElementDataFile":
            return fields
    raise MediaError(path, "the MetaImage header does not say where the data are", "Copy the file again")


def _grid(path: Path, fields: dict[str, str]) -> Grid:
    axes = _numbers_of(path, fields, "NDims", "3")
    sizes = _numbers_of(path, fields, "DimSize", "")
    if len(axes) != 1 or not 2 <= axes[0] <= MAX_AXES or len(sizes) != axes[0]:
        raise MediaError(path, f"NDims and DimSize ({len(sizes)} sizes) do not fit", "Copy the file again")
    width, height, *rest = (int(size) if abs(size) < 2**31 else 2**31 for size in sizes)
    if min(rest, default=1) < 1:
        raise MediaError(path, f"DimSize is {sizes}", "Copy the file again")
    frames = 1
    for size in rest:
        frames *= size
    check_geometry(path, frames, height, width)
    kind = fields.get("ElementType", "")
    channels = _numbers_of(path, fields, "ElementNumberOfChannels", "1")[:1]
    if kind not in DTYPES or channels not in ([1.0], [3.0]) or (channels == [3.0] and kind != "MET_UCHAR"):
        raise MediaError(path, f"elements of type {kind[:20]!r} cannot be read", "Save it as MET_UCHAR")
    if fields.get("BinaryData", "True") != "True":
        raise MediaError(path, "holds its numbers as text", "Save it with BinaryData = True")
    big = _flag(fields, "BinaryDataByteOrderMSB") or _flag(fields, "ElementByteOrderMSB")
    dtype = np.dtype((">" if big else "<") + DTYPES[kind])
    return Grid(frames, height, width, int(channels[0]), dtype, 0)


def _orientation(path: Path, fields: dict[str, str]) -> str:
    """Two letters, or empty where the file has no ultrasound orientation.

    Raises:
        MediaError: they name no orientation.
    """
    letters = fields.get("UltrasoundImageOrientation", "")[:2]
    if not letters:
        return ""
    if len(letters) != 2 or {"M" if c in ACROSS else "F" for c in letters if c in ACROSS + AWAY} != {
        "M",
        "F",
    }:
        raise MediaError(path, f"UltrasoundImageOrientation {letters!r} is unknown", "Save it as MF")
    return letters


def _data_file(path: Path, fields: dict[str, str]) -> tuple[BinaryIO | None, int]:
    """The other file that holds the numbers and where they start in it; `None` where they are in this one.

    Raises:
        MediaError: it lies outside the header's folder, or is a list.
    """
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return None, 0
    if name.upper().startswith("LIST") or "%" in name:
        raise MediaError(path, "spreads its frames over several files", "Save it as one MHA file")
    try:
        other = inside(path.parent, name)
    except InsonateError as error:
        raise MediaError(path, error.what, "Put the data beside the header") from error
    (header_bytes,) = _numbers_of(path, fields, "HeaderSize", "0")[:1] or [0.0]
    if not 0 <= header_bytes < 2**31:
        raise MediaError(path, f"HeaderSize is {header_bytes:g}", "Save it as one MHA file")
    return open_regular(other), int(header_bytes)


def _flag(fields: dict[str, str], key: str) -> bool:
    return fields.get(key, "").lower() == "true"


def _numbers_of(path: Path, fields: dict[str, str], key: str, absent: str) -> list[float]:
    try:
        return [float(word) for word in fields.get(key, absent).split()[: MAX_AXES + 1]]
    except ValueError:
        raise MediaError(path, f"{key} is no list of numbers", "Copy the file again") from None


def _lost(source: str, target: str, frames: int) -> Track:
    return Track(source, target, np.full((frames, 4, 4), np.nan), np.zeros(frames, bool))


def _matrix(path: Path, key: str, value: str) -> np.ndarray:
    try:
        entries = np.array(value.split()[:17], np.float64)
    except ValueError:
        entries = np.empty(0)
    if entries.shape != (16,) or not np.isfinite(entries).all():
        raise MediaError(path, f"{key} is no matrix of 16 numbers", "Export the sequence again")
    return entries.reshape(4, 4)
