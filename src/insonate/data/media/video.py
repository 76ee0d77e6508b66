"""Cine clips that PyAV reads: MP4, MOV, AVI, Matroska, WebM, MPEG; also the stream inside a DICOM file.

Shapes: T frames, H W pixels, 3 = RGB. The packets are listed once, by their time stamps. Where each frame is
coded by itself only the wanted packets are decoded; else decoding starts at the key frame before, and frames
that no other frame needs are passed over. A clip without colour comes as its luma, full range, T H W.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from insonate.data.limits import check, check_geometry
from insonate.data.media.info import MediaInfo, Track, even_times, mean_rate, rate_or_none, times_or_none
from insonate.data.media.medium import stacked
from insonate.errors import MediaError

PLANAR_YUV = {f"yuv{j}{s}p" for j in ("", "j") for s in ("420", "422", "444")}
CHROMA_TOLERANCE = 2
"""a grey clip's chroma may stray this far from 128 by coding"""
FULL_RANGE = 2
CLOSED = {
    "format_whitelist": "mov,avi,matroska,mpeg,mpegts,h264,hevc,mpegvideo,m4v",
    "protocol_whitelist": "none",
}
"""for FFmpeg: containers alone, since play lists and the like open other files and addresses"""
SKIPS = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"})
"""decoders that leave out frames that no other refers to, without a change to the rest"""
GAP_PACKETS = 16
"""a longer gap between wanted packets is sought over, a shorter one read through"""
EVEN_TOLERANCE = 1.5
"""time stamps of a constant rate stray from it by rounding, in units of the container's clock"""
_FULL_FROM_LIMITED = bytes(
    np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
)  # for bytes.translate, the fastest table look-up at hand


class Stamps(NamedTuple):
    """Time stamps of the frames in showing order, and of the key frames."""

    frames: list[int]
    keys: list[int]
    usable: bool
    """False where stamps are missing or repeated: then frames are counted from the start"""


class Run:
    """A decoder on its way through the packets from a key frame on."""

    def __init__(self, packets: Iterator[Any], key: int) -> None:
        self.packets, self.key = packets, key
        self.at = key - 1
        """time stamp of the last frame that came out"""

    def leads_to(self, key: int, wanted: Iterable[int]) -> bool:
        """Whether these frames, which start from this key frame, still lie ahead."""
        return self.key == key and self.at < min(wanted)


def opened(path: Path, file: BinaryIO) -> Clip:
    """The clip, its packets listed and nothing decoded.

    Raises:
        MediaError: there is no video, or it asks for more than the limits.
    """
    return Clip(path, file)


class Clip:
    """A `Medium`. The decoder stays open, so that reading again costs no new look at the file's start."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self._reformatter = VideoReformatter()
        self._run: Run | None = None
        self._counted: Iterator[av.VideoFrame] | None = None
        self._next = 0
        """number of the frame that `_counted` gives next"""
        self._open()
        try:
            self.info, self._stamps = self._look()
        except BaseException:
            self.close()
            raise

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """See `Medium`.

        Raises:
            MediaError: a frame is missing, damaged, or of another size.
        """
        found: dict[int, np.ndarray] = {}
        if self._stamps.usable:
            self._counted = None
            for key, wanted in self._plan(indices):
                if self._intra:
                    found |= self._decode_intra(wanted, grey=grey)
                else:
                    found |= self._decode_wanted(key, wanted, grey=grey)
        if len(found) < len(indices):  # no stamps, or an index that does not lead to its frames
            self._run = None
            found = self._decode_counting(indices, grey=grey)
        missing = [i for i in indices if i not in found]
        if missing:
            what = f"frame {missing[0]} of {self.info.frames} cannot be decoded"
            raise MediaError(self.path, what, "The file is cut short or damaged: copy it again")
        return stacked([found.pop(i) for i in indices])

    def tracks(self) -> tuple[Track, ...]:
        """None: video files hold no poses."""
        return ()

    def close(self) -> None:
        """Close the decoder."""
        self._container.close()

    def _open(self) -> None:
        self._file.seek(0)
        self._container = av.open(self._file, "r", options=CLOSED.copy(), metadata_errors="replace")
        if not self._container.streams.video:
            self.close()
            raise MediaError(self.path, "holds no video", "Give a file with a video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1  # loaders run in processes of their own

    def _look(self) -> tuple[MediaInfo, Stamps]:
        stream = self._stream
        height, width = stream.codec_context.height, stream.codec_context.width
        check_geometry(self.path, 1, height, width)
        stamps = self._list()
        frames = len(stamps.frames)
        check_geometry(self.path, frames, height, width)
        rate = stream.average_rate or stream.guessed_rate
        fps = rate_or_none(float(rate) if rate else None, frames)
        times_s = _times(stamps, stream)
        even_s = even_times(fps, frames)
        if times_s is not None and even_s is not None and stream.time_base is not None:
            stray_s = np.abs(np.subtract(even_s, times_s)).max()
            times_s = even_s if stray_s <= EVEN_TOLERANCE * float(stream.time_base) else times_s
        info = MediaInfo(
            path=self.path,
            kind="video",
            frames=frames,
            height=height,
            width=width,
            fps=fps if times_s in (None, even_s) else mean_rate(times_s),
            times_s=times_s,
        )
        return info, stamps

    def _list(self) -> Stamps:
        stamps: list[int | None] = []
        keys: list[int] = []
        for packet in self._container.demux(self._stream):
            if packet.size == 0 or packet.is_discard:
                continue
            stamps.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
            check(self.path, "frames", len(stamps))
        known = sorted(t for t in stamps if t is not None)
        usable = len(known) == len(stamps) and len(set(known)) == len(known) and bool(keys)
        return Stamps(known if usable else list(range(len(stamps))), sorted(keys), usable)

    @property
    def _intra(self) -> bool:
        """Whether each frame is coded by itself."""
        return len(self._stamps.keys) == len(self._stamps.frames)

    def _plan(self, indices: list[int]) -> Iterator[tuple[int, dict[int, int]]]:
        """Where to start, and the wanted frames ({time stamp: index}) to take from there."""
        times, keys = self._stamps.frames, self._stamps.keys
        jumps = {b for a, b in pairwise(indices) if b - a > GAP_PACKETS}

        def key_before(index: int) -> int:
            return keys[max(0, bisect_right(keys, times[index]) - 1)]

        def jumps_before(index: int) -> int:
            return sum(jump <= index for jump in jumps)

        for _, group in groupby(indices, jumps_before if self._intra else key_before):
            wanted = {times[i]: i for i in group}
            yield key_before(wanted[min(wanted)]), wanted

    def _decode_wanted(self, key: int, wanted: dict[int, int], *, grey: bool) -> dict[int, np.ndarray]:
        """Frames that need others: decoded from the key frame, or from where the last call ended."""
        context, run, last = self._stream.codec_context, self._run, max(wanted)
        if run is None or not run.leads_to(key, wanted):
            self._container.seek(key, stream=self._stream, backward=True)
            run = self._run = Run(self._container.demux(self._stream), key)
        found: dict[int, np.ndarray] = {}
        for packet in run.packets:
            if context.name in SKIPS:
                passed = packet.size and packet.pts is not None and packet.pts < last
                context.skip_frame = "NONREF" if passed and packet.pts not in wanted else "DEFAULT"
            for frame in context.decode(packet if packet.size else None):
                run.at = run.at if frame.pts is None else max(run.at, frame.pts)
                if frame.pts in wanted:
                    found[wanted[frame.pts]] = self._pixels(frame, wanted[frame.pts], grey=grey)
            if len(found) == len(wanted):
                return found
        self._run = None  # the stream has ended, and with it the decoder's state
        return found

    def _decode_intra(self, wanted: dict[int, int], *, grey: bool) -> dict[int, np.ndarray]:
        """Frames that need no other: their packets alone are decoded."""
        self._container.seek(min(wanted), stream=self._stream, backward=True)
        context, last = self._stream.codec_context, max(wanted)
        found: dict[int, np.ndarray] = {}
        for packet in self._container.demux(self._stream):
            ends = packet.size == 0 or (packet.pts is not None and packet.pts > last)
            if not ends and packet.pts not in wanted:
                continue
            for frame in context.decode(None if ends else packet):
                if frame.pts in wanted:
                    found[wanted[frame.pts]] = self._pixels(frame, wanted[frame.pts], grey=grey)
            if ends or len(found) == len(wanted):
                break
        return found

    def _decode_counting(self, indices: list[int], *, grey: bool) -> dict[int, np.ndarray]:
        """Frames by their number: decoded from the start, or from where the last call ended."""
        if self._counted is None or self._next > min(indices):
            self.close()
            self._open()
            self._counted, self._next = self._container.decode(self._stream), 0
        found: dict[int, np.ndarray] = {}
        wanted, last = set(indices), max(indices)
        for frame in self._counted:
            index, self._next = self._next, self._next + 1
            if index in wanted:
                found[index] = self._pixels(frame, index, grey=grey)
            if index >= last:
                break
        return found

    def _pixels(self, frame: av.VideoFrame, index: int, *, grey: bool) -> np.ndarray:
        """H W if the frame has no colour or only its luma is wanted, else H W 3.

        Raises:
            MediaError: the frame is damaged or of another size.
        """
        info = self.info
        if (frame.height, frame.width) != (info.height, info.width):
            what = (
                f"frame {index} is {frame.height}×{frame.width} px, "
                f"not {info.height}×{info.width} as the first"
            )
            raise MediaError(self.path, what, "Encode the clip again with one size")
        if frame.is_corrupt:
            what = f"frame {index} of {info.frames} is damaged"
            raise MediaError(self.path, what, "Copy the file again")
        name = frame.format.name
        if name == "gray":
            return _plane(frame, 0).copy()
        if name in PLANAR_YUV and (grey or _colourless(frame)):
            luma = _plane(frame, 0)
            if name.startswith("yuvj") or frame.color_range == FULL_RANGE:
                return luma.copy()
            return np.frombuffer(luma.tobytes().translate(_FULL_FROM_LIMITED), np.uint8).reshape(luma.shape)
        if name.startswith("gray"):
            return self._reformatter.reformat(frame, format="gray").to_ndarray()
        rgb = self._reformatter.reformat(frame, format="rgb24").to_ndarray()  # H W 3
        return rgb[..., 0] if name == "pal8" and (rgb == rgb[..., :1]).all() else rgb


def _times(stamps: Stamps, stream: Any) -> tuple[float, ...] | None:
    """Seconds from the first frame on, as the container's clock has them."""
    if not stamps.usable or stream.time_base is None:
        return None
    tick_s = float(stream.time_base)
    return times_or_none([(stamp - stamps.frames[0]) * tick_s for stamp in stamps.frames])


def _colourless(frame: av.VideoFrame) -> bool:
    for k in (1, 2):
        chroma = _plane(frame, k)
        if chroma.min() < 128 - CHROMA_TOLERANCE or chroma.max() > 128 + CHROMA_TOLERANCE:
            return False
    return True


def _plane(frame: av.VideoFrame, k: int) -> np.ndarray:
    plane = frame.planes[k]
    rows = np.asarray(memoryview(plane), np.uint8)[: plane.line_size * plane.height]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width]
