"""Cine clips that PyAV reads: MP4, MOV, AVI, Matroska, MPEG.

Shapes: T frames, H W pixels, 3 = RGB. Frames are counted and found by their time stamps; asking for a few of
them decodes from the key frame before each. A clip without colour comes as its luma, full range, T H W.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np

from insonate.data.limits import check, check_geometry
from insonate.data.media.info import MediaInfo, rate_or_none
from insonate.errors import MediaError

PLANAR_YUV = {f"yuv{j}{s}p" for j in ("", "j") for s in ("420", "422", "444")}
CHROMA_TOLERANCE = 2
"""a grey clip's chroma may stray this far from 128 by coding"""
FULL_RANGE = 2
_FULL_FROM_LIMITED = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


class Times(NamedTuple):
    """Time stamps of the frames in showing order, and of the key frames."""

    frames: list[int]
    keys: list[int]
    usable: bool
    """False where stamps are missing or repeated: then frames are counted from the start"""


def probe(path: Path, file: BinaryIO) -> MediaInfo:
    """Facts from the header and the packet list; nothing is decoded.

    Raises:
        MediaError: there is no video, or it asks for more than the limits.
    """
    with _opened(path, file) as (container, stream):
        height, width = stream.codec_context.height, stream.codec_context.width
        check_geometry(path, 1, height, width)
        frames = len(_times(path, container, stream).frames)
        check_geometry(path, frames, height, width)
        rate = stream.average_rate or stream.guessed_rate
        fps = rate_or_none(float(rate) if rate else None, frames)
        return MediaInfo(path=path, kind="video", frames=frames, height=height, width=width, fps=fps)


def read(path: Path, file: BinaryIO, info: MediaInfo, indices: list[int]) -> np.ndarray:
    """The frames at `indices` (ascending, checked): T H W if all are grey, else T H W 3; uint8.

    Raises:
        MediaError: a frame is missing, damaged, or of another size.
    """
    with _opened(path, file) as (container, stream):
        times = _times(path, container, stream)
        found: dict[int, np.ndarray] = {}
        if times.usable:
            for key, wanted in _by_key(times, indices):
                found |= _decode_from(path, container, stream, info, key, wanted)
    if len(found) < len(indices):  # no stamps, or an index that does not lead to its frames
        with _opened(path, file) as (container, stream):
            found = _decode_counting(path, container, stream, info, set(indices))
    missing = [i for i in indices if i not in found]
    if missing:
        what = f"frame {missing[0]} of {info.frames} cannot be decoded"
        raise MediaError(path, what, "The file is cut short or damaged: copy it again")
    frames = [found[i] for i in indices]
    if all(frame.ndim == 2 for frame in frames):
        return np.stack(frames)  # T H W
    return np.stack([f if f.ndim == 3 else np.repeat(f[..., None], 3, axis=2) for f in frames])  # T H W 3


@contextmanager
def _opened(
    path: Path, file: BinaryIO
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    file.seek(0)
    with av.open(file, "r", metadata_errors="replace") as container:
        if not container.streams.video:
            raise MediaError(path, "holds no video", "Give a file with a video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # loaders run in processes of their own
        yield container, stream


def _times(path: Path, container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> Times:
    stamps: list[int | None] = []
    keys: list[int] = []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        stamps.append(packet.pts)
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
        check(path, "frames", len(stamps))
    known = sorted(t for t in stamps if t is not None)
    usable = len(known) == len(stamps) and len(set(known)) == len(known) and bool(keys)
    return Times(known if usable else list(range(len(stamps))), sorted(keys), usable)


def _by_key(times: Times, indices: list[int]) -> Iterator[tuple[int, dict[int, int]]]:
    """The wanted frames ({time stamp: index}) that start from the same key frame."""

    def key_before(index: int) -> int:
        return times.keys[max(0, bisect_right(times.keys, times.frames[index]) - 1)]

    for key, group in groupby(indices, key_before):
        yield key, {times.frames[i]: i for i in group}


def _decode_from(
    path: Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    info: MediaInfo,
    key: int,
    wanted: dict[int, int],
) -> dict[int, np.ndarray]:
    container.seek(key, stream=stream, backward=True)
    last = max(wanted)
    found = {}
    for frame in container.decode(stream):
        if frame.pts in wanted:
            index = wanted[frame.pts]
            found[index] = _pixels(path, frame, info, index)
        if frame.pts is None or frame.pts >= last:
            break
    return found


def _decode_counting(
    path: Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    info: MediaInfo,
    wanted: Iterable[int],
) -> dict[int, np.ndarray]:
    found = {}
    last = max(wanted)
    for index, frame in enumerate(container.decode(stream)):
        if index in wanted:
            found[index] = _pixels(path, frame, info, index)
        if index >= last:
            break
    return found


def _pixels(path: Path, frame: av.VideoFrame, info: MediaInfo, index: int) -> np.ndarray:
    """H W if the frame has no colour, else H W 3.

    Raises:
        MediaError: the frame is damaged or of another size.
    """
    if (frame.height, frame.width) != (info.height, info.width):
        what = (
            f"frame {index} is {frame.height}×{frame.width} px, not {info.height}×{info.width} as the first"
        )
        raise MediaError(path, what, "Encode the clip again with one size")
    if frame.is_corrupt:
        what = f"frame {index} of {info.frames} is damaged"
        raise MediaError(path, what, "Copy the file again")
    name = frame.format.name
    if name == "gray":
        return _plane(frame, 0).copy()
    if name in PLANAR_YUV and _colourless(frame):
        luma = _plane(frame, 0)
        full = name.startswith("yuvj") or frame.color_range == FULL_RANGE
        return luma.copy() if full else _FULL_FROM_LIMITED[luma]
    return frame.to_ndarray(format="rgb24")


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
