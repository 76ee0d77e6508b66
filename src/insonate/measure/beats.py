"""The beats of a loop: where the ventricle is widest and, after that, narrowest, beat by beat.

Shapes: T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter
from scipy.signal import find_peaks

LEAST_SHARE = 0.4
"""of the size's whole range: a smaller fall or rise is noise, or the filling by the atrium, and no beat"""
RANGE_PERCENT = (5.0, 95.0)
"""between which the range lies, so that a frame that is far off does not hide the beats"""
CALMED = 9
"""frames from which on a single one that is far off is passed over"""


class Beat(NamedTuple):
    """Places of its frames in the loop."""

    diastole: int
    systole: int
    """the first narrowest after it"""


def beats_of(sizes: Sequence[float]) -> tuple[Beat, ...]:
    """The whole beats of a loop, in order: each from its widest frame to the narrowest that follows.

    A beat counts where the size falls by enough and, but for the last, rises again; one whose start the loop
    does not show is left out.

    Args:
        sizes: T, of the ventricle; NaN where it was not measured.
    """
    values = np.asarray(sizes, dtype=np.float64)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:
        return ()
    course = values[known]
    low, high = np.percentile(course, RANGE_PERCENT)
    least = LEAST_SHARE * (high - low)
    if least <= 0:
        return ()
    calm = median_filter(course, 3, mode="nearest") if len(course) >= CALMED else course
    course = np.where(np.abs(course - calm) > least, calm, course)  # a single frame that is far off
    around = np.concatenate([[course.max()], course, [course.max()]])  # so that the last frame can be one
    narrow = find_peaks(-around, prominence=least)[0] - 1
    found, start = [], 0
    for end in narrow:
        widest = start + int(course[start : end + 1].argmax())
        if course[widest] - course[end] >= least:
            found.append(Beat(int(known[widest]), int(known[end])))
        start = int(end)
    return tuple(found)
