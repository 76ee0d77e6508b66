"""Ultrasound DICOM: header first, bounded and checked, then the pixels that were asked for.

Shapes: T frames, H W pixels, 3 = RGB. Colour of any kind (YBR, palette) comes as RGB; grey of more than eight
bits is scaled from its stored range to eight; MONOCHROME1 is inverted. Of an H.264 or MPEG file the video
inside is read. Messages never hold values of the file's text: they may name a patient.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import MPEGTransferSyntaxes

from insonate.data.limits import check, check_geometry, limits
from insonate.data.media import calibration
from insonate.data.media.dicom_bytes import COPY_AGAIN, Joined, Pixels, Syntax, find_pixels, plain
from insonate.data.media.dicom_pixels import COLOURS, ONE_SAMPLE, Frames, Layout, check_decoder
from insonate.data.media.info import MediaInfo, Track, clean, mean_rate
from insonate.data.media.timing import finite, frame_times
from insonate.data.media.video import Clip
from insonate.errors import MediaError

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""float, double float and integer pixel data"""
TAGS: list[BaseTag | int] = [
    Tag(keyword)
    for keyword in (
        "BitsAllocated",
        "BitsStored",
        "CineRate",
        "Columns",
        "FrameIncrementPointer",
        "FrameTime",
        "FrameTimeVector",
        "Manufacturer",
        "ManufacturerModelName",
        "NumberOfFrames",
        "PatientID",
        "PerFrameFunctionalGroupsSequence",
        "PhotometricInterpretation",
        "PixelRepresentation",
        "PixelSpacing",
        "PlanarConfiguration",
        "Rows",
        "SamplesPerPixel",
        "SequenceOfUltrasoundRegions",
        "SeriesInstanceUID",
        "SharedFunctionalGroupsSequence",
        "SpecificCharacterSet",
        "StudyInstanceUID",
        "ViewCodeSequence",
        "ViewName",
        *(f"{colour}PaletteColorLookupTableData" for colour in COLOURS),
        *(f"{colour}PaletteColorLookupTableDescriptor" for colour in COLOURS),
        *(f"Segmented{colour}PaletteColorLookupTableData" for colour in COLOURS),
    )
]
THREE_SAMPLES = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
IN_VIDEO = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", *THREE_SAMPLES, "MONOCHROME2")


def opened(path: Path, file: BinaryIO) -> Instance:
    """The instance, its header read and its pixel data found; nothing is decoded.

    Raises:
        MediaError: the header contradicts itself or asks for more than the limits, or pixels are missing.
    """
    return Instance(path, file)


class Instance:
    """A `Medium`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._clip: Clip | None = None
        with _quiet():
            file, syntax = plain(path, file)
            header = _header(path, file, syntax)
            film = syntax.uid in MPEGTransferSyntaxes
            layout = _layout(path, header, film=film)
            check_geometry(path, layout.frames, layout.height, layout.width)
            pixels = find_pixels(
                path,
                file,
                syntax,
                frame_bytes=layout.frame_bytes,
                frames=layout.frames,
                fewest_fragments=1 if film else layout.frames,
            )
            self.info = _info(path, header, layout)
            if film:
                self._open_clip(file, pixels)
                return
            if syntax.encapsulated:
                check_decoder(path, syntax.uid)
            self._frames = Frames(path, file, syntax.uid, header, layout, pixels)

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`.

        Raises:
            MediaError: no decoder is installed, or a frame is missing or damaged.
        """
        if self._clip is not None:
            return self._clip.frames(indices, grey=grey)
        with _quiet():
            return self._frames.read(indices, grey=grey)

    def tracks(self) -> tuple[Track, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Close the video inside."""
        if self._clip is not None:
            self._clip.close()

    def _open_clip(self, file: BinaryIO, pixels: Pixels) -> None:
        """The video inside; the header must not claim more of it than there is.

        Raises:
            MediaError: it does, or the stream cannot be read.
        """
        clip = Clip(self.path, cast("BinaryIO", io.BufferedReader(Joined(file, pixels.fragments), 2**16)))
        self._clip, info, film = clip, self.info, clip.info
        if (film.height, film.width) != (info.height, info.width):
            what = f"the video is {film.height}×{film.width} px, the header says {info.height}×{info.width}"
            raise MediaError(self.path, what, COPY_AGAIN)
        if film.frames < info.frames:
            raise MediaError(self.path, f"frame {film.frames} of {info.frames} is missing", COPY_AGAIN)
        if info.times_s is None and film.times_s is not None and film.frames == info.frames:
            self.info = replace(info, times_s=film.times_s, fps=film.fps)


def _info(path: Path, header: Dataset, layout: Layout) -> MediaInfo:
    times_s = frame_times(header, layout.frames)
    each = calibration.frame_spacings(header, layout.frames)
    spacing = calibration.agreed(each)
    if not each:
        spacing = calibration.pixel_spacing(header, layout.height, layout.width)
    return MediaInfo(
        path=path,
        kind="dicom",
        frames=layout.frames,
        height=layout.height,
        width=layout.width,
        fps=mean_rate(times_s),
        times_s=times_s,
        spacing=spacing,
        frame_spacings=each if spacing is None else (),
        regions=calibration.regions(header, layout.height, layout.width),
        patient_id=clean(header.get("PatientID") or ""),
        study_id=clean(header.get("StudyInstanceUID") or ""),
        series_id=clean(header.get("SeriesInstanceUID") or ""),
        vendor=clean(header.get("Manufacturer") or ""),
        model=clean(header.get("ManufacturerModelName") or ""),
        view=_view(header),
    )


def _view(header: Dataset) -> str:
    """The coded view, or else what the scanner or its user calls it."""
    coded = next(iter(header.get("ViewCodeSequence") or []), Dataset())
    return clean(coded.get("CodeMeaning") or header.get("ViewName") or "")


@contextmanager
def _quiet() -> Iterator[None]:
    """Pydicom warns of values that do not fit the standard; those that matter are checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _header(path: Path, file: BinaryIO, syntax: Syntax) -> Dataset:
    """The elements of `TAGS`; leaves `file` at the pixel data element.

    Raises:
        MediaError: there are more elements than the limit, or one of `TAGS` is longer.
    """
    count, most = 0, limits().elements

    def at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        nonlocal count
        count += 1
        if count > most:
            check(path, "elements", count)
        return tag in PIXEL_TAGS

    file.seek(syntax.start)
    header = read_dataset(
        file,
        syntax.implicit,
        syntax.order == "<",
        stop_when=at_pixels,
        defer_size=limits().element_bytes,
        specific_tags=TAGS,
    )
    for tag in header.keys():  # noqa: SIM118  to go through a data set itself is to read its elements
        element = header.get_item(tag, keep_deferred=True)
        if isinstance(element, RawDataElement) and element.value is None:  # left on the disk, or empty
            check(path, "element_bytes", element.length)
    if syntax.order == ">":
        _swap_palettes(header)
    return header


def _swap_palettes(header: Dataset) -> None:
    """Pydicom reads the tables of palettes in this machine's order: give it what it takes them for."""
    for colour in COLOURS:
        table = header.get(f"{colour}PaletteColorLookupTableData")
        if isinstance(table, bytes):
            words = np.frombuffer(table[: len(table) // 2 * 2], ">u2")
            header[f"{colour}PaletteColorLookupTableData"].value = words.astype("<u2").tobytes()


def _layout(path: Path, header: Dataset, *, film: bool) -> Layout:
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
    if photometric not in (IN_VIDEO if film else THREE_SAMPLES if samples == 3 else ONE_SAMPLE):
        what = f"{clean(photometric)[:20]!r} pixels of {samples} samples cannot be read"
        raise MediaError(path, what, "Export the file as MONOCHROME2 or RGB")
    if samples == 3 and allocated != 8:
        raise MediaError(path, f"colour of {allocated} bits cannot be read", "Export it with 8 bits")
    return Layout(frames, height, width, samples, allocated, stored, bool(signed), photometric)


def _whole(
    path: Path, header: Dataset, keyword: str, allowed: Container[int], absent: int | None = None
) -> int:
    stored = header.get(keyword)
    if stored in {None, ""} and absent is not None:
        return absent
    value = finite(stored)
    if value is None or value != int(value) or int(value) not in allowed:
        told = "missing or no number" if value is None else f"{value:g}"
        raise MediaError(path, f"{keyword} is {told}", COPY_AGAIN)
    return int(value)
