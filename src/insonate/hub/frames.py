"""Media of every form, frame by frame, with the facts for their `Meta`.

Shapes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insonate.data.media import MediaFile, read_frames
from insonate.errors import ModelError

Media = str | Path | np.ndarray | Image.Image
CHUNK = 16
"""frames of a file that are decoded at a time"""


def frames_of(media: Media) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Each frame of a medium with the facts for its `Meta`.

    Raises:
        ModelError: it is no medium, or an array of another type or shape.
    """
    if isinstance(media, str | Path):
        yield from _of_file(Path(media))
        return
    for number, frame in enumerate(_stack(media)):
        yield frame, {"item_id": "array", "frame": number}


def frame_of(media: Media, number: int) -> np.ndarray:
    """One frame of a medium that `frames_of` takes: H W, or H W 3; a file is read again.

    Raises:
        MediaError: the file or the frame is not there any more.
    """
    return read_frames(media, [number])[0] if isinstance(media, str | Path) else _stack(media)[number]


def _stack(media: np.ndarray | Image.Image) -> np.ndarray:
    """T H W, or T H W 3, uint8.

    Raises:
        ModelError: it is no medium, or an array of another type or shape.
    """
    if isinstance(media, Image.Image):
        media = np.asarray(media if media.mode in {"L", "RGB"} else media.convert("RGB"))
    if not isinstance(media, np.ndarray):
        raise ModelError(
            "predict", f"cannot take a {type(media).__name__}", "Give a path, an array, a PIL image or a list"
        )
    if media.dtype != np.uint8 or media.size == 0:
        raise ModelError(
            "predict",
            f"the array is {media.dtype} of shape {media.shape}",
            "Give grey levels 0 to 255 as uint8",
        )
    colour = media.shape[-1] in {1, 3}
    if media.ndim == 2 or (media.ndim == 3 and colour):
        media = media[None]
    elif not (media.ndim == 4 and colour):
        raise ModelError(
            "predict",
            f"an array of shape {media.shape} is ambiguous",
            "Give H W, H W C or T H W C with C 1 or 3",
        )
    return media[..., 0] if media.ndim == 4 and media.shape[-1] == 1 else media


Frame = tuple[np.ndarray, dict[str, Any]]


def clips_of(frames: Iterator[Frame], length: int, stride: int) -> Iterator[list[Frame]]:
    """Clips of `length` frames, every `stride`-th of a medium, one after the other.

    A clip that the medium is too short for ends with its last frame, repeated, as in the originals; a last
    clip with less than half of its frames is left out, unless it is the only one.
    """
    kept = (frame for number, frame in enumerate(frames) if number % stride == 0) if length > 1 else frames
    first = True
    while clip := list(itertools.islice(kept, length)):
        if first or 2 * len(clip) >= length:
            yield clip + [clip[-1]] * (length - len(clip))
        first = False


def _of_file(path: Path) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    with MediaFile(path) as media:
        header = media.info
        facts = {
            "item_id": str(path), "patient_id": header.patient_id, "study_id": header.study_id,
            "vendor": header.vendor, "regions": header.regions,
        }  # fmt: skip
        for start in range(0, header.frames, CHUNK):
            numbers = range(start, min(start + CHUNK, header.frames))
            for number, frame in zip(numbers, media.read(numbers), strict=True):
                yield frame, {**facts, "frame": number, "spacing": header.spacing_at(number)}
