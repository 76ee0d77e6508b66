"""The bytes of a DICOM file, walked before anything is believed: syntax, inflation, lengths, fragments.

Source: DICOM PS3.5, 7.1 (elements), A.4 (encapsulated pixel data), A.5 (deflated); PS3.10, 7.1 (file meta).
"""

from __future__ import annotations

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from insonate.data.limits import check, limits
from insonate.errors import MediaError

PREFIX, META_START, LOOK_BYTES = b"DICM", 132, 512
META_WITHOUT_PREAMBLE = b"\x02\0\0\0UL"
AFTER_META = 0x00030000
ITEM_HEAD = struct.Struct("<HHL")
PIXEL_DATA, ITEM, SEQUENCE_END = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UNDEFINED_LENGTH = 0xFFFFFFFF
SHORT_LENGTH = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()  # two bytes, not four
)
LONGEST_FIRST = 1024
"""bytes of the first element of a bare data set: a date, a character set, an image type or a length"""
JPEG_XL = frozenset({"1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"})
"""transfer syntaxes that pydicom 3 does not know"""
COPY_AGAIN = "The file is damaged: copy or export it again"


class Syntax(NamedTuple):
    """How elements are laid out."""

    uid: UID
    order: str
    """`<` or `>`, as in `struct`"""
    implicit: bool
    encapsulated: bool
    start: int
    """of the first element behind the file meta information"""


class Pixels(NamedTuple):
    """Where the pixel data lie."""

    start: int
    """of the value, in uncompressed files"""
    fragments: tuple[Span, ...]
    """of compressed ones, the offset table left out"""
    table: tuple[int, ...]
    """the basic offset table: where each frame's first fragment starts, from the first fragment's item on"""


class Span(NamedTuple):
    """A run of bytes in the file."""

    start: int
    length: int


class Element(NamedTuple):
    """The start of an element; the file stands at its value."""

    tag: tuple[int, int]
    length: int


def starts(start: bytes) -> bool:
    """Whether a file that starts so is DICOM: with the preamble, without it, or the bare data set."""
    return (
        start[128:132] == PREFIX or start.startswith(META_WITHOUT_PREAMBLE) or _bare_syntax(start) is not None
    )


def plain(path: Path, file: BinaryIO) -> tuple[BinaryIO, Syntax]:
    """The file, inflated in memory if it was deflated (its meta information then says explicit VR).

    Raises:
        MediaError: the start is damaged, the transfer syntax unknown, or the inflated size above the limit.
    """
    file.seek(0)
    start_bytes = file.read(LOOK_BYTES)
    bare = _bare_syntax(start_bytes)
    if bare is not None:
        return file, _syntax(bare, 0)
    meta_start = META_START if start_bytes[128:132] == PREFIX else 0
    file.seek(meta_start)
    if file.read(2) != b"\x02\x00":
        raise MediaError(path, "the DICOM header has no file meta information", COPY_AGAIN)
    file.seek(meta_start)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_meta)
    uid = UID(str(meta.get("TransferSyntaxUID", "")))
    start = file.tell()
    if uid in JPEG_XL:
        return file, Syntax(uid, "<", implicit=False, encapsulated=True, start=start)
    if not uid.is_transfer_syntax:
        told = f"{uid} is unknown" if uid.is_valid else "is missing or no UID"
        raise MediaError(path, f"the transfer syntax {told}", "Export the file uncompressed")
    if uid == DeflatedExplicitVRLittleEndian:
        return _inflated(path, file), Syntax(uid, "<", implicit=False, encapsulated=False, start=start)
    return file, _syntax(uid, start)


def find_pixels(
    path: Path, file: BinaryIO, syntax: Syntax, *, frame_bytes: int, frames: int, fewest_fragments: int
) -> Pixels:
    """Where the pixels are; refuses a file where they are absent, cut short, or of another size.

    Args:
        path: for the message.
        file: at the start of the pixel data element.
        syntax: of the file.
        frame_bytes: of one uncompressed frame.
        frames: that the header claims.
        fewest_fragments: that compressed pixel data need.

    Raises:
        MediaError: they are.
    """
    element = _element(file, syntax)
    if element is None or element.tag != PIXEL_DATA:
        raise MediaError(path, "the file has no pixel data", "Give an image or cine instance")
    if syntax.encapsulated:
        return _fragments(path, file, element.length, frames, fewest_fragments)
    start = file.tell()
    end = file.seek(0, io.SEEK_END)
    needed = frame_bytes * frames
    got = min(end - start, element.length)
    if got < needed:
        frame, rest = divmod(got, frame_bytes)
        raise MediaError(path, f"frame {frame} of {frames} has {rest} of {frame_bytes} bytes", COPY_AGAIN)
    if element.length > needed + 1:  # one byte of padding; more means that the header lies about the size
        what = f"{element.length} bytes of pixel data where the header asks for {needed}"
        raise MediaError(path, what, COPY_AGAIN)
    _check_tail(path, file, syntax, start + element.length, end)
    return Pixels(start, (), ())


def frames_of_fragments(
    pixels: Pixels, frames: int, starts_frame: Callable[[Span], bool]
) -> list[list[Span]]:
    """The fragments of each frame; empty where neither their number, the table nor their bytes tell.

    Source: DICOM PS3.5, A.4.
    """
    spans = pixels.fragments
    if len(spans) == frames:
        return [[span] for span in spans]
    if frames == 1:
        return [list(spans)]
    for starts in (_starts_by_table(pixels), [k for k, span in enumerate(spans) if starts_frame(span)]):
        if len(starts) == frames and starts[0] == 0:
            return [list(spans[a:b]) for a, b in pairwise([*starts, len(spans)])]
    return []


class Joined(io.RawIOBase):
    """The bytes of several runs of a file, as one file to read."""

    def __init__(self, file: BinaryIO, spans: Sequence[Span]) -> None:
        super().__init__()
        self._file, self._spans = file, spans
        self._ends = list(accumulate(span.length for span in spans))
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place in the joined bytes."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the joined bytes."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence, self._ends[-1] if self._ends else 0)
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as one run goes."""
        k = bisect_right(self._ends, self._at)
        if k == len(self._ends):
            return 0
        left = self._ends[k] - self._at
        self._file.seek(self._spans[k].start + self._spans[k].length - left)
        data = self._file.read(min(left, len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _syntax(uid: UID, start: int) -> Syntax:
    return Syntax(uid, "<" if uid.is_little_endian else ">", uid.is_implicit_VR, uid.is_encapsulated, start)


def _bare_syntax(start: bytes) -> UID | None:
    """How a data set without file meta information is written, by its first element (of group 8)."""
    if start[128:132] == PREFIX:
        return None
    for group, uid in ((b"\x08\0", ExplicitVRLittleEndian), (b"\0\x08", ExplicitVRBigEndian)):
        if start.startswith(group) and start[4:6] in SHORT_LENGTH:
            return uid
    if not start.startswith(b"\x08\0") or len(start) < 12:
        return None
    (length,) = struct.unpack_from("<L", start, 4)
    after = start[8 + length : 10 + length]  # the next element is of group 8 too
    return ImplicitVRLittleEndian if length <= LONGEST_FIRST and after == b"\x08\0" else None


def _after_meta(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >= AFTER_META


def _inflated(path: Path, file: BinaryIO) -> BinaryIO:
    start = file.tell()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size, pieces = 0, []
    while not inflater.eof and (packed := inflater.unconsumed_tail or file.read(2**16)):
        pieces.append(inflater.decompress(packed, 2**20))
        size += len(pieces[-1])
        check(path, "inflated_bytes", size)
    if not inflater.eof:
        raise MediaError(path, "the deflated part is cut short", COPY_AGAIN)
    file.seek(0)
    old = str(DeflatedExplicitVRLittleEndian).encode()
    new = str(ExplicitVRLittleEndian).encode().ljust(len(old), b"\0")  # a UID may end in zeros
    return io.BytesIO(file.read(start).replace(old, new, 1) + b"".join(pieces))


def _element(file: BinaryIO, syntax: Syntax) -> Element | None:
    """The element that starts here, or `None` at the end of the file."""
    start = file.read(8)
    if len(start) < 8:
        return None
    tag = struct.unpack(f"{syntax.order}HH", start[:4])
    if syntax.implicit or tag[0] == 0xFFFE:
        return Element(tag, struct.unpack(f"{syntax.order}L", start[4:])[0])
    if start[4:6] in SHORT_LENGTH:
        return Element(tag, struct.unpack(f"{syntax.order}H", start[6:])[0])
    rest = file.read(4)
    return Element(tag, struct.unpack(f"{syntax.order}L", rest)[0]) if len(rest) == 4 else None


def _starts_by_table(pixels: Pixels) -> list[int]:
    """Numbers of the fragments at which frames start; those of entries that lead nowhere are left out."""
    if not pixels.table:
        return []
    first = pixels.fragments[0].start
    numbers = {span.start - first: k for k, span in enumerate(pixels.fragments)}
    return [numbers[offset] for offset in pixels.table if offset in numbers]


def _fragments(path: Path, file: BinaryIO, length: int, frames: int, fewest: int) -> Pixels:
    """Each fragment lies in the file, and there are at least as many as needed.

    Raises:
        MediaError: one is cut short, or frames are missing.
    """
    if length != UNDEFINED_LENGTH:
        raise MediaError(path, "compressed pixel data have a fixed length", COPY_AGAIN)
    start = file.tell()
    end, most = file.seek(0, io.SEEK_END), limits().fragments
    file.seek(start)
    spans: list[Span] = []
    at = start
    while len(head := file.read(8)) == 8:
        group, number, size = ITEM_HEAD.unpack(head)
        if (group, number) == SEQUENCE_END:
            break
        if (group, number) != ITEM:
            raise MediaError(path, f"fragment {len(spans) - 1} does not start where it should", COPY_AGAIN)
        at += 8
        if at + size > end:
            what = f"fragment {len(spans) - 1} has {end - at} of {size} bytes"
            raise MediaError(path, what, COPY_AGAIN)
        spans.append(Span(at, size))
        if len(spans) > most:
            check(path, "fragments", len(spans))
        at += size
        file.seek(at)
    fragments = tuple(spans[1:])  # the first is the offset table
    if len(fragments) < fewest:
        what = f"frame {len(fragments)} of {frames} is missing"
        raise MediaError(path, what, COPY_AGAIN)
    return Pixels(fragments[0].start, fragments, _table(file, spans[0]))


def _table(file: BinaryIO, span: Span) -> tuple[int, ...]:
    file.seek(span.start)
    data = file.read(span.length)
    return struct.unpack(f"<{len(data) // 4}L", data[: len(data) // 4 * 4])


def _check_tail(path: Path, file: BinaryIO, syntax: Syntax, start: int, end: int) -> None:
    """What follows the pixel data is whole, so far as lengths are given.

    Raises:
        MediaError: the pixel data or an element after them are cut short.
    """
    at, count = start, 0
    while at < end:
        file.seek(at)
        element = _element(file, syntax)
        if element is None or element.length == UNDEFINED_LENGTH or element.tag < PIXEL_DATA:
            return  # padding, or a sequence whose end only its content tells
        count += 1
        check(path, "elements", count)
        at = file.tell() + element.length
    if at > end:
        raise MediaError(path, f"the last element has {at - end} bytes too few", COPY_AGAIN)
