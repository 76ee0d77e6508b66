"""Left heart from diameters, areas and velocities, and what is divided by the body's surface.

Lengths in mm, areas in cm2, volumes in ml, masses in g. Diameters are perpendicular to the long axis; mass
and relative wall thickness belong to the end of diastole. Source, where no other is told: Lang et al. 2015
(JASE 28:1). Volumes by discs: `discs.py`.
"""

from __future__ import annotations

import math
from typing import Literal

from insonate.measure.quantity import Quantity, positive, quantity

LANG_2015 = "Lang et al. 2015, JASE 28:1"
TEICHHOLZ = "Teichholz et al. 1976, Am J Cardiol 37:7"
DEVEREUX = "Devereux et al. 1986, Am J Cardiol 57:450"
RWT_LIMIT = 0.42
MASS_INDEX_LIMIT = {"f": 95.0, "m": 115.0}
"""g/m2, above which a ventricle is hypertrophic"""
AREA_LENGTH = 8 / (3 * math.pi)

Geometry = Literal["normal", "concentric remodelling", "eccentric hypertrophy", "concentric hypertrophy"]


def fractional_shortening(diastole_mm: float, systole_mm: float) -> Quantity:
    """Shortening of the left ventricle's diameter in percent.

    Raises:
        ValueError: the diastolic diameter is not positive.
    """
    positive(diastole_mm=diastole_mm)
    percent = 100 * (diastole_mm - systole_mm) / diastole_mm
    return quantity("lv_fs_percent", percent, LANG_2015, made_of=_diameters(diastole_mm, systole_mm))


def teichholz_volume(diameter_mm: float) -> Quantity:
    """Volume of the left ventricle from one diameter; not for ventricles that move unevenly."""
    d = diameter_mm / 10
    return quantity("lv_ml", 7 * d**3 / (2.4 + d), TEICHHOLZ, made_of={"lv_mm": diameter_mm})


def ejection_fraction(diastole_ml: float | Quantity, systole_ml: float | Quantity) -> Quantity:
    """Ejected part of the diastolic volume in percent; both volumes by the same method.

    Raises:
        ValueError: the diastolic volume is not positive.
    """
    diastole, systole = _number(diastole_ml), _number(systole_ml)
    positive(diastole_ml=diastole)
    method = diastole_ml.reference if isinstance(diastole_ml, Quantity) else LANG_2015
    doubts = tuple(dict.fromkeys((*_in_doubt(diastole_ml), *_in_doubt(systole_ml))))
    return quantity("ef_percent", 100 * (diastole - systole) / diastole, method, doubts=doubts)


def lv_mass(septum_mm: float, diameter_mm: float, posterior_wall_mm: float) -> Quantity:
    """Mass of the left ventricle from a diastolic cursor line: the cube formula."""
    ivs, lvid, pw = septum_mm / 10, diameter_mm / 10, posterior_wall_mm / 10
    grams = 0.8 * 1.04 * ((ivs + lvid + pw) ** 3 - lvid**3) + 0.6
    made_of = {"ivs_mm": septum_mm, "lv_mm": diameter_mm, "lvpw_mm": posterior_wall_mm}
    return quantity("lv_mass_g", grams, DEVEREUX, convention="cube formula, end of diastole", made_of=made_of)


def relative_wall_thickness(diameter_mm: float, posterior_wall_mm: float) -> Quantity:
    """Twice the posterior wall over the diameter, at the end of diastole.

    Raises:
        ValueError: the diameter is not positive.
    """
    positive(diameter_mm=diameter_mm)
    made_of = {"lv_mm": diameter_mm, "lvpw_mm": posterior_wall_mm}
    ratio = 2 * posterior_wall_mm / diameter_mm
    return quantity("rwt_ratio", ratio, LANG_2015, convention="2 PW / LVID", made_of=made_of)


def mean_relative_wall_thickness(septum_mm: float, diameter_mm: float, posterior_wall_mm: float) -> Quantity:
    """Septum and posterior wall over the diameter, at the end of diastole.

    Raises:
        ValueError: the diameter is not positive.
    """
    positive(diameter_mm=diameter_mm)
    made_of = {"ivs_mm": septum_mm, "lv_mm": diameter_mm, "lvpw_mm": posterior_wall_mm}
    ratio = (septum_mm + posterior_wall_mm) / diameter_mm
    return quantity("rwt_ratio", ratio, LANG_2015, convention="(IVS + PW) / LVID", made_of=made_of)


def lv_geometry(rwt: float, mass_index_g_per_m2: float, sex: Literal["f", "m"]) -> Geometry:
    """How a ventricle is shaped, by wall thickness (0.42) and mass index (95 g/m2 in women, 115 in men)."""
    heavy, thick = mass_index_g_per_m2 > MASS_INDEX_LIMIT[sex], rwt > RWT_LIMIT
    if heavy:
        return "concentric hypertrophy" if thick else "eccentric hypertrophy"
    return "concentric remodelling" if thick else "normal"


def lv_volume_area_length(area_cm2: float, length_mm: float) -> Quantity:
    """Volume of the left ventricle from area and length in one plane.

    Raises:
        ValueError: the length is not positive.
    """
    positive(length_mm=length_mm)
    volume = AREA_LENGTH * area_cm2**2 / (length_mm / 10)
    return quantity(
        "lv_ml", volume, LANG_2015, convention="area-length, one plane", made_of={"lv_long_mm": length_mm}
    )


def la_volume_area_length(first_cm2: float, second_cm2: float, shorter_length_mm: float) -> Quantity:
    """Volume of the left atrium at the end of systole from its areas in two planes and the shorter length.

    With the same area twice, it is that of one plane.

    Raises:
        ValueError: the length is not positive.
    """
    positive(shorter_length_mm=shorter_length_mm)
    volume = AREA_LENGTH * first_cm2 * second_cm2 / (shorter_length_mm / 10)
    made_of = {"la_long_mm": shorter_length_mm}
    return quantity("la_ml", volume, LANG_2015, convention="area-length, end of systole", made_of=made_of)


def lvot_area(diameter_mm: float) -> Quantity:
    """Area of the left ventricular outflow tract, taken for a circle."""
    area = math.pi * (diameter_mm / 20) ** 2
    return quantity("lvot_area_cm2", area, LANG_2015, convention="circle", made_of={"lvot_mm": diameter_mm})


def stroke_volume(lvot_mm: float, vti_cm: float) -> Quantity:
    """Stroke volume from the outflow tract's diameter and its velocity-time integral."""
    area = lvot_area(lvot_mm)
    made_of: dict[str, float | Quantity] = {"lvot_area_cm2": area, "vti_cm": vti_cm}
    return quantity("sv_ml", area.value * vti_cm, "Quiñones et al. 2002, JASE 15:167", made_of=made_of)


def bsa_mosteller(height_cm: float, weight_kg: float) -> Quantity:
    """Surface of the body.

    Raises:
        ValueError: height or weight is not positive.
    """
    positive(height_cm=height_cm, weight_kg=weight_kg)
    area = math.sqrt(height_cm * weight_kg / 3600)
    return _bsa(area, "Mosteller 1987, NEJM 317:1098", height_cm, weight_kg)


def bsa_du_bois(height_cm: float, weight_kg: float) -> Quantity:
    """Surface of the body.

    Raises:
        ValueError: height or weight is not positive.
    """
    positive(height_cm=height_cm, weight_kg=weight_kg)
    area = 0.007184 * height_cm**0.725 * weight_kg**0.425
    return _bsa(area, "Du Bois & Du Bois 1916, Arch Intern Med 17:863", height_cm, weight_kg)


def lv_mass_index(mass: Quantity, bsa: Quantity) -> Quantity:
    """Mass of the left ventricle by surface of the body."""
    return _indexed("lv_mass_index_g_per_m2", mass, bsa)


def la_volume_index(volume: Quantity, bsa: Quantity) -> Quantity:
    """Volume of the left atrium by surface of the body; up to 34 ml/m2 is usual."""
    return _indexed("la_index_ml_per_m2", volume, bsa)


def _indexed(name: str, size: Quantity, bsa: Quantity) -> Quantity:
    return quantity(
        name, size.value / bsa.value, LANG_2015, convention=f"{size.convention}; {bsa.reference}",
        doubts=(*_in_doubt(size), *_in_doubt(bsa)),
    )  # fmt: skip


def _bsa(area_m2: float, reference: str, height_cm: float, weight_kg: float) -> Quantity:
    return quantity("bsa_m2", area_m2, reference, made_of={"height_cm": height_cm, "weight_kg": weight_kg})


def _diameters(diastole_mm: float, systole_mm: float) -> dict[str, float | Quantity]:
    # Two numbers of one name: the second one's doubts come with it.
    return {"lv_mm": quantity("lv_mm", diastole_mm, made_of={"lv_mm": systole_mm})}


def _number(volume: float | Quantity) -> float:
    return volume.value if isinstance(volume, Quantity) else volume


def _in_doubt(size: float | Quantity) -> tuple[str, ...]:
    one = size if isinstance(size, Quantity) else quantity("lv_ml", size)
    if one.in_range is not False:
        return ()
    return one.doubts or (f"{one.value:.4g} {one.unit} is out of its range",)
