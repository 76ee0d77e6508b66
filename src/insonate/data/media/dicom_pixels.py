"""Frames of a DICOM file as eight-bit pictures: JPEG straight from its bytes, the rest through pydicom.

Shapes: H W pixels, 3 = RGB. JPEG that libjpeg reads as the header means it is decoded from the fragment
itself, some seven times faster than by way of pydicom's arrays; uncompressed pixels are read as they lie.
Lossless JPEG, 12-bit JPEG and JPEG XL need imagecodecs (extra `dicom`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, convert_color_space
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from insonate.data.limits import check
from insonate.data.media.coded import BASELINE, EXTENDED, LOSSLESS, PROGRESSIVE, Jpeg, coded_size, jpeg
from insonate.data.media.dicom_bytes import COPY_AGAIN, JPEG_XL, Pixels, Span, frames_of_fragments
from insonate.data.media.dicom_jpeg import Stack, Start, start_of
from insonate.data.media.info import clean
from insonate.data.media.medium import stacked
from insonate.data.media.timing import number
from insonate.errors import InsonateError, MediaError

LOSSLESS_JPEG = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
LOSSY_JPEG = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"})
UNCOMPRESSED = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian})
"""with the least byte first"""
SIZED = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes, *JPEG_XL})
"""whose frames tell their size"""
FRAME_STARTS = (b"\xff\xd8", b"\xff\x4f", b"\xff\x0a", b"\0\0\0\x0c")
ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOURS = ("Red", "Green", "Blue")
LUT_HIGH = 8
"""a palette of sixteen bits is shown by its upper eight"""


class Layout(NamedTuple):
    """The attributes that say how to read the pixels, checked."""

    frames: int
    height: int
    width: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Of one uncompressed frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.height * self.width * samples * self.bits_allocated // 8


class Frames:
    """Decodes the frames of one file."""

    def __init__(
        self, path: Path, file: BinaryIO, syntax: UID, header: Dataset, layout: Layout, pixels: Pixels
    ) -> None:
        self.path, self._file, self._syntax, self._header = path, file, syntax, header
        self.layout, self._pixels_at = layout, pixels.start
        check(path, "still_bytes", max((span.length for span in pixels.fragments), default=0))
        self._coded = (
            frames_of_fragments(pixels, layout.frames, self._starts_frame) if syntax in SIZED else []
        )

    def read(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """The frames at `indices` (ascending): T H W or T H W 3, uint8.

        Raises:
            MediaError: no decoder is installed, or a frame is missing or damaged.
        """
        if self._syntax in SIZED and not self._coded:
            raise MediaError(self.path, "the fragments do not tell which frame they are of", COPY_AGAIN)
        if self._syntax in LOSSY_JPEG:
            direct = self._direct(indices, grey=grey)
            if direct is not None:
                return direct
        elif self._coded:
            for index in indices:
                self._bytes(index)  # checks its size
        with closing(self._decoded(indices)) as decoded:  # it holds on to the file until it ends
            return stacked([eight_bits(frame, self._header, self.layout) for frame in decoded])

    def _starts_frame(self, span: Span) -> bool:
        self._file.seek(span.start)
        return self._file.read(4).startswith(FRAME_STARTS)

    def _bytes(self, index: int) -> bytes:
        """The coded frame, its own idea of its size checked.

        Raises:
            MediaError: it claims another size than the header, or is larger than the limit.
        """
        data = self._unchecked(index)
        self._check_size(index, data)
        return data

    def _check_size(self, index: int, data: bytes) -> None:
        size, wanted = coded_size(data), (self.layout.height, self.layout.width)
        if size is None:
            raise self._damaged(index, "is not coded as the header says")
        if size != wanted:
            raise self._damaged(index, f"has the size {size}, the header says {wanted}")

    def _unchecked(self, index: int) -> bytes:
        spans = self._coded[index]
        if len(spans) > 1:  # one alone was checked at first
            check(self.path, "still_bytes", sum(span.length for span in spans))
        parts = []
        for start, length in spans:
            self._file.seek(start)
            parts.append(self._file.read(length))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _direct(self, indices: list[int], *, grey: bool) -> np.ndarray | None:
        """The frames through libjpeg, or `None` where that would not read one as the header means it.

        Raises:
            MediaError: a frame is no JPEG image, of another size, or has more scans than the limit.
        """
        layout = self.layout
        luma = layout.samples == 1 or grey
        stack = Stack(len(indices), layout.height, layout.width, luma=luma)
        start: Start | None = None
        for index in indices:
            data = self._unchecked(index)
            if start is None or not data.startswith(start.data):
                start = self._start(index, data)
            if start is None:
                return None
            if grey and layout.samples == 3 and not start.coded.ycc:
                return self._direct(indices, grey=False)  # it stores no luma
            try:
                stack.add(start, data)
            except ValueError:  # damaged, or only odd: pydicom's decoders are the second opinion
                return None
        frames = stack.frames()
        return eight_bits(frames, self._header, layout) if layout.samples == 1 else frames

    def _start(self, index: int, data: bytes) -> Start | None:
        """What the frame starts with, checked; `None` where libjpeg would not read it as the header means it.

        Raises:
            MediaError: it is no JPEG image, of another size, or has more scans than the limit.
        """
        self._check_size(index, data)
        coded = jpeg(data)
        if coded is None:
            raise self._damaged(index, "is no JPEG image")
        if coded.process == PROGRESSIVE:  # which passes over the whole frame for each scan
            check(self.path, "jpeg_scans", data.count(b"\xff\xda"))
        return start_of(data) if _plain(coded, self.layout) else None

    def _decoded(self, indices: list[int]) -> Generator[np.ndarray]:
        """The frames as they are stored, colour as RGB."""
        if self._as_stored():
            yield from map(self._native, indices)
            return
        if self._needs_imagecodecs(indices[0]):
            for index in indices:
                yield self._by_imagecodecs(index)
            return
        check_decoder(self.path, self._syntax)
        wanted = None if len(indices) == self.layout.frames else indices
        self._file.seek(0)
        decoded = cast(
            "Generator[np.ndarray]", iter_pixels(self._file, indices=wanted, transfer_syntax_uid=self._syntax)
        )
        with closing(decoded) as arrays:
            for index in indices:
                frame = self._next(arrays, index)
                if frame.shape[:2] != (self.layout.height, self.layout.width):
                    raise self._damaged(index, f"has the size {frame.shape[:2]}")
                yield frame

    def _as_stored(self) -> bool:
        """Whether the bytes of the file are the pixels."""
        layout = self.layout
        whole = layout.bits_stored == layout.bits_allocated and layout.photometric in {*ONE_SAMPLE, "RGB"}
        return whole and self._syntax in UNCOMPRESSED

    def _native(self, index: int) -> np.ndarray:
        layout = self.layout
        self._file.seek(self._pixels_at + index * layout.frame_bytes)
        kind = f"<{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
        stored = np.frombuffer(self._file.read(layout.frame_bytes), kind)
        if layout.samples == 3 and number(self._header, "PlanarConfiguration") == 1:
            return stored.reshape(3, layout.height, layout.width).transpose(1, 2, 0)  # H W 3
        return stored.reshape(self._shape())

    def _next(self, arrays: Iterator[np.ndarray], index: int) -> np.ndarray:
        try:
            return next(arrays)
        except InsonateError:
            raise
        except Exception as error:  # pydicom and its plugins raise a dozen kinds; texts may hold values
            raise self._damaged(index, f"cannot be decoded ({type(error).__name__})") from error

    def _needs_imagecodecs(self, index: int) -> bool:
        if self._syntax in LOSSLESS_JPEG | JPEG_XL:
            return True
        if self._syntax not in LOSSY_JPEG:
            return False
        coded = jpeg(self._bytes(index))
        return coded is not None and coded.precision > 8

    def _by_imagecodecs(self, index: int) -> np.ndarray:
        codecs = _imagecodecs(self.path, self._syntax)
        data = self._bytes(index)
        coded = None if self._syntax in JPEG_XL else jpeg(data)
        if self._syntax in LOSSLESS_JPEG and (coded is None or coded.process != LOSSLESS):
            raise self._damaged(index, "is no lossless JPEG image")
        try:
            frame: np.ndarray = (
                codecs.jpegxl_decode(data) if self._syntax in JPEG_XL else codecs.jpeg8_decode(data)
            )
        except Exception as error:  # each codec has its own kinds
            raise self._damaged(index, f"cannot be decoded ({type(error).__name__})") from error
        if frame.shape != self._shape() or frame.dtype.itemsize * 8 != self.layout.bits_allocated:
            raise self._damaged(index, f"holds pixels of {frame.shape}, {frame.dtype}")
        if self._syntax in LOSSLESS_JPEG and self.layout.photometric == "YBR_FULL":
            return convert_color_space(frame, "YBR_FULL", "RGB")
        return frame

    def _shape(self) -> tuple[int, ...]:
        size = (self.layout.height, self.layout.width)
        return size if self.layout.samples == 1 else (*size, 3)

    def _damaged(self, index: int, what: str) -> MediaError:
        return MediaError(self.path, f"frame {index} of {self.layout.frames} {what}", COPY_AGAIN)


def check_decoder(path: Path, syntax: UID) -> None:
    """Refuse a file that no installed decoder can read.

    Raises:
        MediaError: there is none.
    """
    if syntax in LOSSLESS_JPEG | JPEG_XL:
        _imagecodecs(path, syntax)
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        what = f"no decoder for the transfer syntax {clean(syntax.name)} is installed"
        raise MediaError(path, what, "Export the file uncompressed")


def eight_bits(frame: np.ndarray, header: Dataset, layout: Layout) -> np.ndarray:
    """H W or H W 3, uint8: palettes applied, wide grey scaled from its stored range, MONOCHROME1 inverted."""
    if layout.photometric == "PALETTE COLOR":
        coloured = apply_color_lut(frame, header)  # H W 3
        return (coloured >> _lut_shift(header)).astype(np.uint8)
    if layout.samples == 3:
        return frame
    lowest = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    highest = lowest + 2**layout.bits_stored - 1
    if (lowest, highest) != (0, 255):
        scaled = (frame.astype(np.float64) - lowest) * (255 / (highest - lowest))
        frame = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return 255 - frame if layout.photometric == "MONOCHROME1" else frame


def _lut_shift(header: Dataset) -> int:
    """How far a palette's entries are shifted down: some writers put eight-bit values in sixteen bits."""
    tables = [header.get(f"{colour}PaletteColorLookupTableData") for colour in COLOURS]
    entries = header.RedPaletteColorLookupTableDescriptor[2]
    if entries <= LUT_HIGH:
        return 0
    small = all(table is not None and not any(table[1::2]) for table in tables)  # their upper bytes
    return 0 if small else LUT_HIGH


def _plain(coded: Jpeg, layout: Layout) -> bool:
    """Whether libjpeg reads the frame as the header means it."""
    if coded.process not in {BASELINE, EXTENDED} or (coded.precision, layout.bits_allocated) != (8, 8):
        return False
    if len(coded.components) != layout.samples:
        return False
    if layout.samples == 1:
        return layout.photometric != "PALETTE COLOR"
    if layout.photometric == "RGB":
        return not coded.ycc or coded.jfif  # JFIF is YCbCr, whatever the header says
    return coded.ycc


def _imagecodecs(path: Path, syntax: UID) -> Any:
    if importlib.util.find_spec("imagecodecs") is None:
        name = "JPEG XL" if syntax in JPEG_XL else "12-bit or lossless JPEG"
        what = f"no decoder for the transfer syntax {name} ({clean(syntax)}) is installed"
        raise MediaError(path, what, "Install insonate[dicom], or export the file uncompressed")
    import imagecodecs

    return imagecodecs
