"""Measurements as pure functions of numbers with their unit in the name. May import data and below.

- `ellipse`: perimeter and area, distances and angles under a spacing, projections of two crossing diameters.
- `quantity`: a number with its unit, its plausible limits and its source.
- `fetal`: head, abdomen and femur sizes, cephalic index, gestational age (Hadlock 1984).
"""

from insonate.measure.ellipse import angle_deg, distance_mm, distance_px, ellipse_area, ellipse_perimeter
from insonate.measure.fetal import (
    abdominal_circumference,
    cephalic_index,
    ga_from_bpd_hc,
    ga_from_hc,
    head_circumference,
)
from insonate.measure.quantity import Quantity, quantity

__all__ = [
    "Quantity",
    "abdominal_circumference",
    "angle_deg",
    "cephalic_index",
    "distance_mm",
    "distance_px",
    "ellipse_area",
    "ellipse_perimeter",
    "ga_from_bpd_hc",
    "ga_from_hc",
    "head_circumference",
    "quantity",
]
