"""Quantity: a measured number that says its unit, where it is plausible, and where its formula comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNITS = {
    "g_per_m2": "g/m2", "ml_per_m2": "ml/m2", "m_per_s": "m/s", "mmhg": "mmHg", "mm": "mm", "cm": "cm",
    "cm2": "cm2", "m2": "m2", "ml": "ml", "g": "g", "kg": "kg", "deg": "deg", "ms": "ms", "hz": "hz",
    "weeks": "weeks", "percent": "percent", "px": "px", "sd": "sd",
}  # fmt: skip
"""the last part of a quantity's name, where it has a unit, and how the unit is written"""
_WALL, _AORTA, _LONG, _WIDE = (3.0, 30.0), (8.0, 60.0), (25.0, 130.0), (10.0, 90.0)
RANGES = {
    "bpd_mm": (10.0, 115.0), "ofd_mm": (12.0, 140.0), "hc_mm": (40.0, 420.0), "ac_mm": (35.0, 430.0),
    "fl_mm": (4.0, 90.0), "ci_percent": (60.0, 95.0), "ga_weeks": (12.0, 42.0), "efw_g": (100.0, 6000.0),
    "z_sd": (-5.0, 5.0), "centile_percent": (0.0, 100.0),
    "cl_mm": (0.0, 70.0), "hsd_mm": (0.0, 80.0), "aop_deg": (40.0, 190.0),
    "ivc_mm": (2.0, 40.0), "ivc_collapse_percent": (0.0, 100.0), "ivc_distension_percent": (0.0, 200.0),
    "rap_mmhg": (0.0, 20.0), "rvsp_mmhg": (10.0, 120.0), "pa_mm": (5.0, 45.0), "rvot_mm": (8.0, 50.0),
    "lv_mm": (15.0, 90.0), "ivs_mm": _WALL, "lvpw_mm": _WALL, "la_mm": (12.0, 80.0),
    "lvot_mm": _AORTA, "av_mm": _AORTA, "vao_mm": _AORTA, "stj_mm": _AORTA, "aao_mm": _AORTA,
    "lv_long_mm": _LONG, "rv_long_mm": _LONG, "la_long_mm": _LONG, "ra_long_mm": _LONG,
    "la_area_cm2": (2.0, 80.0), "ra_area_cm2": (2.0, 80.0), "lv_sphericity_ratio": (0.2, 1.2),
    "rv_lv_ratio": (0.2, 2.5),
    "lv_trans_mm": _WIDE, "rv_trans_mm": _WIDE, "la_trans_mm": _WIDE, "ra_trans_mm": _WIDE,
    "lv_fs_percent": (5.0, 60.0), "ef_percent": (5.0, 90.0), "lv_ml": (5.0, 500.0),
    "lv_mass_g": (30.0, 600.0), "lv_mass_index_g_per_m2": (20.0, 300.0), "rwt_ratio": (0.15, 1.5),
    "la_ml": (5.0, 300.0), "la_index_ml_per_m2": (3.0, 150.0), "lvot_area_cm2": (0.5, 28.3),
    "sv_ml": (10.0, 250.0), "bsa_m2": (0.2, 3.5), "height_cm": (40.0, 230.0), "weight_kg": (2.0, 300.0),
    "vti_cm": (2.0, 60.0), "tr_velocity_m_per_s": (0.5, 6.0),
}  # fmt: skip
"""name → smallest and largest plausible value; for `ga_weeks` the range the formulas were fitted on"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured or derived number."""

    value: float
    unit: str
    """empty where none is known"""
    limits: tuple[float, float] | None = None
    """outside of which the value is not plausible, or its formula not valid"""
    reference: str = ""
    convention: str = ""
    """which of several usual ways of measuring it this is"""
    doubts: tuple[str, ...] = ()
    """what else speaks against it: what it was made of is not plausible, or not what the formula is for"""

    @property
    def in_range(self) -> bool | None:
        """Whether it is within its limits and nothing speaks against it; None where no limits are known."""
        if self.doubts:
            return False
        return None if self.limits is None else bool(self.limits[0] <= self.value <= self.limits[1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "value": self.value, "unit": self.unit, "in_range": self.in_range,
            "limits": None if self.limits is None else list(self.limits),
            "convention": self.convention, "reference": self.reference, "doubts": list(self.doubts),
        }  # fmt: skip

    def __str__(self) -> str:
        flag = " (out of range)" if self.in_range is False else ""
        return f"{self.value:.4g} {self.unit}".rstrip() + flag


def quantity(
    name: str,
    value: float,
    reference: str = "",
    *,
    convention: str = "",
    limits: tuple[float, float] | None = None,
    made_of: Mapping[str, float | Quantity] | None = None,
    doubts: tuple[str, ...] = (),
) -> Quantity:
    """The quantity called `name`, whose last part is its unit (`hc_mm`) and which may have known limits.

    Args:
        name: e.g. `hc_mm`; looked up in `RANGES`.
        value: in the unit of the name.
        reference: of the formula.
        convention: which of several usual ways this is.
        limits: where they are narrower than those of the name.
        made_of: name → number it was computed of; one that is not plausible makes a doubt.
        doubts: others.
    """
    inputs = (doubt for part, number in (made_of or {}).items() for doubt in _doubts(part, number))
    unit = next((text for part, text in UNITS.items() if name.endswith(f"_{part}")), "")
    return Quantity(
        value=float(value), unit=unit, limits=limits or RANGES.get(name), reference=reference,
        convention=convention, doubts=(*inputs, *doubts),
    )  # fmt: skip


def positive(**numbers: float) -> None:
    """Refuse numbers that a formula cannot take.

    Raises:
        ValueError: one is not above zero (NaN passes: the result is NaN).
    """
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"{name} must be positive: {number}")


def _doubts(name: str, number: float | Quantity) -> tuple[str, ...]:
    """What speaks against a number that another one is made of."""
    if isinstance(number, Quantity):
        if number.doubts:
            return number.doubts
        value, limits = number.value, number.limits
    else:
        value, limits = number, RANGES.get(name)
    if limits is None or limits[0] <= value <= limits[1]:
        return ()
    return (f"{name} {value:.4g} is not within {limits[0]:g} to {limits[1]:g}",)
