"""The inferior vena cava over the breath, from below the ribs: two points on its walls and its collapse.

The vein is painted as wide as it gets; at other times tissue is taken from where it was then: within the vein
in proportion, outside it pushed less the further away it lies. Source of the pressure rule: Rudski et al.
2010 (JASE 23:685); places: shared spec phantom, section 4. Frame: u along the vein towards the
heart, v across it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from insonate.measure.venous import right_atrial_pressure
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, into, modelled, out_of, segment_distance

LIVER, CAVA, HEPATIC, ATRIUM, LUNG, CHEST = range(6)
WIDEST_MM, COLLAPSE_PERCENT = (8.0, 28.0), (5.0, 95.0)
SITE_MM = 15.0
"""from the mouth to where the width is taken"""
FADE_MM = 16.0
"""over which the push of the wall dies away"""


@dataclass(frozen=True, kw_only=True)
class Breathing:
    """A vein and the breath that narrows it."""

    widest_mm: float
    narrowest_mm: float
    rate_hz: float
    start: float
    """phase of the breath at time 0; 0 is the end of expiration, when the vein is widest"""

    @classmethod
    def draw(
        cls, rng: np.random.Generator, widest_mm: float | None = None, collapse_percent: float | None = None
    ) -> Breathing:
        """A vein; width and collapse are drawn unless they are given.

        Raises:
            InsonateError: a width or collapse that is not modelled.
        """
        width, share = float(rng.uniform(10, 27)), float(rng.uniform(*COLLAPSE_PERCENT))
        width = width if widest_mm is None else widest_mm
        share = share if collapse_percent is None else collapse_percent
        widest = modelled("phantom cava", "a vein", width, WIDEST_MM, "mm")
        collapse = modelled("phantom cava", "a collapse", share, COLLAPSE_PERCENT, "%")
        return cls(
            widest_mm=widest,
            narrowest_mm=widest * (1 - collapse / 100),
            rate_hz=float(rng.uniform(12, 20)) / 60,
            start=float(rng.uniform()),
        )

    def width_mm(self, t_s: float) -> float:
        """At the site where it is measured."""
        cycle = 2 * math.pi * (self.rate_hz * t_s + self.start)
        drawn_in = (0.5 - 0.5 * math.cos(cycle)) ** 1.4
        return self.widest_mm - (self.widest_mm - self.narrowest_mm) * drawn_in

    @property
    def collapse_percent(self) -> float:
        """Over a breath."""
        return 100 * (1 - self.narrowest_mm / self.widest_mm)


class Cava(Painted):
    """The long axis of the vein through the liver into the right atrium.

    Args:
        breathing: what to show.
        texture: the patient's texture source.
        rng: of this acquisition.
    """

    name = "cava"
    mask_values: ClassVar = {CAVA: 1, HEPATIC: 2, ATRIUM: 3}
    gain = (0.93, -0.34)
    fps = 10.0
    knots = (2, 8)
    always_moved = True

    def __init__(self, breathing: Breathing, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.breathing = breathing
        self.facing = 1.0 if rng.random() < 0.8 else -1.0  # the heart is on the right as a rule
        self.tilt_rad = math.radians(rng.uniform(-14, 10))
        self.mouth = self.facing * float(rng.uniform(16, 30)), float(rng.uniform(62, 88))
        self.depth_mm = self.mouth[1] + float(rng.uniform(42, 66))
        self.chest_mm = float(rng.uniform(12, 20))
        self.taper, self.waves = float(rng.uniform(-0.15, 0.25)), rng.uniform(0, 2 * math.pi, 3)
        self.branch_mm = float(rng.uniform(18, 24)), math.radians(rng.uniform(28, 55))
        self.bend = float(rng.normal(4, 1.5))  # away from the heart it turns to the spine
        self.clip_frames = math.ceil(self.fps / breathing.rate_hz) + 1  # a whole breath

    def own(self, x_mm: Array, z_mm: Array) -> tuple[Array, Array]:
        """(u, v) of the vein: u from its mouth, below 0 away from the heart."""
        u, v = into(x_mm, z_mm, self.mouth, self.facing * self.tilt_rad)
        u = self.facing * u
        away = np.clip(u + SITE_MM, -200, 0)
        return u, v - np.float32(self.bend) * (away / 40) ** 2

    def half_mm(self, u: Array, width_mm: float) -> Array:
        """Half of the vein's width along it; `width_mm` at the site."""
        along = np.clip((u + SITE_MM) / 60, -2, 0.4)
        first, second, _ = (float(wave) for wave in self.waves)
        wavy = 0.07 * (np.sin(along * 6 + np.float32(first)) - math.sin(first))
        wavy += 0.06 * (np.sin(along * 15 + np.float32(second)) - math.sin(second))
        return np.float32(0.5 * width_mm) * (1 - np.float32(self.taper) * along + wavy)

    def before(self, x_mm: Array, z_mm: Array, t_s: float) -> tuple[Array, Array]:
        """Where the tissue was when the vein was widest and the hand at its place of time 0."""
        x, z = super().before(x_mm, z_mm, t_s)
        u, v = self.own(x, z)
        now = self.half_mm(u, self.breathing.width_mm(t_s))
        wide = self.half_mm(u, self.breathing.widest_mm)
        # the mouth is held open by the heart
        free = 1 / (1 + np.exp(np.clip((u + 4) / 2.5, -30, 30)))
        now = wide + (now - wide) * free
        outside = np.maximum(np.abs(v) - now, 0)
        pushed = np.sign(v) * (wide - now) * np.exp(-outside / np.float32(FADE_MM))
        moved = np.where(np.abs(v) < now, v * (wide / now - 1), pushed)
        turn = self.facing * self.tilt_rad
        return x - np.float32(math.sin(turn)) * moved, z + np.float32(math.cos(turn)) * moved

    def truth(self, t_s: float) -> Truth:
        """Upper and lower wall, width, and over the breath collapse and pressure by the guideline's rule."""
        breathing, width = self.breathing, self.breathing.width_mm(t_s)
        turn = self.facing * self.tilt_rad
        centre = -self.facing * SITE_MM
        walls = {f"IVC_p{i}": side * width / 2 for i, side in ((1, -1), (2, 1))}
        pressure = right_atrial_pressure(breathing.widest_mm, breathing.collapse_percent).value
        return Truth(
            points_mm={
                name: self.after(*out_of(centre, v, self.mouth, turn), t_s) for name, v in walls.items()
            },
            columns={
                "ivc_mm": width, "ivc_widest_mm": breathing.widest_mm,
                "ivc_narrowest_mm": breathing.narrowest_mm,
                "ivc_collapse_percent": breathing.collapse_percent, "rap_mmhg": pressure,
            },
        )  # fmt: skip

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Chest wall, liver with vessels, vein, atrium, diaphragm and lung."""
        x, z, low = grid.x_mm, grid.z_mm, self.texture.low
        u, v = self.own(x, z)
        canvas = Canvas(grid, -8 + 1.2 * low(x, z, 3.5, 20) + 1.6 * low(x, z, 15, 21), 0.48)
        self._vessels(canvas, x, z, u, v)
        self._behind(canvas, x, z, u, v)
        wall = np.abs(v) - self.half_mm(u, self.breathing.widest_mm) + 0.25 * low(x, z, 5, 43)
        vein = np.maximum(wall, u - 1)
        branch = self._branch(u, v)
        lumen = np.minimum(vein, branch)
        canvas.blend(lumen, 0.9, -29 + 1.5 * low(x, z, 5, 22), 0.12)
        canvas.label[branch < 0], canvas.label[vein < 0] = HEPATIC, CAVA
        broken = np.clip(0.75 + 0.55 * low(x, z, 8, 23), 0, 1.8)
        canvas.echo(np.where(u < 2, lumen - 0.4, 9.0), 0.85 * broken, width_mm=0.7, power=5)
        self._heart(canvas, x, z, u, v)
        self._chest(canvas, x, z)
        return canvas

    def _branch(self, u: Array, v: Array) -> Array:
        """Two hepatic veins that join from the side of the probe, bent, narrower the further away."""
        start, angle = self.branch_mm
        uneven = 0.5 * self.texture.low(u, v, 8, 42)
        veins = []
        for first, turn, share, bow in ((start, angle, 1.0, 7.0), (start + 15, 0.72 * angle, 0.7, -5.0)):
            away = np.maximum(-u - np.float32(first), 0)
            bent = v + np.float32(bow) * away * (60 - away) * np.float32(1 / 3600)
            tube = segment_distance(
                u, bent, (-first, 0.0), (-first - 62 * math.cos(turn), -62 * math.sin(turn))
            )
            wide = share * 0.24 * self.breathing.widest_mm * (1 - away / 75)
            funnel = 1.5 * np.exp(-((away / 7) ** 2))
            veins.append(tube - np.clip(wide, 1.0, 4.2) - funnel + uneven)
        return np.minimum(*veins)

    def _vessels(self, canvas: Canvas, x: Array, z: Array, u: Array, v: Array) -> None:
        """Portal branches with bright walls, cut anyhow."""
        low = self.texture.low
        field = low(x, z, 13, 24)
        tubes = (0.12 - np.abs(field - 0.75)) * 13
        tubes = np.where((v < -8) & (u < 0), tubes, -9)
        canvas.blend(-tubes, 1.0, -24, 0.2)
        canvas.spec += 0.5 * np.exp(-((tubes / 0.8) ** 2)) * (low(x, z, 20, 25) > 0)

    def _behind(self, canvas: Canvas, x: Array, z: Array, u: Array, v: Array) -> None:
        """Behind the vein: caudate lobe, crus and spine."""
        low, widest = self.texture.low, self.breathing.widest_mm
        deep = v - np.float32(0.5 * widest + 13) - 2.5 * low(x, z, 16, 26)
        canvas.fill(deep > 0, -11 + 2.5 * low(0.5 * u, v, 4, 27) + 3 * low(x, z, 12, 28), 0.6)
        canvas.echo(deep, 0.7 * np.clip(0.2 + 0.9 * low(x, z, 9, 29), 0, 1.8), width_mm=0.9, power=3)
        spine = v - np.float32(0.5 * widest + 25) - 5 * np.abs(np.sin(u / 11 + np.float32(self.waves[1])))
        canvas.fill(spine > 0, 0 + 3 * low(x, z, 6, 30), 4.0)
        canvas.echo(spine, 1.4 * np.clip(0.5 + 0.9 * low(x, z, 9, 38), 0, 2), width_mm=1.2, power=3)

    def _heart(self, canvas: Canvas, x: Array, z: Array, u: Array, v: Array) -> None:
        """Right atrium at the mouth, its wall, and the diaphragm with lung beyond."""
        low = self.texture.low
        # a second lobe and an uneven wall, so that it is no circle
        atrium = np.minimum(ellipse_distance(u - 20, v + 5, 20, 17), ellipse_distance(u - 31, v + 15, 17, 14))
        atrium += 1.1 * low(x, z, 10, 41)
        outer = atrium - 2.5
        open_ = np.abs(v) < self.half_mm(u, self.breathing.widest_mm)
        dome = u - 4 - 0.012 * (v + 10) ** 2 + 2 * low(x, z, 15, 31)
        beyond = np.where((dome > 0) & (outer > 0), 1, 0).astype(bool)
        canvas.fill(beyond, -13 + 3 * low(x, z, 8, 32) + 2 * low(x, z, 3, 33), 0.9, label=LUNG, echoes=0.2)
        canvas.echo(
            np.where(outer > 0, dome, 9.0), 2.0 * np.clip(0.8 + 0.5 * low(x, z, 9, 39), 0, 1.8), width_mm=1.0
        )
        shell = (atrium >= 0) & (outer < 0) & ~open_
        canvas.fill(shell, -5 + 2 * low(x, z, 3, 34), 0.5, label=LIVER)
        canvas.blend(atrium, 1.0, -28 + 1.5 * low(x, z, 6, 35), 0.12)
        canvas.label[atrium < 0] = ATRIUM
        canvas.echo(
            np.where(open_, 9.0, atrium),
            0.8 * np.clip(0.7 + 0.6 * low(x, z, 8, 40), 0, 1.8),
            width_mm=0.8,
            power=4,
        )

    def _chest(self, canvas: Canvas, x: Array, z: Array) -> None:
        low = self.texture.low
        wall = z - np.float32(self.chest_mm) - 1.5 * np.sin(x / 22 + np.float32(self.waves[2]))
        layers = -5 + 3 * np.sin(2 * math.pi * z / 3.1) + 2.5 * low(0.3 * x, z, 1.8, 36)
        canvas.fill(wall < 0, layers, 0.6, label=CHEST, echoes=0.2)
        canvas.echo(wall, 1.4 * np.clip(0.8 + 0.5 * low(x, z, 9, 37), 0, 1.6), width_mm=0.7, power=3)
