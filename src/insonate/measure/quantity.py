"""Quantity: a measured number that says its unit, where it is plausible, and where its formula comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNITS = ("mm", "cm2", "ml", "deg", "ms", "hz", "weeks", "percent", "px")
"""the last part of a quantity's name, where it has a unit"""
_WALL, _AORTA, _LONG, _WIDE = (3.0, 30.0), (8.0, 60.0), (25.0, 130.0), (10.0, 90.0)
RANGES = {
    "bpd_mm": (10.0, 115.0), "ofd_mm": (12.0, 140.0), "hc_mm": (40.0, 420.0), "ac_mm": (35.0, 430.0),
    "fl_mm": (4.0, 90.0), "ci_percent": (60.0, 95.0), "ga_weeks": (12.0, 42.0),
    "cl_mm": (0.0, 70.0), "hsd_mm": (0.0, 80.0), "aop_deg": (40.0, 190.0),
    "ivc_mm": (2.0, 40.0), "pa_mm": (5.0, 45.0), "rvot_mm": (8.0, 50.0),
    "lv_mm": (15.0, 90.0), "ivs_mm": _WALL, "lvpw_mm": _WALL, "la_mm": (12.0, 80.0),
    "lvot_mm": _AORTA, "av_mm": _AORTA, "vao_mm": _AORTA, "stj_mm": _AORTA, "aao_mm": _AORTA,
    "lv_long_mm": _LONG, "rv_long_mm": _LONG, "la_long_mm": _LONG, "ra_long_mm": _LONG,
    "lv_trans_mm": _WIDE, "rv_trans_mm": _WIDE, "la_trans_mm": _WIDE, "ra_trans_mm": _WIDE,
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

    @property
    def in_range(self) -> bool | None:
        """Whether the value is within its limits; None where none are known."""
        return None if self.limits is None else bool(self.limits[0] <= self.value <= self.limits[1])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "value": self.value, "unit": self.unit, "in_range": self.in_range,
            "limits": None if self.limits is None else list(self.limits),
            "convention": self.convention, "reference": self.reference,
        }  # fmt: skip

    def __str__(self) -> str:
        flag = " (out of range)" if self.in_range is False else ""
        return f"{self.value:.4g} {self.unit}".rstrip() + flag


def quantity(name: str, value: float, reference: str = "", *, convention: str = "") -> Quantity:
    """The quantity called `name`, whose last part is its unit (`hc_mm`) and which may have known limits."""
    unit = name.rpartition("_")[2]
    return Quantity(
        value=float(value), unit=unit if unit in UNITS else "", limits=RANGES.get(name),
        reference=reference, convention=convention,
    )  # fmt: skip
