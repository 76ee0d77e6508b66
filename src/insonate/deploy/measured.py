"""From the points of a medium's frames to what is said about it: measurements, centiles, cycle, warnings.

Shapes: T frames, K points, (x, y) in pixels of the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from insonate.data.media import MediaInfo, read_frames
from insonate.data.pointsets import POINT_SETS
from insonate.data.sector import has_echoes
from insonate.data.spacing import Region, Spacing
from insonate.hub.frames import frames_of
from insonate.measure.derived import fetus
from insonate.measure.figures import FIGURES
from insonate.measure.loop import OneBeat, cycle_of, smoothed
from insonate.measure.overlay import told
from insonate.measure.points import MEASURED, measure
from insonate.measure.quantity import Quantity
from insonate.measure.trace import Cursor, draw_trace, sampled
from insonate.tasks.base import Prediction

NO_ECHOES = "no picture of tissue is seen in it: is this an ultrasound picture?"
NO_SCALE = "the file tells no spacing: lengths are in pixels; say --spacing MM where you know it"
TRACED = {"IVC": "ivc_mm", "PLAX": "lv_mm", "A4C": "lv_trans_mm"}
"""point set → the line along which its trace is taken"""
LOOKED_AT = 3
"""frames of a medium in which echoes are sought"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the user knows and wants, besides the pictures."""

    ga_weeks: float | None = None
    """gestational age that is known otherwise: gives centiles"""
    bsa: Quantity | None = None
    """body surface: gives indices"""
    spacing: Spacing | None = None
    """of media that do not tell theirs"""
    smooth: int = 0
    """frames over which the points of a loop are smoothed, odd; 0 = as they were found"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said about a medium as a whole."""

    predictions: tuple[Prediction, ...]
    """one a frame"""
    shown: Prediction
    """the frame for the overlay, with the measurements of the whole"""
    quantities: dict[str, Quantity] = field(default_factory=dict)
    """of the whole: a still's own, or those of the loop"""
    frames: dict[str, int] = field(default_factory=dict)
    """name → number of a frame, such as diastole"""
    beats: tuple[OneBeat, ...] = ()
    """of a heart, by the numbers of its frames"""
    warnings: tuple[str, ...] = ()


def said_about(path: Path, predictions: Sequence[Prediction], known: Known) -> Said:
    """Measurements and warnings of one medium, whatever its task.

    Raises:
        MediaError: its frames cannot be read any more.
    """
    surest = max(predictions, key=lambda prediction: float(np.mean(prediction.confidence)))
    seen = () if has_echoes(_some_frames(path, len(predictions))) else (NO_ECHOES,)
    if predictions[0].task not in MEASURED or predictions[0].kind != "keypoints":
        return Said(predictions=tuple(predictions), shown=surest, warnings=(*seen, *_warned(predictions)))
    scaled = [_measured(prediction, prediction.value, known) for prediction in predictions]
    if known.smooth and len(scaled) > 1:
        points = np.stack([prediction.value for prediction in scaled])  # T K 2
        sure = np.stack([prediction.confidence for prediction in scaled])  # T K
        smooth = smoothed(points, sure, known.smooth)
        scaled = [_measured(one, xy, known) for one, xy in zip(scaled, smooth, strict=True)]
    return _as_whole(scaled, predictions.index(surest), known, seen)


def trace_of(path: Path, said: Said, info: MediaInfo) -> Image.Image | None:
    """An M-mode-like picture of a loop of IVC, PLAX or A4C; None for anything else.

    Raises:
        MediaError: its frames cannot be read any more.
    """
    name = said.shown.task
    if name not in TRACED or len(said.predictions) < 2:
        return None
    figure = next(one for one in FIGURES[name] if one.name == TRACED[name])
    ends_xy = np.stack([one.value[list(figure.points)] for one in said.predictions])  # T 2 2
    cursor = Cursor.along(ends_xy)
    if cursor is None:
        return None
    times_s = info.times_s
    if times_s is None and info.fps:
        times_s = tuple(i / info.fps for i in range(len(ends_xy)))
    values = [told(name, one) for name, one in said.quantities.items()]
    return draw_trace(
        sampled((frame for frame, _ in frames_of(path)), cursor), cursor, ends_xy, times_s=times_s,
        spacing=said.shown.meta.spacing, marks=said.frames,
        lines=[" · ".join(values[i : i + 4]) for i in range(0, len(values), 4)],
    )  # fmt: skip


def _as_whole(frames: list[Prediction], surest: int, known: Known, seen: tuple[str, ...]) -> Said:
    name = frames[0].task
    cycle = cycle_of(name, [one.measurements for one in frames], known.bsa)
    numbers = _numbered(cycle.frames, frames)
    beats = tuple(replace(beat, frames=_numbered(beat.frames, frames)) for beat in cycle.beats)
    place = next(iter(cycle.frames.values()), surest)
    own = frames[place].measurements
    quantities = dict(cycle.quantities) or dict(own)
    if POINT_SETS[name].group == "fetal":
        made = fetus(own, known.ga_weeks)
        made.pop("ga_hadlock_weeks", None)  # of one picture it is its own `ga_weeks`
        quantities |= {key: one for key, one in made.items() if np.isfinite(one.value)}
    shown = replace(frames[place], measurements=own | quantities)
    return Said(
        predictions=tuple(frames), shown=shown, quantities=quantities, frames=numbers, beats=beats,
        warnings=(*seen, *_warned(frames)),
    )  # fmt: skip


def _numbered(places: dict[str, int], frames: Sequence[Prediction]) -> dict[str, int]:
    return {end: frames[place].meta.frame for end, place in places.items()}


def _measured(prediction: Prediction, points_xy: np.ndarray, known: Known) -> Prediction:
    """The prediction with these points, under the spacing that is known."""
    spacing = prediction.meta.spacing or known.spacing
    return replace(
        prediction,
        value=points_xy,
        meta=replace(prediction.meta, spacing=spacing),
        measurements=measure(MEASURED[prediction.task], points_xy, spacing),
    )


def _warned(predictions: Sequence[Prediction]) -> list[str]:
    """What is doubtful, each kind once, with the number of frames where it is not all."""
    counts: Counter[str] = Counter()
    for prediction in predictions:
        counts.update(prediction.warnings)
        counts.update(_of_points(prediction) if prediction.kind == "keypoints" else [])
    total = len(predictions)
    return [text if n == total else f"{text} ({n} of {total} frames)" for text, n in counts.items()]


def _of_points(prediction: Prediction) -> list[str]:
    found = [] if prediction.meta.spacing or prediction.task not in MEASURED else [NO_SCALE]
    size = np.array(prediction.meta.original_hw[::-1])
    points_xy = prediction.value  # NaN is not outside
    outside = np.any((points_xy < -0.5) | (points_xy > size - 0.5), axis=-1)  # K
    beyond = np.isfinite(points_xy).all(axis=-1) & ~outside & ~_calibrated(points_xy, prediction.meta.regions)
    for where, which in (("the picture", outside), ("the region that the file calibrates", beyond)):
        if which.any():
            found.append(f"outside {where}: {', '.join(prediction.names[i] for i in np.flatnonzero(which))}")
    return found + _lacking(prediction)


def _lacking(prediction: Prediction) -> list[str]:
    """Which measurements a point without a place leaves out, such as HC where one diameter stands alone."""
    figures = FIGURES.get(prediction.task, ())
    names = [one.name.rpartition("_")[0] for one in figures if one.name and not one.known(prediction.value)]
    return (
        [f"not measured, since one of their points has no clear place: {', '.join(names)}"] if names else []
    )


def _calibrated(points_xy: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Which points lie in a region whose axes are lengths, K; all, where the file names none."""
    boxes = np.array([region.box for region in regions if region.spacing is not None])  # R 4
    if not len(boxes):
        return np.ones(len(points_xy), dtype=bool)
    low, high = boxes[:, None, :2] - 0.5, boxes[:, None, 2:] - 0.5  # R 1 2
    return np.asarray(((points_xy >= low) & (points_xy <= high)).all(axis=-1).any(axis=0))


def _some_frames(path: Path, count: int) -> np.ndarray:
    places = np.unique(np.linspace(0, count - 1, LOOKED_AT).round().astype(int))
    return read_frames(path, [int(place) for place in places])
