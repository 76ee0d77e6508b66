"""What the named point sets measure: points in pixels of the original and a spacing → quantities in mm.

The point orders are those of `insonate.data.pointsets`. A measurement whose points are missing (NaN) is left
out; one that is out of its range says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from insonate.data.spacing import Spacing
from insonate.measure import fetal
from insonate.measure.age import hadlock_age
from insonate.measure.ellipse import angle_deg, distance_mm, square_diameters, upright_diameters
from insonate.measure.quantity import Quantity, quantity

Lines = tuple[tuple[int, int], ...]
Quantities = dict[str, Quantity]
LINE = "straight line between the two points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is measured of a set of points."""

    names: tuple[str, ...]
    """of the measurements, with their unit; reports show all of them"""
    compute: Callable[[np.ndarray, Spacing], Quantities]
    """points K 2 in px → name → quantity"""
    project: Callable[[np.ndarray, Spacing | None], np.ndarray] | None = None
    """moves predicted points to the geometry that the labels have"""


def measure(measured: Measured | None, points_xy: np.ndarray, spacing: Spacing | None) -> Quantities:
    """The measurements that are known: none without a spacing."""
    if measured is None or spacing is None:
        return {}
    found = measured.compute(points_xy, spacing)
    return {name: one for name, one in found.items() if math.isfinite(one.value)}


def head(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """BPD (points 0-1) and OFD (2-3), both outer to outer, head circumference and gestational age from it.

    Hadlock's formulas of the BPD want it outer to inner, which these points do not tell.
    """
    bpd_mm, ofd_mm = _lengths_mm(points_xy, spacing, ((0, 1), (2, 3)))
    hc = fetal.head_circumference(bpd_mm, ofd_mm)
    found = {"hc_mm": hc, "bpd_mm": fetal.bpd(bpd_mm), "ofd_mm": fetal.ofd(ofd_mm)}
    found["ga_weeks"] = hadlock_age(hc_mm=hc.value)
    if ofd_mm > 0:
        found["ci_percent"] = fetal.cephalic_index(bpd_mm, ofd_mm)
    return found


def abdomen(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Vertical (points 0-1) and horizontal (2-3) diameter and the circumference of their ellipse."""
    vertical_mm, horizontal_mm = _lengths_mm(points_xy, spacing, ((0, 1), (2, 3)))
    return {
        "ac_mm": fetal.abdominal_circumference(vertical_mm, horizontal_mm),
        "ad_vertical_mm": quantity("ad_vertical_mm", vertical_mm, LINE),
        "ad_horizontal_mm": quantity("ad_horizontal_mm", horizontal_mm, LINE),
    }


def symphysis_and_head(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Angle of progression (at point 0, between 1 and 3) and head-symphysis distance (0-2)."""
    known = np.isfinite(points_xy[[0, 1, 3]]).all()
    angle = angle_deg(points_xy[0], points_xy[1], points_xy[3], spacing) if known else math.nan
    (hsd_mm,) = _lengths_mm(points_xy, spacing, ((0, 2),))
    return {
        "aop_deg": quantity("aop_deg", angle, "angle between symphysis axis and tangent to the head"),
        "hsd_mm": quantity("hsd_mm", hsd_mm, LINE, convention="to the nearest point of the head"),
    }


def _lengths_mm(points_xy: np.ndarray, spacing: Spacing, lines: Lines) -> list[float]:
    return [float(distance_mm(points_xy[start], points_xy[end], spacing)) for start, end in lines]


def _pairs(*names: str) -> Measured:
    """Points 2i and 2i + 1 are the ends of the line `names[i]`."""
    lines = tuple((2 * i, 2 * i + 1) for i in range(len(names)))

    def compute(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
        lengths_mm = _lengths_mm(points_xy, spacing, lines)
        return {name: quantity(name, one, LINE) for name, one in zip(names, lengths_mm, strict=True)}

    return Measured(names=names, compute=compute)


MEASURED = {
    "HC": Measured(
        names=("hc_mm", "bpd_mm", "ofd_mm", "ga_weeks", "ci_percent"), compute=head, project=square_diameters
    ),
    "FA": Measured(
        names=("ac_mm", "ad_vertical_mm", "ad_horizontal_mm"), compute=abdomen, project=upright_diameters
    ),
    "AOP": Measured(names=("aop_deg", "hsd_mm"), compute=symphysis_and_head),
    "FUGC": _pairs("cl_mm"),
    "fetal_femur": _pairs("fl_mm"),
    "IVC": _pairs("ivc_mm"),
    "PSAX": _pairs("rvot_mm", "pa_mm"),
    "PLAX": _pairs(
        "lv_mm", "rv_mm", "ivs_mm", "lvpw_mm", "vao_mm", "stj_mm", "aao_mm", "av_mm", "lvot_mm", "la_mm",
        "rvot_mm",
    ),
    "A4C": _pairs(
        "lv_long_mm", "lv_trans_mm", "rv_long_mm", "rv_trans_mm", "la_long_mm", "la_trans_mm", "ra_long_mm",
        "ra_trans_mm",
    ),
}  # fmt: skip
"""name of the point set → what it measures"""
LINES: dict[str, Lines] = {"AOP": ((0, 1), (0, 3), (0, 2))}
"""lines to draw where they are not the pairs 0-1, 2-3, …"""
