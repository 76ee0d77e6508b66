"""JPEG frames of a cine, decoded by libjpeg one after another: their luma alone where none has colour.

Much grey ultrasound is stored as YCbCr whose chroma holds nothing. Its luma alone takes a quarter less time
and a third of the memory, but no header tells that there is no colour. So the decoder is given Huffman tables
for the chroma that know one code, "no coefficient": a frame that it decodes without complaint has no chroma;
its R, G and B are the luma exactly. A frame with colour holds a code that the tables lack.

Shapes: T frames, H W pixels, 3 = RGB. Source of the segments: ISO/IEC 10918-1, B.2; libjpeg-turbo, jdhuff.c.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import simplejpeg

from insonate.data.media.coded import START_OF_SCAN, Jpeg, jpeg, segments

HUFFMAN_TABLES, RESTART_INTERVAL = 0xC4, 0xDD
LONGEST_RESTART = 0xFFFF
"""blocks of 8 × 8 pixels, or more, that a restart interval may be long"""
FIRST_WAVES = ((0, 1), (1, 0), (2, 0), (1, 1), (0, 2))
"""vertical and horizontal frequency of a block's first coefficients"""
SAMPLE_ROWS = 8
"""of so many rows one is looked at for colour first"""


class Start(NamedTuple):
    """The segments before a frame's coded data; the frames of a cine mostly have them in common."""

    data: bytes
    coded: Jpeg
    colourless: bytes | None
    """the same for frames without colour only; `None` where the tables do not allow for it"""


class Stack:
    """Frames in the order they are added: T H W as long as none has colour, then T H W 3."""

    def __init__(self, frames: int, height: int, width: int, *, luma: bool) -> None:
        self._only_luma, self._coloured, self._count = luma, False, 0
        self._luma = np.empty((frames, height, width, 1), np.uint8)  # T H W 1
        self._rgb = np.empty((0 if luma else frames, height, width, 3), np.uint8)  # T H W 3

    def add(self, start: Start, data: bytes) -> None:
        """Decode one more frame.

        Raises:
            ValueError: libjpeg complains of it.
        """
        at = self._count
        self._count += 1
        if self._only_luma:
            simplejpeg.decode_jpeg(data, colorspace="GRAY", buffer=self._luma[at])
            return
        # the first frame is looked at for colour: where there is some, the other way costs time
        if at and not self._coloured and self._without_colour(start, data, at):
            return
        simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=self._rgb[at])
        if not self._coloured and colourless(self._rgb[at]):
            self._luma[at] = self._rgb[at, ..., :1]
        elif not self._coloured:
            self._coloured = True
            self._rgb[:at] = self._luma[:at]

    def frames(self) -> np.ndarray:
        """T H W or T H W 3, uint8."""
        return self._rgb if self._coloured else self._luma[..., 0]

    def _without_colour(self, start: Start, data: bytes, at: int) -> bool:
        if start.colourless is None or not bad_codes_are_told():
            return False
        try:
            grey = start.colourless + data[len(start.data) :]
            simplejpeg.decode_jpeg(grey, colorspace="GRAY", buffer=self._luma[at])
        except ValueError:  # it has colour, or is damaged, which the next decoder tells
            return False
        return True


def start_of(data: bytes) -> Start | None:
    """What a JPEG frame starts with; `None` where it is none."""
    coded = jpeg(data)
    found = list(segments(data))
    if coded is None or not found or found[-1][0] != START_OF_SCAN:
        return None
    _, at, selectors = found[-1]
    bodies: dict[int, list[bytes]] = {}
    for marker, _, body in found:
        bodies.setdefault(marker, []).append(body)
    start = data[: at + 4 + len(selectors)]
    tables = _tables_without_chroma(coded, bodies, selectors) if coded.ycc else None
    return Start(start, coded, tables and start[:at] + tables + start[at:])


def colourless(rgb: np.ndarray) -> bool:
    """Whether red, green and blue are equal in each pixel of H W 3."""
    for rows in (rgb[::SAMPLE_ROWS], rgb):
        values = rows.reshape(-1)
        same = values[1:] == values[:-1]
        same[2::3] = True  # blue and the next pixel's red
        if not same.all():
            return False
    return True


@cache
def bad_codes_are_told() -> bool:
    """Whether this libjpeg refuses a code that its Huffman tables lack: the rest relies on it.

    Tried on the worst case. The five waves in one block of chroma take 17 bits, which is as many as libjpeg's
    hasty way of decoding passes over at a bad code: it would be back in step, with nothing to tell of.
    """
    frequency = np.arange(8)[:, None]
    waves = np.cos((2 * np.arange(8) + 1) * frequency * np.pi / 16)
    block = 128 + 4.2 * sum(np.outer(waves[u], waves[v]) for u, v in FIRST_WAVES)
    luma = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)  # long enough for haste
    grey = np.full((128, 64), 128, np.uint8)
    coloured = grey.copy()
    coloured[64:72, 32:40] = np.rint(block)
    told = []
    for blue in (grey, coloured):
        data = simplejpeg.encode_jpeg_yuv_planes(luma, blue, grey, quality=50)
        start = start_of(data)
        if start is None or start.colourless is None:
            return False
        try:
            simplejpeg.decode_jpeg(start.colourless + data[len(start.data) :], colorspace="GRAY")
            told.append(False)
        except ValueError:
            told.append(True)
    return told == [False, True]


def _tables_without_chroma(coded: Jpeg, bodies: dict[int, list[bytes]], selectors: bytes) -> bytes | None:
    """Segments for just before the scan; `None` where chroma has no tables of its own, or other odd ones.

    libjpeg tells of bad codes only in its careful way of decoding, which it takes where a restart interval is
    set. One that is longer than the frame changes nothing else.
    """
    ids, uses = selectors[1:7:2], selectors[2:7:2]
    if len(coded.components) != 3 or selectors[:1] != b"\3" or ids != coded.components or len(uses) != 3:
        return None
    restarts = int.from_bytes((bodies.get(RESTART_INTERVAL) or [b""])[-1][:2], "big")
    if not restarts and math.ceil(coded.height / 8) * math.ceil(coded.width / 8) > LONGEST_RESTART:
        return None
    known = _first_codes(bodies.get(HUFFMAN_TABLES, []))
    chroma = {number for use in uses[1:] for number in (use >> 4, 0x10 | (use & 15))}
    if chroma & {uses[0] >> 4, 0x10 | (uses[0] & 15)} or not chroma <= known.keys():
        return None
    body = b"".join(bytes([number, *(int(n == known[number]) for n in range(1, 17)), 0]) for number in chroma)
    return (b"" if restarts else _segment(RESTART_INTERVAL, LONGEST_RESTART.to_bytes(2, "big"))) + _segment(
        HUFFMAN_TABLES, body
    )


def _first_codes(bodies: list[bytes]) -> dict[int, int]:
    """Bits of each sound table's first code where that stands for 0: no coefficient, or a block's end."""
    found: dict[int, int] = {}
    for body in bodies:
        at = 0
        while at + 17 <= len(body):
            number, counts = body[at], body[at + 1 : at + 17]
            symbols = body[at + 17 : at + 17 + sum(counts)]
            found.pop(number, None)
            if symbols[:1] == b"\0" and _sound(counts) and (number >> 4 or max(symbols) < 16):
                found[number] = next(bits for bits, count in enumerate(counts, 1) if count)
            at += 17 + sum(counts)
    return found


def _sound(counts: bytes) -> bool:
    """Whether there are codes enough for so many symbols of each length; that of ones alone is none."""
    code = 0
    for bits, count in enumerate(counts, 1):
        code = 2 * code + count
        if count and code >= 1 << bits:
            return False
    return True


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
