"""Calibration: what a pixel step means, along rows and columns apart. Unknown is `None`, never 1.0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

SMALLEST_MM, LARGEST_MM = 1e-4, 100.0
"""plausible range of a pixel; outside it the calibration is taken as unknown"""
SMALLEST_STEP, LARGEST_STEP = 1e-6, 1e6
"""plausible range of any other step per pixel: seconds, Hz, cm/s"""

Unit = Literal["mm", "s", "hz", "cm/s"]
RegionName = Literal["2d", "colour", "m-mode", "spectral", "trace", "ecg", "bar", "graphics", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """Millimetres per pixel along a row step (down) and a column step (right)."""

    row_mm: float
    col_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How much of a physical quantity one pixel is, along one axis of a region."""

    per_px: float
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One picture within a frame: what it shows, where, and its scales."""

    name: RegionName
    """`2d` and `colour` are images of tissue; `m-mode`, `spectral`, `trace` and `ecg` run over time"""
    box: tuple[int, int, int, int]
    """left, top, right, bottom in pixels, clipped to the frame; right and bottom are one past the last"""
    across: Step | None
    """of a step to the right"""
    down: Step | None
    """of a step down"""

    @property
    def spacing(self) -> Spacing | None:
        """Millimetres per pixel, where both axes are lengths."""
        if self.across is None or self.down is None or {self.across.unit, self.down.unit} != {"mm"}:
            return None
        return Spacing(row_mm=self.down.per_px, col_mm=self.across.per_px)


def spacing_or_none(row_mm: float | None, col_mm: float | None) -> Spacing | None:
    """The spacing, or `None` where a value is missing, not finite, or outside 1e-4 to 100 mm."""
    if row_mm is None or col_mm is None:
        return None
    if not all(math.isfinite(v) and SMALLEST_MM <= v <= LARGEST_MM for v in (row_mm, col_mm)):
        return None
    return Spacing(row_mm=float(row_mm), col_mm=float(col_mm))


def step_or_none(per_px: float | None, unit: Unit) -> Step | None:
    """The step, or `None` where the value is missing, not finite, zero or beyond what its unit allows."""
    if per_px is None or not math.isfinite(per_px):
        return None
    low, high = (SMALLEST_MM, LARGEST_MM) if unit == "mm" else (SMALLEST_STEP, LARGEST_STEP)
    size = abs(float(per_px))  # an axis that runs the other way has a negative step
    return Step(per_px=size, unit=unit) if low <= size <= high else None
