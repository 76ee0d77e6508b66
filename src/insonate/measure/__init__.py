"""Measurements as pure functions of numbers with their unit in the name. May import data and below.

- `ellipse`: perimeter and area, distances and angles under a spacing, projections of two crossing diameters.
- `quantity`: a number with its unit, its plausible limits, its source and what speaks against it.
- `fetal`: head, abdomen and femur sizes, cephalic index.
- `age`: gestational age by Hadlock 1984 (15 formulas) and INTERGROWTH-21st.
- `growth`: fetal weight (Hadlock, INTERGROWTH-21st), standard scores and centiles of weight and sizes.
- `intrapartum`: angle of progression, head-symphysis distance, cervical length; ellipses of masks.
- `venous`: collapse of the inferior vena cava, pressures of the right heart.
- `ventricle`: left heart from diameters, areas and velocities; surface of the body.
- `discs`: volume of the left ventricle by discs in one and two planes.
- `points`: what the named point sets measure; `figures`: its lines and ellipses; `overlay`: its picture.
- `derived`: what follows from the quantities of several pictures of one fetus, heart or vein.
- `loop`: points over time, smoothed, and the ends of a cycle, with `beats`; `trace`: an M-mode-like picture.
"""

from insonate.measure.age import hadlock_age, intergrowth_age
from insonate.measure.ellipse import angle_deg, distance_mm, distance_px, ellipse_area, ellipse_perimeter
from insonate.measure.fetal import abdominal_circumference, cephalic_index, head_circumference
from insonate.measure.growth import centile, size_z_intergrowth, weight_z_hadlock, weight_z_intergrowth
from insonate.measure.quantity import Quantity, quantity

__all__ = [
    "Quantity",
    "abdominal_circumference",
    "angle_deg",
    "centile",
    "cephalic_index",
    "distance_mm",
    "distance_px",
    "ellipse_area",
    "ellipse_perimeter",
    "hadlock_age",
    "head_circumference",
    "intergrowth_age",
    "quantity",
    "size_z_intergrowth",
    "weight_z_hadlock",
    "weight_z_intergrowth",
]
