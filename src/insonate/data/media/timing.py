"""When each frame of a DICOM cine was taken; what is not certain is `None`.

Source: DICOM PS3.3 C.7.6.5 (Cine), C.7.6.6 (Multi-frame: Frame Increment Pointer).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from pydicom.dataset import Dataset

from insonate.data.media.info import even_times, rate_or_none, times_or_none

FRAME_TIME_VECTOR = 0x00181065


def frame_times(header: Dataset, frames: int) -> tuple[float, ...] | None:
    """Seconds of each frame from the first one on.

    Frame Time, Frame Time Vector and Cine Rate count in this order, or the vector first where the file points
    to it. A vector of another length than the frames, or with steps that do not rise, says nothing.
    """
    vector = _from_vector(header, frames)
    if vector is not None and number(header, "FrameIncrementPointer") == FRAME_TIME_VECTOR:
        return vector
    time_ms = number(header, "FrameTime")
    if time_ms is not None and time_ms > 0:
        return even_times(rate_or_none(1000 / time_ms, frames), frames)
    return vector or even_times(rate_or_none(number(header, "CineRate"), frames), frames)


def number(header: Dataset, keyword: str) -> float | None:
    """The element as one finite number, or `None`."""
    return finite(header.get(keyword))


def finite(stored: Any) -> float | None:
    """The value of an element as one finite number, or `None`."""
    try:
        value = float(stored)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def numbers(values: object) -> list[float] | None:
    """The values of an element as finite numbers, or `None`."""
    if values is None or isinstance(values, str | bytes):
        return None
    try:
        found = [float(v) for v in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(math.isfinite(v) for v in found) else None


def _from_vector(header: Dataset, frames: int) -> tuple[float, ...] | None:
    steps_ms = numbers(header.get("FrameTimeVector"))
    if steps_ms is None or len(steps_ms) != frames:
        return None
    return times_or_none([t / 1000 for t in accumulate([0.0, *steps_ms[1:]])])  # the first entry is 0
