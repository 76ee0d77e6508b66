"""The cervix by a probe in the vagina, with the two ends of its canal.

Places and sizes: shared spec phantom, section 4. The canal runs from the outer end (near the probe) to the
inner end (deeper, by the membranes). Frame: u along the canal from the outer end, v across it, towards the
bladder below 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, into, modelled, out_of, ridge

AROUND, ANTERIOR, POSTERIOR, CANAL, BLADDER, HEAD, FLUID = range(7)
LENGTH_MM = (10.0, 50.0)


@dataclass(frozen=True, kw_only=True)
class Neck:
    """A cervix: what belongs to the patient."""

    length_mm: float
    """straight, from end to end of the closed canal"""
    thick_mm: tuple[float, float]
    """of the anterior and posterior lip"""
    funnel_mm: float
    """how far the membranes have sunk into the canal, 0 if they have not"""
    bend: float
    """of the canal, as a part of its length"""

    @classmethod
    def draw(cls, rng: np.random.Generator, length_mm: float | None = None) -> Neck:
        """A cervix whose length is drawn unless it is given.

        Raises:
            InsonateError: a length that is not modelled.
        """
        drawn = float(np.clip(rng.lognormal(math.log(35), 0.24), *LENGTH_MM))
        asked = drawn if length_mm is None else length_mm
        length = modelled("phantom cervix", "a length", asked, LENGTH_MM, "mm")
        funnel = rng.random() < (0.5 if length < 25 else 0.1)
        return cls(
            length_mm=length,
            thick_mm=(float(rng.uniform(9, 14)), float(rng.uniform(10, 15))),
            funnel_mm=float(rng.uniform(4, 14)) if funnel else 0.0,
            bend=float(rng.normal(0, 0.07)),
        )


class Cervix(Painted):
    """The midsagittal plane of a cervix.

    Args:
        neck: what to show.
        texture: the patient's texture source.
        rng: of this acquisition.
    """

    name = "cervix"
    mask_values: ClassVar = {ANTERIOR: 1, POSTERIOR: 2}
    gain = (0.94, -0.34)

    def __init__(self, neck: Neck, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.neck = neck
        self.facing = -1.0 if rng.random() < 0.85 else 1.0  # the inner end is on the left as a rule
        slope = math.radians(rng.uniform(12, 48))
        self.outer = self.facing * float(rng.uniform(-16, -4)), float(rng.uniform(13, 20))
        self.turn_rad = slope if self.facing > 0 else math.pi - slope
        inner = out_of(neck.length_mm, 0.0, self.outer, self.turn_rad)
        self.depth_mm = float(np.clip(inner[1] + rng.uniform(24, 40), 58, 100))
        self.least_span_mm = 2 * (abs(inner[0]) + 12)
        self.bladder_mm = float(rng.uniform(2, 10))
        self.head_mm = float(rng.uniform(6, 16))
        self.waves = rng.uniform(0, 2 * math.pi, 3)

    def pivot_mm(self) -> tuple[float, float]:
        """The outer end."""
        return self.outer

    def truth(self, t_s: float) -> Truth:
        """Left and right end of the closed canal; which of them is the inner one; length in mm."""
        inner = out_of(self.neck.length_mm, 0.0, self.outer, self.turn_rad)
        ends = sorted((inner, self.outer))
        points = zip(("canal_left", "canal_right"), ends, strict=True)
        return Truth(
            points_mm={name: self.after(*end, t_s) for name, end in points},
            columns={
                "cl_mm": self.neck.length_mm, "funnel_mm": self.neck.funnel_mm,
                "internal_os_index": float(ends.index(inner)),
            },
        )  # fmt: skip

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Vagina, bladder, womb with membranes and head, two lips and the canal between them."""
        x, z, low = grid.x_mm, grid.z_mm, self.texture.low
        u, v = into(x, z, self.outer, self.turn_rad)
        v = self.facing * v
        length = self.neck.length_mm
        # one bend from end to end, none at the ends
        part = np.clip(u / np.float32(length), 0, 1)
        v = v - np.float32(self.neck.bend * length) * 4 * part * (1 - part)
        tissue = -7 + 2 * low(x, z, 3, 20) + 4 * low(x, z, 11, 21)
        canvas = Canvas(grid, tissue, 0.5)
        wall = -6.5 + 2.2 * low(0.4 * u, v, 1.5, 22) + 1.5 * low(x, z, 6, 23)
        canvas.fill(u > 0.55 * length, wall)
        self._womb(canvas, u, v)
        self._lips(canvas, u, v)
        self._bladder(canvas, u, v)
        self._bowel(canvas, u, v)
        near = z - 7 - 1.2 * np.sin(x / 9 + np.float32(self.waves[0]))
        canvas.fill(near < 0, -5 + 2.5 * np.sin(2 * math.pi * z / 2.2) + 1.5 * low(x, z, 3, 24))
        canvas.echo(near, 0.9, width_mm=0.5, power=3)
        return canvas

    def _womb(self, canvas: Canvas, u: Array, v: Array) -> None:
        """Fluid beyond the inner end, with funnel, and the head lying on it."""
        grid, low, neck = canvas.grid, self.texture.low, self.neck
        x, z = grid.x_mm, grid.z_mm
        beyond = u - np.float32(neck.length_mm)
        # membranes: a shallow bowl on the inner end, or a funnel that opens away from it
        bowl = 2.0 + v**2 / 70 + 0.6 * low(x, z, 9, 25)
        sac = bowl - beyond
        if neck.funnel_mm:
            depth = np.float32(neck.funnel_mm)
            sac = np.minimum(sac, np.abs(v) - 0.55 * np.clip(beyond, 0, None) * (beyond < depth * 2) - 0.2)
            sac = np.where(beyond < 0, np.maximum(sac, 1), sac)
        sac = np.maximum(sac, np.abs(v + 6) - 42)
        canvas.fill(sac < 0, -31 + 1.5 * low(x, z, 6, 26), 0.08, label=FLUID, echoes=0.2)
        canvas.echo(sac, 0.9 * np.clip(0.8 + 0.5 * low(x, z, 5, 27), 0.1, 1.6), width_mm=0.5, power=2)
        place = neck.length_mm + self.head_mm + 44, 5.0
        skull = ellipse_distance(u - np.float32(place[0]), v - np.float32(place[1]), 44, 38)
        facing = grid.along_beam(skull)
        canvas.fill(skull < 0, 4 + 7 * facing**2 + 2 * low(x, z, 4, 28), 1.5, label=HEAD)
        canvas.fill(skull < -3.0, -24 + 2 * low(x, z, 5, 29), 0.3)
        canvas.echo(skull + 1.5, 3.5 * np.clip(0.9 + 0.4 * low(x, z, 7, 30), 0.1, 1.6), width_mm=0.9, power=3)
        canvas.block((skull < 0) & (skull > -3.0), 9.0)

    def _lips(self, canvas: Canvas, u: Array, v: Array) -> None:
        grid, low, neck = canvas.grid, self.texture.low, self.neck
        x, z = grid.x_mm, grid.z_mm
        length = np.float32(neck.length_mm)
        # lips are rounded at the outer end and run into the wall of the womb at the inner one
        round_ = np.clip(1 - np.clip((2.5 - u) / np.float32(9), 0, 1) ** 2, 0, 1) ** 0.5
        for side, thick, label in ((-1, neck.thick_mm[0], ANTERIOR), (1, neck.thick_mm[1], POSTERIOR)):
            width = np.float32(thick) * round_ * (1 + 0.06 * np.sin(u / 7 + np.float32(self.waves[1])))
            lip = np.maximum(np.abs(v - side * width / 2) - width / 2, u - length)
            lip = np.where(u < -5.5, np.maximum(lip, 1), lip)
            stroma = -10.5 + 1.8 * low(0.5 * u, v, 1.8, 31) + 2 * low(x, z, 6, 32) - 1.0 * (side > 0)
            canvas.blend(lip, 0.8, stroma, 0.6)
            canvas.label[lip < 0] = label
            edge = np.where((u > -6) & (u < length + 4), np.abs(v) - width, 9.0)
            broken = np.clip(0.5 + 0.7 * low(x, z, 6, 33 + side), 0, 1.6)
            canvas.echo(np.where(np.sign(v) == side, edge, 9.0), 1.3 * broken, width_mm=0.7, power=1.5)
        shown = np.clip(np.minimum(u + 1, length + 0.5 - u) / 1.5, 0, 1)
        glands = ridge(v, 3.8) * np.clip(np.minimum(u, length - u) / 5 + 0.5, 0, 1)
        canvas.level_db += -6.5 * glands + 1.2 * low(x, z, 2, 36) * glands
        canvas.label[(np.abs(v) < 0.5) & (shown > 0.5)] = CANAL
        slit = ridge(v, 0.45) * shown
        canvas.level_db += (-20 - canvas.level_db) * slit
        sides = (ridge(v - 0.9, 0.45) + ridge(v + 0.9, 0.45)) * shown
        canvas.spec += 0.75 * sides * np.clip(0.95 + 0.45 * low(x, z, 3.5, 37), 0.4, 1.8)

    def _bowel(self, canvas: Canvas, u: Array, v: Array) -> None:
        """Behind the posterior lip: the rectum, with gas that shadows."""
        low, thick = self.texture.low, self.neck.thick_mm[1]
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        wall = v - np.float32(thick + 6) - 2.5 * low(x, z, 12, 40) + 0.12 * u
        canvas.fill((wall > -3.2) & (wall < 0) & (u < self.neck.length_mm), -13 + 2 * low(x, z, 3, 41))
        gas = np.where(low(x, 0 * z, 13, 42) > 0.1, wall, 9.0)
        gas = np.where(u < 0.8 * self.neck.length_mm, gas, 9.0)
        canvas.echo(gas, 1.6, width_mm=0.8, power=1)
        canvas.block((gas > 0) & (gas < 1), 9.0)
        canvas.echo(wall + 3.2, 0.7 * np.clip(low(x, z, 8, 43) + 0.4, 0, 1.5), width_mm=0.5, power=1.5)

    def _bladder(self, canvas: Canvas, u: Array, v: Array) -> None:
        """Before the anterior lip, nearly empty."""
        low, thick = self.texture.low, self.neck.thick_mm[0]
        x, z, length = canvas.grid.x_mm, canvas.grid.z_mm, self.neck.length_mm
        half = 0.5 * self.bladder_mm
        at = 0.72 * length + 6
        bladder = ellipse_distance(u - np.float32(at), v + np.float32(thick + 3.5 + half), 17, half)
        bladder = bladder + 0.8 * low(x, z, 7, 38)
        canvas.blend(bladder, 0.6, -34, 0.05)
        canvas.label[bladder < 0] = BLADDER
        canvas.echo(bladder, 1.0, width_mm=0.5, power=2)
