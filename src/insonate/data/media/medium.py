"""What the reader of a format gives the door: facts, frames on demand, and what else the file tells.

Shapes: T frames, H W pixels, 3 = RGB.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from insonate.data.media.info import MediaInfo, Track

LUMA = np.array([299, 587, 114], np.uint32)
"""of red, green and blue, in thousandths. Source: ITU-R BT.601"""


class Medium(Protocol):
    """One open file: each format has a class of this form, made by its function `opened(path, file)`."""

    info: MediaInfo

    def frames(self, indices: list[int], *, grey: bool) -> np.ndarray:
        """The frames at `indices` (ascending, each once, checked): T H W or T H W 3, uint8.

        With `grey`, a format that stores luma may give that alone (T H W); others may ignore it.
        """

    def tracks(self) -> tuple[Track, ...]:
        """Poses, a track for each pair of coordinate frames; most formats have none."""

    def close(self) -> None:
        """Let go of decoders; the file itself is the door's."""


def stacked(frames: list[np.ndarray]) -> np.ndarray:
    """T H W where all frames are grey, else T H W 3; empties the list, so that memory is not taken twice."""
    colour = any(frame.ndim == 3 for frame in frames)
    whole = np.empty((len(frames), *frames[0].shape[:2], *([3] if colour else [])), np.uint8)
    for index in reversed(range(len(frames))):
        frame = frames.pop()
        whole[index] = frame[..., None] if colour and frame.ndim == 2 else frame
    return whole


def grey_of(frames: np.ndarray) -> np.ndarray:
    """Luma of T H W 3; frames without colour as they are. T H W, uint8."""
    if frames.ndim == 3:
        return frames
    return stacked([_luma(frame) for frame in frames])  # T H W


def _luma(frame: np.ndarray) -> np.ndarray:
    """H W of H W 3."""
    thousandths = np.full(frame.shape[:2], 500, np.uint32)  # so that the division rounds
    for channel, weight in enumerate(LUMA):  # a third of the time of a matrix product
        thousandths += frame[..., channel] * weight
    thousandths //= 1000
    return thousandths.astype(np.uint8)
