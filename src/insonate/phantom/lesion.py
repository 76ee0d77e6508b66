"""A breast with one lesion, benign or malignant: the class draws the descriptors, they draw the picture.

Descriptors and their odds follow the reasoning of BI-RADS (shape, orientation, margin, echo, posterior
features, rim, calcifications); the odds are our own choice, see shared spec phantom, section 4.1. In 8 % of
the lesions two descriptor groups are drawn from the other class, so that no rule is perfect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from insonate.phantom.physics import Array, Grid, Lattice, Maps
from insonate.phantom.scene import (
    Drift,
    Scene,
    Texture,
    Truth,
    decibel,
    into,
    ridge,
    soft,
    transmission_db,
)

TISSUE, LESION = range(2)
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
        """A lesion of the class."""
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


@dataclass(frozen=True)
class BreastCache:
    """Grid and what the tissue cannot move: transmission."""

    grid: Grid
    line_db: Array


class Breast(Scene[BreastCache]):
    """Skin, fat lobules, gland and pectoral muscle around one lesion.

    Args:
        lesion: what to look for.
        texture: the patient's texture source.
        rng: of this acquisition: position and layers.
        width_mm: of the probe, so that the lesion lies inside the picture.
        f_mhz: of the probe: turns posterior dB into attenuation.
    """

    name = "lesion"
    mask_labels = (LESION,)
    gain = (0.93, -0.3)

    def __init__(
        self, lesion: Lesion, texture: Lattice, rng: np.random.Generator, *, width_mm: float, f_mhz: float
    ) -> None:
        self.lesion, self.texture = lesion, Texture(texture, rng)
        self._contact_key = rng.integers(2**63)
        half_u, half_v = lesion.half_axes_mm
        room_mm = max(0.0, width_mm / 2 - 1.3 * half_u - 2)
        self.fat_mm = rng.uniform(4, 10)
        top_mm = self.fat_mm + rng.uniform(0, 6)
        self.centre = float(rng.uniform(-room_mm, room_mm)), top_mm + 1.1 * half_v
        self.muscle_mm = max(self.centre[1] + 1.1 * half_v + rng.uniform(2, 8), rng.uniform(24, 32))
        self.depth_mm = float(np.clip(self.muscle_mm + rng.uniform(4, 14), 0.85 * width_mm, 55))
        self.tilt_rad = math.radians(rng.normal(0, 8))
        self.phases, self.gland_db = rng.uniform(0, 2 * math.pi, 4), float(rng.normal(0, 1.5))
        self.drift = Drift.draw(rng)
        # posterior_db over the height of the lesion, two ways, against the tissue around
        extra = -lesion.posterior_db / (2 * f_mhz * 2 * half_v / 10)
        self.lesion_att = max(0.02, 0.55 + extra)

    def static(self, grid: Grid) -> BreastCache:
        """The transmission through the skin."""
        rng = np.random.Generator(np.random.Philox(key=int(self._contact_key)))
        return BreastCache(grid, transmission_db(grid, rng))

    def truth(self, t_s: float) -> Truth:
        """Class and size, in words and mm; the mask comes with the maps."""
        long_mm = 2 * max(self.lesion.half_axes_mm)
        return Truth(columns={"lesion_class": self.lesion.lesion_class, "lesion_long_mm": long_mm})

    def frame(self, cache: BreastCache, t_s: float) -> Maps:
        """The maps at time `t_s`."""
        grid = cache.grid
        dx, dz, turn = self.drift.at(t_s)
        x, z = into(grid.x_mm, grid.z_mm, (dx, dz), turn)
        level, att, spec = self._tissue(x, z, grid)
        u, v = into(x, z, self.centre, self.tilt_rad)
        distance, lesion = self.lesion.distance(u, v), self.lesion
        inside = soft(distance, lesion.margin_mm)
        low = self.texture.low
        within = self.gland_db + lesion.echo_db + lesion.texture_db * low(x, z, 2.2, 21)
        level = level + (within - level) * inside
        att = att + (self.lesion_att - att) * inside
        spec *= 1 - inside
        if lesion.rim_mm:
            rim = ridge(distance - lesion.rim_mm / 2, lesion.rim_mm / 2) * (1 - inside)
            level += rim * (5 + 2 * low(x, z, 2, 22))
        if lesion.margin_mm < 0.4:  # a smooth capsule mirrors where the beam meets it head-on
            spec += (1.6 if lesion.cyst else 0.7) * ridge(distance, 0.25) * grid.along_beam(distance) ** 4
        half_u, half_v = lesion.half_axes_mm
        for place_u, place_v, radius_mm in lesion.specks:
            away = np.hypot(u - np.float32(place_u * half_u), v - np.float32(place_v * half_v))
            spot = soft(away - radius_mm, 0.3)
            level += spot * (6 - level)
            att += spot * (8.0 if radius_mm > 0.5 else 0.0)
        return Maps(
            amp=decibel((level + cache.line_db).astype(np.float32)),
            spec=(spec * decibel(cache.line_db)).astype(np.float32),
            att=att.astype(np.float32),
            loss=np.zeros_like(level),
            label=np.where(distance < 0, LESION, TISSUE).astype(np.uint8),
            material_x_mm=x + np.float32(self.texture.x_mm),
            material_z_mm=z + np.float32(self.texture.z_mm),
        )

    def _tissue(self, x: Array, z: Array, grid: Grid) -> tuple[Array, Array, Array]:
        """Level dB, attenuation and specular echoes of skin, fat, gland and muscle."""
        low, wave = self.texture.low, self.phases
        fat_end = z - np.float32(self.fat_mm) - 1.5 * np.sin(x / 9 + np.float32(wave[0])) - low(x, 0 * z, 5)
        muscle = z - np.float32(self.muscle_mm) - 1.2 * np.sin(x / 15 + np.float32(wave[1])) - 0.04 * x
        lobule = low(x, 1.6 * z, 5, 3)  # fat lobules: flat cells between bright septa
        fat = -12 + 1.2 * low(x, z, 2) + 11 * ridge(lobule, 0.1)
        strands = low(0.35 * x, z + 0.8 * np.sin(x / 7 + np.float32(wave[2])), 0.9, 6)
        gland = (
            1
            + self.gland_db
            + 2.2 * strands
            + 2 * low(x, z, 4, 7)
            - 5 * np.clip(low(x, 1.3 * z, 6, 8) - 0.9, 0, 1)
        )
        fibres = np.sin(z * np.float32(2 * math.pi / 1.6) + 0.5 * x + 1.5 * low(x, z, 6, 9))
        level = np.where(fat_end < 0, fat, gland)
        level = np.where(muscle > 0, -9 + 3 * fibres + low(x, z, 3, 10), level)
        level = np.where(z < 1.8, 1 + low(x, z, 2, 11), level)
        att = np.where(fat_end < 0, np.float32(0.45), np.float32(0.55))
        along = np.maximum(0.4 + 0.6 * low(x, z, 4, 12), 0)
        spec = 0.8 * ridge(z - 1.9, 0.3) + 0.5 * ridge(fat_end, 0.35) * along
        spec += 1.1 * ridge(muscle, 0.3) * along * grid.along_beam(muscle) ** 2
        return level.astype(np.float32), att, spec.astype(np.float32)
