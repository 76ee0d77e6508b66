"""Ten standard views as probe poses, and what a pose must be.

Probe frame: x right in the picture, z into the body, y = z × x; origin in the middle of the probe's face.
Poses are 4 × 4, rigid, mm. Source: shared spec phantom, section 3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from insonate.errors import InsonateError, nearest
from insonate.phantom.heart.anatomy import Anatomy
from insonate.phantom.heart.chambers import Chambers, Layout
from insonate.phantom.heart.solids import Point, Xyz, around, point, unit

SKIN_MM = 21.0
"""from the probe's face to the heart in an apical view of an adult"""
CLOSEST_MM, FARTHEST_MM = 3.0, 160.0
"""a probe on the skin is so far from the heart's surface"""


def pose(origin: Point, depth: Point, right: Point) -> np.ndarray:
    """4 4 from an origin, the beam's direction and a direction to the right (made orthogonal)."""
    z = unit(depth)
    x = unit(right - (right @ z) * z)
    placed = np.eye(4)
    placed[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    placed[:3, 3] = origin
    return placed


def _larger_mm(chambers: Chambers, lay: Layout) -> float:
    """How far a large left ventricle pushes the chest away."""
    return max(0.0, chambers.anatomy.radius_mm + chambers.anatomy.wall_mm - 32.5 * lay.k)


def _apical(chambers: Chambers, lay: Layout, to: Point, right: Point, off: Point) -> np.ndarray:
    origin = lay.apex + off * lay.k + point(0, 0, SKIN_MM * lay.k)
    del chambers
    return pose(origin, to - origin, right)


def _a4c(chambers: Chambers, lay: Layout) -> np.ndarray:
    # near the ventricle's axis, which the valve is beside: a plane that passes it by overrates the emptying
    to = (lay.mitral + lay.tricuspid) / 2 * point(0.45, 0.3, 1)
    right = lay.mitral - lay.tricuspid + point(16, 9, 0) * lay.k
    return _apical(chambers, lay, to, right, point(-3, 0, 0))


def _a2c(chambers: Chambers, lay: Layout) -> np.ndarray:
    return _apical(chambers, lay, lay.mitral * point(0.3, 0.8, 1), around(84), point(0, 0, 0))


def _a3c(chambers: Chambers, lay: Layout) -> np.ndarray:
    return _apical(chambers, lay, (lay.mitral + lay.root) / 2, around(131), point(-3, 0, 0))


def _a5c(chambers: Chambers, lay: Layout) -> np.ndarray:
    to = lay.root + (lay.aorta * 12 + point(5, -2, 0)) * lay.k
    return _apical(chambers, lay, to, around(30), point(-3, -4, 0))


def _plax(chambers: Chambers, lay: Layout) -> np.ndarray:
    out = around(131)
    middle = (lay.mitral + lay.root) / 2 + point(0, 0, 10) * lay.k
    return pose(
        middle + out * (78 * lay.k + _larger_mm(chambers, lay)),
        -out - point(0, 0, 0.03),
        point(0, 0, -1) + 0.05 * out,
    )


def _psax_av(chambers: Chambers, lay: Layout) -> np.ndarray:
    centre = lay.root + lay.aorta * 8 * lay.k
    normal = unit(np.cross(lay.pulmonary - centre, lay.tricuspid + point(0, 6, -4) * lay.k - centre))
    normal *= np.sign(normal[2])
    out = around(126)
    out = unit(out - (out @ normal) * normal)
    del chambers
    return pose(centre + out * 72 * lay.k, -out, np.cross(out, normal))


def _short(height: Callable[[Chambers], float]) -> Callable[[Chambers, Layout], np.ndarray]:
    def view(chambers: Chambers, lay: Layout) -> np.ndarray:
        centre, out = point(-6 * lay.k, 0, height(chambers)), around(126)
        return pose(centre + out * (74 * lay.k + _larger_mm(chambers, lay)), -out, around(36))

    return view


def _sc4c(chambers: Chambers, lay: Layout) -> np.ndarray:
    """In the plane of A4C, from below the ribs on the side of the right ventricle."""
    plane = _a4c(chambers, lay)
    normal = plane[:3, 1]

    def within(vector: Point) -> Point:
        return np.asarray(vector - (vector @ normal) * normal)

    to = plane[:3, 3] + within(point(-8 * lay.k, 0, 18 * lay.k) - plane[:3, 3])
    out = unit(within(around(207)))
    return pose(
        to + out * (112 * lay.k + _larger_mm(chambers, lay)) + 4 * lay.k * point(0, 0, 1),
        -out,
        point(0, 0, 1) - 0.15 * out,
    )


def _scivc(chambers: Chambers, lay: Layout) -> np.ndarray:
    back = unit(chambers.heart_from_world[:3, :3] @ point(-0.05, 1, 0.12))
    middle = lay.cava + lay.caudal * 30 * lay.k
    return pose(middle - back * 78 * lay.k, back, -lay.caudal)


POSES: dict[str, Callable[[Chambers, Layout], np.ndarray]] = {
    "A4C": _a4c,
    "A2C": _a2c,
    "A3C": _a3c,
    "A5C": _a5c,
    "PLAX": _plax,
    "PSAX-AV": _psax_av,
    "PSAX-MV": _short(lambda chambers: 20 * chambers.anatomy.scale),
    "PSAX-PM": _short(lambda chambers: 0.50 * chambers.anatomy.length_mm),
    "SC4C": _sc4c,
    "SCIVC": _scivc,
}
"""heart from probe, by view"""
VIEWS = tuple(POSES)
DEPTH_MM = {
    "A5C": 165.0,
    "A3C": 165.0,
    "SC4C": 180.0,
    "SCIVC": 150.0,
    "PLAX": 150.0,
    "PSAX-AV": 140.0,
    "PSAX-MV": 140.0,
    "PSAX-PM": 140.0,
}
"""of a mean adult; the other apical views 172"""
CHEST_MM = {"A": 16.0, "P": 20.0, "S": 16.0}
"""thickness of the chest or belly wall, by the first letter of the view"""


def known_view(view: str) -> str:
    """`view`, if there is such a one.

    Raises:
        InsonateError: there is none.
    """
    if view not in POSES:
        raise InsonateError("phantom heart", f"there is no view {view!r}", nearest(view, POSES))
    return view


def world_from_probe(chambers: Chambers, view: str) -> np.ndarray:
    """4 4: the exact standard view of this patient at end-diastole.

    Raises:
        InsonateError: there is no such view.
    """
    lay = chambers.layout(chambers.beat.moment(0.0))
    return chambers.anatomy.world @ POSES[known_view(view)](chambers, lay)


def checked(chambers: Chambers, placed: np.ndarray) -> np.ndarray:
    """`placed` (world from probe), if a probe can be there.

    Raises:
        InsonateError: it is no rigid pose, or the probe would be inside the heart or far from the body.
    """
    placed = np.asarray(placed, dtype=np.float64)
    rigid = placed.shape == (4, 4) and np.isfinite(placed).all()
    turn = placed[:3, :3] if rigid else np.zeros((3, 3))
    proper = np.allclose(turn.T @ turn, np.eye(3), atol=1e-4) and np.linalg.det(turn) > 0
    if not (rigid and proper):
        what = "the probe pose is no rotation with a translation"
        raise InsonateError("phantom heart", what, "Give a rigid 4 × 4 matrix, mm, world from probe")
    face = (chambers.heart_from_world @ placed)[:3, 3].astype(np.float32)
    at = Xyz(*(np.full((1, 1), v, np.float32) for v in face))
    away_mm = float(chambers.distances(at, chambers.beat.moment(0.0)).heart[0, 0])
    if not CLOSEST_MM <= away_mm <= FARTHEST_MM:
        what = f"the probe's face is {away_mm:.0f} mm from the heart's surface: outside what a body allows"
        raise InsonateError("phantom heart", what, f"Keep it {CLOSEST_MM:g} to {FARTHEST_MM:g} mm away")
    return placed


def scaled_depth_mm(anatomy: Anatomy, view: str) -> float:
    """Depth setting that shows the view of this patient."""
    size = max(anatomy.scale, anatomy.length_mm / 86, (anatomy.radius_mm + anatomy.wall_mm) / 34)
    return DEPTH_MM.get(view, 172.0) * size
