"""The one door for media files: sniff the content, check, hand over to the reader of that format.

Whatever a file does, what comes out is frames or a `MediaError`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from insonate.data.limits import check
from insonate.data.media import dicom, image, video
from insonate.data.media.info import MediaInfo
from insonate.errors import InsonateError, MediaError, one_line

SNIFF_BYTES = 512
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"),
        *(".dcm", ".dicom"),
    }
)
"""names that promise media, so that a damaged one is told, not passed over"""
IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
VIDEO_STARTS = (b"\x1aE\xdf\xa3", b"\0\0\x01\xba")
MOV_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def probe(path: Path | str) -> MediaInfo:
    """Facts from the header of a still, cine clip or DICOM file; limits are checked, nothing is decoded.

    Raises:
        MediaError: it is no regular file, no known format, damaged, or asks for more than the limits.
    """
    path = Path(path)
    with _entered(path) as (file, reader):
        return reader.probe(path, file)


def read_frames(path: Path | str, indices: Sequence[int] | None = None) -> np.ndarray:
    """Frames of a media file.

    Args:
        path: a still, cine clip or DICOM file.
        indices: the frames wanted, from 0, in any order and repeated at will; `None` for all.

    Returns:
        T H W where the frames are grey, T H W 3 (RGB) where they are not; uint8, in the order asked.

    Raises:
        MediaError: as for `probe`, or a frame is not there or damaged: no part of an answer is given.
    """
    path = Path(path)
    with _entered(path) as (file, reader):
        info = reader.probe(path, file)
        asked = list(range(info.frames)) if indices is None else [int(i) for i in indices]
        for index in asked:
            if not 0 <= index < info.frames:
                what = f"frame {index} was asked for, there are {info.frames}"
                raise MediaError(path, what, f"Ask for 0 to {info.frames - 1}")
        if not asked:
            return np.empty((0, info.height, info.width), np.uint8)
        check(path, "decoded_bytes", len(asked) * info.height * info.width * 3)
        ordered = sorted(set(asked))
        frames: np.ndarray = reader.read(path, file, info, ordered)
        if ordered == asked:
            return frames
        return frames[np.searchsorted(ordered, asked)]


def is_media(path: Path | str) -> bool:
    """Whether `probe` is worth a try: the content looks like media, or the name promises it."""
    path = Path(path)
    if path.is_dir():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with _regular(path) as file:
            return _reader(file.read(SNIFF_BYTES)) is not None
    except MediaError:
        return False


@contextmanager
def _entered(path: Path) -> Iterator[tuple[BinaryIO, ModuleType]]:
    """The open file and the reader of its format; any exception of the block leaves as a `MediaError`.

    Raises:
        MediaError: for whatever goes wrong.
        InsonateError: one that was raised in the block passes as it is.
    """
    try:
        with _regular(path) as file:
            start = file.read(SNIFF_BYTES)
            if start.startswith(LFS_POINTER):
                raise MediaError(
                    path, "is a Git LFS pointer, not the file", "Run `git lfs pull` where it came from"
                )
            reader = _reader(start)
            if reader is None:
                what = "a web page" if _is_markup(start) else "no image, video or DICOM format that is known"
                raise MediaError(
                    path, f"holds {what}", "Give PNG, JPEG, GIF, BMP, TIFF, WebP, MP4, AVI, MOV or DICOM"
                )
            yield file, reader
    except InsonateError:
        raise
    except Exception as error:  # Pillow, PyAV and pydicom raise some thirty kinds on damaged input
        # texts of pydicom may hold values of the header, which name patients: the kind must do
        what = f"cannot be read ({type(error).__name__})"
        raise MediaError(path, what, "The file is damaged: copy or export it again") from error


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file and nothing else: a pipe or device would wait or never end.

    Raises:
        MediaError: it is something else, empty, too large, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise MediaError(path, f"cannot be opened: {reason}", "Check the path") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise MediaError(path, "is no regular file", "Give a file, not a folder, pipe or device")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size == 0:
            raise MediaError(path, "is empty", "Copy it again")
        check(path, "file_bytes", status.st_size)
        yield file


def _reader(start: bytes) -> ModuleType | None:
    """The module that reads a file with this beginning."""
    if start[128:132] == b"DICM":
        return dicom
    if start.startswith(IMAGE_STARTS) or (start.startswith(b"RIFF") and start[8:12] == b"WEBP"):
        return image
    if start.startswith(b"BM") and start[6:10] == b"\0\0\0\0":  # reserved fields, zero in any real bitmap
        return image
    if start[4:8] in MOV_ATOMS or start.startswith(VIDEO_STARTS):
        return video
    return video if start.startswith(b"RIFF") and start[8:12] == b"AVI " else None


def _is_markup(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \r\n\t")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml"))
