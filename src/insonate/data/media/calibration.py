"""Millimetres, seconds or cm/s per pixel from a DICOM header; what is not certain is `None`.

Source: DICOM PS3.3 C.8.5.5 (US Region Calibration), C.7.6.16.2.1 (Pixel Measures), 10.7 (Pixel Spacing).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from insonate.data.limits import limits
from insonate.data.media.timing import number, numbers
from insonate.data.spacing import Region, RegionName, Spacing, Step, Unit, spacing_or_none, step_or_none

SPATIAL_2D, M_MODE, SPECTRAL, WAVEFORM, GRAPHICS = 1, 2, 3, 4, 5
"""region spatial format"""
TISSUE, COLOUR = 1, 2
"""region data type, as are the keys of `NAMES`"""
NAMES: dict[int, RegionName] = {
    3: "spectral", 4: "spectral", 5: "trace", 6: "trace", 7: "trace", 8: "trace", 9: "trace", 10: "ecg",
    11: "trace", 12: "trace", 13: "bar", 14: "bar", 16: "trace", 17: "trace",
}  # fmt: skip
FORMS: dict[int, RegionName] = {SPECTRAL: "spectral", WAVEFORM: "trace", GRAPHICS: "graphics"}
"""of tissue or colour that is not shown as an image"""
UNITS: dict[int, tuple[Unit, float]] = {3: ("mm", 10.0), 4: ("s", 1.0), 5: ("hz", 1.0), 7: ("cm/s", 1.0)}
"""code of a physical unit → ours, and how many of ours it is; other units calibrate nothing here"""
EDGE_PX = 1
"""scanners give the last pixel or the one after it as a region's end"""
PLACEHOLDER = [1.0, 1.0]
"""what converters write as Pixel Spacing where they know none; no ultrasound pixel is 1 mm"""
AGREEMENT = 1e-3
"""relative: two tissue regions of one scale agree within this"""


def regions(header: Dataset, height: int, width: int) -> tuple[Region, ...]:
    """The pictures within a frame that the header names, in its order.

    Placeholders (data type 0), regions without area and regions wholly outside the frame are left out. One
    that reaches out of the frame was calibrated before the image was resized: its scales are unknown.
    """
    found = []
    for item in _items(header):
        name = _name(item)
        region = None if name is None else _region(item, name, height, width)
        if region is not None:
            found.append(region)
    return tuple(found)


def pixel_spacing(header: Dataset, height: int, width: int) -> Spacing | None:
    """Millimetres per pixel of the image of tissue.

    Regions decide where there are any: the 2-D ones, or colour ones where there is no other; spectra and
    traces do not count. Regions with different scales leave no one answer, nor does one that reaches out of
    the frame: both give `None`. Without regions, or with placeholders alone, Pixel Spacing counts.
    """
    if all(_name(item) is None for item in _items(header)):
        return agreed([_from_pixel_spacing(header.get("PixelSpacing"))])
    found = regions(header, height, width)
    for name in ("2d", "colour"):
        of_tissue = [region.spacing for region in found if region.name == name]
        if of_tissue:
            return agreed(of_tissue)
    return None


def frame_spacings(header: Dataset, frames: int) -> tuple[Spacing | None, ...]:
    """Of each frame of an enhanced multi-frame file, from its Pixel Measures; empty where there are none."""
    each = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    shared = _measured(next(iter(header.get("SharedFunctionalGroupsSequence") or []), Dataset()))
    found = [_measured(item) or shared for item in each] if len(each) == frames else [shared] * frames
    return tuple(found) if any(found) else ()


def agreed(spacings: Sequence[Spacing | None]) -> Spacing | None:
    """What all have in common, or `None`."""
    first = spacings[0] if spacings else None
    if first is None or not all(_same(first, spacing) for spacing in spacings):
        return None
    return first


def _items(header: Dataset) -> list[Dataset]:
    return list(header.get("SequenceOfUltrasoundRegions") or [])[: limits().regions]


def _name(item: Dataset) -> RegionName | None:
    kind, form = number(item, "RegionDataType"), number(item, "RegionSpatialFormat")
    if not kind:
        return None
    if form == M_MODE:
        return "m-mode"
    if kind in {TISSUE, COLOUR}:
        if form not in {SPATIAL_2D, None}:
            return FORMS.get(int(form), "other")
        return "2d" if kind == TISSUE else "colour"
    return NAMES.get(int(kind), "other")


def _region(item: Dataset, name: RegionName, height: int, width: int) -> Region | None:
    box = [number(item, f"RegionLocation{edge}") for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if any(value is None for value in box):
        return None
    x0, y0, x1, y1 = (int(value or 0) for value in box)
    if not (0 <= x0 < x1 and 0 <= y0 < y1) or x0 >= width or y0 >= height:
        return None
    within = x1 < width + EDGE_PX and y1 < height + EDGE_PX
    return Region(
        name=name,
        box=(x0, y0, min(x1 + 1, width), min(y1 + 1, height)),
        across=_step(item, "X") if within else None,
        down=_step(item, "Y") if within else None,
    )


def _step(item: Dataset, axis: str) -> Step | None:
    unit, factor = UNITS.get(int(number(item, f"PhysicalUnits{axis}Direction") or 0), (None, 0.0))
    delta = number(item, f"PhysicalDelta{axis}")
    return None if unit is None or delta is None else step_or_none(factor * delta, unit)


def _measured(groups: Dataset) -> Spacing | None:
    measures = next(iter(groups.get("PixelMeasuresSequence") or []), None)
    return None if measures is None else _from_pixel_spacing(measures.get("PixelSpacing"))


def _from_pixel_spacing(element: object) -> Spacing | None:
    values = numbers(element)
    if values is None or len(values) != 2 or values == PLACEHOLDER:
        return None
    return spacing_or_none(*values)


def _same(one: Spacing, other: Spacing | None) -> bool:
    return other is not None and all(
        math.isclose(a, b, rel_tol=AGREEMENT)
        for a, b in ((one.row_mm, other.row_mm), (one.col_mm, other.col_mm))
    )
