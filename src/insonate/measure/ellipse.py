"""Ellipses and distances: from points in pixels to lengths in mm, and the geometry of two crossing diameters.

Points are (x, y) in pixels of the original. A length in mm multiplies the vector by the spacing, then
takes its norm, since pixels need not be square.
"""

from __future__ import annotations

import math

import numpy as np

from insonate.data.spacing import Spacing

TINY = 1e-9
"""mm or px; a shorter diameter has no direction"""


def ellipse_perimeter(semi_a: float, semi_b: float) -> float:
    """Perimeter of an ellipse, in the unit of its semi-axes.

    Raises:
        ValueError: a semi-axis is negative.

    Source: Ramanujan 1914, second approximation; relative error below 1e-9 at fetal axis ratios.
    """
    if semi_a < 0 or semi_b < 0:
        raise ValueError(f"semi-axes must not be negative: {semi_a}, {semi_b}")
    total = semi_a + semi_b
    if total == 0:
        return 0.0
    h = ((semi_a - semi_b) / total) ** 2
    return math.pi * total * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def ellipse_area(semi_a: float, semi_b: float) -> float:
    """Area of an ellipse, in the squared unit of its semi-axes."""
    return math.pi * semi_a * semi_b


def vectors_mm(vectors_px: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Vectors (..., 2) in pixels → mm."""
    return np.asarray(vectors_px, dtype=np.float64) * (spacing.col_mm, spacing.row_mm)


def distance_px(start_xy: np.ndarray, end_xy: np.ndarray) -> np.ndarray:
    """Distance of points (..., 2) in pixels."""
    return np.linalg.norm(np.subtract(end_xy, start_xy, dtype=np.float64), axis=-1)


def distance_mm(start_xy: np.ndarray, end_xy: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Distance in mm of points (..., 2) given in pixels."""
    return np.linalg.norm(vectors_mm(np.subtract(end_xy, start_xy, dtype=np.float64), spacing), axis=-1)


def angle_deg(vertex_xy: np.ndarray, first_xy: np.ndarray, second_xy: np.ndarray, spacing: Spacing) -> float:
    """Angle at `vertex_xy` between the rays to the two other points, 0 to 180, measured in mm."""
    first = vectors_mm(np.subtract(first_xy, vertex_xy), spacing)
    second = vectors_mm(np.subtract(second_xy, vertex_xy), spacing)
    cross = first[0] * second[1] - first[1] * second[0]
    return math.degrees(math.atan2(abs(cross), float(first @ second)))


def square_diameters(points_xy: np.ndarray, spacing: Spacing | None) -> np.ndarray:
    """Two diameters (points 0-1 and 2-3) → the nearest that share a centre and stand at right angles.

    Lengths are kept and angles are right in mm, or in pixels where the spacing is unknown, so a circumference
    does not change.

    Args:
        points_xy: 4 2, in pixels of the original.
        spacing: of the original.
    """
    step = _step(spacing)
    centre, first, second = _half_diameters(points_xy * step)
    a, b = np.linalg.norm(first), np.linalg.norm(second)
    if min(a, b) < TINY:
        return _join(centre, first, second) / step
    doubled = _squared(first) - _squared(second)
    phi = 0.5 * math.atan2(doubled.imag, doubled.real)
    along, across = np.array([math.cos(phi), math.sin(phi)]), np.array([-math.sin(phi), math.cos(phi)])
    first, second = math.copysign(a, along @ first) * along, math.copysign(b, across @ second) * across
    return _join(centre, first, second) / step


def upright_diameters(points_xy: np.ndarray, spacing: Spacing | None) -> np.ndarray:
    """Two diameters → a vertical (points 0-1) and a horizontal one (2-3) of one centre.

    Lengths are kept in mm, or in pixels where the spacing is unknown; arguments as for `square_diameters`.
    """
    step = _step(spacing)
    centre, first, second = _half_diameters(points_xy * step)
    a, b = np.linalg.norm(first), np.linalg.norm(second)
    if min(a, b) >= TINY:
        first, second = (
            np.array([0.0, math.copysign(a, first[1])]),
            np.array([math.copysign(b, second[0]), 0.0]),
        )
    return _join(centre, first, second) / step


def _step(spacing: Spacing | None) -> np.ndarray:
    """What pixels (x, y) are multiplied by."""
    return np.array([1.0, 1.0] if spacing is None else [spacing.col_mm, spacing.row_mm])


def _half_diameters(points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    points = np.asarray(points_xy, dtype=np.float64)
    return points.mean(axis=0), (points[0] - points[1]) / 2, (points[2] - points[3]) / 2


def _join(centre: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([centre + first, centre - first, centre + second, centre - second])


def _squared(vector: np.ndarray) -> complex:
    return complex(vector[0], vector[1]) ** 2
