"""Fetal sizes: head, abdomen, femur. Age and weight from them: `age.py`, `growth.py`.

Each function takes mm and returns a `Quantity`. Not a medical device: research use.

Two conventions of the biparietal diameter are about: outer to outer, the short axis of the head's ellipse,
which is what point sets and masks here give; and outer to inner (leading edge to leading edge), by which
Hadlock's formulas were fitted, smaller by about the thickness of the skull, 2 to 4 mm. Taken for each other,
they make 0.6 to 1.8 weeks of age. The argument's name says which one a function takes. Hadlock's head
circumference is that of the outer border, as here.
"""

from __future__ import annotations

from insonate.measure.ellipse import ellipse_perimeter
from insonate.measure.quantity import Quantity, positive, quantity

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
    """Short over long axis of the head in percent; 78.3 ± 4.4 is usual, < 74 long, > 83 round.

    Raises:
        ValueError: `ofd_mm` is not positive.
    """
    positive(ofd_mm=ofd_mm)
    return quantity("ci_percent", 100 * bpd_mm / ofd_mm, "Hadlock et al. 1981, AJR 137:83")
