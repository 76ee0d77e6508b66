"""Animations that Pillow reads: GIF, animated PNG, animated WebP.

Shapes: T frames, H W pixels, 3 = RGB. Times come from the files' own blocks,
which are walked without decoding.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from insonate.data.limits import check, check_geometry
from insonate.data.media.info import MediaInfo, Track, mean_rate, times_or_none
from insonate.data.media.medium import stacked
from insonate.data.media.transparency import on_black

SHORTEST_MS = 20.0
"""browsers show a GIF frame that claims less for 100 ms; as times such claims mean nothing"""


class Animation:
    """A `Medium`; frame `k` may need all before it, so Pillow goes through them in order."""

    def __init__(self, path: Path, image: Image.Image, durations_ms: list[float]) -> None:
        self._image = image
        self._first = int(bool(getattr(image, "default_image", False)))  # a PNG's stand-in is no frame of it
        check_geometry(path, len(durations_ms), image.height, image.width)
        starts_ms = [0.0, *accumulate(durations_ms[:-1])]
        known = min(durations_ms[:-1]) >= SHORTEST_MS
        times_s = times_or_none([t / 1000 for t in starts_ms]) if known else None
        self.info = MediaInfo(
            path=path,
            kind="video",
            frames=len(durations_ms),
            height=image.height,
            width=image.width,
            fps=mean_rate(times_s),
            times_s=times_s,
        )

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`: T H W where no frame has colour."""
        frames = []
        for index in indices:
            self._image.seek(self._first + index)
            frames.append(np.asarray(on_black(self._image)))
        colour = stacked(frames)  # T H W 3
        return colour[..., 0] if (colour == colour[..., :1]).all() else colour

    def tracks(self) -> tuple[Track, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Let Pillow go."""
        self._image.close()


def frame_durations(path: Path, file: BinaryIO, image: Image.Image) -> list[float]:
    """Milliseconds that each frame is shown, by walking the blocks; at most one entry for a still.

    Raises:
        MediaError: there are more frames or pixels than the limits.
    """
    walk = {"GIF": _gif, "PNG": _png, "WEBP": _webp}.get(image.format or "")
    if walk is None:
        return []
    position = file.tell()
    file.seek(0)
    durations_ms = walk(file.read())
    file.seek(position)
    check(path, "frames", len(durations_ms))
    check(path, "media_px", len(durations_ms) * image.width * image.height)
    return durations_ms


def _gif(data: bytes) -> list[float]:
    """Source: GIF89a, sections 20 (image) and 23 (graphic control)."""
    at = 13 + _table_bytes(data[10])
    found, delay_ms = [], 0.0
    while at < len(data) and data[at] != 0x3B:  # trailer
        if data[at] == 0x2C:  # image
            found.append(delay_ms)
            delay_ms = 0.0
            at += 11 + _table_bytes(data[at + 9])
        elif data[at] == 0x21:  # extension
            if data[at + 1 : at + 3] == b"\xf9\x04":
                delay_ms = 10.0 * struct.unpack_from("<H", data, at + 4)[0]
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks, the last one empty
            at += 1 + data[at]
        at += 1
    return found


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _png(data: bytes) -> list[float]:
    """Source: PNG, third edition, 11.3.6 (fcTL: delay in numerator and denominator)."""
    at, found = 8, []
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if kind == b"fcTL" and length == 26 and at + 34 <= len(data):
            over, under = struct.unpack_from(">HH", data, at + 28)
            found.append(1000.0 * over / (under or 100))
        at += 12 + length
    return found


def _webp(data: bytes) -> list[float]:
    """Source: WebP container specification, ANMF (24-bit duration after four 24-bit numbers)."""
    at, found = 12, []
    while at + 24 <= len(data):
        kind, length = struct.unpack_from("<4sL", data, at)
        if kind == b"ANMF":
            found.append(float(int.from_bytes(data[at + 20 : at + 23], "little")))
        at += 8 + length + length % 2
    return found
