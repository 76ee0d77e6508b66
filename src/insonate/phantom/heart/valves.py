"""Leaflets: distances to thin curved sheets, opened and closed with the beat.

Mitral and tricuspid leaflets hang from their rings and are bent along their length; between two leaflets the
closed commissures leave a mouth with two lips. Aortic cusps: three half-planes and a shallow dome when
closed, a tube when open.

Frame H, mm; asked at bent coordinates (`Chambers.bent`).
"""

from __future__ import annotations

import math

import numpy as np

from insonate.phantom.heart.chambers import Chambers, Layout
from insonate.phantom.heart.motion import Moment
from insonate.phantom.heart.solids import Point, Xyz, unit
from insonate.phantom.physics import Array

FAR = np.float32(9)
COMMISSURES_DEG = 150.0
"""direction of the longer (anterior) leaflet in the ring's plane; the lips part along it"""


def leaflets(chambers: Chambers, at: Xyz, now: Moment) -> Array:
    """Signed distance to the nearest leaflet."""
    lay, at = chambers.layout(now), chambers.bent(at)
    k = lay.k
    mitral = _hinged(at, lay.mitral, lay.mitral_mm, (22 * k, 13 * k), now.mitral) - 0.7 * k
    tricuspid = _hinged(at, lay.tricuspid, lay.tricuspid_mm, (18 * k, 15 * k), now.mitral) - 0.6 * k
    aortic = _cusps(chambers, at, lay, opening=now.aortic) - 0.6 * k
    return np.minimum(np.minimum(mitral, tricuspid), aortic).astype(np.float32)


def _hinged(at: Xyz, ring: Point, ring_mm: float, lengths: tuple[float, float], opening: float) -> Array:
    """Leaflets of a ring in a plane of constant z, lengths of the longer and the shorter one."""
    own = at.less(ring)
    radius = np.maximum(np.sqrt(own.x**2 + own.y**2), np.float32(1e-3))
    turn = math.radians(COMMISSURES_DEG)
    toward = (own.x * np.float32(math.cos(turn)) + own.y * np.float32(math.sin(turn))) / radius
    long, short = lengths
    length = np.float32(short) + np.float32(long - short) * (1 + toward) / 2
    # a mouth wider than its gap: steep at the commissures, flatter in the middle of the two lips
    lift = np.float32(math.radians(17)) + np.float32(math.radians(60) * opening) * (1 - 0.45 * toward**2)
    cos, sin = np.cos(lift), np.sin(lift)
    inward = np.float32(ring_mm) - radius
    share = np.clip((inward * cos + own.z * sin) / length, 0, 1)
    bow = np.float32(0.13 - 0.2 * opening) * length * share * (1 - share) * 4 / 2
    along, off = share * length, bow
    across, above = inward - (along * cos - off * sin), own.z - (along * sin + off * cos)
    return np.sqrt(across * across + above * above)  # many times faster than numpy's hypot


def _cusps(chambers: Chambers, at: Xyz, lay: Layout, *, opening: float) -> Array:
    own, k = at.less(lay.root), lay.k
    height = own.along(lay.aorta)
    x, y, z = (c - height * np.float32(d) for c, d in zip(own, lay.aorta, strict=True))
    radius = np.sqrt(x * x + y * y + z * z)
    wide = np.float32(chambers.anatomy.annulus_mm * 1.25)
    if opening > 0.5:
        tube = np.abs(radius - np.float32(chambers.anatomy.annulus_mm * 0.93))
        return np.maximum(tube, np.maximum(-height, height - 12 * k))
    first = unit(np.cross(lay.aorta, np.array([0.0, 0.0, 1.0])))
    second = np.cross(lay.aorta, first)
    across = Xyz(x, y, z)
    angle = np.arctan2(across.along(second), across.along(first))
    third = np.float32(2 * math.pi / 3)
    off = np.mod(angle + third / 2, third) - third / 2
    seam = np.maximum(radius * np.abs(np.sin(off)), radius - wide)
    seam = np.maximum(seam, np.maximum(4 * k - height, height - 11 * k))
    dome = np.abs(height - k * (2 + 4 * np.clip(1 - radius / wide, 0, 1))) * np.float32(0.8)
    dome = np.maximum(dome, np.maximum(radius - wide, np.maximum(-height, height - 11 * k)))
    return np.minimum(seam, dome)
