"""Inferior vena cava and right heart pressures.

The diameter is taken at right angles to the vessel, 1 to 2 cm from the right atrium, at the end of
expiration. Source: Rudski et al. 2010 (JASE 23:685); not valid under ventilation with positive pressure.
"""

from __future__ import annotations

from insonate.measure.quantity import Quantity, positive, quantity

RUDSKI_2010 = "Rudski et al. 2010, JASE 23:685"
WIDE_MM, COLLAPSE_PERCENT = 21.0, 50.0


def ivc_collapsibility(largest_mm: float, smallest_mm: float) -> Quantity:
    """Collapse of the vein in percent of its largest diameter, breathing by oneself or sniffing.

    Raises:
        ValueError: the largest diameter is not positive.
    """
    positive(largest_mm=largest_mm)
    percent = 100 * (largest_mm - smallest_mm) / largest_mm
    return _of_ivc("ivc_collapse_percent", percent, RUDSKI_2010, largest_mm, smallest_mm)


def ivc_distensibility(largest_mm: float, smallest_mm: float) -> Quantity:
    """Widening of the vein in percent of its smallest diameter, under ventilation.

    Raises:
        ValueError: the smallest diameter is not positive.
    """
    positive(smallest_mm=smallest_mm)
    percent = 100 * (largest_mm - smallest_mm) / smallest_mm
    reference = "Barbier et al. 2004, Intensive Care Med 30:1740"
    return _of_ivc("ivc_distension_percent", percent, reference, largest_mm, smallest_mm)


def right_atrial_pressure(ivc_mm: float, collapse_percent: float) -> Quantity:
    """3, 8 or 15 mmHg (ranges 0-5, 5-10, 10-20) by the vein's width and collapse."""
    narrow, collapses = ivc_mm <= WIDE_MM, collapse_percent > COLLAPSE_PERCENT
    wide_and_stiff = ivc_mm > WIDE_MM and collapse_percent < COLLAPSE_PERCENT
    pressure, band = (3.0, "0 to 5") if narrow and collapses else (8.0, "5 to 10")
    if wide_and_stiff:
        pressure, band = 15.0, "10 to 20"
    return quantity(
        "rap_mmhg", pressure, RUDSKI_2010, convention=f"estimate of {band} mmHg; breathing by oneself",
        made_of={"ivc_mm": ivc_mm, "ivc_collapse_percent": collapse_percent},
    )  # fmt: skip


def right_ventricular_pressure(tr_velocity_m_per_s: float, rap_mmhg: float) -> Quantity:
    """Systolic pressure of the right ventricle from the tricuspid jet; without pulmonary stenosis."""
    made_of = {"tr_velocity_m_per_s": tr_velocity_m_per_s, "rap_mmhg": rap_mmhg}
    return quantity("rvsp_mmhg", 4 * tr_velocity_m_per_s**2 + rap_mmhg, RUDSKI_2010, made_of=made_of)


def _of_ivc(name: str, percent: float, reference: str, largest_mm: float, smallest_mm: float) -> Quantity:
    """The same range holds for both diameters; the smaller one may go down to a closed vein."""
    closed = {} if 0 <= smallest_mm < 2 else {"ivc_mm": smallest_mm}
    made_of = quantity("ivc_mm", largest_mm, made_of=closed)
    return quantity(name, percent, reference, made_of={"ivc_mm": made_of})
