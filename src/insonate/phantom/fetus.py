"""A fetal head in the transthalamic plane, with the four points of the head circumference.

Sizes: INTERGROWTH-21st head circumference for gestational age (Papageorghiou et al. 2014), cephalic index
78.3 ± 4.4 %. Anatomy and echo levels: shared spec phantom, sections 1.3 and 4.

Head frame: u along the occipito-frontal diameter (forehead at +u), v across; a, b are half of OFD and BPD,
outer edge to outer edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from insonate.phantom.physics import Array, Grid, Labels, Lattice, Maps
from insonate.phantom.scene import (
    Drift,
    Scene,
    Texture,
    Truth,
    decibel,
    ellipse_distance,
    first_along_beam,
    into,
    out_of,
    ridge,
    segment_distance,
    soft,
    transmission_db,
)

TISSUE, FLUID, SKULL, BRAIN = range(4)
SCALP_MM = 2.4


def head_circumference(ga_weeks: float) -> tuple[float, float]:
    """Mean and standard deviation in mm, 14 to 40 weeks. Source: Papageorghiou et al. 2014."""
    log, cube = math.log(ga_weeks), ga_weeks**3
    mean = -28.2849 + 1.69267 * ga_weeks**2 - 0.397485 * ga_weeks**2 * log
    spread = 1.98735 + 0.0136772 * cube - 0.00726264 * cube * log + 0.000976253 * cube * log**2
    return mean, spread


def ellipse_perimeter(a: float, b: float) -> float:
    """Of the ellipse with semi-axes `a`, `b`. Source: Ramanujan's second approximation."""
    h = ((a - b) / (a + b)) ** 2
    return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


@dataclass(frozen=True, kw_only=True)
class Fetus:
    """What belongs to the patient, not to the picture."""

    ga_weeks: float
    hc_mm: float
    bpd_mm: float
    ofd_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Fetus:
        """A fetus of 14 to 40 weeks."""
        ga_weeks = rng.uniform(14, 40)
        mean, spread = head_circumference(ga_weeks)
        hc_mm = mean + float(np.clip(rng.normal(), -2.5, 2.5)) * spread
        index = float(np.clip(rng.normal(0.783, 0.044), 0.68, 0.88))
        ofd_mm = 2 * hc_mm / ellipse_perimeter(1, index)
        return cls(ga_weeks=ga_weeks, hc_mm=hc_mm, bpd_mm=index * ofd_mm, ofd_mm=ofd_mm)


@dataclass(frozen=True)
class HeadCache:
    """Grid and what the tissue cannot move: transmission."""

    grid: Grid
    line_db: Array


class Head(Scene[HeadCache]):
    """One plane through a fetal head.

    Args:
        fetus: whose head.
        texture: the patient's texture source.
        rng: of this acquisition: position, rotation, surroundings.
    """

    name = "head"
    mask_labels = (SKULL, BRAIN)
    gain = (0.95, -0.35)

    def __init__(self, fetus: Fetus, texture: Lattice, rng: np.random.Generator) -> None:
        self.fetus, self.texture, self._contact_key = fetus, Texture(texture, rng), rng.integers(2**63)
        a, b = fetus.ofd_mm / 2, fetus.bpd_mm / 2
        self.a, self.b = a, b
        self.tilt_rad = math.radians(rng.uniform(-25, 25))
        self.facing = 1.0 if rng.random() < 0.5 else -1.0
        half_height = math.hypot(a * math.sin(self.tilt_rad), b * math.cos(self.tilt_rad))
        half_width = math.hypot(a * math.cos(self.tilt_rad), b * math.sin(self.tilt_rad))
        self.centre = float(rng.normal(0, 0.07 * a)), rng.uniform(14, 26) + half_height
        self.depth_mm = self.centre[1] + half_height + rng.uniform(8, 24)
        self.least_span_mm = 2 * (half_width + abs(self.centre[0])) * 1.1 + 6
        self.wall_mm, self.phases = rng.uniform(7, 13), rng.uniform(0, 2 * math.pi, 4)
        self.pocket_mm = rng.uniform(1, 9)
        self.drift = Drift.draw(rng)
        self.sulci = [self._sulcus(rng) for _ in range(9)]
        self.sutures = rng.uniform(-math.pi, math.pi, 2)
        self.level_db = {
            k: float(v) for k, v in zip(("brain", "bone", "lines"), rng.normal(0, 1.5, 3), strict=True)
        }

    def _sulcus(self, rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
        angle, radius, length = rng.uniform(-math.pi, math.pi), rng.uniform(0.6, 0.9), rng.uniform(1.05, 1.18)
        u, v = self.a * radius * math.cos(angle), self.b * radius * math.sin(angle)
        return (u, v), (u * length + rng.normal(0, 1.5), v * length + rng.normal(0, 1.5))

    def static(self, grid: Grid) -> HeadCache:
        """The transmission through the skin."""
        rng = np.random.Generator(np.random.Philox(key=int(self._contact_key)))
        return HeadCache(grid, transmission_db(grid, rng))

    def pose(self, t_s: float) -> tuple[tuple[float, float], float]:
        """Centre (x, z) in mm and turn in rad of the head frame (before facing)."""
        dx, dz, turn = self.drift.at(t_s)
        return (self.centre[0] + dx, self.centre[1] + dz), self.tilt_rad + turn

    def truth(self, t_s: float) -> Truth:
        """Points on the outer skull: BPD upper and lower, OFD right and left, as seen in the picture."""
        centre, turn = self.pose(t_s)
        points = {
            "bpd_upper": out_of(0, -self.b, centre, turn),
            "bpd_lower": out_of(0, self.b, centre, turn),
            "ofd_right": out_of(self.a, 0, centre, turn),
            "ofd_left": out_of(-self.a, 0, centre, turn),
        }
        return Truth(points_mm=points, columns={"hc_mm": self.fetus.hc_mm, "ga_weeks": self.fetus.ga_weeks})

    def frame(self, cache: HeadCache, t_s: float) -> Maps:
        """The maps at time `t_s`."""
        grid = cache.grid
        x, z = grid.x_mm, grid.z_mm
        centre, turn = self.pose(t_s)
        u, v = into(x, z, centre, turn)
        # speckle is fixed to the tissue: the head frame, put back where it was at time 0
        material_x, material_z = u + np.float32(self.texture.x_mm), v + np.float32(self.texture.z_mm)
        distance = ellipse_distance(u, v, self.a, self.b)
        skull_mm = max(1.6, 0.034 * 2 * self.b)
        incidence = grid.along_beam(distance)

        level, att, spec, label = self._surroundings(x, z, u, v, distance)
        skull, inside = (distance <= 0) & (distance >= -skull_mm), distance < -skull_mm
        label[skull], label[inside] = SKULL, BRAIN
        flip_u = np.float32(self.facing) * u
        brain_db, lines = self._brain(flip_u, v, grid)
        level = np.where(inside, self._reverberation(brain_db, skull, grid), level)
        att = np.where(inside, np.float32(0.12), att)
        level = np.where(
            skull, -1 + self.level_db["bone"] + 13 * incidence**2 + 3 * self.texture.low(u, v, 4), level
        )
        att = np.where(skull, 1.3 + 3 * (1 - incidence), att)
        spec += lines * soft(distance + skull_mm + 1.5, 2)
        shell = 3.4 * ridge(distance + skull_mm / 2, 0.55 * skull_mm) * incidence**3
        spec += shell * np.maximum(1 + 0.45 * self.texture.low(u, v, 6, 2), 0.15) * self._suture_gaps(u, v)
        loss = np.where(first_along_beam(skull), 3 + 11 * (1 - incidence**2) ** 3, 0)
        return Maps(
            amp=decibel((level + cache.line_db).astype(np.float32)),
            spec=(spec * decibel(cache.line_db)).astype(np.float32),
            att=att.astype(np.float32),
            loss=loss.astype(np.float32),
            label=label,
            material_x_mm=material_x,
            material_z_mm=material_z,
        )

    def _surroundings(
        self, x: Array, z: Array, u: Array, v: Array, distance: Array
    ) -> tuple[Array, Array, Array, Labels]:
        """Uterine wall or placenta, fluid pockets, scalp: level dB, attenuation, specular, label."""
        low, phases = self.texture.low, self.phases
        wall = z - np.float32(self.wall_mm) - 3 * np.sin(x / 21 + np.float32(phases[0]))
        level = -8 + 2.8 * low(u, v, 5) + 3.5 * low(u, v, 14, 5)
        level += np.where(wall < 0, 3 * np.sin(z * np.float32(2 * math.pi / 2.8) + low(u, v, 8)), 0)
        reach = self.pocket_mm + 5 * np.sin(2 * np.arctan2(v, u) + np.float32(phases[1])) + 2 * low(u, v, 9)
        fluid = (distance < reach) & (distance > SCALP_MM) & (wall > 5)
        level = np.where(fluid, np.float32(-32), level)
        scalp = (distance > 0) & (distance <= SCALP_MM)
        level = np.where(scalp, -7 + 2 * low(u, v, 3), level)
        att = np.where(fluid, np.float32(0.05), np.float32(0.5))
        spec = 0.5 * ridge(wall, 0.8) + 0.35 * ridge(wall - 5, 0.7)
        return level, att, spec, np.where(fluid, FLUID, TISSUE).astype(np.uint8)

    def _suture_gaps(self, u: Array, v: Array) -> Array:
        angle = np.arctan2(v / np.float32(self.b), u / np.float32(self.a))
        gaps = sum(ridge(angle - np.float32(suture), 0.05) for suture in self.sutures)
        return 1 - 0.8 * np.clip(gaps, 0, 1)

    def _reverberation(self, brain_db: Array, skull: np.ndarray, grid: Grid) -> Array:
        """Haze in the near hemisphere: echoes between skull and probe, -5 dB, decay 6 mm, period 2.4 mm."""
        behind_mm = np.cumsum(np.cumsum(skull, 0) > 0, 0) * np.float32(grid.step_mm)
        ripple = 1 + 0.5 * np.sin(behind_mm * np.float32(2 * math.pi / 2.4))
        haze = 0.28 * 10**-0.5 * np.exp(-behind_mm / 6) * ripple
        return (10 * np.log10(10 ** (brain_db / 10) + haze)).astype(np.float32)

    def _brain(self, u: Array, v: Array, grid: Grid) -> tuple[Array, Array]:
        """Level dB and specular lines of midline, cavum, thalami, ventricles, choroid, Sylvian, sulci."""
        a, b, low = self.a, self.b, self.texture.low
        # real lines are not straight: bend the inside, and break the lines with noise
        wu, wv = u + 0.8 * low(u, v, 9, 11), v + 0.022 * b * low(u, v, 11, 12)
        level = -22 + self.level_db["brain"] + 2.4 * low(u, v, 3.5) + 3 * low(u, v, 10, 9)
        broken = np.clip(0.75 + 0.6 * low(u, v, 2.5) + 0.5 * low(u, v, 7, 3), 0, 2)

        def line(start: tuple[float, float], stop: tuple[float, float], width_mm: float = 0.5) -> Array:
            distance = segment_distance(wu, wv, (start[0] * a, start[1] * b), (stop[0] * a, stop[1] * b))
            return ridge(distance, width_mm)

        midline = line((-0.9, 0), (0.36, 0)) + line((0.7, 0), (0.93, 0))
        spec = midline * grid.along_beam(v) * (0.3 + broken)
        cavum = (np.abs(wu - np.float32(0.5 * a)) < 0.11 * a) & (np.abs(wv) < 0.05 * b)
        level = np.where(cavum, np.float32(-34), level)
        for side in (-1.0, 1.0):
            spec += 1.1 * line((0.38, side * 0.055), (0.62, side * 0.065))
            thalamus = ellipse_distance(
                wu + np.float32(0.02 * a), wv - np.float32(side * 0.145 * b), 0.19 * a, 0.12 * b
            )
            level = np.where(thalamus < 0, -26 + low(u, v, 3, 4), level)
            spec += 0.3 * ridge(thalamus, 0.7) * broken
            spec += 0.4 * line((-0.75, side * 0.42), (0.3, side * 0.36)) * broken
            choroid = ellipse_distance(
                wu + np.float32(0.42 * a), wv - np.float32(side * 0.33 * b), 0.26 * a, 0.085 * b
            )
            level = np.maximum(level, -30 + 19 * soft(choroid, 1.5) + 1.5 * low(u, v, 3))
            spec += 0.6 * line((0.12, side * 0.62), (0.28, side * 0.95), 0.6) * broken
        for start, stop in self.sulci:
            spec += 0.3 * ridge(segment_distance(wu, wv, start, stop), 0.5)
        return level, spec * 10 ** (self.level_db["lines"] / 20)
