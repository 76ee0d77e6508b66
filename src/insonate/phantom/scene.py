"""What the generator asks of an anatomy, and the small geometry that anatomies share.

A scene knows where tissue is and how it looks; it knows no machine. `physics.Machine` turns its maps into
frames, `write.generate` draws the patients.

Shapes: R samples along the beam, L lines, K points. x to the right, z away from the probe, mm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from scipy import ndimage

from insonate.errors import InsonateError
from insonate.phantom.physics import Array, Grid, Lattice, Maps

Cache = TypeVar("Cache")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known about a scene at one moment."""

    points_mm: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """(x, z) of each named point"""
    columns: Mapping[str, float | str] = field(default_factory=dict)
    """labels of the item, by manifest column"""


class Scene(Protocol[Cache]):
    """An anatomy in one plane."""

    name: str
    mask_labels: tuple[int, ...]
    """the labels that make up the mask of the item"""
    gain: tuple[float, float]
    """quantile and level that `Machine.auto_gain` places"""

    def static(self, grid: Grid) -> Cache:
        """What stays the same over a clip on this grid."""
        ...

    def frame(self, cache: Cache, t_s: float) -> Maps:
        """The maps at time `t_s`; a pure function of the scene and `t_s`."""
        ...

    def truth(self, t_s: float) -> Truth:
        """The labels at time `t_s`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Slight rigid motion between tissue and probe, zero at time 0."""

    x_mm: float
    z_mm: float
    turn_rad: float
    rate_hz: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Drift:
        """A hand that tries to keep still."""
        return cls(
            x_mm=rng.normal(0, 1.2),
            z_mm=rng.normal(0, 0.8),
            turn_rad=math.radians(rng.normal(0, 1.0)),
            rate_hz=rng.uniform(0.4, 1.2),
        )

    def at(self, t_s: float) -> tuple[float, float, float]:
        """Shift in x and z (mm) and turn (rad)."""
        swing = math.sin(2 * math.pi * self.rate_hz * t_s)
        return self.x_mm * swing, self.z_mm * swing, self.turn_rad * swing

    def before(self, x_mm: Array, z_mm: Array, t_s: float, pivot: tuple[float, float]) -> tuple[Array, Array]:
        """Where what is at x, z was at time 0."""
        dx, dz, turn = self.at(t_s)
        u, v = into(x_mm, z_mm, (pivot[0] + dx, pivot[1] + dz), turn)
        return u + np.float32(pivot[0]), v + np.float32(pivot[1])

    def after(self, x_mm: float, z_mm: float, t_s: float, pivot: tuple[float, float]) -> tuple[float, float]:
        """Where what was at x, z at time 0 is: the way back of `before`."""
        dx, dz, turn = self.at(t_s)
        return out_of(x_mm - pivot[0], z_mm - pivot[1], (pivot[0] + dx, pivot[1] + dz), turn)


class Texture:
    """The lattice as one patient sees it: at a place of its own."""

    def __init__(self, lattice: Lattice, rng: np.random.Generator) -> None:
        self._lattice = lattice
        self.x_mm, self.z_mm = (float(v) for v in rng.uniform(0, 1000, 2))

    def low(self, x_mm: Array, z_mm: Array, cell_mm: float, shift: float = 0.0) -> Array:
        """R L: smooth noise of unit variance, cells of `cell_mm`."""
        return self._lattice.smooth(
            x_mm + np.float32(self.x_mm), z_mm + np.float32(self.z_mm), cell_mm, shift
        )


def into(x_mm: Array, z_mm: Array, centre: tuple[float, float], turn_rad: float) -> tuple[Array, Array]:
    """R L each: coordinates in a frame at `centre`, turned by `turn_rad` (x towards z)."""
    dx, dz = x_mm - np.float32(centre[0]), z_mm - np.float32(centre[1])
    c, s = np.float32(math.cos(turn_rad)), np.float32(math.sin(turn_rad))
    return c * dx + s * dz, c * dz - s * dx


def out_of(u: float, v: float, centre: tuple[float, float], turn_rad: float) -> tuple[float, float]:
    """(x, z) of the point (u, v) of the turned frame: the way back of `into`."""
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    return centre[0] + c * u - s * v, centre[1] + s * u + c * v


def ellipse_distance(u: Array, v: Array, a: float, b: float) -> Array:
    """Signed distance (first order, exact on the outline) to the ellipse of semi-axes a, b; inside < 0."""
    k0 = np.sqrt((u / np.float32(a)) ** 2 + (v / np.float32(b)) ** 2)
    k1 = np.sqrt((u / np.float32(a * a)) ** 2 + (v / np.float32(b * b)) ** 2)
    return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6))


def segment_distance(u: Array, v: Array, start: tuple[float, float], stop: tuple[float, float]) -> Array:
    """Distance to the segment from `start` to `stop`."""
    du, dv = stop[0] - start[0], stop[1] - start[1]
    along = (
        (u - np.float32(start[0])) * np.float32(du) + (v - np.float32(start[1])) * np.float32(dv)
    ) / np.float32(du * du + dv * dv)
    along = np.clip(along, 0, 1)
    return np.hypot(
        u - np.float32(start[0]) - along * np.float32(du), v - np.float32(start[1]) - along * np.float32(dv)
    )


def ridge(distance: Array, width_mm: float) -> Array:
    """1 on a surface, falling off as a Gaussian of `width_mm`."""
    return np.exp(-((distance / np.float32(width_mm)) ** 2))


def soft(distance: Array, width_mm: float) -> Array:
    """1 inside (distance < 0), 0 outside, over about `width_mm`."""
    return 1 / (1 + np.exp(np.clip(distance * np.float32(4 / width_mm), -30, 30)))


def transmission_db(grid: Grid, rng: np.random.Generator) -> Array:
    """R L: contact of the probe over the lines, perhaps a drop-out, and the depth sliders' setting."""
    t = np.linspace(0, 1, grid.vendor.lines)
    across = np.interp(t, np.linspace(0, 1, 9), rng.normal(0, 2.2, 9)) - 4 * np.abs(2 * t - 1) ** 4
    drop_db, where, width = rng.uniform(3, 10), rng.uniform(0, 1), rng.uniform(0.04, 0.1)
    across -= (rng.random() < 0.5) * drop_db * np.exp(-(((t - where) / width) ** 2))
    down = np.interp(np.linspace(0, 1, grid.samples), np.linspace(0, 1, 7), rng.normal(0, 1.6, 7))
    # rounded: the corners between straight pieces would be seen as lines
    across, down = (ndimage.gaussian_filter1d(v, len(v) / 30, mode="nearest") for v in (across, down))
    return (across[None] + down[:, None]).astype(np.float32)


def modelled(where: str, name: str, value: float, bounds: tuple[float, float], unit: str) -> float:
    """`value`, if it lies within what the phantom can draw.

    Raises:
        InsonateError: it does not.
    """
    low, high = bounds
    if not low <= value <= high:
        raise InsonateError(
            where, f"{name} of {value:g} {unit} is not modelled", f"Ask for {low:g} to {high:g}"
        )
    return value


def first_along_beam(mask: np.ndarray) -> np.ndarray:
    """R L: the samples where a beam enters `mask`."""
    first = mask.copy()
    first[1:] &= ~mask[:-1]
    return first


def decibel(amplitude_db: Array) -> Array:
    """The linear amplitude."""
    return np.exp(amplitude_db * np.float32(math.log(10) / 20))
