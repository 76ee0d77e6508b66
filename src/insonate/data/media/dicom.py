"""Ultrasound DICOM: header first, bounded and checked, then the pixels that were asked for.

Shapes: T frames, H W pixels, 3 = RGB. Colour of any kind (YBR, palette) comes as RGB; grey of more than eight
bits is scaled from its stored range to eight; MONOCHROME1 is inverted.
Messages never hold values of the file's text: they may name a patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from insonate.data.limits import check_geometry, limits
from insonate.data.media.calibration import frame_rate, number, pixel_spacing
from insonate.data.media.dicom_bytes import COPY_AGAIN, check_pixels, plain
from insonate.data.media.info import MediaInfo, clean
from insonate.errors import InsonateError, MediaError

TAGS = [
    "BitsAllocated",
    "BitsStored",
    "BluePaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "CineRate",
    "Columns",
    "FrameTime",
    "FrameTimeVector",
    "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "Manufacturer",
    "NumberOfFrames",
    "PatientID",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "RedPaletteColorLookupTableData",
    "RedPaletteColorLookupTableDescriptor",
    "Rows",
    "SamplesPerPixel",
    "SegmentedBluePaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SequenceOfUltrasoundRegions",
    "SeriesInstanceUID",
    "SpecificCharacterSet",
    "StudyInstanceUID",
]
ONE_SAMPLE = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


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


def probe(path: Path, file: BinaryIO) -> MediaInfo:
    """Facts from the header.

    Raises:
        MediaError: the header contradicts itself or asks for more than the limits, or pixels are missing.
    """
    with _quiet():
        file, syntax = plain(path, file)
        header = _header(file)
        layout = _layout(path, header)
        check_geometry(path, layout.frames, layout.height, layout.width)
        check_pixels(path, file, syntax, layout.frame_bytes, layout.frames)
        return MediaInfo(
            path=path,
            kind="dicom",
            frames=layout.frames,
            height=layout.height,
            width=layout.width,
            fps=frame_rate(header, layout.frames),
            spacing=pixel_spacing(header, layout.height, layout.width),
            patient_id=clean(header.get("PatientID") or ""),
            study_id=clean(header.get("StudyInstanceUID") or ""),
            series_id=clean(header.get("SeriesInstanceUID") or ""),
            vendor=clean(header.get("Manufacturer") or ""),
        )


def read(path: Path, file: BinaryIO, info: MediaInfo, indices: list[int]) -> np.ndarray:
    """The frames at `indices` (ascending, checked): T H W or T H W 3, uint8.

    Raises:
        MediaError: no decoder is installed, or a frame is missing or damaged.
    """
    with _quiet():
        file, _ = plain(path, file)
        header = _header(file)
        layout = _layout(path, header)
        _check_decoder(path, header.file_meta.TransferSyntaxUID)
        wanted = None if len(indices) == layout.frames else indices
        file.seek(0)
        decoded = cast("Generator[np.ndarray]", iter_pixels(file, indices=wanted))
        with closing(decoded) as pixels:  # it moves `file` when it ends, which must be open then
            frames = [
                _eight_bits(_next(path, pixels, index, info.frames), header, layout) for index in indices
            ]
    shape = (layout.height, layout.width)
    for index, frame in zip(indices, frames, strict=True):
        if frame.shape[:2] != shape:
            what = f"frame {index} has the size {frame.shape[:2]}, the header says {shape}"
            raise MediaError(path, what, COPY_AGAIN)
    return np.stack(frames)


@contextmanager
def _quiet() -> Iterator[None]:
    """Pydicom warns of values that do not fit the standard; those that matter are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(file: BinaryIO) -> Dataset:
    """The elements of `TAGS`; leaves `file` at the pixel data element."""
    file.seek(0)
    return dcmread(file, stop_before_pixels=True, specific_tags=TAGS, defer_size=limits().element_bytes)


def _layout(path: Path, header: Dataset) -> Layout:
    frames = _whole(path, header, "NumberOfFrames", range(1, 2**31), absent=1)
    height = _whole(path, header, "Rows", range(1, 2**16))
    width = _whole(path, header, "Columns", range(1, 2**16))
    samples = _whole(path, header, "SamplesPerPixel", (1, 3), absent=1)
    allocated = _whole(path, header, "BitsAllocated", (8, 16))
    stored = _whole(path, header, "BitsStored", range(1, allocated + 1), absent=allocated)
    signed = _whole(path, header, "PixelRepresentation", (0, 1), absent=0)
    if samples == 3:
        _whole(path, header, "PlanarConfiguration", (0, 1), absent=0)
    photometric = str(header.get("PhotometricInterpretation", "")).strip()
    if photometric not in (THREE_SAMPLES if samples == 3 else ONE_SAMPLE):
        what = f"{clean(photometric)[:20]!r} pixels of {samples} samples cannot be read"
        raise MediaError(path, what, "Export the file as MONOCHROME2 or RGB")
    if samples == 3 and allocated != 8:
        raise MediaError(path, f"colour of {allocated} bits cannot be read", "Export it with 8 bits")
    return Layout(frames, height, width, samples, allocated, stored, bool(signed), photometric)


def _whole(
    path: Path, header: Dataset, keyword: str, allowed: Container[int], absent: int | None = None
) -> int:
    if header.get(keyword) in {None, ""} and absent is not None:
        return absent
    value = number(header, keyword)
    if value is None or value != int(value) or int(value) not in allowed:
        told = "missing or no number" if value is None else f"{value:g}"
        raise MediaError(path, f"{keyword} is {told}", COPY_AGAIN)
    return int(value)


def _check_decoder(path: Path, syntax: UID) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        what = f"no decoder for the transfer syntax {clean(syntax.name)} is installed"
        raise MediaError(path, what, "Install insonate[dicom], or export the file uncompressed")


def _next(path: Path, pixels: Iterator[np.ndarray], index: int, frames: int) -> np.ndarray:
    try:
        return next(pixels)
    except InsonateError:
        raise
    except Exception as error:  # pydicom and its plugins raise a dozen kinds; texts may hold values
        what = f"frame {index} of {frames} cannot be decoded ({type(error).__name__})"
        raise MediaError(path, what, COPY_AGAIN) from error


def _eight_bits(frame: np.ndarray, header: Dataset, layout: Layout) -> np.ndarray:
    """H W or H W 3, uint8."""
    if layout.photometric == "PALETTE COLOR":
        coloured = apply_color_lut(frame, header)  # H W 3
        return coloured if coloured.dtype == np.uint8 else (coloured >> 8).astype(np.uint8)
    if layout.samples == 3:
        return frame
    lowest = -(2 ** (layout.bits_stored - 1)) if layout.signed else 0
    highest = lowest + 2**layout.bits_stored - 1
    if (lowest, highest) != (0, 255):
        scaled = (frame.astype(np.float64) - lowest) * (255 / (highest - lowest))
        frame = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return 255 - frame if layout.photometric == "MONOCHROME1" else frame
