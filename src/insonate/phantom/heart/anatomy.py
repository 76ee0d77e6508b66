"""One patient's heart: sizes, function and disease, drawn from plausible ranges.

Means and spreads: shared spec phantom, section 2.4 (adult chamber sizes after Lang et al. 2015, growth as a
power of body surface); a phantom's numbers, not reference values for patients.

Heart frame H, mm: origin in the middle of the LV base at end-diastole, z to the apex, x to the lateral wall
(RV at -x), y anterior. World: patient LPS (x left, y posterior, z superior), mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from insonate.errors import InsonateError
from insonate.phantom.heart.solids import Point, point, unit

Pathology = Literal["normal", "dilated", "hypertrophic", "rv_pressure", "regional", "effusion", "paediatric"]
PATHOLOGIES: tuple[Pathology, ...] = (
    "normal", "dilated", "hypertrophic", "rv_pressure", "regional", "effusion", "paediatric"
)  # fmt: skip
ODDS = (0.46, 0.12, 0.10, 0.10, 0.10, 0.04, 0.08)
EF_RANGE = (15.0, 75.0)
REGIONAL_EF_PCT = 45.0
"""most that is drawn with walls that do not move"""
SEGMENTS = 17
"""of the left ventricle, in the order of the American Heart Association: 6 basal, 6 mid, 4 apical, cap"""
GROWTH = ((0.0, 140, 0.22), (1.0, 120, 0.45), (5.0, 95, 0.75), (10.0, 85, 1.15), (15.0, 75, 1.6))
"""age in years, heart rate, body surface in m²"""
TERRITORIES = {
    "LAD": (1, 2, 7, 8, 13, 14, 17),
    "RCA": (3, 4, 9, 10, 15),
    "LCX": (5, 6, 11, 12, 16),
}


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What belongs to the patient, not to the picture."""

    pathology: Pathology
    sex: Literal["F", "M"]
    age_years: float
    bsa_m2: float
    scale: float
    """size of everything but the left ventricle, 1 for a mean adult"""
    length_mm: float
    """of the left ventricle at end-diastole, annular plane to endocardial apex"""
    radius_mm: float
    """of its cavity"""
    wall_mm: float
    apex_wall_mm: float
    ef_pct: float
    heart_rate_bpm: float
    twist_deg: float
    annulus_mm: float
    """radius of the aortic annulus"""
    left_atrium: float
    """factor on its size"""
    rvsp_mmhg: float
    effusion_mm: float
    wall_motion: tuple[float, ...]
    """of each segment: 1 normal, 0.4 hypokinetic, 0 akinetic, -0.3 dyskinetic"""
    lobe: tuple[float, float, float, float]
    """what makes atria not round: offsets and size of a second lobe, share of the chamber's"""
    shears: tuple[tuple[float, float, float], ...]
    """amplitude mm, wave number rad/mm, phase: five shears that bend the heart and keep its volumes"""
    world_from_heart: tuple[tuple[float, ...], ...]
    """4 4, rigid"""

    def __post_init__(self) -> None:
        """Refuse a heart that cannot be.

        Raises:
            InsonateError: ejection fraction, size, rate, pressure or wall motion beyond what is modelled.
        """
        low, high = EF_RANGE
        checks: tuple[tuple[bool, str, str], ...] = (
            (low <= self.ef_pct <= high,
             f"an ejection fraction of {self.ef_pct:g} %", f"Ask for {low:g} to {high:g} %"),
            (30 <= self.heart_rate_bpm <= 220,
             f"a heart rate of {self.heart_rate_bpm:g}/min", "Ask for 30 to 220"),
            (15 <= self.rvsp_mmhg <= 120,
             f"an RV pressure of {self.rvsp_mmhg:g} mmHg", "Ask for 15 to 120"),
            (5 <= self.radius_mm <= 45 and 20 <= self.length_mm <= 130,
             f"a left ventricle of {self.length_mm:.0f} × {2 * self.radius_mm:.0f} mm",
             "Ask for 20 to 130 × 10 to 90"),
            (1.5 <= self.wall_mm <= 30, f"a wall of {self.wall_mm:g} mm", "Ask for 1.5 to 30"),
            (0.2 <= self.scale <= 1.6, f"a heart {self.scale:g} times a mean adult's", "Ask for 0.2 to 1.6"),
            (0 <= self.effusion_mm <= 40, f"an effusion of {self.effusion_mm:g} mm", "Ask for 0 to 40"),
            (len(self.wall_motion) == SEGMENTS,
             f"wall motion of {len(self.wall_motion)} segments", "Give 17"),
            (all(-1 <= motion <= 1.5 for motion in self.wall_motion),
             f"wall motion of {min(self.wall_motion):g} to {max(self.wall_motion):g}", "Ask for -1 to 1.5"),
        )  # fmt: skip
        for fine, what, mend in checks:
            if not fine:
                raise InsonateError("phantom heart", f"{what} is not modelled", mend)

    @property
    def mapse_mm(self) -> float:
        """How far the base comes down towards the apex."""
        return 15 * min(1.15, self.ef_pct / 60) ** 0.8 * self.length_mm / 86

    @property
    def pressure(self) -> float:
        """RV pressure load, 0 (none) to 1 (80 mmHg above normal)."""
        return max(0.0, self.rvsp_mmhg - 35) / 80

    def eccentricity(self, contraction: float) -> float:
        """Septal flattening: diameter along over diameter across the septum; most at end-systole."""
        end_systolic = min(1.6, 1 + 0.010 * max(0.0, self.rvsp_mmhg - 35))
        return 1 + (end_systolic - 1) * (0.6 + 0.4 * contraction)

    @property
    def world(self) -> np.ndarray:
        """World from heart, 4 4."""
        return np.array(self.world_from_heart)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, *, pathology: Pathology | None = None, ef_pct: float | None = None
    ) -> Anatomy:
        """A patient.

        Args:
            rng: of the anatomy.
            pathology: None draws one.
            ef_pct: ejection fraction; None draws what suits the pathology.

        Raises:
            InsonateError: `ef_pct` is beyond 15 to 75 %.
        """
        drawn = PATHOLOGIES[int(rng.choice(len(PATHOLOGIES), p=ODDS))]
        if ef_pct is not None and ef_pct > REGIONAL_EF_PCT and drawn == "regional":
            drawn = "normal"  # with walls that stand still the others could not do it
        kind = drawn if pathology is None else pathology
        patient = _healthy(rng)
        changed: dict[str, Any] = {"pathology": kind} | _diseased(kind, patient, rng)
        if kind == "normal" and rng.random() < 0.35:  # a data set needs every ejection fraction
            changed["ef_pct"] = float(rng.uniform(*EF_RANGE))
        if ef_pct is not None:
            changed["ef_pct"] = ef_pct
        return replace(patient, **changed)


def _normal(rng: np.random.Generator, mean: float, spread: float) -> float:
    return float(mean + spread * np.clip(rng.normal(), -2.2, 2.2))


def _healthy(rng: np.random.Generator) -> Anatomy:
    female = bool(rng.random() < 0.5)
    bsa = _normal(rng, 1.70 if female else 1.95, 0.17)
    size = float(rng.normal())  # shared by all lengths

    def length(mean: float, spread: float) -> float:
        return mean + spread * float(np.clip(0.6 * size + 0.8 * rng.normal(), -2.2, 2.2))

    return Anatomy(
        pathology="normal",
        sex="F" if female else "M",
        age_years=float(rng.uniform(20, 85)),
        bsa_m2=bsa,
        scale=(bsa / 1.83) ** 0.4 * length(1, 0.03),
        length_mm=length(*((82, 5) if female else (88, 5))),
        radius_mm=length(*((22.2, 1.6) if female else (24.3, 1.8))),
        wall_mm=length(*((8.2, 0.8) if female else (9.2, 0.8))),
        apex_wall_mm=length(7, 0.8),
        ef_pct=float(np.clip(rng.normal(62, 5), 53, 74)),
        heart_rate_bpm=float(np.clip(rng.normal(72, 10), 48, 105)),
        twist_deg=_normal(rng, 12, 3),
        annulus_mm=length(*((10.6, 0.7) if female else (11.6, 0.8))),
        left_atrium=_normal(rng, 1.0, 0.07),
        rvsp_mmhg=float(rng.uniform(18, 32)),
        effusion_mm=0.0,
        wall_motion=(1.0,) * SEGMENTS,
        lobe=tuple(float(v) for v in rng.uniform(-1, 1, 4)),  # type: ignore[arg-type]
        shears=tuple(
            (_normal(rng, 0, spread), 2 * math.pi / rng.uniform(50, 80), rng.uniform(0, 2 * math.pi))
            for spread in (1.3, 1.6, 1.6, 1.3, 1.3)
        ),
        world_from_heart=_placed(rng),
    )


def _placed(rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    z = unit(point(0.62, -0.52, -0.58) + rng.normal(0, 0.1, 3))
    across = point(0.62, 0.72, 0.28) + rng.normal(0, 0.1, 3)
    x = unit(across - (across @ z) * z)
    y: Point = np.cross(z, x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, y, z], axis=1)
    pose[:3, 3] = rng.normal(0, 8, 3)
    return tuple(tuple(float(v) for v in row) for row in pose)


def _diseased(kind: Pathology, patient: Anatomy, rng: np.random.Generator) -> dict[str, Any]:
    """What the disease changes."""
    if kind == "dilated":
        return {
            "radius_mm": patient.radius_mm * rng.uniform(1.2, 1.4), "wall_mm": patient.wall_mm * 0.9,
            "ef_pct": rng.uniform(15, 35), "left_atrium": patient.left_atrium * rng.uniform(1.1, 1.3),
        }  # fmt: skip
    if kind == "hypertrophic":
        return {
            "radius_mm": patient.radius_mm * 0.9, "wall_mm": patient.wall_mm * rng.uniform(1.4, 2.0),
            "ef_pct": rng.uniform(62, 75), "left_atrium": patient.left_atrium * rng.uniform(1.0, 1.2),
        }  # fmt: skip
    if kind == "rv_pressure":
        return {"rvsp_mmhg": rng.uniform(45, 105)}
    if kind == "regional":
        ill = TERRITORIES[str(rng.choice(list(TERRITORIES)))]
        motion = float(rng.choice([0.4, 0.0, -0.3], p=[0.5, 0.4, 0.1]))
        segments = tuple(motion if n + 1 in ill else 1.0 for n in range(SEGMENTS))
        return {"wall_motion": segments, "ef_pct": rng.uniform(25, REGIONAL_EF_PCT)}
    if kind == "effusion":
        return {"effusion_mm": rng.uniform(5, 15), "heart_rate_bpm": rng.uniform(85, 115)}
    if kind == "paediatric":
        return _grown(patient, rng)
    return {}


def _grown(patient: Anatomy, rng: np.random.Generator) -> dict[str, Any]:
    """Of a neonate to teenager: diameters grow with the root of body surface, lengths with its 0.45th."""
    ages, rates, surfaces = np.array(GROWTH).T
    age = float(rng.choice([rng.uniform(0, 1), rng.uniform(1, 16)]))
    bsa = float(np.interp(age, ages, surfaces)) * float(rng.uniform(0.9, 1.1))
    wide, long = (bsa / 1.8) ** 0.5, (bsa / 1.8) ** 0.45
    pose = patient.world.copy()
    pose[:3, 3] *= wide
    return {
        "age_years": age, "bsa_m2": bsa, "scale": wide * patient.scale,
        "length_mm": patient.length_mm * long, "radius_mm": patient.radius_mm * wide,
        "wall_mm": patient.wall_mm * long, "apex_wall_mm": patient.apex_wall_mm * long,
        "annulus_mm": patient.annulus_mm * wide, "ef_pct": rng.uniform(55, 72),
        "heart_rate_bpm": float(np.interp(age, ages, rates)) * rng.uniform(0.9, 1.1),
        "rvsp_mmhg": rng.uniform(20, 45),
        "shears": tuple((a * wide, w / wide, p) for a, w, p in patient.shears),
        "world_from_heart": tuple(tuple(float(v) for v in row) for row in pose),
    }  # fmt: skip
