"""How much a file may ask for: checked from its header, before memory is given to it.

The numbers are far above real ultrasound (largest met: 3.0 Mpx, 120 frames) and far below what hurts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from insonate.errors import MediaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds; an error names the one that was passed."""

    file_bytes: int = 8 * 2**30
    """of any media file"""
    still_bytes: int = 2**30
    """of a still or of one compressed frame, which are read whole"""
    side_px: int = 32_768
    frame_px: int = 2**26
    frames: int = 20_000
    media_px: int = 2**34
    """pixels × frames of one file"""
    decoded_bytes: int = 2**30
    """that one call may return; twice as much may be in memory on the way"""
    jpeg_scans: int = 64
    """of one JPEG: each scan of a progressive file passes over the whole image"""
    inflated_bytes: int = 2**28
    """of a deflated DICOM file, which is held in memory, and of a packed volume, up to its end"""
    elements: int = 200_000
    """of a DICOM data set, and as many behind its pixels"""
    fragments: int = 200_000
    """of the pixel data of one DICOM file"""
    regions: int = 64
    """ultrasound regions that are looked at"""
    header_bytes: int = 2**24
    """of the text before the numbers of a MetaImage: a tracked frame needs about a kilobyte"""
    element_bytes: int = 2**20
    """of one element of a DICOM header; longer ones that are not needed stay on the disk"""


DEFAULTS = Limits()
_current: ContextVar[Limits] = ContextVar("limits", default=DEFAULTS)


def limits() -> Limits:
    """The limits in force."""
    return _current.get()


@contextlib.contextmanager
def limited(**changes: int) -> Iterator[Limits]:
    """Set other limits for the block, such as `file_bytes=256 * 2**20`.

    Yields:
        The limits in force in the block.
    """
    token = _current.set(dataclasses.replace(_current.get(), **changes))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def check(path: Path, name: str, value: int) -> None:
    """Refuse a value above the limit of that name.

    Raises:
        MediaError: it is above.
    """
    bound = getattr(limits(), name)
    if value > bound:
        mend = "Check the file; where it is right, raise the limit with insonate.data.limits.limited"
        raise MediaError(path, f"{value} is above the limit {name}={bound}", mend)


def check_geometry(path: Path, frames: int, height: int, width: int) -> None:
    """Refuse a header that claims nothing, or more than the limits allow.

    Raises:
        MediaError: a count is below 1 or above its limit.
    """
    if min(frames, height, width) < 1:
        what = f"the header claims {frames} frames of {height}×{width} px"
        raise MediaError(path, what, "The file is empty or damaged: copy it again")
    check(path, "side_px", max(height, width))
    check(path, "frame_px", height * width)
    check(path, "frames", frames)
    check(path, "media_px", frames * height * width)
