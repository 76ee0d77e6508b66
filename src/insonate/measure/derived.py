"""What follows from the quantities of several pictures: of one fetus, one heart, one vein.

A picture of a parasternal view does not tell whether it shows diastole or systole; a cycle of them does: the
widest ventricle is the end of diastole, the narrowest the end of systole. Each function takes and gives
quantities by name, and leaves out what cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from insonate.measure import venous, ventricle
from insonate.measure.age import hadlock_age, intergrowth_age
from insonate.measure.growth import (
    Size,
    centile,
    size_z_intergrowth,
    weight_ac_fl,
    weight_hc_ac_fl,
    weight_intergrowth,
    weight_z_hadlock,
    weight_z_intergrowth,
)  # fmt: skip
from insonate.measure.quantity import Quantity

Quantities = dict[str, Quantity]
Found = Mapping[str, Quantity]


def fetus(found: Found, ga_weeks: float | None = None) -> Quantities:
    """Age and weight of a fetus from all of its sizes (`hc_mm`, `ac_mm`, `fl_mm`).

    With a gestational age that is known otherwise, also standard scores and centiles of sizes and weight. The
    biparietal diameter is left out of age and weight: Hadlock's is outer to inner, ours outer to outer.
    """
    made: Quantities = {}
    sizes = {name: found[name].value for name in ("hc_mm", "ac_mm", "fl_mm") if name in found}
    if sizes:
        made["ga_hadlock_weeks"] = hadlock_age(**sizes)
    if "hc_mm" in sizes:
        made["ga_intergrowth_weeks"] = intergrowth_age(sizes["hc_mm"], sizes.get("fl_mm"))
    if {"ac_mm", "fl_mm"} <= sizes.keys():
        made["efw_hadlock_g"] = (
            weight_hc_ac_fl(**sizes) if "hc_mm" in sizes else weight_ac_fl(sizes["ac_mm"], sizes["fl_mm"])
        )
    if {"ac_mm", "hc_mm"} <= sizes.keys():
        made["efw_intergrowth_g"] = weight_intergrowth(sizes["ac_mm"], sizes["hc_mm"], ga_weeks)
    return made if ga_weeks is None else made | _weight_centiles(made, ga_weeks) | centiles(found, ga_weeks)


def centiles(found: Found, ga_weeks: float) -> Quantities:
    """Standard score and centile (INTERGROWTH-21st) of each fetal size, at an age known otherwise."""
    made: Quantities = {}
    for name in get_args(Size):
        if name in found:
            _add_score(made, name.removesuffix("_mm"), size_z_intergrowth(name, found[name].value, ga_weeks))
    return made


def left_ventricle(diastole: Found, systole: Found, bsa: Quantity | None = None) -> Quantities:
    """Function and mass of the left ventricle from a parasternal long axis at both ends of the cycle."""
    made: Quantities = {}
    wide, narrow = diastole.get("lv_mm"), systole.get("lv_mm")
    if wide is None or wide.value <= 0:
        return made
    if narrow is not None:
        made["lv_fs_percent"] = ventricle.fractional_shortening(wide.value, narrow.value)
        made["lv_diastole_ml"] = ventricle.teichholz_volume(wide.value)
        made["lv_systole_ml"] = ventricle.teichholz_volume(narrow.value)
        made["ef_percent"] = ventricle.ejection_fraction(made["lv_diastole_ml"], made["lv_systole_ml"])
    septum, wall = diastole.get("ivs_mm"), diastole.get("lvpw_mm")
    if wall is not None:
        made["rwt_ratio"] = ventricle.relative_wall_thickness(wide.value, wall.value)
    if wall is not None and septum is not None:
        made["lv_mass_g"] = ventricle.lv_mass(septum.value, wide.value, wall.value)
        if bsa is not None:
            made["lv_mass_index_g_per_m2"] = ventricle.lv_mass_index(made["lv_mass_g"], bsa)
    return made


def left_ventricle_of_loop(frames: Sequence[Found], bsa: Quantity | None = None) -> Quantities:
    """The same of a loop: diastole is the frame of the widest ventricle, systole that of the narrowest."""
    known = [frame for frame in frames if "lv_mm" in frame]
    if not known:
        return {}
    order = sorted(known, key=lambda frame: frame["lv_mm"].value)
    return left_ventricle(order[-1], order[0], bsa)


def chambers_of_loop(frames: Sequence[Found], bsa: Quantity | None = None) -> Quantities:
    """Ejection fraction and atrial volume of a loop of four-chamber views (A4C), from two diameters each.

    Both are rough: an area is taken for that of an ellipse. The atrium is widest at the end of systole.
    """
    made: Quantities = {}
    volumes = sorted((frame["lv_ml"] for frame in frames if "lv_ml" in frame), key=lambda one: one.value)
    if len(volumes) > 1 and volumes[-1].value > 0:
        made["lv_diastole_ml"], made["lv_systole_ml"] = volumes[-1], volumes[0]
        made["ef_percent"] = ventricle.ejection_fraction(volumes[-1], volumes[0])
    atria = [frame["la_ml"] for frame in frames if "la_ml" in frame]
    if atria:
        made["la_ml"] = max(atria, key=lambda one: one.value)
        if bsa is not None:
            made["la_index_ml_per_m2"] = ventricle.la_volume_index(made["la_ml"], bsa)
    return made


def vena_cava_of_loop(frames: Sequence[Found]) -> Quantities:
    """Collapse and right atrial pressure from the inferior vena cava over a breath, breathing by oneself."""
    widths = [frame["ivc_mm"].value for frame in frames if "ivc_mm" in frame]
    if len(widths) < 2 or max(widths) <= 0:
        return {}
    collapse = venous.ivc_collapsibility(max(widths), min(widths))
    pressure = venous.right_atrial_pressure(max(widths), collapse.value)
    return {"ivc_collapse_percent": collapse, "rap_mmhg": pressure}


def _weight_centiles(made: Found, ga_weeks: float) -> Quantities:
    scores: Quantities = {}
    for name, score in (("efw_hadlock", weight_z_hadlock), ("efw_intergrowth", weight_z_intergrowth)):
        weight = made.get(f"{name}_g")
        if weight is not None:
            _add_score(scores, name, score(weight.value, ga_weeks))
    return scores


def _add_score(made: Quantities, name: str, z: Quantity) -> None:
    made[f"{name}_z_sd"], made[f"{name}_centile_percent"] = z, centile(z)
