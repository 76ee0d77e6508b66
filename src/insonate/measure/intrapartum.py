"""Birth and cervix: angle of progression, head-symphysis distance, cervical length.

Points are (x, y) in mm on the plane of the image, y down: multiply pixels by the spacing first. From masks,
ellipses are fitted to symphysis and head, and the head's point of the angle is where the tangent from the
symphysis touches it. Sources: Barbera et al. 2009 (UOG 33:313), Youssef et al. 2013 (UOG 41:425).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from insonate.data.spacing import Spacing
from insonate.measure.ellipse import vectors_mm
from insonate.measure.quantity import Quantity, quantity

AOP = "Barbera et al. 2009, UOG 33:313: angle between symphysis axis and tangent to the head"
HSD = "Youssef et al. 2013, UOG 41:425"
NEAREST, INFRAPUBIC = "to the nearest point of the head", "along the normal of the symphysis axis"
SHORT_CERVIX_MM = 25.0
"""below which a cervix counts as short at 18 to 24 weeks"""
CONTOUR_POINTS = 3600
"""of an ellipse where the point nearest to another one is sought: one every 0.1°"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipse:
    """An ellipse in mm."""

    centre_xy: tuple[float, float]
    semi_a: float
    """along the tilted axis"""
    semi_b: float
    tilt_rad: float
    """from the x axis towards the y axis, which points down"""

    def inward(self, points_xy: np.ndarray) -> np.ndarray:
        """Points (..., 2) in the ellipse's own frame, its first semi-axis along x."""
        return np.asarray((np.asarray(points_xy) - self.centre_xy) @ self._rotation().T)

    def outward(self, own_xy: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the ellipse's own frame in the plane of the image."""
        return np.asarray(np.asarray(own_xy) @ self._rotation() + self.centre_xy)

    def _rotation(self) -> np.ndarray:
        cos, sin = math.cos(self.tilt_rad), math.sin(self.tilt_rad)
        return np.array([[cos, sin], [-sin, cos]])


def angle_of_progression(vertex_xy: np.ndarray, superior_xy: np.ndarray, tangent_xy: np.ndarray) -> Quantity:
    """Angle at the symphysis' lower end between its upper end and the tangent point on the head."""
    superior, tangent = np.subtract(superior_xy, vertex_xy), np.subtract(tangent_xy, vertex_xy)
    cross = superior[0] * tangent[1] - superior[1] * tangent[0]
    angle = math.degrees(math.atan2(abs(cross), float(superior @ tangent)))
    known = np.linalg.norm(superior) > 0 and np.linalg.norm(tangent) > 0
    return quantity("aop_deg", angle if known else math.nan, AOP)


def tangent_points(head: Ellipse, vertex_xy: np.ndarray) -> np.ndarray:
    """Where the two tangents from a point touch the ellipse, 2 2 in mm.

    Raises:
        ValueError: the point is on or inside the ellipse.
    """
    x, y = head.inward(vertex_xy)
    a2, b2 = head.semi_a**2, head.semi_b**2
    square = b2 * x**2 + a2 * y**2
    if square <= a2 * b2:
        raise ValueError("the lower end of the symphysis is inside the head: there is no tangent")
    root = math.sqrt(square - a2 * b2)
    # Unlike the form with slopes, this has no singular case.
    own = [[a2 * (b2 * x - side * y * root), b2 * (a2 * y + side * x * root)] for side in (1, -1)]
    return head.outward(np.asarray(own) / square)


def caudal_tangent(head: Ellipse, vertex_xy: np.ndarray, superior_xy: np.ndarray) -> np.ndarray:
    """The tangent point of the larger angle, 2 in mm: that of the angle of progression.

    Raises:
        ValueError: the vertex is on or inside the ellipse.
    """
    touching = tangent_points(head, vertex_xy)
    return max(touching, key=lambda point: angle_of_progression(vertex_xy, superior_xy, point).value)


def symphysis_ends(symphysis: Ellipse, head: Ellipse) -> tuple[np.ndarray, np.ndarray]:
    """Lower end (nearer to the head) and upper end of the symphysis' long axis, each 2 in mm."""
    long_first = symphysis.semi_a >= symphysis.semi_b
    half = (symphysis.semi_a, 0.0) if long_first else (0.0, symphysis.semi_b)
    ends = symphysis.outward(np.array([half, np.negative(half)]))
    lower, upper = sorted(ends, key=lambda end: float(np.linalg.norm(end - head.centre_xy)))
    return lower, upper


def hsd_nearest(length_mm: float) -> Quantity:
    """Head-symphysis distance as the shortest one, of its length between two points."""
    return quantity("hsd_mm", length_mm, HSD, convention=NEAREST)


def hsd_nearest_of(head: Ellipse, vertex_xy: np.ndarray) -> Quantity:
    """Head-symphysis distance as the shortest one, from the lower end of the symphysis to the ellipse."""
    angles = np.linspace(0, 2 * math.pi, CONTOUR_POINTS, endpoint=False)
    contour = head.outward(np.stack([head.semi_a * np.cos(angles), head.semi_b * np.sin(angles)], axis=-1))
    return hsd_nearest(float(np.linalg.norm(contour - vertex_xy, axis=-1).min()))


def hsd_infrapubic(head: Ellipse, vertex_xy: np.ndarray, superior_xy: np.ndarray) -> Quantity:
    """Head-symphysis distance at right angles to the symphysis, the classical one; NaN where it misses."""
    axis = np.subtract(superior_xy, vertex_xy, dtype=np.float64)
    normal = np.array([-axis[1], axis[0]]) / np.linalg.norm(axis)
    scale = np.array([1 / head.semi_a, 1 / head.semi_b])
    start = head.inward(vertex_xy) * scale
    step = (head.inward(np.asarray(vertex_xy) + normal) - head.inward(vertex_xy)) * scale
    # |start + t·step| = 1 on the contour.
    square, half, rest = float(step @ step), float(start @ step), float(start @ start) - 1
    root = half**2 - square * rest
    if root < 0:
        return quantity("hsd_mm", math.nan, HSD, convention=INFRAPUBIC)
    crossings = [(-half + side * math.sqrt(root)) / square for side in (1, -1)]
    return quantity("hsd_mm", min(map(abs, crossings)), HSD, convention=INFRAPUBIC)


def cervical_length(length_mm: float) -> Quantity:
    """Straight line between the ends of the cervical canal; a curved canal is longer."""
    return quantity("cl_mm", length_mm, "Kagan & Sonek 2015, UOG 45:358", convention="straight line")


def ellipse_of_mask(mask: np.ndarray, spacing: Spacing) -> Ellipse:
    """The ellipse with centre and second moments of a mask (H W, bool), in mm.

    Raises:
        ValueError: the mask has no area.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) < 3:
        raise ValueError("a mask of fewer than 3 pixels has no ellipse")
    points = vectors_mm(np.stack([columns, rows], axis=-1), spacing)  # N 2
    # A filled ellipse has the variance (semi-axis / 2)² along each axis.
    values, vectors = np.linalg.eigh(np.cov(points.T, bias=True))
    semi_b, semi_a = 2 * np.sqrt(np.maximum(values, 0))
    centre_x, centre_y = points.mean(axis=0)
    return Ellipse(
        centre_xy=(float(centre_x), float(centre_y)),
        semi_a=float(semi_a),
        semi_b=float(semi_b),
        tilt_rad=math.atan2(vectors[1, 1], vectors[0, 1]),
    )
