"""Gestational age from fetal sizes: Hadlock 1984 and INTERGROWTH-21st. mm in, weeks out.

Hadlock's formulas take the biparietal diameter outer to inner, as the argument's name says; see `fetal.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from insonate.measure.quantity import Quantity, positive, quantity

HADLOCK_1984 = "Hadlock et al. 1984, Radiology 152:497"
INTERGROWTH_AGE = "Papageorghiou et al. 2016, UOG 48:719 (INTERGROWTH-21st)"
INTERGROWTH_WEEKS = (14.0, 26.0)
"""where the INTERGROWTH age is best; later it is given with a flag"""

# B, H, A, F: biparietal diameter, head and abdominal circumference, femur length in cm.
_HADLOCK: dict[str, Callable[..., float]] = {
    "B": lambda B: 9.54 + 1.482 * B + 0.1676 * B**2,
    "H": lambda H: 8.96 + 0.540 * H + 0.0003 * H**3,
    "A": lambda A: 8.14 + 0.753 * A + 0.0036 * A**2,
    "F": lambda F: 10.35 + 2.460 * F + 0.170 * F**2,
    "BHAF": lambda B, H, A, F: 10.85 + 0.060 * H * F + 0.6700 * B + 0.1680 * A,
    "HAF": lambda H, A, F: 10.33 + 0.031 * H * F + 0.3610 * H + 0.0298 * A * F,
    "BAF": lambda B, A, F: 10.61 + 0.175 * B * F + 0.2970 * A + 0.7100 * F,
    "BHF": lambda B, H, F: 11.38 + 0.070 * H * F + 0.9800 * B,
    "BHA": lambda B, H, A: 10.58 + 0.005 * H**2 + 0.3635 * A + 0.02864 * B * A,
    "HF": lambda H, F: 11.19 + 0.070 * H * F + 0.2630 * H,
    "BF": lambda B, F: 10.50 + 0.197 * B * F + 0.9500 * F + 0.7300 * B,
    "AF": lambda A, F: 10.47 + 0.442 * A + 0.3140 * F**2 - 0.0121 * F**3,
    "HA": lambda H, A: 10.31 + 0.012 * H**2 + 0.3850 * A,
    "BH": lambda B, H: 10.32 + 0.009 * H**2 + 1.3200 * B + 0.00012 * H**3,
    "BA": lambda B, A: 9.57 + 0.524 * A + 0.1220 * B**2,
}
_LETTERS = {"bpd_mm": "B", "hc_mm": "H", "ac_mm": "A", "fl_mm": "F"}
_HC_SPREAD = ((144.0, 1.2), (219.0, 1.5), (280.0, 2.1), (325.0, 3.0), (360.0, 3.2))


def hadlock_age(
    *,
    bpd_outer_inner_mm: float | None = None,
    hc_mm: float | None = None,
    ac_mm: float | None = None,
    fl_mm: float | None = None,
) -> Quantity:
    """Gestational age by the formula for just those sizes that are given: one to all four, 15 formulas.

    Args:
        bpd_outer_inner_mm: biparietal diameter, outer to inner.
        hc_mm: head circumference at the outer border.
        ac_mm: abdominal circumference.
        fl_mm: femur length.

    Raises:
        ValueError: no size is given.
    """
    given = {"bpd_mm": bpd_outer_inner_mm, "hc_mm": hc_mm, "ac_mm": ac_mm, "fl_mm": fl_mm}
    sizes = {name: size for name, size in given.items() if size is not None}
    if not sizes:
        raise ValueError("give at least one of bpd_outer_inner_mm, hc_mm, ac_mm, fl_mm")
    letters = {_LETTERS[name]: size / 10 for name, size in sizes.items()}
    weeks = _HADLOCK["".join(letters)](**letters)
    return quantity("ga_weeks", weeks, HADLOCK_1984, convention=f"from {_told(sizes)}", made_of=sizes)


def hadlock_hc_spread_weeks(hc_mm: float) -> float:
    """Two standard deviations of the age that a head circumference tells, in weeks; NaN beyond 360 mm."""
    return next((weeks for largest, weeks in _HC_SPREAD if hc_mm <= largest), math.nan)


def intergrowth_age(hc_mm: float, fl_mm: float | None = None) -> Quantity:
    """Gestational age by INTERGROWTH-21st from head circumference and femur length, or the head alone.

    Raises:
        ValueError: a size is not positive.
    """
    positive(hc_mm=hc_mm)
    sizes, log = {"hc_mm": hc_mm}, math.log(hc_mm)
    if fl_mm is None:
        days = math.exp(0.05970 * log**2 + 6.409e-9 * hc_mm**3 + 3.3258)
    else:
        positive(fl_mm=fl_mm)
        sizes["fl_mm"] = fl_mm
        days = math.exp(0.03243 * log**2 + 0.001644 * fl_mm * log + 3.813)
    return quantity(
        "ga_weeks", days / 7, INTERGROWTH_AGE, convention=f"from {_told(sizes)}", limits=INTERGROWTH_WEEKS,
        made_of=sizes,
    )  # fmt: skip


def _told(sizes: Mapping[str, float]) -> str:
    return ", ".join(name.removesuffix("_mm").upper() for name in sizes)
