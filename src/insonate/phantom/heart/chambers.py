"""Chambers, walls and great vessels at one moment, as signed distances.

Numbers: shared spec phantom, section 2.2, from a prototype whose ten views were recognised; the atria here
have a second lobe, and the left one pulmonary veins, so that no plane shows a closed circle.

Frame H (see anatomy.py), mm. Fields have the shape of the coordinates they are asked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from insonate.phantom.heart.anatomy import Anatomy
from insonate.phantom.heart.motion import Beat, Moment
from insonate.phantom.heart.solids import (
    Cone,
    Point,
    Xyz,
    around,
    cones,
    ellipsoid,
    minus,
    point,
    smooth_min,
    unit,
)
from insonate.phantom.physics import Array

AORTIC_WALL_MM, RV_WALL_MM, ATRIAL_WALL_MM = 2.0, 3.5, 2.2
PAPILLARIES = ((38.0, 0.70, 0.40), (258.0, 0.70, 0.42))
"""angle, height (share of the length) of root and tip: anterolateral, posteromedial"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things are now."""

    k: float
    mitral: Point
    mitral_mm: float
    tricuspid: Point
    tricuspid_mm: float
    root: Point
    """middle of the aortic annulus"""
    aorta: Point
    """direction of the aortic root, away from the ventricle"""
    left_atrium: Point
    left_axes: Point
    right_atrium: Point
    right_axes: Point
    right_ventricle: Point
    right_ventricle_axes: Point
    outflow: tuple[Point, Point]
    pulmonary: Point
    """middle of the pulmonary valve"""
    pulmonary_mm: float
    bifurcation: Point
    cava: Point
    """mouth of the inferior vena cava"""
    caudal: Point
    """direction of the inferior vena cava, away from the heart"""
    apex: Point


class Distances(NamedTuple):
    """Signed distances, inside < 0."""

    lv: Array
    """cavity down to the annular plane, with the papillary muscles"""
    lvot: Array
    epi: Array
    """outer surface of the left ventricle"""
    papillary: Array
    moderator: Array
    """band of muscle across the right ventricle"""
    la: Array
    ra: Array
    rv: Array
    aorta: Array
    pulmonary: Array
    cava: Array
    heart: Array
    """everything with its walls"""


class Chambers:
    """The heart of one patient.

    Args:
        anatomy: whose.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy, self.beat = anatomy, Beat(anatomy)
        self.heart_from_world = np.linalg.inv(anatomy.world)
        self._latest: tuple[Moment, Layout] | None = None

    def layout(self, now: Moment) -> Layout:
        """Points and sizes at the moment."""
        if self._latest is None or self._latest[0] is not now:
            self._latest = now, self._laid(now)
        return self._latest[1]

    def _laid(self, now: Moment) -> Layout:
        a, base, c = self.anatomy, now.base_mm, now.contraction
        k, kz, load = a.scale, a.length_mm / 86, a.pressure
        wide = a.radius_mm + a.wall_mm - 32.5 * k  # a large left ventricle pushes the right one aside
        down = self.heart_from_world[:3, :3] @ point(0, 0.12, -1)
        right = point(-40 * k - 0.4 * wide, -5 * k, -19 * k + 0.8 * base)
        grown = 1 + 0.35 * load
        return Layout(
            k=k,
            mitral=point(8 * k, -6 * k, base), mitral_mm=16.5 * k,
            tricuspid=point(-38 * k - 0.5 * wide, -2 * k, 6 * k + 1.3 * base), tricuspid_mm=17.5 * k,
            root=point(-8.5 * k, 14.5 * k, 0.9 * base - 4 * k), aorta=unit(point(-0.27, 0.22, -0.94)),
            left_atrium=point(11 * k, -13 * k, -25 * k + 0.55 * base),
            left_axes=point(21, 19, 25) * k * a.left_atrium * (1 + 0.10 * c),
            right_atrium=right,
            right_axes=point(22, 21, 25) * k * (1 + 0.06 * c) * (1 + 0.2 * load),
            right_ventricle=point(-33 * k - 0.75 * wide - 3 * load * k, 8 * k, 14 * kz + 0.5 * base),
            right_ventricle_axes=point(
                30 * k * (1 - 0.14 * c) * grown, 39 * k * (1 - 0.10 * c), 54 * kz * (1 + 0.1 * load)
            ),
            outflow=(point(-36 * k, 27 * k, 6 * k + 0.6 * base), point(-17 * k, 47 * k, -4 * k + 0.4 * base)),
            pulmonary=point(7 * k, 46 * k, -10 * k + 0.3 * base), pulmonary_mm=11 * k * (1 + 0.15 * load),
            bifurcation=point(24, 26, -36) * k,
            cava=right + self.heart_from_world[:3, :3] @ point(2 * k, 6 * k, -12 * k), caudal=unit(down),
            apex=point(0, 0, a.length_mm + a.apex_wall_mm),
        )  # fmt: skip

    def bent(self, at: Xyz) -> Xyz:
        """The patient's own shape: shears, so that volumes stay. All solids are asked at bent coordinates."""
        x, y, z = at
        (a0, w0, p0), (a1, w1, p1), (a2, w2, p2), (a3, w3, p3), (a4, w4, p4) = self.anatomy.shears
        x = (
            x
            + a0 * np.sin(y * np.float32(w0) + np.float32(p0))
            + a1 * np.sin(z * np.float32(w1) + np.float32(p1))
        )
        y = (
            y
            + a2 * np.sin(z * np.float32(w2) + np.float32(p2))
            + a3 * np.sin(x * np.float32(w3) + np.float32(p3))
        )
        z = z + a4 * np.sin(x * np.float32(w4) + np.float32(p4))
        return Xyz(x, y, z)  # fmt: skip

    def unbent(self, place: Point) -> Point:
        """Where a point of the solids' own frame really is: the way back of `bent`."""
        x, y, z = (float(v) for v in place)
        (a0, w0, p0), (a1, w1, p1), (a2, w2, p2), (a3, w3, p3), (a4, w4, p4) = self.anatomy.shears
        z -= a4 * math.sin(x * w4 + p4)
        y -= a2 * math.sin(z * w2 + p2) + a3 * math.sin(x * w3 + p3)
        x -= a0 * math.sin(y * w0 + p0) + a1 * math.sin(z * w1 + p1)
        return point(x, y, z)

    def distances(self, at: Xyz, now: Moment) -> Distances:
        """All solids at places `at` of frame H."""
        lay, at = self.layout(now), self.bent(at)
        lv, epi, base = self._left_ventricle(at, now)
        parts = self._parts(lay, now)
        tubes = dict(zip(parts, cones(at, list(parts.values())), strict=True))
        height, aorta = self._aorta(at, lay)
        wall = aorta - np.float32(AORTIC_WALL_MM * lay.k)
        lvot = np.maximum(np.maximum(tubes["lvot"], base - np.float32(6)), -height - 25)
        la = minus(np.maximum(self._left_atrium(at, lay, tubes), at.z - np.float32(now.base_mm + 1.5)), wall)
        ra = self._right_atrium(at, lay, tubes)
        ra = minus(minus(np.maximum(ra, at.z - np.float32(lay.tricuspid[2] + 1)), la - 2.5 * lay.k), wall)
        rv = minus(minus(self._right_ventricle(at, lay, tubes), epi), wall)
        pulmonary = np.minimum(tubes["trunk"], np.minimum(tubes["right branch"], tubes["left branch"]))
        pulmonary = minus(minus(pulmonary, wall), rv)
        cava = smooth_min(tubes["cava"], tubes["cava below"], 5 * lay.k)
        cava = minus(smooth_min(cava, tubes["hepatic vein"], 5 * lay.k), ra)
        papillary = np.minimum(tubes["papillary 0"], tubes["papillary 1"])
        outer = [epi, rv - RV_WALL_MM * (1 + self.anatomy.pressure) * lay.k, la - ATRIAL_WALL_MM * lay.k,
                 ra - ATRIAL_WALL_MM * lay.k, wall, pulmonary - 1.5 * lay.k]  # fmt: skip
        return Distances(
            lv=lv, lvot=lvot, epi=epi, papillary=papillary,
            moderator=tubes["moderator"], la=la, ra=ra, rv=rv, aorta=aorta,
            pulmonary=pulmonary, cava=cava, heart=np.minimum.reduce(outer),
        )  # fmt: skip

    def _left_ventricle(self, at: Xyz, now: Moment) -> tuple[Array, Array, Array]:
        """Cavity, outer surface, distance below the annular plane."""
        a = self.anatomy
        x = np.where(at.x < 0, at.x * np.float32(1 / (1 - now.squeeze)), at.x) if now.squeeze else at.x
        motion = self.beat.motion_at(x, at.y, at.z, now)
        sigma = 1 - np.float32(now.inward) * motion
        mean = 1 - now.inward
        inner = Xyz(x / sigma, at.y / sigma, at.z)
        radius, half = a.radius_mm, now.half_mm
        middle = point(0, 0, now.centre_mm)
        endo = ellipsoid(inner, middle, point(radius, radius, half)) * sigma
        # the wall keeps its area: where the cavity comes in less, the outer surface bulges
        bulge = np.sqrt(1 + np.float32((radius / now.outer_mm) ** 2) * (sigma**2 - np.float32(mean**2)))
        outer = Xyz(x / bulge, at.y / bulge, at.z)
        epi = ellipsoid(outer, middle, point(now.outer_mm, now.outer_mm, now.outer_half_mm)) * bulge
        base = np.float32(now.base_mm) - at.z
        rim = base + np.float32(2 / 900) * (at.x**2 + at.y**2)
        return np.maximum(endo, base), np.maximum(epi, rim - 2.5), base

    def _parts(self, lay: Layout, now: Moment) -> dict[str, Cone]:
        """All that is a rounded cone."""
        k, wide, narrow = lay.k, lay.pulmonary_mm, 1 - 0.12 * now.contraction
        first, second = lay.outflow
        fork = lay.bifurcation
        return self._muscles(lay, now) | self._veins(lay) | {
            "lvot": Cone(
                point(-7 * k, 10 * k, now.base_mm + 16 * k), lay.root, 11 * k, self.anatomy.annulus_mm
            ),
            "mitral neck": Cone(
                lay.mitral + point(0, 0, -12 * k), lay.mitral + point(0, 0, 1), 17 * k, 15.5 * k
            ),
            "tricuspid neck": Cone(lay.tricuspid + point(0, 0, -12 * k), lay.tricuspid, 17 * k, 16 * k),
            "outflow": Cone(first, second, 16 * k * narrow, 13.5 * k * narrow),
            "outflow end": Cone(second, lay.pulmonary, 13.5 * k * narrow, wide),
            "trunk": Cone(lay.pulmonary, fork, wide, wide * 1.08),
            "right branch": Cone(fork, fork + point(-50, -22, -8) * k, 0.68 * wide, 0.64 * wide),
            "left branch": Cone(fork, fork + point(20, -22, -4) * k, 0.68 * wide, 0.64 * wide),
        }  # fmt: skip

    def _muscles(self, lay: Layout, now: Moment) -> dict[str, Cone]:
        """Papillary muscles, and the band of the right ventricle from septum to free wall."""
        a, k = self.anatomy, self.anatomy.radius_mm / 23.5
        radius = a.radius_mm * (1 - now.inward)
        septum = around(170) * now.outer_mm * 0.9 + point(0, 0, a.length_mm * (1 - 0.46 * now.shortening))
        parts = {"moderator": Cone(septum, septum + point(-26, 2, 12) * lay.k, 3.2 * lay.k, 2.6 * lay.k)}
        for number, (angle, root, tip) in enumerate(PAPILLARIES):
            out = around(angle + math.degrees(now.twist_rad) * 0.5)
            ends = [
                out * radius * share + point(0, 0, a.length_mm * (1 - (1 - height) * now.shortening))
                for share, height in ((0.80, root), (0.56, tip))
            ]
            parts[f"papillary {number}"] = Cone(ends[0], ends[1], 5.2 * k, 3.4 * k)
        return parts

    def _veins(self, lay: Layout) -> dict[str, Cone]:
        """Lower pulmonary veins; inferior vena cava with one hepatic vein that joins from the front."""
        k, mouth = lay.k, lay.cava
        front = -(self.heart_from_world[:3, :3] @ point(0, 1, 0))
        knee = mouth + lay.caudal * 48 * k  # below the liver it turns back to the spine
        joint = mouth + lay.caudal * 22 * k
        roof = lay.left_atrium + point(0, 8, -0.72 * lay.left_axes[2] / k) * k
        pulmonary = {
            f"{name} pulmonary vein": Cone(
                roof + point(side, 0, 3) * k, roof + point(out + side, -2, -9) * k, 6 * k, 5 * k
            )
            for name, side, out in (("left", 14, 30), ("right", -8, -20))
        }
        return pulmonary | {
            "cava": Cone(mouth, knee, 9.5 * k, 8.5 * k),
            "cava below": Cone(knee, knee + (lay.caudal - 0.3 * front) * 50 * k, 8.5 * k, 7 * k),
            "hepatic vein": Cone(
                joint, joint + (lay.caudal * 0.75 + front * 0.65) * 45 * k, 5.5 * k, 3.5 * k
            ),
        }

    def _aorta(self, at: Xyz, lay: Layout) -> tuple[Array, Array]:
        """Height over the annulus and distance to the lumen: annulus, sinuses, junction, ascending."""
        own = at.less(lay.root)
        height = own.along(lay.aorta)
        x, y, z = (c - height * np.float32(d) for c, d in zip(own, lay.aorta, strict=True))
        radius = self.root_radius(height, lay.k)
        across = np.sqrt(x * x + y * y + z * z) - radius
        return height, np.maximum(across, np.maximum(-height - 1, height - np.float32(75 * lay.k)))

    def root_radius(self, height_mm: Array, k: float) -> Array:
        """Radius of the aortic root at heights above its annulus."""
        u = height_mm / np.float32(k)
        widening = np.float32(0.42) * np.exp(-(((u - 12) / 7.5) ** 2))
        late = np.float32(0.20) / (1 + np.exp(-np.clip((u - 20) / 3, -30, 30)))
        return np.float32(self.anatomy.annulus_mm) * (1 + widening + late)

    def _left_atrium(self, at: Xyz, lay: Layout, tubes: Mapping[str, Array]) -> Array:
        k, (dx, dy, _, size) = lay.k, self.anatomy.lobe
        body = ellipsoid(at, lay.left_atrium, lay.left_axes)
        lobe = lay.left_atrium + point(6 + 3 * dx, 2 * dy, -7 + 2 * size) * k
        body = smooth_min(body, ellipsoid(at, lobe, lay.left_axes * (0.78 + 0.08 * size)), 8 * k)
        body = smooth_min(body, tubes["mitral neck"], 6 * k)
        for side in ("left", "right"):
            body = smooth_min(body, tubes[f"{side} pulmonary vein"], 4 * k)
        return body

    def _right_atrium(self, at: Xyz, lay: Layout, tubes: Mapping[str, Array]) -> Array:
        k, (_, dy, dx, size) = lay.k, self.anatomy.lobe
        body = ellipsoid(at, lay.right_atrium, lay.right_axes)
        lobe = lay.right_atrium + point(-5 + 3 * dx, 3 * dy, -5 - 2 * size) * k
        body = smooth_min(body, ellipsoid(at, lobe, lay.right_axes * (0.80 - 0.07 * size)), 8 * k)
        return smooth_min(body, tubes["tricuspid neck"], 6 * k)

    def _right_ventricle(self, at: Xyz, lay: Layout, tubes: Mapping[str, Array]) -> Array:
        body = ellipsoid(at, lay.right_ventricle, lay.right_ventricle_axes)
        body = np.maximum(body, np.float32(lay.tricuspid[2]) - at.z)
        return smooth_min(body, smooth_min(tubes["outflow"], tubes["outflow end"], 4 * lay.k), 8 * lay.k)
