"""The one door for media files: sniff the content, check, hand over to the reader of that format.

Whatever a file does, what comes out is frames or a `MediaError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from insonate.data.limits import check
from insonate.data.media.info import MediaInfo, Track, nearest_frames
from insonate.data.media.medium import Medium, grey_of
from insonate.data.media.regular import open_regular
from insonate.data.media.sniff import SNIFF_BYTES, SUFFIXES, is_markup, reader_of
from insonate.errors import InsonateError, MediaError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
KNOWN = "Give PNG, JPEG, GIF, BMP, TIFF, WebP, MP4, MOV, AVI, WebM, DICOM, NIfTI, MHA or MHD"


class MediaFile:
    """An open media file: facts at once, frames when they are asked for. Use it in a `with` block.

    Args:
        path: a still, cine clip, DICOM file or volume.
        content: its bytes, where they are not in a file of their own; `path` is then what errors call them.

    Raises:
        MediaError: it is no regular file, no known format, damaged, or asks for more than the limits.
    """

    def __init__(self, path: Path | str, content: BinaryIO | None = None) -> None:
        self.path = Path(path)
        self._file = open_regular(self.path) if content is None else content
        try:
            with _told(self.path):
                self._medium = _medium(self.path, self._file)
        except BaseException:
            self._file.close()
            raise

    @property
    def info(self) -> MediaInfo:
        """What the header tells."""
        return self._medium.info

    def read(
        self,
        indices: Sequence[int] | None = None,
        *,
        times_s: Sequence[float] | None = None,
        grey: bool = False,
    ) -> np.ndarray:
        """Frames, without decoding more than they need; see `read_frames`.

        Raises:
            MediaError: a frame is not there or damaged, or `times_s` is given and the file tells no times.
        """
        info = self.info
        asked = self._asked(indices, times_s)
        if not asked:
            return np.empty((0, info.height, info.width), np.uint8)
        check(self.path, "decoded_bytes", len(asked) * info.height * info.width * 3)
        ordered = sorted(set(asked))
        with _told(self.path):
            frames = self._medium.frames(ordered, grey=grey)
        if grey:
            frames = grey_of(frames)
        if ordered == asked:
            return frames
        return frames[np.searchsorted(ordered, asked)]

    def tracks(self) -> tuple[Track, ...]:
        """Poses that the file holds, a track for each pair of coordinate frames.

        Raises:
            MediaError: they are damaged.
        """
        with _told(self.path):
            return self._medium.tracks()

    def close(self) -> None:
        """Close the file."""
        self._medium.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, indices: Sequence[int] | None, times_s: Sequence[float] | None) -> list[int]:
        count = self.info.frames
        if times_s is not None:
            found = nearest_frames(self.info, times_s)
            if found is None:
                raise MediaError(self.path, "does not tell the times of its frames", "Ask by index")
            return found
        if indices is None:
            return list(range(count))
        asked = [int(i) for i in indices]
        for index in asked:
            if not 0 <= index < count:
                what = f"frame {index} was asked for, there are {count}"
                raise MediaError(self.path, what, f"Ask for 0 to {count - 1}")
        return asked


def probe(path: Path | str) -> MediaInfo:
    """Facts from the header of a media file; limits are checked, nothing is decoded.

    Raises:
        MediaError: as for `MediaFile`.
    """
    with MediaFile(path) as file:
        return file.info


def read_frames(
    path: Path | str,
    indices: Sequence[int] | None = None,
    *,
    times_s: Sequence[float] | None = None,
    grey: bool = False,
) -> np.ndarray:
    """Frames of a media file.

    Args:
        path: a still, cine clip, DICOM file or volume.
        indices: the frames wanted, from 0, in any order and repeated at will; `None` for all.
        times_s: instead of `indices`: seconds from the first frame on; the nearest frame to each is taken.
        grey: give the luma of coloured frames, which is faster where a format stores it.

    Returns:
        T H W where the frames are grey, T H W 3 (RGB) where they are not; uint8, in the order asked.

    Raises:
        MediaError: as for `MediaFile`, or a frame is not there or damaged: no part of an answer is given.
    """
    with MediaFile(path) as file:
        return file.read(indices, times_s=times_s, grey=grey)


def read_tracks(path: Path | str) -> tuple[Track, ...]:
    """Poses of a tracked sequence (MHA, MHD), a track for each pair of coordinate frames; else none.

    Raises:
        MediaError: as for `MediaFile`, or the poses are damaged.
    """
    with MediaFile(path) as file:
        return file.tracks()


def is_media(path: Path | str) -> bool:
    """Whether `probe` is worth a try: the content looks like media, or the name promises it."""
    path = Path(path)
    if path.is_dir():
        return False
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with open_regular(path) as file:
            return reader_of(file.read(SNIFF_BYTES)) is not None
    except MediaError:
        return False


def _medium(path: Path, file: BinaryIO) -> Medium:
    start = file.read(SNIFF_BYTES)
    if start.startswith(LFS_POINTER):
        raise MediaError(path, "is a Git LFS pointer, not the file", "Run `git lfs pull` where it came from")
    reader = reader_of(start)
    if reader is None:
        what = "a web page" if is_markup(start) else "no image, video, DICOM or volume format that is known"
        raise MediaError(path, f"holds {what}", KNOWN)
    medium: Medium = reader.opened(path, file)
    return medium


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Any exception of the block leaves as a `MediaError`.

    Raises:
        MediaError: for whatever goes wrong.
        InsonateError: one that was raised in the block passes as it is.
    """
    try:
        yield
    except InsonateError:
        raise
    except MemoryError as error:
        what = "asks for more memory than there is for one file"
        raise MediaError(
            path, what, "Check the file; where it is right, read fewer frames at once"
        ) from error
    except Exception as error:  # Pillow, PyAV and pydicom raise some thirty kinds on damaged input
        # texts of pydicom may hold values of the header, which name patients: the kind must do
        what = f"cannot be read ({type(error).__name__})"
        raise MediaError(path, what, "The file is damaged: copy or export it again") from error
