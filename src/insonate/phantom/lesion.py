"""One lesion, benign or malignant: the class draws the descriptors, they draw the picture (`organs.py`).

Descriptors and their odds follow the reasoning of BI-RADS (shape, orientation, margin, echo, posterior
features, rim, calcifications); the odds are our own choice, see shared spec phantom, section 4.1. In 8 % of
the lesions two descriptor groups are drawn from the other class, so that no rule is perfect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from insonate.errors import InsonateError
from insonate.phantom.physics import Array

LesionClass = Literal["benign", "malignant"]
CLASSES: tuple[LesionClass, LesionClass] = ("benign", "malignant")
SWAPPED = 0.08
"""share of lesions with two descriptor groups of the other class"""
GROUPS = ("orientation", "margin", "echo", "posterior")


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion: its class, and what the class drew."""

    lesion_class: LesionClass
    long_mm: float
    """largest of width and height"""
    ratio: float
    """height over width; above 1 is "taller than wide", against the tissue planes"""
    lobes: tuple[tuple[float, float], ...]
    """amplitude and phase of the outline's harmonics 2 to 5"""
    rays: tuple[tuple[float, float, float], ...]
    """angle, length (in radii) and half width (rad) of the spicules"""
    margin_mm: float
    """width of the transition"""
    echo_db: float
    """against the surroundings"""
    texture_db: float
    posterior_db: float
    """above 0: enhancement behind the lesion; below: shadow"""
    rim_mm: float
    specks: tuple[tuple[float, float, float], ...]
    """calcifications: place in units of the half axes, radius in mm"""

    @property
    def cyst(self) -> bool:
        """Whether it is filled with fluid."""
        return self.echo_db < -25

    @classmethod
    def draw(cls, lesion_class: LesionClass, rng: np.random.Generator) -> Lesion:
        """A lesion of the class.

        Raises:
            InsonateError: no class is called so.
        """
        if lesion_class not in CLASSES:
            what = f"there is no lesion {lesion_class!r}"
            raise InsonateError("phantom lesion", what, f"Choose one of {', '.join(CLASSES)}")
        bad = dict.fromkeys(GROUPS, lesion_class == "malignant")
        if rng.random() < SWAPPED:
            for group in rng.choice(GROUPS, 2, replace=False):
                bad[str(group)] = not bad[str(group)]
        lobes, rays, margin_mm = _margin(rng, bad=bad["margin"])
        echo_db, texture_db, specks = _echo(rng, bad=bad["echo"])
        return cls(
            lesion_class=lesion_class,
            long_mm=_size_mm(rng, bad=lesion_class == "malignant"),
            ratio=_ratio(rng, bad=bad["orientation"]),
            lobes=lobes,
            rays=rays,
            margin_mm=margin_mm,
            echo_db=echo_db,
            texture_db=texture_db,
            posterior_db=8.0 if echo_db < -25 else _posterior_db(rng, bad=bad["posterior"]),
            rim_mm=rng.uniform(2, 4) if bad["margin"] and rng.random() < 0.5 else 0.0,
            specks=specks,
        )

    def scaled(self, scale: float) -> Lesion:
        """The same lesion, larger or smaller."""
        specks = tuple((u, v, radius_mm * min(scale, 1.5)) for u, v, radius_mm in self.specks)
        return replace(
            self, long_mm=scale * self.long_mm, margin_mm=scale * self.margin_mm, rim_mm=scale * self.rim_mm,
            specks=specks,
        )  # fmt: skip

    @property
    def half_axes_mm(self) -> tuple[float, float]:
        """Half of width and height."""
        width_mm = self.long_mm / max(1.0, self.ratio)
        return width_mm / 2, self.ratio * width_mm / 2

    def distance(self, u: Array, v: Array) -> Array:
        """Signed distance in mm (to first order) to the outline, inside < 0; u across, v down."""
        half_u, half_v = self.half_axes_mm
        scaled_u, scaled_v = u / np.float32(half_u), v / np.float32(half_v)
        radius, angle = np.hypot(scaled_u, scaled_v), np.arctan2(scaled_v, scaled_u)
        outline = np.ones_like(radius)
        for order, (amplitude, phase) in enumerate(self.lobes, start=2):
            outline += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
        for where, length, half_width in self.rays:
            off = np.abs((angle - where + math.pi) % (2 * math.pi) - math.pi)
            outline += np.float32(length) * np.clip(1 - off / np.float32(half_width), 0, None)
        return (radius - outline) * np.hypot(u, v) / np.maximum(radius, np.float32(1e-3))


def _size_mm(rng: np.random.Generator, *, bad: bool) -> float:
    return float(np.clip(rng.lognormal(math.log(15), 0.3), 8, 24) if bad else rng.uniform(6, 20))


def _ratio(rng: np.random.Generator, *, bad: bool) -> float:
    wide = rng.random() < (0.4 if bad else 0.9)
    return float(rng.uniform(0.5, 0.85) if wide else rng.uniform(0.9, 1.45))


def _margin(
    rng: np.random.Generator, *, bad: bool
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float, float], ...], float]:
    phases = rng.uniform(0, 2 * math.pi, 4)
    if not bad:
        return (
            tuple(zip((rng.uniform(0, 0.05, 4) / np.arange(1, 5)).tolist(), phases.tolist(), strict=True)),
            (),
            0.3,
        )
    sizes = rng.uniform(0.04, 0.13, 4) / np.array([1, 1, 1.3, 1.6])
    rays: tuple[tuple[float, float, float], ...] = ()
    if rng.random() < 0.4:
        count = int(rng.integers(5, 13))
        rays = tuple(
            (float(angle), float(rng.uniform(0.15, 0.5)), float(rng.uniform(0.08, 0.16)))
            for angle in rng.uniform(-math.pi, math.pi, count)
        )
    margin_mm = float(rng.uniform(1, 2.5)) if rng.random() < 0.35 else 0.5
    return tuple(zip(sizes.tolist(), phases.tolist(), strict=True)), rays, margin_mm


def _echo(
    rng: np.random.Generator, *, bad: bool
) -> tuple[float, float, tuple[tuple[float, float, float], ...]]:
    if not bad:
        echo_db = -32.0 if rng.random() < 0.3 else float(rng.uniform(-13, -7))
        texture_db = 0.0 if echo_db < -25 else 1.0
        count, radius_mm = (1, 1.0) if rng.random() < 0.1 else (0, 0.0)
    else:
        echo_db, texture_db = float(rng.uniform(-17, -9)), 3.5
        count, radius_mm = (int(rng.integers(5, 25)), 0.3) if rng.random() < 0.3 else (0, 0.0)
    places = rng.uniform(-0.55, 0.55, (count, 2))
    return echo_db, texture_db, tuple((float(u), float(v), radius_mm) for u, v in places)


def _posterior_db(rng: np.random.Generator, *, bad: bool) -> float:
    if bad:
        return float(-rng.uniform(8, 18)) if rng.random() < 0.45 else 0.0
    return float(rng.uniform(2, 6)) if rng.random() < 0.4 else 0.0
