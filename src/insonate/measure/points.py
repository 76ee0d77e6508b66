"""What the named point sets measure: points in pixels of the original and a spacing → quantities.

The point orders are those of `insonate.data.pointsets`. A measurement whose points are missing (NaN) is left
out; one that is out of its range says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from insonate.data.spacing import Spacing
from insonate.measure import fetal, intrapartum, ventricle
from insonate.measure.age import hadlock_age
from insonate.measure.ellipse import (
    distance_mm,
    ellipse_area,
    square_diameters,
    upright_diameters,
    vectors_mm,
)  # fmt: skip
from insonate.measure.quantity import Quantity, quantity

Lines = tuple[tuple[int, int], ...]
Quantities = dict[str, Quantity]
LINE = "straight line between the two points"
ELLIPSE_AREA, TWO_DIAMETERS = "area of an ellipse", "from two diameters"
ALIASES = {
    "vao_mm": "aortic sinus level, inferred from where its points lie; the challenge says annulus",
    "av_mm": "aortic annulus level, inferred from where its points lie; the challenge says valve opening",
}
"""where the name of a line and the place of its points do not agree"""
A4C_NAMES = tuple(
    f"{chamber}_{axis}_mm" for chamber in ("lv", "rv", "la", "ra") for axis in ("long", "trans")
)


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
    """The measurements that are known; without a spacing, lengths in pixels (`hc_px`) and nothing else."""
    if measured is None:
        return {}
    found = _in_pixels(measured, points_xy) if spacing is None else measured.compute(points_xy, spacing)
    return {name: one for name, one in found.items() if math.isfinite(one.value)}


def _in_pixels(measured: Measured, points_xy: np.ndarray) -> Quantities:
    """Lengths as if a pixel were 1 mm, told in pixels; angles and ratios need pixels known to be square."""
    found = measured.compute(points_xy, Spacing(row_mm=1.0, col_mm=1.0))
    lengths = {name.removesuffix("_mm"): one for name, one in found.items() if name.endswith("_mm")}
    return {
        f"{name}_px": quantity(f"{name}_px", one.value, one.reference, convention=one.convention)
        for name, one in lengths.items()
    }


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
    lower, upper, nearest, tangent = vectors_mm(points_xy, spacing)
    return {
        "aop_deg": intrapartum.angle_of_progression(lower, upper, tangent),
        "hsd_mm": intrapartum.hsd_nearest(float(np.linalg.norm(nearest - lower))),
    }


def cervix(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Length of the cervical canal (points 0-1)."""
    return {"cl_mm": intrapartum.cervical_length(*_lengths_mm(points_xy, spacing, ((0, 1),)))}


def femur(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Femur length (points 0-1) and gestational age from it."""
    fl = fetal.femur_length(*_lengths_mm(points_xy, spacing, ((0, 1),)))
    return {"fl_mm": fl, "ga_weeks": hadlock_age(fl_mm=fl.value)}


def four_chambers(points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Long and transverse diameter of each chamber, and what follows from two diameters of an ellipse.

    Areas and volumes of so few points are rough; volumes belong to the frame's own moment of the cycle.
    """
    found = _lines(A4C_NAMES, points_xy, spacing)
    size_mm = {name: one.value for name, one in found.items()}
    for chamber in ("la", "ra"):
        name = f"{chamber}_area_cm2"
        found[name] = quantity(name, _area_cm2(size_mm, chamber), ELLIPSE_AREA, convention=TWO_DIAMETERS)
    if size_mm["lv_long_mm"] > 0:
        ratio = size_mm["lv_trans_mm"] / size_mm["lv_long_mm"]
        found["lv_sphericity_ratio"] = quantity("lv_sphericity_ratio", ratio, "transverse over long diameter")
        volume = ventricle.lv_volume_area_length(_area_cm2(size_mm, "lv"), size_mm["lv_long_mm"])
        found["lv_ml"] = replace(volume, convention=f"{volume.convention}, {TWO_DIAMETERS}")
    if size_mm["lv_trans_mm"] > 0:
        ratio = size_mm["rv_trans_mm"] / size_mm["lv_trans_mm"]
        found["rv_lv_ratio"] = quantity("rv_lv_ratio", ratio, "transverse diameters")
    if size_mm["la_long_mm"] > 0:
        area = _area_cm2(size_mm, "la")
        volume = ventricle.la_volume_area_length(area, area, size_mm["la_long_mm"])
        found["la_ml"] = replace(volume, convention=f"one plane, {TWO_DIAMETERS}")
    return found


def _area_cm2(size_mm: dict[str, float], chamber: str) -> float:
    return ellipse_area(size_mm[f"{chamber}_long_mm"] / 20, size_mm[f"{chamber}_trans_mm"] / 20)


def _lengths_mm(points_xy: np.ndarray, spacing: Spacing, lines: Lines) -> list[float]:
    return [float(distance_mm(points_xy[start], points_xy[end], spacing)) for start, end in lines]


def _lines(names: tuple[str, ...], points_xy: np.ndarray, spacing: Spacing) -> Quantities:
    """Points 2i and 2i + 1 are the ends of the line `names[i]`."""
    lengths_mm = _lengths_mm(points_xy, spacing, tuple((2 * i, 2 * i + 1) for i in range(len(names))))
    return {
        name: quantity(name, one, LINE, convention=ALIASES.get(name, ""))
        for name, one in zip(names, lengths_mm, strict=True)
    }


def _pairs(*names: str) -> Measured:
    return Measured(names=names, compute=partial(_lines, names))


MEASURED = {
    "HC": Measured(
        names=("hc_mm", "bpd_mm", "ofd_mm", "ga_weeks", "ci_percent"), compute=head, project=square_diameters
    ),
    "FA": Measured(
        names=("ac_mm", "ad_vertical_mm", "ad_horizontal_mm"), compute=abdomen, project=upright_diameters
    ),
    "AOP": Measured(names=("aop_deg", "hsd_mm"), compute=symphysis_and_head),
    "FUGC": Measured(names=("cl_mm",), compute=cervix),
    "fetal_femur": Measured(names=("fl_mm", "ga_weeks"), compute=femur),
    "IVC": _pairs("ivc_mm"),
    "PSAX": _pairs("rvot_mm", "pa_mm"),
    "PLAX": _pairs(
        "lv_mm", "rv_mm", "ivs_mm", "lvpw_mm", "vao_mm", "stj_mm", "aao_mm", "av_mm", "lvot_mm", "la_mm",
        "rvot_mm",
    ),
    "A4C": Measured(
        names=(
            *A4C_NAMES, "la_area_cm2", "ra_area_cm2", "lv_sphericity_ratio", "rv_lv_ratio", "lv_ml", "la_ml",
        ),
        compute=four_chambers,
    ),
}  # fmt: skip
"""name of the point set → what it measures"""
