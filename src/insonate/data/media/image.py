"""Stills and animations that Pillow reads: PNG, JPEG, BMP, TIFF, WebP, GIF.

Shapes: T frames, H W pixels, 3 = RGB. Sixteen-bit grey is scaled to eight; transparency goes on black.
An animation (GIF, WebP, PNG) is a video; of a JPEG or TIFF with more than one picture only the first is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from insonate.data.limits import check, check_geometry
from insonate.data.media.info import MediaInfo, rate_or_none
from insonate.errors import MediaError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
ANIMATED = ("GIF", "PNG", "WEBP")
GREY = ("1", "L")


def probe(path: Path, file: BinaryIO) -> MediaInfo:
    """Facts from the header.

    Raises:
        MediaError: the file asks for more than the limits.
    """
    check(path, "still_bytes", file.seek(0, 2))
    with _opened(path, file) as image:
        frames = _count(path, file, image)
        check_geometry(path, frames, image.height, image.width)
        if image.format in {"JPEG", "MPO"}:
            check(path, "jpeg_scans", _jpeg_scans(file))
        duration_ms = image.info.get("duration")
        fps = 1000 / duration_ms if isinstance(duration_ms, int | float) and duration_ms > 0 else None
        return MediaInfo(
            path=path,
            kind="video" if frames > 1 else "image",
            frames=frames,
            height=image.height,
            width=image.width,
            fps=rate_or_none(fps, frames),
        )


def read(path: Path, file: BinaryIO, info: MediaInfo, indices: list[int]) -> np.ndarray:
    """The frames at `indices` (ascending, checked): T H W or T H W 3, uint8.

    Raises:
        MediaError: the pixels cannot be had as eight bits.
    """
    with _opened(path, file) as image:
        if info.frames == 1:
            return _pixels(path, image)[None]
        frames = []
        for index in indices:
            image.seek(index)
            frames.append(np.asarray(_on_black(image)))
        return np.stack(frames)  # T H W 3


@contextmanager
def _opened(path: Path, file: BinaryIO) -> Iterator[Image.Image]:
    """The image, its pixels not yet decoded; EXIF orientation is ignored: labels go by stored pixels.

    Raises:
        MediaError: it claims more pixels than Pillow itself would look at.
    """
    file.seek(0)
    with warnings.catch_warnings():  # Pillow warns of what we check ourselves
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError:
            what = f"the header claims more than twice {Image.MAX_IMAGE_PIXELS} px (limit frame_px)"
            raise MediaError(path, what, "Check the file") from None
        with image:
            yield image


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
        return np.asarray(_on_black(image))[..., 0]  # H W
    return np.asarray(_on_black(image))


def _on_black(image: Image.Image) -> Image.Image:
    """RGB: what is transparent becomes black, as around an ultrasound sector."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")


def _count(path: Path, file: BinaryIO, image: Image.Image) -> int:
    if image.format not in ANIMATED:
        return 1
    if image.format != "GIF":
        return int(getattr(image, "n_frames", 1))  # from the header
    position = file.tell()
    file.seek(0)
    frames = _gif_frames(file.read())
    file.seek(position)
    check(path, "frames", frames)
    check(path, "media_px", frames * image.width * image.height)
    return frames


def _gif_frames(data: bytes) -> int:
    """Images in a GIF, by walking its blocks: Pillow would decode each of them to count."""
    at = 13 + _table_bytes(data[10])
    frames = 0
    while at < len(data) and data[at] != 0x3B:  # trailer
        if data[at] == 0x2C:  # image
            frames += 1
            at += 11 + _table_bytes(data[at + 9])
        elif data[at] == 0x21:  # extension
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks, the last one empty
            at += 1 + data[at]
        at += 1
    return frames


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _jpeg_scans(file: BinaryIO) -> int:
    """Start-of-scan markers; in coded data FF is always stuffed, so counting bytes is enough."""
    position = file.tell()
    file.seek(0)
    count = file.read().count(b"\xff\xda")
    file.seek(position)
    return count
