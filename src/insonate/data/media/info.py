"""What the header of a media file tells."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from insonate.data.spacing import Region, Spacing

MAX_TEXT = 256
FASTEST_FPS = 10_000.0
"""ultrafast ultrasound reaches this; above it a frame rate is taken as unknown"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """Facts of one file; what it does not tell is `None` or empty."""

    path: Path
    kind: Literal["image", "video", "dicom", "volume"]
    frames: int
    height: int
    width: int
    fps: float | None = None
    """frames per second, on average where the rate varies"""
    times_s: tuple[float, ...] | None = None
    """of each frame, from the first one on"""
    spacing: Spacing | None = None
    """of the whole clip; `None` too where it changes from frame to frame: see `spacing_at`"""
    frame_spacings: tuple[Spacing | None, ...] = ()
    """one a frame where they differ, else empty"""
    regions: tuple[Region, ...] = ()
    """the pictures within a frame, as far as the file names them"""
    patient_id: str = ""
    study_id: str = ""
    series_id: str = ""
    vendor: str = ""
    model: str = ""
    view: str = ""

    def spacing_at(self, frame: int) -> Spacing | None:
        """Millimetres per pixel of one frame."""
        return self.frame_spacings[frame] if self.frame_spacings else self.spacing

    def columns(self) -> dict[str, object]:
        """The manifest columns of kind, length, size and spacing."""
        return {
            "kind": self.kind,
            "frames": self.frames,
            "fps": self.fps,
            "height": self.height,
            "width": self.width,
            "spacing_row_mm": self.spacing.row_mm if self.spacing else None,
            "spacing_col_mm": self.spacing.col_mm if self.spacing else None,
        }


class Track(NamedTuple):
    """Poses of one coordinate frame in another, one for each picture of a sequence."""

    source: str
    """such as Probe"""
    target: str
    """such as Tracker"""
    matrices: np.ndarray
    """T 4 4, float64: a point (x, y, z, 1) of `source` in mm → the point of `target` in mm"""
    valid: np.ndarray
    """T, bool: False where the tracker lost sight, or no matrix is there (its entries are NaN)"""


def rate_or_none(fps: float | None, frames: int) -> float | None:
    """The frame rate, or `None` for a still or where it is not finite, not positive or above 10,000."""
    if fps is None or frames < 2 or not math.isfinite(fps) or not 0 < fps <= FASTEST_FPS:
        return None
    return float(fps)


def times_or_none(times_s: Sequence[float]) -> tuple[float, ...] | None:
    """Times from the first frame on; `None` for a still, or where they do not rise, or too fast."""
    if len(times_s) < 2:
        return None
    steps_s = np.diff(np.asarray(times_s, np.float64))
    if not np.isfinite(steps_s).all() or steps_s.min() < 1 / (FASTEST_FPS * (1 + 1e-6)):
        return None
    return tuple(float(t - times_s[0]) for t in times_s)


def even_times(fps: float | None, frames: int) -> tuple[float, ...] | None:
    """Times of a clip of constant rate, or `None` where that is unknown."""
    return None if fps is None else tuple(i / fps for i in range(frames))


def mean_rate(times_s: Sequence[float] | None) -> float | None:
    """Frames per second on average."""
    if times_s is None:
        return None
    rate = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    return rate_or_none(float(f"{rate:.10g}"), len(times_s))  # without the rounding of sums


def nearest_frames(info: MediaInfo, times_s: Iterable[float]) -> list[int] | None:
    """The frame nearest to each time (the earlier of two), or `None` where the file tells no times."""
    if info.frames == 1:
        return [0 for _ in times_s]
    if info.times_s is None:
        return None
    known = np.asarray(info.times_s)
    wanted = np.asarray(list(times_s), np.float64)
    after = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
    nearer_before = wanted - known[after - 1] <= known[after] - wanted
    return [int(i) for i in np.where(nearer_before, after - 1, after)]


def clean(text: object) -> str:
    """A text of a foreign file without control and bidirectional characters, at most 256 long."""
    composed = unicodedata.normalize("NFC", str(text)[: 4 * MAX_TEXT])
    return "".join(c for c in composed if unicodedata.category(c)[0] != "C").strip()[:MAX_TEXT]
