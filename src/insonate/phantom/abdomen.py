"""A fetal abdomen at the level of stomach and umbilical vein, with the four points of its circumference.

The outline is an ellipse whose axes are level and upright in the picture at time 0, so that the diameters of
the box around it (what the challenge labels) give the planted circumference exactly; the anatomy inside
lies at any angle. Places: shared spec phantom, section 4.

Anatomy frame, in units of the half axes: w towards the spine, l towards the fetus' left.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import numpy as np

from insonate.measure.ellipse import ellipse_perimeter
from insonate.phantom.fetus import Fetus, Womb
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, segment_distance

AROUND, ABDOMEN, STOMACH, VEIN, SPINE, AORTA = range(6)


class Abdomen(Painted):
    """One plane through a fetal abdomen.

    Args:
        fetus: whose.
        texture: the patient's texture source.
        rng: of this acquisition: position, rotation, surroundings.
    """

    name = "abdomen"
    mask_values: ClassVar = {part: part for part in (ABDOMEN, STOMACH, VEIN, SPINE, AORTA)}
    gain = (0.95, -0.33)

    def __init__(self, fetus: Fetus, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.fetus = fetus
        wide = float(rng.uniform(0.96, 1.04))
        self.b = fetus.ac_mm / ellipse_perimeter(wide, 1.0)
        self.a = wide * self.b
        self.centre = float(rng.normal(0, 0.06 * self.a)), float(rng.uniform(14, 30)) + self.b
        self.depth_mm = self.centre[1] + self.b + float(rng.uniform(8, 24))
        self.least_span_mm = 2 * (self.a + abs(self.centre[0])) * 1.08 + 6
        side = 0.0 if rng.random() < 0.5 else math.pi
        # the spine is at the side as a rule, so that its shadow falls beside the abdomen
        self.spine_rad = side + math.radians(rng.normal(0, 30))
        self.handed = 1.0 if rng.random() < 0.5 else -1.0
        self.fat_mm = float(rng.uniform(0.02, 0.05)) * self.b + 0.8
        self.womb = Womb(self.texture, rng, self.centre[1] - self.b)

    def pivot_mm(self) -> tuple[float, float]:
        """The middle of the abdomen."""
        return self.centre

    def truth(self, t_s: float) -> Truth:
        """Upper, lower, right and left end of the box around the abdomen."""
        (x, z), a, b = self.centre, self.a, self.b
        places = {
            "vertical_upper": (x, z - b),
            "vertical_lower": (x, z + b),
            "horizontal_right": (x + a, z),
            "horizontal_left": (x - a, z),
        }
        return Truth(
            points_mm={name: self.after(*place, t_s) for name, place in places.items()},
            columns={"ac_mm": self.fetus.ac_mm, "ga_weeks": self.fetus.ga_weeks},
        )

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Womb, wall, liver, bowel, spine, stomach, vessels."""
        x, z = grid.x_mm, grid.z_mm
        u, v = x - np.float32(self.centre[0]), z - np.float32(self.centre[1])
        outline = ellipse_distance(u, v, self.a, self.b)
        canvas = Canvas(grid, -8, 0.5)
        self.womb.paint(canvas, outline, self.centre[1] + self.b)
        self._wall(canvas, outline, x, z)
        c, s = math.cos(self.spine_rad), math.sin(self.spine_rad)
        p, q = u / np.float32(self.a), v / np.float32(self.b)
        w, left = c * p + s * q, self.handed * (c * q - s * p)
        bend = self.texture.low
        w, left = w + 0.02 * bend(x, z, 8, 20), left + 0.02 * bend(x, z, 8, 21)
        self._organs(canvas, outline, w, left)
        self._spine(canvas, w, left, rng)
        return canvas

    def _wall(self, canvas: Canvas, outline: Array, x: Array, z: Array) -> None:
        low, fat = self.texture.low, np.float32(self.fat_mm)
        canvas.fill(outline <= 0, -5 + 2 * low(x, z, 2, 22), 0.55, label=ABDOMEN, echoes=0.2)
        canvas.fill(outline < -0.9, -11 + 1.5 * low(x, z, 3, 23))
        muscle = (outline < -fat) & (outline > -fat - np.float32(0.045 * self.b))
        canvas.fill(muscle, -15 + 1.5 * low(x, z, 3, 24))
        broken = np.clip(0.8 + 0.5 * low(x, z, 6, 25), 0.1, 1.8)
        canvas.echo(outline + 0.7, 3.4 * broken, width_mm=0.9, power=4)
        canvas.echo(outline + fat + 0.045 * self.b, 0.8 * broken, width_mm=0.6, power=3)
        # a beam that grazes the skin is bent away: edge shadows
        grazing = 1 - canvas.grid.along_beam(outline) ** 2
        canvas.block(outline < 0, 1 + 7 * grazing**4)

    def _organs(self, canvas: Canvas, outline: Array, w: Array, left: Array) -> None:
        grid, r, low = canvas.grid, self.b, self.texture.low
        x, z = grid.x_mm, grid.z_mm
        inner = outline < -self.fat_mm - 0.045 * self.b
        liver = -11 + 1.1 * low(x, z, 2.5, 26) + 1.5 * low(x, z, 12, 27)
        canvas.fill(inner, liver, 0.45)
        # left of a slanting border: bowel and spleen, more uneven
        border = (left - 0.22 - 0.35 * w + 0.08 * low(x, z, 12, 28)) * r
        bowel = np.where(inner, -border, 1)
        canvas.blend(bowel, 3, -10.5 + 2.6 * low(x, z, 2.6, 29) + 2 * low(x, z, 6, 30))
        for kidney in (-1.0, 1.0):
            shape = ellipse_distance((w - 0.52) * r, (left - kidney * 0.5) * r, 0.17 * r, 0.21 * r)
            canvas.blend(np.where(inner, shape, 1), 2, -14 + 1.5 * low(x, z, 2.5, 31))
            canvas.echo(shape, 0.25 * (low(x, z, 5, 32) > -0.4), width_mm=0.6)
        stomach = ellipse_distance((w - 0.02) * r, (left - 0.5) * r, 0.21 * r, 0.15 * r)
        canvas.blend(stomach, 0.7, -36.0, 0.05)
        canvas.label[stomach < 0] = STOMACH
        canvas.echo(stomach, 0.55, width_mm=0.5, power=4)
        self._vessels(canvas, w, left)

    def _vessels(self, canvas: Canvas, w: Array, left: Array) -> None:
        r = self.b
        # from the navel inwards, then in a bow to the right: a hockey stick
        bow = [(-0.18 + 0.3 * math.sin(t), -0.3 * (1 - math.cos(t))) for t in np.linspace(0, 1.5, 6)]
        path = ((-0.72, 0.0), *bow)
        tube = np.full_like(w, 1e6)
        for start, stop in pairwise(path):
            own = segment_distance(w * r, left * r, (start[0] * r, start[1] * r), (stop[0] * r, stop[1] * r))
            tube = np.minimum(tube, own)
        # thin in the wall, wide within the liver
        vein = tube - np.clip((0.055 + 0.03 * w) * r, 0.028 * r, 0.055 * r)
        vein = np.where(w < -0.6, np.maximum(vein, 0.5), vein)
        canvas.blend(vein, 0.7, -34.0, 0.05)
        canvas.label[vein < 0] = VEIN
        canvas.echo(vein - 0.4, 0.9, width_mm=0.45, power=2)
        for place, radius, label in (((0.5, 0.13), 0.062, AORTA), ((0.4, -0.13), 0.055, ABDOMEN)):
            vessel = np.hypot((w - place[0]) * r, (left - place[1]) * r) - radius * r
            canvas.blend(vessel, 0.6, -33.0, 0.05)
            if label == AORTA:
                canvas.label[vessel < 0] = label
            canvas.echo(vessel - 0.3, 0.7, width_mm=0.4, power=2)

    def _spine(self, canvas: Canvas, w: Array, left: Array, rng: np.random.Generator) -> None:
        r, low = self.b, self.texture.low
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        bone = np.full_like(w, 1e6)
        for place, size in (((0.69, 0.0), 0.085), ((0.87, 0.12), 0.055), ((0.87, -0.12), 0.055)):
            own = ellipse_distance((w - place[0]) * r, (left - place[1]) * r, 0.8 * size * r, size * r)
            bone = np.minimum(bone, own)
        canvas.blend(bone, 0.8, 5 + 2 * low(x, z, 2, 33), 4.0)
        canvas.label[bone < 0] = SPINE
        canvas.echo(bone, 1.8, width_mm=0.7, power=2)
        canvas.block(bone < 0, 6.0)
        canvas.block(ellipse_distance((w - 0.76) * r, left * r, 0.13 * r, 0.17 * r) < 0, 5.0)
        angle = np.arctan2(left, w)
        ring = np.hypot(w, left) - 0.9
        for middle in rng.uniform(0.5, 2.4, 4) * rng.choice([-1, 1], 4):
            rib = np.maximum(np.abs(ring) * r - 0.7, (np.abs(angle - middle) - 0.13) * r)
            canvas.blend(rib, 0.8, 1.0)
            canvas.echo(np.where(rib < 1.5, ring * r, 9.0), 0.9, width_mm=0.7, power=2)
            canvas.block(rib < 0, 3.5)
