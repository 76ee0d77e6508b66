"""What the header of a media file tells."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from insonate.data.spacing import Spacing

MAX_TEXT = 256
FASTEST_FPS = 10_000.0
"""ultrafast ultrasound reaches this; above it a frame rate is taken as unknown"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """Facts of one file; what it does not tell is `None` or empty."""

    path: Path
    kind: Literal["image", "video", "dicom"]
    frames: int
    height: int
    width: int
    fps: float | None = None
    spacing: Spacing | None = None
    patient_id: str = ""
    study_id: str = ""
    series_id: str = ""
    vendor: str = ""


def rate_or_none(fps: float | None, frames: int) -> float | None:
    """The frame rate, or `None` for a still or where it is not finite, not positive or above 10,000."""
    if fps is None or frames < 2 or not math.isfinite(fps) or not 0 < fps <= FASTEST_FPS:
        return None
    return float(fps)


def clean(text: object) -> str:
    """A text of a foreign file without control and bidirectional characters, at most 256 long."""
    composed = unicodedata.normalize("NFC", str(text)[: 4 * MAX_TEXT])
    return "".join(c for c in composed if unicodedata.category(c)[0] != "C").strip()[:MAX_TEXT]
