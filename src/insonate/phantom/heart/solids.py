"""Signed distances of simple solids in 3-D: mm, inside < 0, exact or first order at the surface.

Shapes: fields have any one shape; points and directions are 3 numbers (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from insonate.phantom.physics import Array

Point = npt.NDArray[np.float64]
TOGETHER = 4
"""cones that are computed at once: more would not stay in the cache"""


class Xyz(NamedTuple):
    """Coordinates of many places, in one frame."""

    x: Array
    y: Array
    z: Array

    def less(self, point: Point) -> Xyz:
        """Seen from `point`."""
        x, y, z = point.astype(np.float32)
        return Xyz(self.x - x, self.y - y, self.z - z)

    def along(self, direction: Point) -> Array:
        """Component along `direction`."""
        x, y, z = direction.astype(np.float32)
        found = self.x * x
        found += self.y * y
        found += self.z * z
        return found


def point(x: float, y: float, z: float) -> Point:
    """As an array."""
    return np.array([x, y, z], dtype=np.float64)


def unit(vector: Point) -> Point:
    """Of length 1."""
    return np.asarray(vector, dtype=np.float64) / np.linalg.norm(vector)


def around(angle_deg: float) -> Point:
    """Unit vector of the short-axis plane: lateral 0°, anterior 90°, septum 180°, inferior 270°."""
    return point(math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg)), 0)


def ellipsoid(at: Xyz, centre: Point, axes: Point) -> Array:
    """First order, exact on the surface. Source: Quilez, "ellipsoids" (iquilezles.org)."""
    own = at.less(centre)
    a, b, c = (1 / axes).astype(np.float32)
    x, y, z = own.x * a, own.y * b, own.z * c
    k0 = np.sqrt(x * x + y * y + z * z)
    for part, inverse in ((x, a), (y, b), (z, c)):
        part *= inverse
    k1 = np.sqrt(x * x + y * y + z * z)
    return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6))


class Cone(NamedTuple):
    """A rounded cone: a segment with a radius that changes from `start_mm` to `stop_mm`."""

    start: Point
    stop: Point
    start_mm: float
    stop_mm: float


def cones(at: Xyz, parts: Sequence[Cone]) -> list[Array]:
    """Distances to each of the parts; several at once, as numpy's calls cost more than their work."""
    return [away for n in range(0, len(parts), TOGETHER) for away in _cones(at, parts[n : n + TOGETHER])]


def _cones(at: Xyz, parts: Sequence[Cone]) -> Array:
    starts, stops = (np.array([part[i] for part in parts]) for i in (0, 1))
    axes = stops - starts
    along = axes / (axes * axes).sum(1, keepdims=True)
    start_mm, stop_mm = (np.array([[part[i]] for part in parts]) for i in (2, 3))
    numbers = np.concatenate([starts, axes, along, start_mm, stop_mm - start_mm], axis=1)  # K 11
    numbers = numbers.astype(np.float32).T.reshape(11, len(parts), *[1] * at.x.ndim)
    own = at.x - numbers[0], at.y - numbers[1], at.z - numbers[2]  # K and the shape of `at`
    share, term = own[0] * numbers[6], own[1] * numbers[7]
    share += term
    share += np.multiply(own[2], numbers[8], out=term)
    np.maximum(share, 0, out=share)
    np.minimum(share, 1, out=share)
    for one, axis in zip(own, numbers[3:6], strict=True):
        one -= np.multiply(share, axis, out=term)
        np.square(one, out=one)
    away = own[0]
    away += own[1]
    away += own[2]
    np.sqrt(away, out=away)
    share *= numbers[10]
    away -= share
    away -= numbers[9]
    return away


def smooth_min(a: Array, b: Array, width_mm: float) -> Array:
    """Union with a fillet."""
    h = np.maximum(np.float32(width_mm) - np.abs(a - b), 0) * np.float32(1 / width_mm)
    return np.minimum(a, b) - h * h * np.float32(width_mm / 4)


def minus(a: Array, b: Array) -> Array:
    """`a` without `b`."""
    return np.maximum(a, -b)
