"""A fetal head in the transthalamic plane, with the four points of the head circumference.

Anatomy and echo levels: shared spec phantom, sections 1.3 and 4.

Head frame: u along the occipito-frontal diameter (forehead at +u), v across; a, b are half of OFD and BPD,
outer edge to outer edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from insonate.phantom.fetus import Fetus, Womb
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import (
    Truth,
    ellipse_distance,
    into,
    out_of,
    ridge,
    segment_distance,
    soft,
)

AROUND, SCALP, SKULL, BRAIN = range(4)
SCALP_MM = 2.4


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The brain's frame on one grid, bent a little: real lines are not straight."""

    u: Array
    v: Array
    broken: Array
    """how strong a line is at its places"""
    far: Array
    """0 near the probe to 1 in the hemisphere away from it"""


class Head(Painted):
    """One plane through a fetal head.

    Args:
        fetus: whose head.
        texture: the patient's texture source.
        rng: of this acquisition: position, rotation, surroundings.
    """

    name = "head"
    mask_values: ClassVar = {SKULL: 255, BRAIN: 255}
    gain = (0.95, -0.37)

    def __init__(self, fetus: Fetus, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.fetus, a, b = fetus, fetus.ofd_mm / 2, fetus.bpd_mm / 2
        self.a, self.b = a, b
        self.tilt_rad = math.radians(rng.uniform(-25, 25))
        self.facing = 1.0 if rng.random() < 0.5 else -1.0
        half_height = math.hypot(a * math.sin(self.tilt_rad), b * math.cos(self.tilt_rad))
        half_width = math.hypot(a * math.cos(self.tilt_rad), b * math.sin(self.tilt_rad))
        self.centre = float(rng.normal(0, 0.07 * a)), float(rng.uniform(14, 26)) + half_height
        self.depth_mm = self.centre[1] + half_height + float(rng.uniform(8, 24))
        self.least_span_mm = 2 * (half_width + abs(self.centre[0])) * 1.1 + 6
        self.far_mm = self.centre[1] + half_height
        self.sutures = rng.uniform(-math.pi, math.pi, 2)
        self.brain_db, self.bone_db, self.lines_db = (float(v) for v in rng.normal(0, 1.5, 3))
        self.womb = Womb(self.texture, rng, self.centre[1] - half_height - 2)

    def pivot_mm(self) -> tuple[float, float]:
        """The middle of the head."""
        return self.centre

    def truth(self, t_s: float) -> Truth:
        """Points on the outer skull: BPD upper and lower, OFD right and left, as seen in the picture."""
        places = {
            "bpd_upper": (0, -self.b), "bpd_lower": (0, self.b),
            "ofd_right": (self.a, 0), "ofd_left": (-self.a, 0),
        }  # fmt: skip
        return Truth(
            points_mm={
                name: self.after(*out_of(*place, self.centre, self.tilt_rad), t_s)
                for name, place in places.items()
            },
            columns={"hc_mm": self.fetus.hc_mm, "ga_weeks": self.fetus.ga_weeks},
        )

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Womb, scalp, brain, skull."""
        low = self.texture.low
        u, v = into(grid.x_mm, grid.z_mm, self.centre, self.tilt_rad)
        outline = ellipse_distance(u, v, self.a, self.b)
        skull_mm = max(1.6, 0.034 * 2 * self.b)
        canvas = Canvas(grid, -8, 0.5)
        self.womb.paint(canvas, outline - SCALP_MM, self.far_mm + SCALP_MM)
        canvas.fill(
            (outline > 0) & (outline <= SCALP_MM), -8 + 2 * low(u, v, 3), 0.5, label=SCALP, echoes=0.1
        )
        canvas.echo(outline - SCALP_MM, 0.4 * np.clip(low(u, v, 5, 1) + 0.5, 0, 1.5), width_mm=0.5, power=3)
        skull, brain = (outline <= 0) & (outline >= -skull_mm), outline < -skull_mm
        canvas.fill(brain, 0, 0.12, label=BRAIN, echoes=0)
        self._brain(canvas, u, v, -outline - np.float32(skull_mm))
        self._haze(canvas, skull, brain)
        facing = grid.along_beam(outline)
        bone = -1 + self.bone_db + 13 * facing**2 + 3 * low(u, v, 4, 2)
        canvas.fill(skull, bone, 1.3 + 3 * (1 - facing), label=SKULL)
        gaps = np.maximum(1 + 0.45 * low(u, v, 6, 3), 0.15) * self._suture_gaps(u, v)
        canvas.echo(outline + skull_mm / 2, 3.4 * gaps, width_mm=0.55 * skull_mm, power=3)
        canvas.block(skull, 3 + 11 * (1 - facing**2) ** 3)
        return canvas

    def _suture_gaps(self, u: Array, v: Array) -> Array:
        angle = np.arctan2(v / np.float32(self.b), u / np.float32(self.a))
        gaps = sum(ridge(angle - np.float32(suture), 0.05) for suture in self.sutures)
        return 1 - 0.8 * np.clip(gaps, 0, 1)

    def _haze(self, canvas: Canvas, skull: np.ndarray, brain: np.ndarray) -> None:
        """In the near hemisphere: echoes between skull and probe, -5 dB, decay 6 mm, period 2.4 mm."""
        behind_mm = np.cumsum(np.cumsum(skull, 0) > 0, 0) * np.float32(canvas.grid.step_mm)
        ripple = 1 + 0.5 * np.sin(behind_mm * np.float32(2 * math.pi / 2.4))
        haze = 0.28 * 10**-0.5 * np.exp(-behind_mm / 6) * ripple
        canvas.fill(brain, 10 * np.log10(10 ** (canvas.level_db / 10) + haze))

    def _brain(self, canvas: Canvas, u: Array, v: Array, deep_mm: Array) -> None:
        """Hemispheres with folds, midline, cavum, thalami, ventricles, choroid, Sylvian fissures."""
        low, b = self.texture.low, self.b
        at = Inside(
            u=np.float32(self.facing) * u + 0.9 * low(u, v, 9, 11),
            v=v + 0.026 * b * low(u, v, 11, 12),
            broken=np.clip(0.7 + 0.65 * low(u, v, 2.5) + 0.55 * low(u, v, 7, 4), 0, 2.2),
            far=np.clip(0.5 + v / np.float32(2 * b), 0, 1),
        )
        # white matter is dark and patchy, the cortex under the skull lighter and finer
        level = (
            -23.5 + self.brain_db + 1.6 * low(u, v, 2.2, 5) + 2.6 * low(u, v, 7, 9) + 2.2 * low(u, v, 18, 6)
        )
        level = level + 4.5 * ridge(deep_mm - 0.07 * b, 0.09 * b) + 2.5 * at.far * low(u, v, 5, 7)
        canvas.fill(deep_mm > 0, level)
        spec_before = canvas.spec.copy()
        canvas.spec[...] = 0
        self._folds(canvas, at, deep_mm)
        self._midline(canvas, at)
        for side in (-1.0, 1.0):
            self._hemisphere(canvas, at, side)
        lines = canvas.spec * np.float32(10 ** (self.lines_db / 20)) * soft(1.2 - deep_mm, 2)
        canvas.spec[...] = spec_before + lines * (deep_mm > 0)
        canvas.level_db[...] = np.where(deep_mm > 0, canvas.level_db, level)

    def _line(
        self, at: Inside, start: tuple[float, float], stop: tuple[float, float], width_mm: float = 0.5
    ) -> Array:
        """A line between two places in units of the half axes."""
        a, b = self.a, self.b
        distance = segment_distance(at.u, at.v, (start[0] * a, start[1] * b), (stop[0] * a, stop[1] * b))
        return ridge(distance, width_mm)

    def _folds(self, canvas: Canvas, at: Inside, deep_mm: Array) -> None:
        """Sulci: none before 18 weeks, then deeper and closer each week."""
        low, grown = self.texture.low, float(np.clip((self.fetus.ga_weeks - 18) / 18, 0, 1))
        if grown == 0:
            return
        cell = np.float32(13 - 5 * grown)
        field = low(at.u, at.v, float(cell), 13) + 0.35 * low(at.u, at.v, 4, 14)
        depth = (0.1 + 0.2 * grown) * self.b
        reach = soft(deep_mm - np.float32(depth) * (1 + 0.4 * low(at.u, at.v, 9, 15)), 2.5)
        fold = ridge(field, 0.11) * reach * (0.2 + 0.8 * at.far)
        canvas.spec += (0.3 * (0.3 + 0.7 * grown) * fold * at.broken).astype(np.float32)
        canvas.level_db += 5 * fold

    def _midline(self, canvas: Canvas, at: Inside) -> None:
        a, b = self.a, self.b
        line = self._line(at, (-0.93, 0), (0.36, 0)) + self._line(at, (0.68, 0), (0.95, 0))
        canvas.spec += (line * canvas.grid.along_beam(at.v) * (0.3 + at.broken)).astype(np.float32)
        cavum = np.maximum(np.abs(at.u - np.float32(0.5 * a)) - 0.11 * a, np.abs(at.v) - 0.05 * b)
        canvas.blend(cavum, 0.6, -34.0)
        third = ellipse_distance(at.u + np.float32(0.02 * a), at.v, 0.12 * a, 0.018 * b)
        canvas.blend(third, 0.5, -33.0)

    def _hemisphere(self, canvas: Canvas, at: Inside, side: float) -> None:
        a, b, low = self.a, self.b, self.texture.low
        u, v = at.u, at.v
        thalamus = ellipse_distance(
            u + np.float32(0.02 * a), v - np.float32(side * 0.15 * b), 0.2 * a, 0.125 * b
        )
        canvas.blend(thalamus, 1.5, -28 + 1.5 * low(u, v, 3, 16))
        canvas.spec += (0.13 * ridge(thalamus, 0.7) * at.broken).astype(np.float32)
        wall = self._line(at, (-0.75, side * 0.44), (-0.1, side * 0.34)) * 0.5
        wall += self._line(at, (0.18, side * 0.2), (0.5, side * 0.3)) * 0.5
        wall += self._line(at, (0.38, side * 0.055), (0.62, side * 0.065)) * 1.1
        canvas.spec += (wall * at.broken).astype(np.float32)
        horn = ellipse_distance(u + np.float32(0.45 * a), v - np.float32(side * 0.33 * b), 0.3 * a, 0.11 * b)
        canvas.blend(horn, 1.5, -31 + low(u, v, 4, 17))
        choroid = ellipse_distance(
            u + np.float32(0.4 * a), v - np.float32(side * 0.33 * b), 0.22 * a, 0.07 * b
        ) + 0.6 * low(u, v, 4, 18)
        canvas.blend(choroid, 1.2, -11.5 + 2.2 * low(u, v, 2.2, 19))
        # the insula: a notch that opens outwards, and the fissure behind it
        notch = self._line(at, (-0.05, side * 0.68), (0.12, side * 0.62), 0.7)
        notch += self._line(at, (0.12, side * 0.62), (0.32, side * 0.7), 0.7)
        notch += self._line(at, (0.32, side * 0.7), (0.26, side * 0.9), 0.7)
        seen = np.clip(0.2 + low(u, v, 4, 20), 0, 1.2) * (0.3 + 0.7 * at.far)
        canvas.spec += (0.35 * notch * seen).astype(np.float32)
        canvas.level_db += 4 * np.clip(notch, 0, 1) * np.clip(seen, 0, 1)
        # cerebellum's tentorium shows as a fan of lines at the back
        fan = self._line(at, (-0.62, side * 0.1), (-0.85, side * 0.3), 0.6)
        canvas.spec += (0.45 * fan * at.broken).astype(np.float32)
