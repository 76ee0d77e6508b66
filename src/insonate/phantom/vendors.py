"""Invented machines, each with one probe: the site of a phantom picture.

Numbers: shared spec phantom, section 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One invented machine with one probe."""

    name: str
    f_mhz: float
    cycles: float
    """length of the pulse"""
    aperture_mm: float
    focus_mm: float
    range_db: float
    noise_db: float
    haze_db: float
    clutter_db: float
    gamma: float
    floor: float
    """grey level, 0 to 1, of silence"""
    smooth: float
    """standard deviation of the smoothing after the logarithm, samples"""
    persistence: float
    """share of the frame before, 0 to 1"""
    shape: Literal["sector", "curved", "linear"]
    lines: int
    half_angle_deg: float = 0.0
    radius_mm: float = 0.0
    """of the probe's face; 0 for a sector"""
    width_mm: float = 0.0
    """of a linear probe"""

    def jittered(self, rng: np.random.Generator) -> Vendor:
        """The machine as set up for one study: each setting within ±10 %."""
        names = ("f_mhz", "cycles", "focus_mm", "range_db", "gamma")
        changed = {k: getattr(self, k) * rng.uniform(0.9, 1.1) for k in names}
        return replace(self, noise_db=self.noise_db + rng.normal(0, 1.5), **changed)

    def thinned(self, size: int) -> Vendor:
        """With no more lines than a picture of `size` pixels can show."""
        return replace(self, lines=min(self.lines, max(64, round(0.75 * size))))

    def softened(self) -> Vendor:
        """With its soft setting, if it has one: fewer beams, more smoothing, wider speckle."""
        lines, smooth = SOFT.get(self.name, (self.lines, self.smooth))
        return replace(self, lines=lines, smooth=smooth)

    def tuned(self, scale: float) -> Vendor:
        """Set for a patient `scale` times as large as an adult: a small one wants a smaller, higher probe."""
        if scale > 0.85:
            return self
        return replace(
            self, f_mhz=min(8.0, self.f_mhz / scale), focus_mm=self.focus_mm * scale,
            aperture_mm=self.aperture_mm * scale,
        )  # fmt: skip


VENDORS: dict[str, Vendor] = {
    v.name: v
    for v in (
        Vendor(
            name="Northlight", f_mhz=2.5, cycles=2.8, aperture_mm=19, focus_mm=80, range_db=66, noise_db=-46,
            haze_db=-22, clutter_db=-4, gamma=1.85, floor=0.14, smooth=0.4, persistence=0.08, shape="sector",
            lines=144, half_angle_deg=38,
        ),
        Vendor(
            name="Harbor", f_mhz=1.7, cycles=2.3, aperture_mm=20, focus_mm=90, range_db=60, noise_db=-42,
            haze_db=-21, clutter_db=-4, gamma=1.7, floor=0.14, smooth=0.5, persistence=0.2, shape="sector",
            lines=144, half_angle_deg=40,
        ),
        Vendor(
            name="Quartz", f_mhz=3.2, cycles=2.9, aperture_mm=18, focus_mm=70, range_db=72, noise_db=-46,
            haze_db=-25, clutter_db=-4, gamma=1.95, floor=0.10, smooth=0.3, persistence=0.05, shape="sector",
            lines=160, half_angle_deg=36,
        ),
        Vendor(
            name="Pocketline", f_mhz=2.0, cycles=2.7, aperture_mm=14, focus_mm=100, range_db=54, noise_db=-40,
            haze_db=-21, clutter_db=-3, gamma=1.4, floor=0.1, smooth=0.6, persistence=0.3, shape="sector",
            lines=96, half_angle_deg=45,
        ),
        Vendor(
            name="Meridian", f_mhz=2.2, cycles=2.3, aperture_mm=22, focus_mm=70, range_db=78, noise_db=-46,
            haze_db=-23, clutter_db=-6, gamma=2.2, floor=0.06, smooth=0.8, persistence=0.5, shape="sector",
            lines=192, half_angle_deg=42,
        ),
        Vendor(
            name="Oldfield", f_mhz=2.6, cycles=3.2, aperture_mm=16, focus_mm=60, range_db=60, noise_db=-42,
            haze_db=-24, clutter_db=-5, gamma=1.5, floor=0.06, smooth=0.3, persistence=0.0, shape="sector",
            lines=112, half_angle_deg=32,
        ),
        Vendor(
            name="Fern", f_mhz=4.5, cycles=2.0, aperture_mm=32, focus_mm=70, range_db=64, noise_db=-48,
            haze_db=-28, clutter_db=-20, gamma=1.7, floor=0.0, smooth=0.3, persistence=0.05, shape="curved",
            lines=304, half_angle_deg=34, radius_mm=50,
        ),
        Vendor(
            name="Willow", f_mhz=3.6, cycles=2.6, aperture_mm=26, focus_mm=85, range_db=58, noise_db=-45,
            haze_db=-25, clutter_db=-16, gamma=1.4, floor=0.05, smooth=0.3, persistence=0.25, shape="curved",
            lines=256, half_angle_deg=36, radius_mm=60,
        ),
        Vendor(
            name="Bracken", f_mhz=5.0, cycles=1.8, aperture_mm=36, focus_mm=60, range_db=74, noise_db=-52,
            haze_db=-32, clutter_db=-24, gamma=2.0, floor=0.02, smooth=0.35, persistence=0.1, shape="curved",
            lines=352, half_angle_deg=38, radius_mm=45,
        ),
        Vendor(
            name="Clover", f_mhz=6.5, cycles=2.0, aperture_mm=12, focus_mm=35, range_db=64, noise_db=-48,
            haze_db=-28, clutter_db=-14, gamma=1.5, floor=0.01, smooth=0.8, persistence=0.1, shape="curved",
            lines=176, half_angle_deg=65, radius_mm=10,
        ),
        Vendor(
            name="Sorrel", f_mhz=5.5, cycles=2.4, aperture_mm=10, focus_mm=30, range_db=58, noise_db=-45,
            haze_db=-26, clutter_db=-11, gamma=1.3, floor=0.04, smooth=0.6, persistence=0.25, shape="curved",
            lines=144, half_angle_deg=58, radius_mm=12,
        ),
        Vendor(
            name="Slate", f_mhz=9.0, cycles=2.0, aperture_mm=12, focus_mm=25, range_db=66, noise_db=-48,
            haze_db=-30, clutter_db=-14, gamma=1.4, floor=0.01, smooth=0.6, persistence=0.05, shape="linear",
            lines=192, width_mm=42,
        ),
        Vendor(
            name="Basalt", f_mhz=7.5, cycles=2.4, aperture_mm=10, focus_mm=22, range_db=60, noise_db=-44,
            haze_db=-27, clutter_db=-10, gamma=1.2, floor=0.04, smooth=0.8, persistence=0.2, shape="linear",
            lines=160, width_mm=48,
        ),
    )
}  # fmt: skip
SECTOR = tuple(v.name for v in VENDORS.values() if v.shape == "sector")
CURVED = tuple(v.name for v in VENDORS.values() if v.shape == "curved" and v.radius_mm > 20)
SOFT = {"Fern": (192, 0.8), "Willow": (160, 0.7), "Bracken": (224, 1.0)}
"""lines and smoothing of the soft setting, by machine"""
CAVITY = tuple(v.name for v in VENDORS.values() if v.shape == "curved" and v.radius_mm <= 20)
"""within a body cavity"""
LINEAR = tuple(v.name for v in VENDORS.values() if v.shape == "linear")
