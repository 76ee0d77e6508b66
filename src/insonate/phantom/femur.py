"""A fetal femur lying in its thigh, with the ends of the ossified shaft.

Places: shared spec phantom, section 4. Frame: u along the shaft, v away from the probe side.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from insonate.phantom.fetus import Fetus, Womb
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, into, out_of, ridge, segment_distance

AROUND, THIGH, FEMUR = range(3)


class Femur(Painted):
    """One plane along a fetal femur.

    Args:
        fetus: whose.
        texture: the patient's texture source.
        rng: of this acquisition: position, rotation, surroundings.
    """

    name = "femur"
    mask_values: ClassVar = {THIGH: THIGH, FEMUR: FEMUR}
    gain = (0.96, -0.3)

    def __init__(self, fetus: Fetus, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.fetus, length = fetus, fetus.fl_mm
        self.tilt_rad = math.radians(rng.uniform(-35, 35))
        self.half_mm = max(0.9, 0.5 * float(rng.uniform(0.09, 0.12)) * length)
        self.bow_mm = 0.03 * length * float(rng.uniform(0.3, 1.3)) * (1 if rng.random() < 0.7 else -1)
        self.knee = 1.0 if rng.random() < 0.5 else -1.0
        self.thigh_mm = float(rng.uniform(0.2, 0.27)) * length + 2
        half_height = 0.5 * length * abs(math.sin(self.tilt_rad)) + self.thigh_mm
        self.centre = float(rng.normal(0, 0.05 * length)), float(rng.uniform(20, 38)) + half_height
        self.depth_mm = max(self.centre[1] + half_height + float(rng.uniform(12, 30)), 62.0)
        self.least_span_mm = 1.35 * length + 14
        self.womb = Womb(self.texture, rng, self.centre[1] - half_height)
        self.bone_db, self.bent = float(rng.normal(0, 1.5)), rng.random() < 0.35

    def pivot_mm(self) -> tuple[float, float]:
        """The middle of the shaft."""
        return self.centre

    def truth(self, t_s: float) -> Truth:
        """Left and right end of the shaft."""
        half = self.fetus.fl_mm / 2
        ends = sorted(out_of(u, 0.0, self.centre, self.tilt_rad) for u in (-half, half))
        points = zip(("femur_left", "femur_right"), ends, strict=True)
        return Truth(
            points_mm={name: self.after(*end, t_s) for name, end in points},
            columns={"fl_mm": self.fetus.fl_mm, "ga_weeks": self.fetus.ga_weeks},
        )

    def shaft(self, u: Array, v: Array) -> Array:
        """Distance to the shaft, which bends by `bow_mm` between its two ends."""
        half, thick = self.fetus.fl_mm / 2, self.half_mm
        bent = v + np.float32(self.bow_mm) * (1 - np.clip(u / np.float32(half), -1.2, 1.2) ** 2)
        waist = np.float32(thick) * (0.82 + 0.18 * np.clip(u / np.float32(half), -1, 1) ** 2)
        return segment_distance(u, bent, (thick - half, 0), (half - thick, 0)) - waist

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Womb, thigh with muscle and knee, shaft and its shadow."""
        x, z, low, length = grid.x_mm, grid.z_mm, self.texture.low, self.fetus.fl_mm
        u, v = into(x, z, self.centre, self.tilt_rad)
        knee_u = self.knee * u
        thigh = self._thigh(knee_u, v)
        canvas = Canvas(grid, -8, 0.5)
        self.womb.paint(canvas, thigh, self.centre[1] + 1.3 * self.thigh_mm)
        canvas.fill(thigh < 0, -5 + 2 * low(x, z, 2.5, 20), 0.5, label=THIGH, echoes=0.15)
        fibres = np.sin(2 * math.pi * v / 2.6 + 2.5 * low(u, v, 9, 21))
        muscle = -12.5 + 1.5 * fibres + 1.2 * low(0.3 * u, v, 1.6, 22) + 1.5 * low(x, z, 7, 23)
        canvas.fill(thigh < -np.float32(1.2 + 0.02 * length), muscle)
        broken = np.clip(0.7 + 0.6 * low(x, z, 5, 24), 0, 1.6)
        canvas.echo(thigh, 0.9 * broken, width_mm=0.5, power=3)
        end = 0.5 * length
        for place, size in ((end + 0.07 * length, 0.12), (-end - 0.06 * length, 0.09)):
            epiphysis = ellipse_distance(knee_u - np.float32(place), v, 0.8 * size * length, size * length)
            canvas.blend(np.maximum(epiphysis, thigh + 1), 1.0, -21 + 1.5 * low(x, z, 3, 25))
            canvas.echo(epiphysis, 0.25 * broken, width_mm=0.5)
        self._bone(canvas, u, v)
        return canvas

    def _thigh(self, knee_u: Array, v: Array) -> Array:
        """Distance to thigh, hip and shank; the knee lies at +u."""
        length, thick = self.fetus.fl_mm, self.thigh_mm
        slim = thick * (1 - 0.22 * np.clip(knee_u / length + 0.2, -1, 1))
        thigh = segment_distance(knee_u, v, (-0.6 * length, 0.0), (0.56 * length, 0.0)) - slim
        hip = ellipse_distance(knee_u + 1.0 * length, v - 0.15 * length, 0.5 * length, 0.55 * length)
        shank = segment_distance(knee_u, v, (0.6 * length, 0.02 * length), (0.9 * length, 0.6 * length))
        whole = np.minimum(thigh, hip)
        return np.minimum(whole, shank - 0.62 * thick) if self.bent else whole

    def _bone(self, canvas: Canvas, u: Array, v: Array) -> None:
        grid, low = canvas.grid, self.texture.low
        shaft = self.shaft(u, v)
        facing = grid.along_beam(shaft)
        broken = np.clip(0.85 + 0.25 * low(u, v, 4, 26) + 0.15 * low(u, v, 1.6, 27), 0.3, 1.5)
        level = 5 + self.bone_db + 5 * facing**2 + 1.5 * low(u, v, 2, 28)
        canvas.blend(shaft, 0.5, level, 2.0)
        canvas.label[shaft < 0] = FEMUR
        canvas.echo(shaft + 0.4, 4.5 * broken, width_mm=0.75, power=3)
        # young bone lets some sound through
        hard = float(np.clip((self.fetus.ga_weeks - 14) / 20, 0.1, 1))
        canvas.block(shaft < 0, 3 + 8 * hard * facing)
        # short echoes between bone and probe, fading in the shadow
        behind = np.cumsum(np.cumsum(shaft < 0, 0) > 0, 0) * np.float32(grid.step_mm)
        canvas.level_db += 7 * ridge(behind, 2.5 * self.half_mm) * (behind > 0)
