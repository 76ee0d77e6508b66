"""What a compressed frame says of itself, read from its first bytes before any decoder sees it.

Sources: JPEG: ISO/IEC 10918-1 B.2 (also JPEG-LS, ISO/IEC 14495-1 C.2); JPEG 2000: ISO/IEC 15444-1 A.5.1;
JPEG XL: ISO/IEC 18181-1, size header, and 18181-2, boxes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

START_OF_IMAGE, START_OF_SCAN, APP0, APP14 = 0xD8, 0xDA, 0xE0, 0xEE
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
FRAMES = frozenset({*range(0xC0, 0xD0), JPEG_LS}) - {0xC4, 0xC8, 0xCC}
"""start-of-frame markers"""
STANDALONE = frozenset({START_OF_IMAGE, 0x01, *range(0xD0, 0xD8)})
RGB_IDS = b"RGB"
J2K_START = b"\xff\x4f\xff\x51"
JXL_CODESTREAM, JXL_BOXES = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
RATIOS = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""of width to height, as JPEG XL counts them; the first means that the width is given"""


class Jpeg(NamedTuple):
    """The frame header of a JPEG or JPEG-LS image."""

    process: int
    """the start-of-frame marker"""
    precision: int
    height: int
    width: int
    components: bytes
    """an id each"""
    adobe_transform: int | None
    """of the Adobe segment: 0 as stored, 1 YCbCr"""
    jfif: bool

    @property
    def ycc(self) -> bool:
        """Whether libjpeg takes three components as YCbCr."""
        if self.adobe_transform is not None:
            return self.adobe_transform == 1
        return self.jfif or self.components != RGB_IDS


def jpeg(data: bytes) -> Jpeg | None:
    """The frame header of a JPEG or JPEG-LS image; `None` where it is none or has none."""
    transform, jfif = None, False
    for marker, _, body in segments(data):
        if marker in FRAMES:
            return _frame(marker, body, transform, jfif=jfif)
        if marker == APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        jfif |= marker == APP0 and body[:5] == b"JFIF\0"
    return None


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, place and body of each segment of a JPEG image, up to the header of its first scan."""
    at = 2
    while data.startswith(b"\xff\xd8") and at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in STANDALONE:  # fill bytes
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, at, data[at + 4 : at + 2 + length]
        if marker == START_OF_SCAN:
            return
        at += 2 + length


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG, JPEG-LS, JPEG 2000 or JPEG XL image; `None` where they cannot be told."""
    header = jpeg(data)
    if header is not None:
        return header.height, header.width
    at = data[:256].find(J2K_START)  # behind the boxes of a JP2 file, if there are any
    if at >= 0 and len(data) >= at + 24:
        x1, y1, x0, y0 = struct.unpack_from(">4L", data, at + 8)
        return y1 - y0, x1 - x0
    return _jxl_size(data)


def _frame(marker: int, body: bytes, transform: int | None, *, jfif: bool) -> Jpeg | None:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    return Jpeg(marker, precision, height, width, body[6 : 6 + 3 * count : 3], transform, jfif)


def _jxl_size(data: bytes) -> tuple[int, int] | None:
    if data.startswith(JXL_BOXES):
        data = _jxl_codestream(data)
    if not data.startswith(JXL_CODESTREAM):
        return None
    bits, at = int.from_bytes(data[2:32], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = (bits >> at) & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    over, under = RATIOS[take(3)]
    return height, height * over // under if under else side()


def _jxl_codestream(data: bytes) -> bytes:
    """The first bytes of the code stream in a container."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        if kind in {b"jxlc", b"jxlp"}:
            body = at + 8 + (8 if length == 1 else 0) + (4 if kind == b"jxlp" else 0)
            return data[body : body + 64]
        if length < 8:
            break
        at += length
    return b""
