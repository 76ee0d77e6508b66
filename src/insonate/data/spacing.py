"""Pixel spacing: millimetres per pixel, row and column apart. Unknown is `None`, never 1.0."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST_MM, LARGEST_MM = 1e-4, 100.0
"""plausible range of a pixel; outside it the calibration is taken as unknown"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Millimetres per pixel along a row step (down) and a column step (right)."""

    row_mm: float
    col_mm: float


def spacing_or_none(row_mm: float | None, col_mm: float | None) -> Spacing | None:
    """The spacing, or `None` where a value is missing, not finite, or outside 1e-4 to 100 mm."""
    if row_mm is None or col_mm is None:
        return None
    if not all(math.isfinite(v) and SMALLEST_MM <= v <= LARGEST_MM for v in (row_mm, col_mm)):
        return None
    return Spacing(row_mm=float(row_mm), col_mm=float(col_mm))
