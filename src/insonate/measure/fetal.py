"""Fetal biometry: head and abdomen sizes, and gestational age by Hadlock 1984.

Each function takes mm and returns a `Quantity`: the value, its unit, whether it lies in the range where it is
meaningful, and where the formula comes from. Not a medical device: research use.
"""

from __future__ import annotations

from dataclasses import dataclass

from insonate.measure.ellipse import ellipse_perimeter

HADLOCK_1984 = "Hadlock et al. 1984, Radiology 152:497"
ELLIPSE = "ellipse perimeter of the two diameters, Ramanujan 1914 II"
RANGES = {
    "bpd_mm": (10.0, 115.0),
    "ofd_mm": (12.0, 140.0),
    "hc_mm": (40.0, 420.0),
    "ac_mm": (35.0, 430.0),
    "fl_mm": (4.0, 90.0),
    "ci_percent": (60.0, 95.0),
    "ga_weeks": (12.0, 42.0),
}
"""name → smallest and largest plausible value; for `ga_weeks` the range the formulas were fitted on"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured or derived number."""

    value: float
    unit: str
    in_range: bool
    reference: str


def bpd(length_mm: float) -> Quantity:
    """Biparietal diameter. Here outer to outer; Hadlock's is outer to inner, smaller by 2 to 4 mm."""
    return _quantity("bpd_mm", length_mm, "outer-to-outer short axis of the head ellipse")


def ofd(length_mm: float) -> Quantity:
    """Occipitofrontal diameter, outer to outer."""
    return _quantity("ofd_mm", length_mm, "outer-to-outer long axis of the head ellipse")


def femur_length(length_mm: float) -> Quantity:
    """Length of the ossified diaphysis."""
    return _quantity("fl_mm", length_mm, "straight line between the ends of the diaphysis")


def head_circumference(bpd_mm: float, ofd_mm: float) -> Quantity:
    """Head circumference: perimeter of the ellipse with these two diameters."""
    return _quantity("hc_mm", ellipse_perimeter(bpd_mm / 2, ofd_mm / 2), ELLIPSE)


def abdominal_circumference(first_mm: float, second_mm: float) -> Quantity:
    """Abdominal circumference: perimeter of the ellipse with these two diameters."""
    return _quantity("ac_mm", ellipse_perimeter(first_mm / 2, second_mm / 2), ELLIPSE)


def cephalic_index(bpd_mm: float, ofd_mm: float) -> Quantity:
    """Short over long axis of the head in percent; 78.3 ± 4.4 is usual.

    Raises:
        ValueError: `ofd_mm` is not positive.
    """
    if ofd_mm <= 0:
        raise ValueError(f"ofd_mm must be positive: {ofd_mm}")
    return _quantity("ci_percent", 100 * bpd_mm / ofd_mm, "Hadlock et al. 1981, AJR 137:83")


def ga_from_hc(hc_mm: float) -> Quantity:
    """Gestational age from the head circumference."""
    h = hc_mm / 10
    return _quantity("ga_weeks", 8.96 + 0.540 * h + 0.0003 * h**3, HADLOCK_1984)


def ga_from_bpd(bpd_mm: float) -> Quantity:
    """Gestational age from the biparietal diameter."""
    b = bpd_mm / 10
    return _quantity("ga_weeks", 9.54 + 1.482 * b + 0.1676 * b**2, HADLOCK_1984)


def ga_from_bpd_hc(bpd_mm: float, hc_mm: float) -> Quantity:
    """Gestational age from biparietal diameter and head circumference."""
    b, h = bpd_mm / 10, hc_mm / 10
    weeks = 10.32 + 0.009 * h**2 + 1.3200 * b + 0.00012 * h**3
    return _quantity("ga_weeks", weeks, HADLOCK_1984)


def ga_from_ac(ac_mm: float) -> Quantity:
    """Gestational age from the abdominal circumference."""
    a = ac_mm / 10
    return _quantity("ga_weeks", 8.14 + 0.753 * a + 0.0036 * a**2, HADLOCK_1984)


def ga_from_fl(fl_mm: float) -> Quantity:
    """Gestational age from the femur length."""
    f = fl_mm / 10
    return _quantity("ga_weeks", 10.35 + 2.460 * f + 0.170 * f**2, HADLOCK_1984)


def _quantity(name: str, value: float, reference: str) -> Quantity:
    low, high = RANGES[name]
    unit = name.rsplit("_", 1)[1]
    return Quantity(value=float(value), unit=unit, in_range=bool(low <= value <= high), reference=reference)
