"""Fetal weight and where a fetus stands among others of its age: Hadlock, INTERGROWTH-21st.

mm, g and weeks in; a standard score is in standard deviations, a centile in percent. INTERGROWTH-21st weight
is from abdomen and head, not the femur. The WHO 2017 charts are tables without a closed form: not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy.special import ndtr, ndtri

from insonate.measure.quantity import Quantity, positive, quantity

HADLOCK_1985 = "Hadlock et al. 1985, AJOG 151:333"
HADLOCK_1991 = "Hadlock et al. 1991, Radiology 181:129"
STIRNEMANN_2017 = "Stirnemann et al. 2017, UOG 49:478 (INTERGROWTH-21st)"
PAPAGEORGHIOU_2014 = "Papageorghiou et al. 2014, Lancet 384:869 (INTERGROWTH-21st)"
HADLOCK_WEEKS, WEIGHT_WEEKS, SIZE_WEEKS = (10.0, 41.0), (22.0, 40.0), (14.0, 40.0)
HADLOCK_SPREAD = 0.127
"""standard deviation of Hadlock's weights, as a part of the mean"""

Size = Literal["hc_mm", "bpd_mm", "ofd_mm", "ac_mm", "fl_mm"]


def weight_bpd_hc_ac_fl(bpd_mm: float, hc_mm: float, ac_mm: float, fl_mm: float) -> Quantity:
    """Estimated fetal weight from four sizes."""
    b, h, a, f = bpd_mm / 10, hc_mm / 10, ac_mm / 10, fl_mm / 10
    power = 1.3596 - 0.00386 * a * f + 0.0064 * h + 0.00061 * b * a + 0.0424 * a + 0.174 * f
    return _hadlock_weight(power, bpd_mm=bpd_mm, hc_mm=hc_mm, ac_mm=ac_mm, fl_mm=fl_mm)


def weight_hc_ac_fl(hc_mm: float, ac_mm: float, fl_mm: float) -> Quantity:
    """Estimated fetal weight from head, abdomen and femur."""
    h, a, f = hc_mm / 10, ac_mm / 10, fl_mm / 10
    power = 1.326 - 0.00326 * a * f + 0.0107 * h + 0.0438 * a + 0.158 * f
    return _hadlock_weight(power, hc_mm=hc_mm, ac_mm=ac_mm, fl_mm=fl_mm)


def weight_bpd_ac_fl(bpd_mm: float, ac_mm: float, fl_mm: float) -> Quantity:
    """Estimated fetal weight from biparietal diameter, abdomen and femur."""
    b, a, f = bpd_mm / 10, ac_mm / 10, fl_mm / 10
    power = 1.335 - 0.0034 * a * f + 0.0316 * b + 0.0457 * a + 0.1623 * f
    return _hadlock_weight(power, bpd_mm=bpd_mm, ac_mm=ac_mm, fl_mm=fl_mm)


def weight_ac_fl(ac_mm: float, fl_mm: float) -> Quantity:
    """Estimated fetal weight from abdomen and femur."""
    a, f = ac_mm / 10, fl_mm / 10
    power = 1.304 + 0.05281 * a + 0.1938 * f - 0.004 * a * f
    return _hadlock_weight(power, ac_mm=ac_mm, fl_mm=fl_mm)


def weight_intergrowth(ac_mm: float, hc_mm: float, ga_weeks: float | None = None) -> Quantity:
    """Estimated fetal weight by INTERGROWTH-21st from abdomen and head; meant for 22 to 40 weeks.

    Args:
        ac_mm: abdominal circumference.
        hc_mm: head circumference.
        ga_weeks: where known, an age outside of 22 to 40 weeks is told.

    Raises:
        ValueError: the abdomen is not positive.
    """
    positive(ac_mm=ac_mm)
    a, h = ac_mm / 1000, hc_mm / 1000
    grams = math.exp(5.084820 - 54.06633 * a**3 - 95.80076 * a**3 * math.log(a) + 3.136370 * h)
    doubts = () if ga_weeks is None else _age_doubts(ga_weeks, WEIGHT_WEEKS)
    return quantity("efw_g", grams, STIRNEMANN_2017, made_of={"ac_mm": ac_mm, "hc_mm": hc_mm}, doubts=doubts)


def weight_z_hadlock(weight_g: float, ga_weeks: float) -> Quantity:
    """Standard score of a fetal weight at an age, Hadlock 1991; 10 to 41 weeks."""
    return _z(
        (weight_g / hadlock_weight(ga_weeks) - 1) / HADLOCK_SPREAD, ga_weeks, HADLOCK_WEEKS, HADLOCK_1991
    )


def weight_z_intergrowth(weight_g: float, ga_weeks: float) -> Quantity:
    """Standard score of a fetal weight at an age, INTERGROWTH-21st; 22 to 40 weeks.

    Raises:
        ValueError: weight or age is not positive.
    """
    positive(weight_g=weight_g, ga_weeks=ga_weeks)
    skew, median, spread = _intergrowth_weight(ga_weeks)
    ratio = math.log(weight_g) / median
    # A ratio below 0 (less than a gram) has no real power.
    z = math.nan if ratio < 0 else (ratio**skew - 1) / (spread * skew) if skew else math.log(ratio) / spread
    return _z(z, ga_weeks, WEIGHT_WEEKS, STIRNEMANN_2017)


def hadlock_weight(ga_weeks: float) -> float:
    """Mean fetal weight in g at an age, Hadlock 1991."""
    return math.exp(0.578 + 0.332 * ga_weeks - 0.00354 * ga_weeks**2)


def weight_at_hadlock(centile_percent: float, ga_weeks: float) -> Quantity:
    """The weight in g below which this part of fetuses lies at an age, Hadlock 1991."""
    grams = hadlock_weight(ga_weeks) * (1 + HADLOCK_SPREAD * float(ndtri(centile_percent / 100)))
    return quantity("efw_g", grams, HADLOCK_1991, doubts=_age_doubts(ga_weeks, HADLOCK_WEEKS))


def weight_at_intergrowth(centile_percent: float, ga_weeks: float) -> Quantity:
    """The weight in g below which this part of fetuses lies at an age, INTERGROWTH-21st.

    Raises:
        ValueError: the age is not positive.
    """
    positive(ga_weeks=ga_weeks)
    skew, median, spread = _intergrowth_weight(ga_weeks)
    step = spread * float(ndtri(centile_percent / 100))
    log = median * ((1 + skew * step) ** (1 / skew) if skew else math.exp(step))
    return quantity("efw_g", math.exp(log), STIRNEMANN_2017, doubts=_age_doubts(ga_weeks, WEIGHT_WEEKS))


def size_z_intergrowth(name: Size, size_mm: float, ga_weeks: float) -> Quantity:
    """Standard score of a fetal size at an age, INTERGROWTH-21st; 14 to 40 weeks.

    Args:
        name: `hc_mm`, `bpd_mm` (outer to outer), `ofd_mm`, `ac_mm` or `fl_mm`.
        size_mm: the size.
        ga_weeks: the age, which must come from elsewhere than this size.

    Raises:
        ValueError: the age is not positive.
    """
    positive(ga_weeks=ga_weeks)
    mean_mm, spread_mm = size_at_intergrowth(name, ga_weeks)
    z = (size_mm - mean_mm) / spread_mm
    return _z(z, ga_weeks, SIZE_WEEKS, PAPAGEORGHIOU_2014, **{name: size_mm})


def size_at_intergrowth(name: Size, ga_weeks: float) -> tuple[float, float]:
    """Mean and standard deviation in mm of a fetal size at an age, INTERGROWTH-21st."""
    mean, spread = _SIZES[name]
    return mean(ga_weeks, math.log(ga_weeks)), spread(ga_weeks, math.log(ga_weeks))


def centile(z: Quantity) -> Quantity:
    """The part of fetuses of the same age, in percent, that are smaller, of a standard score."""
    return quantity(
        "centile_percent",
        100 * float(ndtr(z.value)),
        z.reference,
        convention=z.convention,
        made_of={"z_sd": z},
    )


def _hadlock_weight(power: float, **sizes: float) -> Quantity:
    told = ", ".join(name.removesuffix("_mm").upper() for name in sizes)
    return quantity("efw_g", 10**power, HADLOCK_1985, convention=f"from {told}", made_of=sizes)


def _intergrowth_weight(ga: float) -> tuple[float, float, float]:
    """Skewness, median and spread of the logarithm of the weight."""
    log = math.log(ga)
    skew = -4.257629 - 2162.234 * ga**-2 + 0.0002301829 * ga**3
    median = 4.956737 + 0.0005019687 * ga**3 - 0.0001227065 * ga**3 * log
    return skew, median, 1e-4 * (-6.997171 + 0.057559 * ga**3 - 0.01493946 * ga**3 * log)


def _z(z: float, ga_weeks: float, weeks: tuple[float, float], reference: str, **sizes: float) -> Quantity:
    return quantity("z_sd", z, reference, made_of=sizes, doubts=_age_doubts(ga_weeks, weeks))


def _age_doubts(ga_weeks: float, weeks: tuple[float, float]) -> tuple[str, ...]:
    if weeks[0] <= ga_weeks <= weeks[1]:
        return ()
    return (f"ga_weeks {ga_weeks:.4g} is not within {weeks[0]:g} to {weeks[1]:g}",)


Curve = Callable[[float, float], float]
_SIZES: dict[str, tuple[Curve, Curve]] = {  # of age G in weeks and its logarithm L
    "hc_mm": (
        lambda G, L: -28.2849 + 1.69267 * G**2 - 0.397485 * G**2 * L,
        lambda G, L: 1.98735 + 0.0136772 * G**3 - 0.00726264 * G**3 * L + 0.000976253 * G**3 * L**2,
    ),
    "bpd_mm": (
        lambda G, _: 5.60878 + 0.158369 * G**2 - 0.00256379 * G**3,
        lambda G, L: math.exp(
            0.101242 + 0.00150557 * G**3 - 0.000771535 * G**3 * L + 0.0000999638 * G**3 * L**2
        ),
    ),
    "ofd_mm": (
        lambda G, L: -12.4097 + 0.626342 * G**2 - 0.148075 * G**2 * L,
        lambda G, L: math.exp(-0.880034 + 0.0631165 * G**2 - 0.0317136 * G**2 * L + 0.00408302 * G**2 * L**2),
    ),
    "ac_mm": (
        lambda G, _: -81.3243 + 11.6772 * G - 0.000561865 * G**3,
        lambda G, L: -4.36302 + 0.121445 * G**2 - 0.0130256 * G**3 + 0.00282143 * G**3 * L,
    ),
    "fl_mm": (
        lambda G, _: -39.9616 + 4.32298 * G - 0.0380156 * G**2,
        lambda G, _: math.exp(0.605843 - 42.0014 * G**-2 + 0.00000917972 * G**3),
    ),
}
