"""Stills that Pillow reads: PNG, JPEG, BMP, TIFF, WebP.

Shapes: T frames, H W pixels, 3 = RGB. Sixteen-bit grey is scaled to eight; transparency goes on black. The
pages of a TIFF are frames without times; of a JPEG with more than one picture only the first is read.
"""

from __future__ import annotations

import logging
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from insonate.data.limits import check, check_geometry
from insonate.data.media.animation import Animation, frame_durations
from insonate.data.media.info import MediaInfo, Track
from insonate.data.media.medium import stacked
from insonate.data.media.transparency import on_black
from insonate.errors import MediaError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
GREY = ("1", "L")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what it logs goes to stderr
SUBFILE_TYPE, REDUCED = 254, 1
"""TIFF tag, and its bit for a page that is a thumbnail of another"""


def opened(path: Path, file: BinaryIO) -> Still | Animation:
    """The picture, or the animation where there are several; no pixel is decoded.

    Raises:
        MediaError: the file asks for more than the limits.
    """
    check(path, "still_bytes", file.seek(0, 2))
    image = _open(path, file)
    try:
        durations_ms = frame_durations(path, file, image)
        if len(durations_ms) > 1:
            return Animation(path, image, durations_ms)
        return Still(path, file, image)
    except BaseException:
        image.close()
        raise


class Still:
    """A `Medium` of one picture, or of the pages of a TIFF."""

    def __init__(self, path: Path, file: BinaryIO, image: Image.Image) -> None:
        self.path, self._image = path, image
        self._pages = _tiff_pages(path, file) if image.format == "TIFF" else [0]
        check_geometry(path, len(self._pages), image.height, image.width)
        if image.format in {"JPEG", "MPO"}:
            check(path, "jpeg_scans", _jpeg_scans(file))
        self.info = MediaInfo(
            path=path,
            kind="image",
            frames=len(self._pages),
            height=image.height,
            width=image.width,
        )

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`.

        Raises:
            MediaError: the pixels cannot be had as eight bits, or a page has another size.
        """
        pictures = []
        for index in indices:
            if len(self._pages) > 1:
                self._image.seek(self._pages[index])
                self._check_size(index)
            pictures.append(_pixels(self.path, self._image))
        return stacked(pictures)

    def tracks(self) -> tuple[Track, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Let Pillow go."""
        self._image.close()

    def _check_size(self, page: int) -> None:
        size = (self._image.height, self._image.width)
        if size != (self.info.height, self.info.width):
            what = f"page {page} is {size[0]}×{size[1]} px, not as the first"
            raise MediaError(self.path, what, "Save pages of other sizes as files of their own")


def _open(path: Path, file: BinaryIO) -> Image.Image:
    """The image, its pixels not yet decoded; EXIF orientation is ignored: labels go by stored pixels.

    Raises:
        MediaError: it claims more pixels than Pillow itself would look at.
    """
    file.seek(0)
    with warnings.catch_warnings():  # Pillow warns of what we check ourselves
        warnings.simplefilter("ignore")
        try:
            return Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError:
            what = f"the header claims more than twice {Image.MAX_IMAGE_PIXELS} px (limit frame_px)"
            raise MediaError(path, what, "Check the file") from None


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    """H W or H W 3.

    Raises:
        MediaError: the values have no known range.
    """
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return ((wide + 128) // 257).astype(np.uint8)  # 65535 → 255
    if image.mode in {"I", "F"}:
        what = f"pixels of type {image.mode} have no fixed range"
        raise MediaError(path, what, "Save the image with 8 or 16 bits")
    if image.mode in GREY and "transparency" not in image.info:
        return np.asarray(image.convert("L"))
    if image.mode == "LA":
        return np.asarray(on_black(image))[..., 0]  # H W
    if image.mode == "P" and not image.has_transparency_data and _grey_palette(image):
        return np.asarray(image.convert("L"))
    return np.asarray(on_black(image))


def _grey_palette(image: Image.Image) -> bool:
    colours = np.frombuffer(bytes(image.getpalette("RGB") or []), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _tiff_pages(path: Path, file: BinaryIO) -> list[int]:
    """The pages that are pictures of their own, by walking the directories: a loop or a lie ends it.

    Source: TIFF 6.0, section 2.

    Raises:
        MediaError: there are more pages than the limit.
    """
    position = file.tell()
    try:
        file.seek(0)
        head = file.read(8)
        order = "<" if head[:2] == b"II" else ">"
        if head[2:4] not in {b"*\0", b"\0*"}:  # BigTIFF: its first page
            return [0]
        at, seen, pages = struct.unpack(f"{order}L", head[4:8])[0], set[int](), []
        while at and at not in seen:
            check(path, "frames", len(seen) + 1)
            thumbnail, after = _directory(file, at, order)
            if not thumbnail:
                pages.append(len(seen))
            seen.add(at)
            at = after
        return pages or [0]
    finally:
        file.seek(position)


def _directory(file: BinaryIO, at: int, order: str) -> tuple[bool, int]:
    """Whether the page at this offset is a thumbnail, and the offset of the next one, or 0."""
    file.seek(at)
    count = file.read(2)
    if len(count) < 2:
        return True, 0
    (entries,) = struct.unpack(f"{order}H", count)
    body = file.read(12 * entries + 4)
    if len(body) < 12 * entries + 4:
        return False, 0
    thumbnail = False
    for k in range(entries):
        tag, _, _, value = struct.unpack_from(f"{order}HHLL", body, 12 * k)
        thumbnail |= tag == SUBFILE_TYPE and bool(value & REDUCED)
    return thumbnail, struct.unpack_from(f"{order}L", body, 12 * entries)[0]


def _jpeg_scans(file: BinaryIO) -> int:
    """Start-of-scan markers; in coded data FF is always stuffed, so counting bytes is enough."""
    position = file.tell()
    file.seek(0)
    count = file.read().count(b"\xff\xda")
    file.seek(position)
    return count
