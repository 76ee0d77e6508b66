"""Breast, thyroid and liver, each with one lesion.

Tissue levels: shared spec phantom, sections 1.3 and 4.1; lesions: `lesion.py`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np

from insonate.phantom.lesion import Lesion
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, into, ridge, segment_distance, soft

TISSUE, LESION = range(2)


class Organ(Painted):
    """An organ around one lesion.

    Args:
        lesion: what to look for.
        texture: the patient's texture source.
        rng: of this acquisition: position and layers.
        width_mm: of the field where the lesion lies, so that it lies inside the picture.
        f_mhz: of the probe: turns posterior dB into attenuation.
    """

    mask_values: ClassVar = {LESION: 255}
    gain = (0.93, -0.36)
    tissue_att = 0.55
    uneven_db = 0.0
    """a lesion is so much darker than drawn, as tissue that is uneven would hide it"""
    centre: tuple[float, float]

    def __init__(
        self, lesion: Lesion, texture: Lattice, rng: np.random.Generator, *, width_mm: float, f_mhz: float
    ) -> None:
        super().__init__(texture, rng)
        self.lesion = lesion
        self.tilt_rad = math.radians(rng.normal(0, 8))
        self.phases, self.organ_db = rng.uniform(0, 2 * math.pi, 4), float(rng.normal(0, 1.5))
        self.lay_out(rng, width_mm)
        # posterior_db over the height of the lesion, two ways, against the tissue around
        extra = -lesion.posterior_db / (2 * f_mhz * 2 * lesion.half_axes_mm[1] / 10)
        self.lesion_att = max(0.02, self.tissue_att + extra)

    @abstractmethod
    def lay_out(self, rng: np.random.Generator, width_mm: float) -> None:
        """Place layers and lesion: sets `centre` and `depth_mm`."""

    @abstractmethod
    def tissue(self, canvas: Canvas) -> None:
        """Paint the organ without its lesion."""

    def across_mm(self, rng: np.random.Generator, room_mm: float) -> float:
        """A place for the lesion, at most `room_mm` from the middle to its edge."""
        free = max(0.0, room_mm - 1.3 * self.lesion.half_axes_mm[0] - 2)
        return float(rng.uniform(-free, free))

    def pivot_mm(self) -> tuple[float, float]:
        """The lesion."""
        return self.centre

    def truth(self, t_s: float) -> Truth:
        """Class and size, in words and mm; the mask comes with the maps."""
        long_mm = 2 * max(self.lesion.half_axes_mm)
        short_mm = 2 * min(self.lesion.half_axes_mm)
        return Truth(
            columns={
                "lesion_class": self.lesion.lesion_class, "lesion_long_mm": long_mm,
                "lesion_short_mm": short_mm,
            },
        )  # fmt: skip

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """The organ, then the lesion in it."""
        canvas = Canvas(grid, 0.0, self.tissue_att)
        self.tissue(canvas)
        self._lesion(canvas)
        return canvas

    def _lesion(self, canvas: Canvas) -> None:
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        u, v = into(x, z, self.centre, self.tilt_rad)
        distance, lesion, low = self.lesion.distance(u, v), self.lesion, self.texture.low
        within = self.organ_db + lesion.echo_db - self.uneven_db + lesion.texture_db * low(x, z, 2.2, 21)
        canvas.blend(distance, lesion.margin_mm, within, self.lesion_att)
        if lesion.rim_mm:
            rim = ridge(distance - lesion.rim_mm / 2, lesion.rim_mm / 2) * soft(-distance, lesion.margin_mm)
            canvas.level_db += rim * (5 + 2 * low(x, z, 2, 22))
        if lesion.margin_mm < 0.4:  # a smooth capsule mirrors where the beam meets it head-on
            canvas.echo(distance, 1.6 if lesion.cyst else 0.7, width_mm=0.25, power=4)
        half_u, half_v = lesion.half_axes_mm
        for place_u, place_v, radius_mm in lesion.specks:
            away = np.hypot(u - np.float32(place_u * half_u), v - np.float32(place_v * half_v)) - radius_mm
            canvas.blend(away, 0.3, 6.0, 8.0 if radius_mm > 0.5 else None)
        canvas.label[distance < 0] = LESION


class Breast(Organ):
    """Skin, fat lobules, gland and pectoral muscle."""

    name = "breast"
    uneven_db = 3.0

    def lay_out(self, rng: np.random.Generator, width_mm: float) -> None:
        """The lesion lies in the gland."""
        half_v = self.lesion.half_axes_mm[1]
        self.fat_mm = float(rng.uniform(4, 10))
        top_mm = self.fat_mm + float(rng.uniform(0, 6))
        self.centre = self.across_mm(rng, width_mm / 2), top_mm + 1.1 * half_v
        self.muscle_mm = max(self.centre[1] + 1.1 * half_v + rng.uniform(2, 8), rng.uniform(24, 32))
        self.depth_mm = float(np.clip(self.muscle_mm + rng.uniform(4, 14), 0.85 * width_mm, 55))

    def tissue(self, canvas: Canvas) -> None:
        """Layer by layer from the skin."""
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        low, wave = self.texture.low, self.phases
        fat_end = z - np.float32(self.fat_mm) - 1.5 * np.sin(x / 9 + np.float32(wave[0])) - low(x, 0 * z, 5)
        muscle = z - np.float32(self.muscle_mm) - 1.2 * np.sin(x / 15 + np.float32(wave[1])) - 0.04 * x
        strands = low(0.35 * x, z + 0.8 * np.sin(x / 7 + np.float32(wave[2])), 0.9, 6)
        gland = 1 + self.organ_db + 3.2 * strands + 2.4 * low(x, z, 4, 7)
        canvas.fill(z > 0, gland - 5 * np.clip(low(x, 1.3 * z, 6, 8) - 0.9, 0, 1))
        lobule = low(x, 1.6 * z, 5, 3)  # fat lobules: flat cells between bright septa
        canvas.fill(fat_end < 0, -15 + 1.2 * low(x, z, 2) + 13 * ridge(lobule, 0.12), 0.45)
        fibres = np.sin(z * np.float32(2 * math.pi / 1.6) + 0.5 * x + 1.5 * low(x, z, 6, 9))
        canvas.fill(muscle > 0, -13 + 4.5 * fibres + low(x, z, 3, 10))
        canvas.fill(z < 1.8, 1 + low(x, z, 2, 11))
        along = np.maximum(0.4 + 0.6 * low(x, z, 4, 12), 0)
        canvas.echo(z - 1.9, 0.8, width_mm=0.3, power=0)
        canvas.echo(fat_end, 0.5 * along, width_mm=0.35, power=0)
        canvas.echo(muscle, 1.1 * along, width_mm=0.3)


class Thyroid(Organ):
    """One lobe between trachea and carotid artery, under the strap muscles."""

    name = "thyroid"

    def lay_out(self, rng: np.random.Generator, width_mm: float) -> None:
        """The lesion lies in the lobe, which is as large as it needs."""
        half_u, half_v = self.lesion.half_axes_mm
        self.side = 1.0 if rng.random() < 0.5 else -1.0
        self.strap_mm = float(rng.uniform(7, 11))
        self.lobe = (
            max(float(rng.uniform(10, 13)), 1.25 * half_u + 2),
            max(float(rng.uniform(7.5, 10)), 1.2 * half_v + 1.5),
        )
        self.middle = self.side * float(rng.uniform(-2, 2)), self.strap_mm + self.lobe[1]
        room = self.lobe[0] - 1.25 * half_u - 1, self.lobe[1] - 1.2 * half_v - 0.5
        shift = rng.uniform(-0.7, 0.7, 2)
        self.centre = (
            self.middle[0] + float(shift[0]) * max(room[0], 0),
            self.middle[1] + float(shift[1]) * max(room[1], 0),
        )
        self.depth_mm = float(
            np.clip(self.middle[1] + self.lobe[1] + rng.uniform(8, 16), 0.85 * width_mm, 55)
        )
        self.artery_mm = float(rng.uniform(2.8, 3.6))

    def tissue(self, canvas: Canvas) -> None:
        """Skin, straps, lobe with capsule, trachea with its echoes, carotid, prevertebral muscle."""
        x, z, low = canvas.grid.x_mm, canvas.grid.z_mm, self.texture.low
        away = self.side * (x - np.float32(self.middle[0]))  # towards the artery > 0
        fibres = np.sin(2 * math.pi * z / 2.1 + 0.15 * x + 2.0 * low(x, z, 7, 9))
        canvas.fill(z > 0, -10 + 2 * fibres + 1.5 * low(0.3 * x, z, 1.5, 6) + 1.5 * low(x, z, 6, 7), 0.6)
        skin_end = np.float32(0.3 * self.strap_mm)
        canvas.fill(z < skin_end + 0.4 * np.sin(x / 6), -4 + 2 * low(0.4 * x, z, 1.6, 3))
        canvas.fill(z < 1.6, 1 + low(x, z, 2, 11))
        strap = z - np.float32(self.strap_mm) - 0.6 * np.sin(x / 10 + np.float32(self.phases[0]))
        canvas.echo(z - skin_end, 0.8 * np.clip(0.6 + 0.6 * low(x, z, 6, 18), 0, 1.8), width_mm=0.35, power=0)
        bed = ellipse_distance(x - np.float32(self.middle[0]), z - np.float32(self.middle[1]), *self.lobe)
        isthmus = np.maximum(np.abs(strap - 1.8) - 1.8, away)
        gland = np.minimum(bed, isthmus)
        deep = z - np.float32(self.middle[1] + self.lobe[1] + 1.5)
        canvas.fill(deep > 0, -9 + 2.5 * fibres + 2 * low(x, z, 5, 8))
        canvas.echo(deep, 0.8 * np.clip(low(x, z, 6, 10) + 0.5, 0, 1.5), width_mm=0.4)
        level = self.organ_db + 1.4 * low(x, z, 1.6, 12) + 1.2 * low(x, z, 6, 13)
        canvas.blend(gland, 0.5, level, 0.55)
        canvas.echo(gland, 0.8 * np.clip(0.6 + 0.6 * low(x, z, 5, 17), 0, 1.8), width_mm=0.35, power=3)
        self._trachea(canvas, away, z)
        self._artery(canvas, away, z)

    def _trachea(self, canvas: Canvas, away: Array, z: Array) -> None:
        low = self.texture.low
        middle = -self.lobe[0] - 9.0, self.strap_mm + 13.0
        ring = np.hypot(away - np.float32(middle[0]), z - np.float32(middle[1])) - 10.0
        canvas.fill(ring < 0, -9 + 1.5 * low(away, z, 2, 14), 0.8, echoes=0.1)
        canvas.echo(ring, 1.2, width_mm=0.4)
        air = np.where(z < middle[1], ring + 2.0, 9.0)
        inside = (ring < -2.0) | ((np.abs(away - middle[0]) < 8) & (z > middle[1]))
        canvas.fill(
            inside, -16 - 0.5 * (z - np.float32(self.strap_mm)) + 2 * low(away, z, 3, 15), 0.5, echoes=0.0
        )
        for number in range(4):
            canvas.echo(air + 2.6 * number, 2.6 * 0.42**number, width_mm=0.5, power=2)

    def _artery(self, canvas: Canvas, away: Array, z: Array) -> None:
        low, radius = self.texture.low, np.float32(self.artery_mm)
        middle = self.lobe[0] + self.artery_mm + 1.6, self.middle[1] + 1.5
        artery = np.hypot(away - np.float32(middle[0]), z - np.float32(middle[1])) - radius
        canvas.blend(artery, 0.4, -31 + low(away, z, 2, 16), 0.1)
        canvas.echo(artery - 0.3, 1.1, width_mm=0.35, power=3)
        vein = ellipse_distance(away - np.float32(middle[0] + 5.5), z - np.float32(middle[1] - 3.5), 5.0, 2.4)
        canvas.blend(np.maximum(vein, 0.6 - artery), 0.4, -30.0, 0.1)
        canvas.echo(vein, 0.45, width_mm=0.35, power=3)


class Liver(Organ):
    """Right lobe under the abdominal wall, with vessels, and the diaphragm behind it."""

    name = "liver"
    tissue_att = 0.5

    def lay_out(self, rng: np.random.Generator, width_mm: float) -> None:
        """The lesion lies between wall and diaphragm."""
        half_v = self.lesion.half_axes_mm[1]
        self.wall_mm = float(rng.uniform(12, 22))
        top_mm = self.wall_mm + float(rng.uniform(6, 26))
        self.centre = self.across_mm(rng, width_mm / 2), top_mm + 1.2 * half_v
        self.back_mm = max(self.centre[1] + 1.3 * half_v + rng.uniform(14, 34), rng.uniform(88, 112))
        self.depth_mm = float(self.back_mm + rng.uniform(12, 26))
        # hepatic veins run together at the back, without walls to see; portal branches have bright ones
        root = float(rng.normal(0, 14)), self.back_mm - 6
        self.vessels = [
            self._vessel(rng, root, float(rng.uniform(2.2, 4)), bright=False)
            for _ in range(int(rng.integers(1, 4)))
        ]
        for _ in range(int(rng.integers(2, 5))):
            start = float(rng.uniform(-40, 40)), float(rng.uniform(self.wall_mm + 18, self.back_mm - 16))
            self.vessels.append(self._vessel(rng, start, float(rng.uniform(1.2, 2.6)), bright=True))

    def _vessel(
        self, rng: np.random.Generator, start: tuple[float, float], radius_mm: float, *, bright: bool
    ) -> tuple[tuple[float, float], tuple[float, float], float, bool]:
        """Start, stop, radius at the start, whether its walls are bright."""
        angle = rng.uniform(-2.6, -0.5) if not bright else rng.uniform(-math.pi, math.pi)
        length = rng.uniform(35, 70) if not bright else rng.uniform(10, 30)
        return (
            start,
            (start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)),
            radius_mm,
            bright,
        )

    def tissue(self, canvas: Canvas) -> None:
        """Wall, parenchyma, hepatic veins, portal branches, diaphragm with its mirror."""
        x, z, low = canvas.grid.x_mm, canvas.grid.z_mm, self.texture.low
        canvas.fill(z > 0, self.organ_db + 1.1 * low(x, z, 3, 3) + 1.3 * low(x, z, 16, 6))
        bent_x, bent_z = x + 2.5 * low(x, z, 17, 7), z + 2.5 * low(x, z, 17, 8)
        for start, stop, radius_mm, bright in self.vessels:
            along = segment_distance(bent_x, bent_z, start, stop)
            far = np.hypot(bent_x - np.float32(start[0]), bent_z - np.float32(start[1]))
            taper = 1 - 0.6 * far / np.float32(math.dist(start, stop))
            tube = along - np.float32(radius_mm) * np.clip(taper, 0.3, 1)
            canvas.blend(tube, 0.9, -23.0, 0.15)
            if bright:
                canvas.echo(
                    tube - 0.7, 0.9 * np.clip(0.7 + 0.6 * low(x, z, 7, 9), 0, 1.8), width_mm=0.9, power=0.6
                )
        dome = z - np.float32(self.back_mm) + 0.0035 * (x - np.float32(8 * math.sin(self.phases[0]))) ** 2
        dome = dome + 1.5 * low(x, 0 * z, 20, 12)
        canvas.fill(dome > 0, self.organ_db - 3 - 0.25 * dome + 3 * low(x, z, 9, 13), 0.7, echoes=0.2)
        canvas.echo(dome, 3.0 * np.clip(0.8 + 0.5 * low(x, z, 12, 19), 0.15, 1.8), width_mm=1.2, power=3)
        wall = z - np.float32(self.wall_mm) - 1.2 * np.sin(x / 24 + np.float32(self.phases[1]))
        fibres = 3 * np.sin(2 * math.pi * z / 3.4 + low(x, z, 12, 14)) + 2.2 * low(0.25 * x, z, 1.8, 15)
        canvas.fill(wall < 0, -5 + fibres, 0.6, echoes=0.1)
        canvas.echo(wall, 1.3 * np.clip(0.7 + 0.6 * low(x, z, 9, 16), 0, 1.6), width_mm=0.7, power=3)
