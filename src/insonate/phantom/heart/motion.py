"""The beat: contraction over the phase, and a left ventricle whose volumes are exact in closed form.

The map of the cavity from end-diastole to the moment is (x, y) → σ(x, y), L - z → λ(L - z), so that the
volume is λ∬½σ²ρ² dφ dz; σ = 1 - a·M(φ, ζ) with the wall motion M makes that quadratic in a, and a is its root
for the wanted volume. The wall keeps its volume. Source: shared spec phantom, section 2.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from insonate.errors import InsonateError
from insonate.phantom.heart.anatomy import Anatomy
from insonate.phantom.physics import Array

EQUATOR = 0.31
"""of the left ventricle's ellipsoid, as a share of its length from the base"""
END_SYSTOLE = 0.44
"""end of ejection in the phase that the curves below are written in"""
ANGLES, HEIGHTS = 64, 48
RING_DEG = (60, 120, 180, 240, 300, 0)
"""middle of the basal and mid segments 1 to 6: anterior, anteroseptal, inferoseptal, inferior, ..."""
APICAL_DEG = (90, 180, 270, 0)


def area_integral(centre_mm: float, half_mm: float, start_mm: float, stop_mm: float) -> float:
    """∫(1 - ((z - centre) / half)²) dz from start to stop: an ellipsoid's volume over π·radius²."""
    first, last = start_mm - centre_mm, stop_mm - centre_mm
    return (last - first) - (last**3 - first**3) / (3 * half_mm**2)


def _rise(value: float, start: float, stop: float) -> float:
    share = min(1.0, max(0.0, (value - start) / (stop - start)))
    return 0.5 - 0.5 * math.cos(math.pi * share)


def _bump(value: float, start: float, stop: float, ramp: float) -> float:
    return max(0.0, min(1.0, (value - start) / ramp, (stop - value) / ramp))


def contraction(phase: float) -> float:
    """0 relaxed, 1 at end-systole; rapid filling, diastasis, atrial kick."""
    if phase < END_SYSTOLE:
        return _rise(phase, 0.06, 0.38)
    if phase < 0.84:
        return 1 - 0.78 * _rise(phase, END_SYSTOLE, 0.64) - 0.02 * max(0.0, (phase - 0.64) / 0.2)
    return 0.20 * (1 - _rise(phase, 0.84, 1.0))


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The heart at one moment."""

    contraction: float
    shortening: float
    """λ: what is left of the length"""
    inward: float
    """a: how far a normal wall has come in, share of the radius"""
    base_mm: float
    """z of the annular plane"""
    centre_mm: float
    """z of the ellipsoids' centre"""
    half_mm: float
    """half axis of the cavity along z"""
    outer_mm: float
    """radius of the outer surface"""
    outer_half_mm: float
    squeeze: float
    """κ: the septal half's loss of radius"""
    mitral: float
    """opening, 0 to 1"""
    aortic: float
    twist_rad: float
    volume_ml: float


class Beat:
    """The cycle of one patient.

    Raises:
        InsonateError: with this wall motion no contraction reaches the ejection fraction.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy
        length, radius = anatomy.length_mm, anatomy.radius_mm
        centre = EQUATOR * length
        half = length - centre
        inner = area_integral(centre, half, 0, length)
        self.edv_ml = math.pi * radius**2 * inner * (1 - self._squeeze(0) / 2) / 1000
        outer_half = half + anatomy.apex_wall_mm
        outer = area_integral(centre, outer_half, 0, centre + outer_half)
        self._wall_mm3 = math.pi * ((radius + anatomy.wall_mm) ** 2 * outer - radius**2 * inner)
        self.moment(self.end_systole)  # refuses what cannot be

    @property
    def uniform(self) -> bool:
        """Whether all segments move alike."""
        return len(set(self.anatomy.wall_motion)) == 1

    @property
    def esv_ml(self) -> float:
        """End-systolic volume."""
        return self.edv_ml * (1 - self.anatomy.ef_pct / 100)

    @property
    def mass_g(self) -> float:
        """Of the left ventricle's wall, at 1.05 g/mL."""
        return self._wall_mm3 / 1000 * 1.05

    @property
    def end_systole(self) -> float:
        """Phase at which ejection ends: 546 ms - 2.1 times the rate after the R wave, 0.30 to 0.50."""
        rate = self.anatomy.heart_rate_bpm
        return float(np.clip((546 - 2.1 * rate) / 1000 * rate / 60, 0.30, 0.50))

    @property
    def period_s(self) -> float:
        """Of one beat."""
        return 60 / self.anatomy.heart_rate_bpm

    def _squeeze(self, amount: float) -> float:
        return 2 * (1 - 1 / self.anatomy.eccentricity(amount))

    @cached_property
    def motion_table(self) -> Array:
        """ANGLES HEIGHTS: M(φ, ζ), wall motion smoothed over segments; φ from -π, ζ = z / L from 0 to 1."""
        phi = (np.arange(ANGLES) + 0.5) / ANGLES * 2 * math.pi - math.pi
        zeta = (np.arange(HEIGHTS) + 0.5) / HEIGHTS
        total, weights = np.zeros((ANGLES, HEIGHTS)), np.zeros((ANGLES, HEIGHTS))
        rings = [(RING_DEG, 0.2), (RING_DEG, 0.5), (APICAL_DEG, 0.78), ((0,), 0.97)]
        places = [(angle, height, len(degrees)) for degrees, height in rings for angle in degrees]
        for motion, (angle, height, count) in zip(self.anatomy.wall_motion, places, strict=True):
            sharp = 0.0 if count == 1 else 6.0
            across = np.exp(sharp * (np.cos(phi - math.radians(angle)) - 1))
            weight = across[:, None] * np.exp(-(((zeta - height) / 0.13) ** 2) / 2)
            total += motion * weight
            weights += weight
        return (total / weights).astype(np.float32)

    @cached_property
    def _moments(self) -> tuple[float, float, float]:
        """Means of 1, M, M² over the cavity, weighted with its area at each height."""
        zeta = (np.arange(HEIGHTS) + 0.5) / HEIGHTS
        area = 1 - ((zeta - EQUATOR) / (1 - EQUATOR)) ** 2
        weight = np.broadcast_to(area / (area.sum() * ANGLES), (ANGLES, HEIGHTS))
        table = self.motion_table.astype(np.float64)
        return 1.0, float((weight * table).sum()), float((weight * table**2).sum())

    def _inward(self, wanted: float) -> float:
        """The a with mean (1 - a·M)² = wanted.

        Raises:
            InsonateError: there is none.
        """
        one, mean, square = self._moments
        room = mean**2 - square * (one - wanted)
        if room < 0 or mean <= 0:
            ef = self.anatomy.ef_pct
            what = (
                f"an ejection fraction of {ef:g} % cannot come about with so many segments that do not move"
            )
            raise InsonateError("phantom heart", what, "Lower it or let more segments move")
        return (mean - math.sqrt(room)) / square

    def phase(self, t_s: float, start: float = 0.0) -> float:
        """0 to 1 from R wave to R wave, at `t_s` seconds after phase `start`."""
        return (t_s / self.period_s + start) % 1.0

    def moment(self, phase: float) -> Moment:
        """The heart at `phase` of the beat (0 end-diastole, `end_systole` end-systole)."""
        phase, end = phase % 1.0, self.end_systole
        own = (
            phase / end * END_SYSTOLE
            if phase < end
            else END_SYSTOLE + (phase - end) / (1 - end) * (1 - END_SYSTOLE)
        )
        a, amount = self.anatomy, contraction(own)
        shortening = 1 - a.mapse_mm * amount / a.length_mm
        squeeze = self._squeeze(amount)
        left = 1 - a.ef_pct / 100 * amount
        inward = self._inward(left / shortening * (1 - self._squeeze(0) / 2) / (1 - squeeze / 2))
        half = (1 - EQUATOR) * a.length_mm * shortening
        centre, base = a.length_mm - half, a.length_mm * (1 - shortening)
        outer_half = half + a.apex_wall_mm * (1 + 0.25 * amount)
        volume_mm3 = self.edv_ml * 1000 * left / (1 - squeeze / 2)
        outer = math.sqrt(
            (self._wall_mm3 + volume_mm3)
            / (math.pi * area_integral(centre, outer_half, base, centre + outer_half))
        )
        early, late = _bump(own, 0.44, 0.66, 0.05), 0.75 * _bump(own, 0.82, 0.99, 0.05)
        return Moment(
            contraction=amount, shortening=shortening, inward=inward, base_mm=base, centre_mm=centre,
            half_mm=half, outer_mm=outer, outer_half_mm=outer_half, squeeze=squeeze,
            mitral=max(early, late, 0.25 * _bump(own, 0.62, 0.86, 0.04)),
            aortic=_bump(own, 0.08, 0.37, 0.03),
            twist_rad=math.radians(a.twist_deg) * a.ef_pct / 60 * amount,
            volume_ml=self.edv_ml * left,
        )  # fmt: skip

    def motion_at(self, x_mm: Array, y_mm: Array, z_mm: Array, now: Moment) -> Array:
        """M at places of the heart now; 1 where all segments move alike."""
        if self.uniform:
            return np.ones_like(x_mm)
        zeta = 1 - (1 - z_mm / np.float32(self.anatomy.length_mm)) / np.float32(now.shortening)
        column = np.clip(zeta * HEIGHTS - 0.5, 0, HEIGHTS - 1.001).astype(np.float32)
        row = ((np.arctan2(y_mm, x_mm) / np.float32(2 * math.pi) + 0.5) * ANGLES - 0.5).astype(np.float32)
        i, j = np.floor(row).astype(np.int32), column.astype(np.int32)
        u, v, table = row - i, column - j, self.motion_table
        i0, i1 = i % ANGLES, (i + 1) % ANGLES
        first = table[i0, j] * (1 - u) + table[i1, j] * u
        return first * (1 - v) + (table[i0, j + 1] * (1 - u) + table[i1, j + 1] * u) * v
