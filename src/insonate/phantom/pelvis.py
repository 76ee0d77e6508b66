"""Pubic symphysis and fetal head from below during labour, with the angle of progression.

The head is placed so that angle and head-symphysis distance are the drawn ones. Formulas:
`measure.intrapartum` (shared spec sonichu, section G.4); places: shared spec phantom, section 4. x and z as
in the picture, mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from insonate.errors import InsonateError
from insonate.measure.intrapartum import Ellipse, angle_of_progression, caudal_tangent
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.physics import Array, Grid, Lattice
from insonate.phantom.scene import Truth, ellipse_distance, into, modelled

AROUND, SYMPHYSIS, HEAD, SKULL, BLADDER = range(5)
AOP_DEG, HSD_MM = (70.0, 165.0), (5.0, 45.0)
STEPS = 20
"""of each search, at most: below 1e-3 mm and 1e-3 degrees"""


@dataclass(frozen=True, kw_only=True)
class Labour:
    """One moment of a birth: symphysis and head in the plane of the picture."""

    vertex_mm: tuple[float, float]
    """lower end of the symphysis"""
    upper_mm: tuple[float, float]
    head: Ellipse
    symphysis_mm: tuple[float, float]
    """half axes"""

    @classmethod
    def draw(
        cls, rng: np.random.Generator, aop_deg: float | None = None, hsd_mm: float | None = None
    ) -> Labour:
        """A moment with this angle and distance; each is drawn unless it is given.

        Raises:
            InsonateError: an angle or distance that is not modelled, or that no head of this size can have.
        """
        drawn = float(rng.uniform(*AOP_DEG))
        aop = modelled("phantom pelvis", "an angle", drawn if aop_deg is None else aop_deg, AOP_DEG, "°")
        # a low head is a near one
        near = float(np.clip(42 - 0.33 * (aop - 70) + rng.normal(0, 3), *HSD_MM))
        hsd = modelled("phantom pelvis", "a distance", near if hsd_mm is None else hsd_mm, HSD_MM, "mm")
        long_mm, short_mm = float(rng.uniform(15, 19)), float(rng.uniform(6, 8))
        # a low head is looked at with the symphysis pointing down to it
        level = math.radians(rng.uniform(-12, 24) - 0.3 * max(aop - 115, 0))
        upper = -2 * long_mm * math.cos(level), 2 * long_mm * math.sin(level)
        semi = float(rng.uniform(46, 56)), float(rng.uniform(37, 44))
        head = _placed((0.0, 0.0), upper, semi, math.radians(rng.uniform(0, 180)), aop, hsd)
        across = float(rng.normal(0, 3)) - (upper[0] + float(_tangent(head, upper)[0])) / 2
        across = min(max(across, 1 - upper[0] - 36), 30 + long_mm * math.cos(level))
        down = float(rng.uniform(18, 24)) + max(0.0, -upper[1])
        moved = np.array([across, down])
        return cls(
            vertex_mm=_pair(moved),
            upper_mm=_pair(moved + upper),
            head=replace(head, centre_xy=_pair(moved + head.centre_xy)),
            symphysis_mm=(long_mm, short_mm),
        )

    @property
    def tangent_mm(self) -> tuple[float, float]:
        """Where the caudal tangent from the vertex touches the head."""
        return _pair(caudal_tangent(self.head, np.array(self.vertex_mm), np.array(self.upper_mm)))

    @property
    def nearest_mm(self) -> tuple[float, float]:
        """The point of the head nearest to the vertex."""
        return _nearest(self.head, self.vertex_mm)

    @property
    def aop_deg(self) -> float:
        """Angle of progression."""
        places = (np.array(p) for p in (self.vertex_mm, self.upper_mm, self.tangent_mm))
        return angle_of_progression(*places).value


def _tangent(head: Ellipse, upper: tuple[float, float]) -> np.ndarray:
    """The caudal tangent point where the vertex lies at 0, 0."""
    return caudal_tangent(head, np.zeros(2), np.array(upper))


def _pair(place: np.ndarray) -> tuple[float, float]:
    return float(place[0]), float(place[1])


def _nearest(head: Ellipse, vertex: tuple[float, float]) -> tuple[float, float]:
    """On the outline: a coarse look, then thrice a finer one around the best."""
    angles, width = np.linspace(0, 2 * math.pi, 180, endpoint=False), 2 * math.pi / 180

    def outline(angles: np.ndarray) -> np.ndarray:
        return head.outward(np.stack([head.semi_a * np.cos(angles), head.semi_b * np.sin(angles)], -1))

    for _ in range(3):
        best = angles[int(np.linalg.norm(outline(angles) - vertex, axis=-1).argmin())]
        width /= 20
        angles = best + np.linspace(-30, 30, 61) * width
    places = outline(angles)
    return _pair(places[int(np.linalg.norm(places - vertex, axis=-1).argmin())])


def _placed(
    vertex: tuple[float, float], upper: tuple[float, float], semi: tuple[float, float], turn: float,
    aop_deg: float, hsd_mm: float,
) -> Ellipse:  # fmt: skip
    """The head whose nearest point is `hsd_mm` and whose tangent is `aop_deg` from the vertex.

    The direction of its centre from the vertex is halved until the angle is right (it grows with the
    direction), for each direction the distance until the nearest point is.

    Raises:
        InsonateError: no direction gives the angle.
    """
    along = math.atan2(upper[1] - vertex[1], upper[0] - vertex[0])

    def head_at(centre: np.ndarray) -> Ellipse:
        return Ellipse(centre_xy=_pair(vertex + centre), semi_a=semi[0], semi_b=semi[1], tilt_rad=turn)

    def at(direction: float) -> Ellipse:
        # counted from the symphysis' axis downwards, which in the picture is against the clock
        way = np.array([math.cos(along - direction), math.sin(along - direction)])
        away = semi[0] + hsd_mm  # surely outside; the nearest point nears by `way` on the normal there
        for _ in range(STEPS):
            to_head = np.subtract(_nearest(head_at(away * way), vertex), vertex)
            gap = float(np.linalg.norm(to_head))
            if abs(gap - hsd_mm) < 1e-4:
                break
            away -= (gap - hsd_mm) * gap / max(float(way @ to_head), 0.2 * gap)
        return head_at(away * way)

    def angle(head: Ellipse) -> float:
        touching = caudal_tangent(head, np.array(vertex), np.array(upper))
        return angle_of_progression(np.array(vertex), np.array(upper), touching).value

    low, high = 0.0, math.radians(150)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if angle(at(middle)) < aop_deg else (low, middle)
    head = at(high)
    if abs(angle(head) - aop_deg) > 0.2:
        what = f"no head of this size has an angle of {aop_deg:g}° at {hsd_mm:g} mm"
        raise InsonateError("phantom pelvis", what, "Ask for another angle or distance")
    return head


class Pelvis(Painted):
    """The midsagittal plane from the perineum.

    Args:
        labour: what to show.
        texture: the patient's texture source.
        rng: of this acquisition.
    """

    name = "pelvis"
    mask_values: ClassVar = {SYMPHYSIS: 1, HEAD: 2, SKULL: 2}
    gain = (0.95, -0.3)

    def __init__(self, labour: Labour, texture: Lattice, rng: np.random.Generator) -> None:
        super().__init__(texture, rng)
        self.labour = labour
        shown = max(labour.tangent_mm[1] + 22, labour.nearest_mm[1] + 40, labour.head.centre_xy[1] + 14)
        self.depth_mm = float(np.clip(shown + rng.uniform(0, 16), 85, 150))
        self.least_span_mm = 2 * max(abs(labour.upper_mm[0]) + 6, abs(labour.tangent_mm[0]) + 10)
        self.bladder = rng.random() < 0.5
        self.bone_db = float(rng.normal(0, 1.5))

    def pivot_mm(self) -> tuple[float, float]:
        """The vertex."""
        return self.labour.vertex_mm

    def truth(self, t_s: float) -> Truth:
        """Ends of the symphysis, nearest and tangent point of the head; angle and distance."""
        labour = self.labour
        places = {
            "symphysis_inferior": labour.vertex_mm,
            "symphysis_superior": labour.upper_mm,
            "head_nearest": labour.nearest_mm,
            "head_tangent": labour.tangent_mm,
        }
        return Truth(
            points_mm={name: self.after(*place, t_s) for name, place in places.items()},
            columns={
                "aop_deg": labour.aop_deg, "hsd_mm": math.dist(labour.vertex_mm, labour.nearest_mm),
            },
        )  # fmt: skip

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Soft tissue, birth canal, head with skull, symphysis."""
        x, z, low = grid.x_mm, grid.z_mm, self.texture.low
        head = self.labour.head
        u, v = into(x, z, head.centre_xy, head.tilt_rad)
        outline = ellipse_distance(u, v, head.semi_a, head.semi_b)
        tissue = -8 + 2 * low(0.5 * x, z, 2.2, 20) + 3 * low(x, z, 7, 21) + 4.5 * low(x, z, 20, 22)
        canvas = Canvas(grid, tissue, 0.55)
        layers = np.abs(outline - 6 - 2.5 * low(x, z, 14, 23))
        canvas.level_db += np.where(outline > 0, 4.5 * np.exp(-layers / 2.2) - 0.05 * z, 0)
        canvas.fill(z < 5, -3 + 3 * np.sin(2 * math.pi * z / 2.4) + low(x, z, 3, 24))
        self._urethra(canvas, outline)
        self._head(canvas, u, v, outline)
        self._symphysis(canvas)
        return canvas

    def _urethra(self, canvas: Canvas, outline: Array) -> None:
        """Between symphysis and head: urethra, sometimes some urine, and the dark vagina below."""
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        vertex, upper = self.labour.vertex_mm, self.labour.upper_mm
        axis = math.atan2(upper[1] - vertex[1], upper[0] - vertex[0])
        u, v = into(x, z, vertex, axis)
        low = self.texture.low
        if self.bladder:
            deep = ellipse_distance(u - 34, v + 17, 16, 6.0) + 1.2 * low(x, z, 9, 25)
            deep = np.maximum(deep, 3.0 - outline)
            canvas.blend(deep, 0.8, -33, 0.05)
            canvas.label[deep < 0] = BLADDER
            canvas.echo(deep, 0.7, width_mm=0.6, power=3)
        canal = np.abs(u - 0.3 * v + 9 + 2 * low(x, z, 12, 26)) - 3
        canvas.blend(np.maximum(canal, 7 - outline), 3, -12 + 1.5 * low(x, z, 3, 27))
        # the anal canal and its sphincter, cut along: dark between two bright bands
        anal, along = into(x, z, (vertex[0] + 46, 6.0), math.radians(118))
        wall = np.abs(np.abs(along) - 5.5 - 1.2 * low(x, z, 9, 36)) - 1.6
        inside = np.where((anal > 0) & (anal < 46) & (outline > 6), wall, 9.0)
        canvas.blend(inside, 1.2, -15 + 1.5 * low(x, z, 3, 37))
        mucosa = np.where((anal > 0) & (anal < 46) & (outline > 6), np.abs(along) - 2.2, 9.0)
        canvas.blend(mucosa, 1.5, -4 + 2 * low(x, z, 2.5, 38))

    def _head(self, canvas: Canvas, u: Array, v: Array, outline: Array) -> None:
        grid, low = canvas.grid, self.texture.low
        scalp = (outline <= 0) & (outline > -2.6)
        canvas.fill(scalp, -9 + 2 * low(u, v, 3, 28), 0.6, label=HEAD, echoes=0.3)
        skull, inside = (outline <= -2.6) & (outline >= -5.6), outline < -5.6
        facing = grid.along_beam(outline)
        canvas.fill(skull, 3 + self.bone_db + 9 * facing**2 + 2.5 * low(u, v, 4, 29), 2.0, label=SKULL)
        brain = -23 + 2 * low(u, v, 4, 30) + 3 * low(u, v, 11, 31)
        canvas.fill(inside, brain, 0.3, label=HEAD)
        broken = np.clip(0.9 + 0.4 * low(u, v, 8, 32), 0.15, 1.6)
        canvas.echo(outline, 0.5 * broken, width_mm=0.5, power=3)
        canvas.echo(outline + 3.8, 7.0 * broken, width_mm=1.3, power=2)
        canvas.echo(np.where(inside, v, 9.0), 0.7 * np.clip(low(u, v, 6, 33) + 0.4, 0, 1.5), width_mm=0.7)
        canvas.block(skull, 7 + 9 * (1 - facing**2) ** 2)
        behind = np.cumsum(np.cumsum(skull, 0) > 0, 0) * np.float32(grid.step_mm)
        echoes = 9 * np.exp(-behind / 9) * (1 + 0.5 * np.sin(behind * np.float32(2 * math.pi / 3.4)))
        canvas.level_db += np.where(inside & (behind > 0), echoes, 0)

    def _symphysis(self, canvas: Canvas) -> None:
        x, z, low = canvas.grid.x_mm, canvas.grid.z_mm, self.texture.low
        vertex, upper = self.labour.vertex_mm, self.labour.upper_mm
        middle = (vertex[0] + upper[0]) / 2, (vertex[1] + upper[1]) / 2
        tilt = math.atan2(upper[1] - vertex[1], upper[0] - vertex[0])
        u, v = into(x, z, middle, tilt)
        shape = ellipse_distance(u, v, *self.labour.symphysis_mm)
        halo = np.exp(-((shape / np.float32(2.2)) ** 2))
        canvas.level_db += np.where(shape > 0, 5 * halo, 0)
        inner = -11 + 1.3 * low(x, z, 2.5, 34) + 2.5 * (1 + shape / np.float32(self.labour.symphysis_mm[1]))
        canvas.blend(shape, 1.0, inner, 1.5)
        canvas.label[shape < 0] = SYMPHYSIS
        canvas.echo(shape, 1.9 * np.clip(0.9 + 0.4 * low(x, z, 6, 35), 0.2, 1.6), width_mm=0.8, power=1.5)
        canvas.block(shape < -1, 2.0)
