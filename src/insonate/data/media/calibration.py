"""Millimetres per pixel and frame rate from a DICOM header; what is not certain is `None`.

Source: DICOM PS3.3 C.8.5.5 (US Region Calibration), C.7.6.5 (Cine), 10.7 (Pixel Spacing).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pydicom.dataset import Dataset

from insonate.data.limits import limits
from insonate.data.media.info import rate_or_none
from insonate.data.spacing import Spacing, spacing_or_none

TISSUE, CENTIMETRES, SPATIAL_2D = 1, 3, 1
MM_PER_CM = 10.0
EDGE_PX = 1
"""scanners give the last pixel or the one after it as a region's end"""
PLACEHOLDER = [1.0, 1.0]
"""what converters write as Pixel Spacing where they know none; no ultrasound pixel is 1 mm"""
AGREEMENT = 1e-3
"""relative: two tissue regions of one scale agree within this"""


class Region(NamedTuple):
    """One 2-D tissue region: its box (pixels, ends included) and scale."""

    x0: float
    y0: float
    x1: float
    y1: float
    spacing: Spacing | None


def pixel_spacing(header: Dataset, height: int, width: int) -> Spacing | None:
    """Millimetres per pixel of the 2-D tissue image.

    Regions decide where there are any; colour, Doppler, ECG and placeholder regions do not count. A tissue
    region outside the frame means that the image was resized after it was calibrated, and two of them with
    different scales leave no one answer: both give `None`. Without regions, Pixel Spacing counts.
    """
    regions = header.get("SequenceOfUltrasoundRegions")
    if not regions:
        return _from_pixel_spacing(header)
    tissue = [_region(item) for item in list(regions)[: limits().regions] if _is_tissue(item)]
    if not tissue or not all(_inside(region, height, width) for region in tissue):
        return None
    first = tissue[0].spacing
    if first is None or not all(_same(first, region.spacing) for region in tissue):
        return None
    return first


def frame_rate(header: Dataset, frames: int) -> float | None:
    """Frames per second, from Frame Time, Frame Time Vector or Cine Rate: the first that is usable."""
    time_ms = number(header, "FrameTime")
    if time_ms is not None and time_ms > 0:
        return rate_or_none(1000 / time_ms, frames)
    vector_ms = _numbers(header.get("FrameTimeVector"))
    if vector_ms is not None and len(vector_ms) == frames > 1:  # the first entry is 0
        steps_ms = vector_ms[1:]
        if min(steps_ms) > 0:
            return rate_or_none(1000 * len(steps_ms) / sum(steps_ms), frames)
    return rate_or_none(number(header, "CineRate"), frames)


def number(header: Dataset, keyword: str) -> float | None:
    """The element as one finite number, or `None`."""
    try:
        value = float(header.get(keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _is_tissue(region: Dataset) -> bool:
    return (
        number(region, "RegionDataType") == TISSUE
        and number(region, "RegionSpatialFormat") in {SPATIAL_2D, None}
        and number(region, "PhysicalUnitsXDirection") == CENTIMETRES
        and number(region, "PhysicalUnitsYDirection") == CENTIMETRES
    )


def _region(region: Dataset) -> Region:
    box = [number(region, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    x0, y0, x1, y1 = (math.nan if v is None else v for v in box)
    row_cm, col_cm = number(region, "PhysicalDeltaY"), number(region, "PhysicalDeltaX")
    # an axis that runs the other way has a negative step
    row_mm = None if row_cm is None else MM_PER_CM * abs(row_cm)
    col_mm = None if col_cm is None else MM_PER_CM * abs(col_cm)
    return Region(x0, y0, x1, y1, spacing_or_none(row_mm, col_mm))


def _inside(region: Region, height: int, width: int) -> bool:
    return (
        0 <= region.x0 < region.x1 < width + EDGE_PX and 0 <= region.y0 < region.y1 < height + EDGE_PX
    )  # false for NaN too


def _same(one: Spacing, other: Spacing | None) -> bool:
    return other is not None and all(
        math.isclose(a, b, rel_tol=AGREEMENT)
        for a, b in ((one.row_mm, other.row_mm), (one.col_mm, other.col_mm))
    )


def _from_pixel_spacing(header: Dataset) -> Spacing | None:
    values = _numbers(header.get("PixelSpacing"))
    if values is None or len(values) != 2 or values == PLACEHOLDER:
        return None
    return spacing_or_none(*values)


def _numbers(values: object) -> list[float] | None:
    if values is None or isinstance(values, str | bytes):
        return None
    try:
        found = [float(v) for v in values]  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(math.isfinite(v) for v in found) else None
