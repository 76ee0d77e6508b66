"""A cine loop: points over time, smoothed, and what a heart cycle or a breath tells.

Shapes: T frames, K points, (x, y) in pixels of the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from insonate.measure.beats import Beat, beats_of
from insonate.measure.derived import chambers_of_loop, left_ventricle, vena_cava_of_loop
from insonate.measure.quantity import Quantity

Found = Mapping[str, Quantity]
LEADING = {"PLAX": "lv_mm", "A4C": "lv_ml", "IVC": "ivc_mm"}
"""point set → the quantity whose largest and smallest value are the ends of its cycle"""
ENDS = {"PLAX": ("diastole", "systole"), "A4C": ("diastole", "systole"), "IVC": ("widest", "narrowest")}
DEGREE = 2
"""of the local polynomial"""
EXTRA_STEPS, LEAST_PX = 3, 1.0
"""a point that is further from its neighbours' median than half a window and so many steps is passed over"""
NO_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class OneBeat:
    """A beat of a loop."""

    frames: dict[str, int]
    """`diastole` and `systole` (the ends of both): places in the sequence"""
    quantities: dict[str, Quantity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """What a loop tells beyond its frames."""

    frames: dict[str, int] = field(default_factory=dict)
    """of the middle beat; of a breath `widest` and `narrowest`: places in the sequence"""
    quantities: dict[str, Quantity] = field(default_factory=dict)
    """of the middle beat, or the breath"""
    beats: tuple[OneBeat, ...] = ()
    """of a heart, in order; the middle one is that whose size changes neither most nor least"""


def cycle_of(points_set: str, frames: Sequence[Found], bsa: Quantity | None = None) -> Cycle:
    """Ends of the cycle, and function, mass, collapse, pressure; empty for other sets and for stills.

    The end of diastole is the frame with the widest ventricle, that of systole the narrowest after it, beat
    by beat. Where no whole beat is seen, they are the widest and the narrowest of all.

    Args:
        points_set: PLAX, A4C or IVC.
        frames: measurements of each frame, with a spacing.
        bsa: body surface, for indices.
    """
    leading = LEADING.get(points_set)
    known = [i for i, found in enumerate(frames) if leading in found]
    if leading is None or len(known) < 2:
        return Cycle()
    sizes = [frames[i][leading].value if leading in frames[i] else float("nan") for i in range(len(frames))]
    order = sorted(known, key=lambda i: sizes[i])
    if points_set == "IVC":
        ends = dict(zip(ENDS[points_set], (order[-1], order[0]), strict=True))
        widths = {
            "ivc_widest_mm": frames[order[-1]]["ivc_mm"],
            "ivc_narrowest_mm": frames[order[0]]["ivc_mm"],
        }
        return Cycle(frames=ends, quantities=widths | vena_cava_of_loop(frames))
    found = beats_of(sizes) or (Beat(order[-1], order[0]),)
    beats = tuple(_one_beat(points_set, frames, beat, bsa) for beat in found)
    by_change = sorted(range(len(found)), key=lambda i: sizes[found[i].diastole] - sizes[found[i].systole])
    middle = beats[by_change[len(beats) // 2]]
    return Cycle(frames=middle.frames, quantities=middle.quantities, beats=beats)


def _one_beat(points_set: str, frames: Sequence[Found], beat: Beat, bsa: Quantity | None) -> OneBeat:
    ends = dict(zip(ENDS[points_set], beat, strict=True))
    wide, narrow = frames[beat.diastole], frames[beat.systole]
    if points_set == "A4C":
        between = frames[min(beat) : max(beat) + 1]
        return OneBeat(frames=ends, quantities=chambers_of_loop(between, bsa))
    sizes = {f"{part}_diastole_mm": wide[f"{part}_mm"] for part in ("ivs", "lv", "lvpw")
             if f"{part}_mm" in wide}  # fmt: skip
    sizes["lv_systole_mm"] = narrow["lv_mm"]
    return OneBeat(frames=ends, quantities=sizes | left_ventricle(wide, narrow, bsa))


def smoothed(points_xy: np.ndarray, confidence: np.ndarray, window: int) -> np.ndarray:
    """Points T K 2 over time by a robust local parabola: steps are rounded, the ends of a cycle are kept.

    Points weigh as they are sure; one that leaves its neighbours' course is passed over; where there is none
    (NaN), its neighbours fill in, unless none of them is there either.

    Args:
        points_xy: T K 2.
        confidence: T K.
        window: frames that are looked at, the middle one included; odd, at least 3.

    Raises:
        ValueError: the window is even or too small.

    Sources: Cleveland 1979 (LOESS), JASA 74:829, with the confidence as a further weight; outliers as
    in Hampel 1974, JASA 69:383, by the usual step.
    """
    if window < 3 or window % 2 == 0:
        raise ValueError(f"a window of {window} frames has no middle or no neighbours")
    points = np.asarray(points_xy, dtype=np.float64)
    weights = np.where(_on_course(points, window // 2), np.maximum(confidence, NO_WEIGHT), 0.0)  # T K
    filled = np.where(np.isfinite(points), points, 0.0)
    result = np.full_like(points, np.nan)
    for t in range(len(points)):
        near = _near(t, len(points), window // 2)
        offset = (near - t) / (window // 2 + 1)  # n
        closeness = (1 - np.abs(offset) ** 3) ** 3
        for k in range(points.shape[1]):
            result[t, k] = _local(offset, filled[near, k], closeness * weights[near, k])
    return result


def _on_course(points: np.ndarray, half: int) -> np.ndarray:
    """Which points are there and no further from their neighbours' median than the usual steps lead."""
    known = np.isfinite(points).all(axis=-1)  # T K
    steps = np.linalg.norm(np.diff(points, axis=0), axis=-1)  # T-1 K
    usual = np.array([np.median(s[np.isfinite(s)]) if np.isfinite(s).any() else np.inf for s in steps.T])  # K
    apart = np.full(known.shape, np.inf)
    for t, k in zip(*np.nonzero(known), strict=True):
        near = _near(t, len(points), half)
        apart[t, k] = np.linalg.norm(points[t, k] - np.median(points[near[known[near, k]], k], axis=0))
    return known & (apart <= (half + EXTRA_STEPS) * usual + LEAST_PX)


def _near(t: int, count: int, half: int) -> np.ndarray:
    return np.arange(max(0, t - half), min(count, t + half + 1))


def _local(offset: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The value at offset 0 of a weighted parabola through values n 2; NaN without a weight."""
    count = int((weights > 0).sum())
    if count == 0:
        return np.full(2, np.nan)
    basis = np.vander(offset, min(DEGREE, count - 1) + 1, increasing=True)  # n D
    root = np.sqrt(weights)[:, None]
    return np.linalg.lstsq(root * basis, root * values, rcond=None)[0][0]
