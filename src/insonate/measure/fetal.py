"""Fetal biometry: head and abdomen sizes, and gestational age by Hadlock 1984.

Each function takes mm and returns a `Quantity`: the value, its unit, the limits within which it is
meaningful, and where the formula comes from. Not a medical device: research use.

Two conventions of the biparietal diameter are about: outer to outer, the short axis of the head's ellipse,
which is what point sets and masks here give; and outer to inner (leading edge to leading edge), by which
Hadlock's formulas were fitted, smaller by about the thickness of the skull, 2 to 4 mm. Taken for each other,
they make 0.6 to 1.8 weeks of age. The argument's name says which one a function takes. Hadlock's head
circumference is that of the outer border, as here, so the age of a head is told by `ga_from_hc`.
"""

from __future__ import annotations

from insonate.measure.ellipse import ellipse_perimeter
from insonate.measure.quantity import Quantity, quantity

HADLOCK_1984 = "Hadlock et al. 1984, Radiology 152:497"
ELLIPSE = "ellipse perimeter of the two diameters, Ramanujan 1914 II"
OUTER = "outer to outer"


def bpd(length_mm: float) -> Quantity:
    """Biparietal diameter, outer to outer; Hadlock's is outer to inner, smaller by 2 to 4 mm."""
    return quantity("bpd_mm", length_mm, "short axis of the head ellipse", convention=OUTER)


def ofd(length_mm: float) -> Quantity:
    """Occipitofrontal diameter, outer to outer."""
    return quantity("ofd_mm", length_mm, "long axis of the head ellipse", convention=OUTER)


def femur_length(length_mm: float) -> Quantity:
    """Length of the ossified diaphysis."""
    return quantity("fl_mm", length_mm, "straight line between the ends of the diaphysis")


def head_circumference(bpd_mm: float, ofd_mm: float) -> Quantity:
    """Head circumference: perimeter of the ellipse with these two outer-to-outer diameters."""
    return quantity("hc_mm", ellipse_perimeter(bpd_mm / 2, ofd_mm / 2), ELLIPSE, convention="outer border")


def abdominal_circumference(first_mm: float, second_mm: float) -> Quantity:
    """Abdominal circumference: perimeter of the ellipse with these two diameters."""
    return quantity("ac_mm", ellipse_perimeter(first_mm / 2, second_mm / 2), ELLIPSE)


def cephalic_index(bpd_mm: float, ofd_mm: float) -> Quantity:
    """Short over long axis of the head in percent; 78.3 ± 4.4 is usual.

    Raises:
        ValueError: `ofd_mm` is not positive.
    """
    if ofd_mm <= 0:
        raise ValueError(f"ofd_mm must be positive: {ofd_mm}")
    return quantity("ci_percent", 100 * bpd_mm / ofd_mm, "Hadlock et al. 1981, AJR 137:83")


def ga_from_hc(hc_mm: float) -> Quantity:
    """Gestational age from the head circumference at the outer border."""
    h = hc_mm / 10
    return quantity("ga_weeks", 8.96 + 0.540 * h + 0.0003 * h**3, HADLOCK_1984)


def ga_from_bpd(bpd_outer_inner_mm: float) -> Quantity:
    """Gestational age from the biparietal diameter, which must be outer to inner."""
    b = bpd_outer_inner_mm / 10
    return quantity("ga_weeks", 9.54 + 1.482 * b + 0.1676 * b**2, HADLOCK_1984)


def ga_from_bpd_hc(bpd_outer_inner_mm: float, hc_mm: float) -> Quantity:
    """Gestational age from biparietal diameter, outer to inner, and head circumference."""
    b, h = bpd_outer_inner_mm / 10, hc_mm / 10
    weeks = 10.32 + 0.009 * h**2 + 1.3200 * b + 0.00012 * h**3
    return quantity("ga_weeks", weeks, HADLOCK_1984)


def ga_from_ac(ac_mm: float) -> Quantity:
    """Gestational age from the abdominal circumference."""
    a = ac_mm / 10
    return quantity("ga_weeks", 8.14 + 0.753 * a + 0.0036 * a**2, HADLOCK_1984)


def ga_from_fl(fl_mm: float) -> Quantity:
    """Gestational age from the femur length."""
    f = fl_mm / 10
    return quantity("ga_weeks", 10.35 + 2.460 * f + 0.170 * f**2, HADLOCK_1984)
