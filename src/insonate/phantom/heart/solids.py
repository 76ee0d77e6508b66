"""Signed distances of simple solids in 3-D: mm, inside < 0, exact or first order at the surface.

Shapes: fields have any one shape; points and directions are 3 numbers (x, y, z).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from insonate.phantom.physics import Array

Point = npt.NDArray[np.float64]


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


def cone(at: Xyz, start: Point, stop: Point, start_mm: float, stop_mm: float) -> Array:
    """A rounded cone: a segment with a radius that changes from `start_mm` to `stop_mm`."""
    own, axis = at.less(start), stop - start
    share = own.along(axis / (axis @ axis))
    np.maximum(share, 0, out=share)
    np.minimum(share, 1, out=share)
    x, y, z = axis.astype(np.float32)
    squared = np.square(own.x - share * x)
    squared += np.square(own.y - share * y)
    squared += np.square(own.z - share * z)
    away = np.sqrt(squared, out=squared)
    share *= np.float32(stop_mm - start_mm)
    away -= share
    away -= np.float32(start_mm)
    return away


def smooth_min(a: Array, b: Array, width_mm: float) -> Array:
    """Union with a fillet."""
    h = np.maximum(np.float32(width_mm) - np.abs(a - b), 0) * np.float32(1 / width_mm)
    return np.minimum(a, b) - h * h * np.float32(width_mm / 4)


def minus(a: Array, b: Array) -> Array:
    """`a` without `b`."""
    return np.maximum(a, -b)
