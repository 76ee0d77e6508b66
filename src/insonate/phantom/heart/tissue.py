"""Classes of tissue, how bright they are and how they attenuate, and what lies around the heart in a plane.

Numbers: shared spec phantom, sections 1.3 and 2.2. Ids are those of the label masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from insonate.phantom.heart.anatomy import Anatomy
from insonate.phantom.heart.chambers import Chambers, Distances
from insonate.phantom.heart.solids import Cone, Xyz, cones, point, unit
from insonate.phantom.physics import Array, Grid
from insonate.phantom.scene import Texture, ridge, transmission_db

(AROUND, LV, MYOCARDIUM, LA, RV, RA, AORTA, PULMONARY, WALL, LEAFLET, PERICARDIUM, LUNG, LIVER, CAVA, RIB,
 CHEST, LVOT, PAPILLARY, DESCENDING) = range(19)  # fmt: skip
LABELS = (
    "around", "lv", "myocardium", "la", "rv", "ra", "aorta", "pulmonary", "wall", "leaflet", "pericardium",
    "lung", "liver", "cava", "rib", "chest", "lvot", "papillary", "descending_aorta",
)  # fmt: skip
"""names of the values of a chamber mask"""
LEVEL_DB = np.array(
    [-8, -27, -2, -28, -26, -27, -28, -27, -6, -3, -6, 0, -6, -28, 8, -5, -27, -2, -28], dtype=np.float32
)
ATTENUATION = np.array(
    [0.5, 0.15, 0.45, 0.15, 0.15, 0.15, 0.15, 0.15, 0.45, 0.6,
     0.6, 3.0, 0.45, 0.15, 12, 0.6, 0.15, 0.45, 0.15],
    dtype=np.float32,
)  # fmt: skip
BLOOD = np.isin(np.arange(19), (LV, LA, RV, RA, AORTA, PULMONARY, CAVA, LVOT, DESCENDING))
MUSCLE = np.isin(np.arange(19), (MYOCARDIUM, WALL, PAPILLARY))
TABLE, TABLE_PITCH_MM = 512, 0.6
"""cells and pitch of the wall texture that moves with the muscle"""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What of a plane the beat does not change; R L unless said."""

    line_db: Array
    around_db: Array
    liver_db: Array
    chest_db: Array
    chest: np.ndarray
    rib: np.ndarray
    lung: np.ndarray
    """where lung is unless the heart is there"""
    liver: np.ndarray
    descending: Array
    """distance to the descending aorta"""
    shimmer: Array
    """factor on specular echoes"""
    fixed_spec: Array
    """echoes of skin and ribs"""
    rough_lv: Array
    """trabeculae: below 0, how near its inner surface a cavity looks like muscle, mm"""
    rough_rv: Array
    rough_atria: Array
    atrial_db: Array
    """thin walls are seen in parts only"""
    sac_db: Array
    ring_db: Array
    """wall of the descending aorta"""
    muscle: Array
    """TABLE TABLE: dB, at material coordinates"""


def surroundings(
    chambers: Chambers,
    grid: Grid,
    at: Xyz,
    rest: Distances,
    *,
    view: str,
    chest_mm: float,
    texture: Texture,
    rng: np.random.Generator,
) -> Surroundings:
    """Draw what lies around the heart.

    Args:
        chambers: the patient's heart.
        grid: of the beams.
        at: frame H coordinates of the samples.
        rest: distances at end-diastole.
        view: a subcostal view looks through the liver.
        chest_mm: thickness of the chest wall.
        texture: the patient's.
        rng: of this acquisition.
    """
    a, k, low = chambers.anatomy, chambers.anatomy.scale, texture.low
    x, z = np.ascontiguousarray(grid.x_mm), np.ascontiguousarray(grid.z_mm)
    world = [at.along(a.world[i, :3]) for i in range(3)]
    line_db = transmission_db(grid, rng) * np.float32(1.5)
    chest = (
        z
        - np.float32(chest_mm)
        - 2 * k * np.sin(x / np.float32(17 * k) + rng.uniform(0, 6))
        - low(x, 0 * z, 6)
    )
    liver, lung = _organs(world, rest, low(x, z, 9, 31), a, subcostal=view.startswith("SC"))
    rib = _rib(x, z, chest_mm, rng)
    fine, middle, coarse = low(x, z, 3.3, 1), low(x, z, 5, 2), low(x, z, 8, 3)
    # echoes that arrive late are smeared across the beam: streaks that follow the arc, not the anatomy
    arc = np.arctan2(x, z + np.float32(1e-3)) * 60
    streaks = 3.5 * low(arc * 0.35, grid.r_mm[:, None] + 0 * x, 4.5, 4) + 3 * low(
        arc * 0.5, grid.r_mm[:, None] * 0.7, 11, 5
    )
    # what lies deep is the bright back of the chest, what lies beside the apex is lung's faint veil
    deep = 11 * np.clip(grid.r_mm[:, None] / grid.depth_mm / 0.9, 0, 1) ** 2 - 5.5
    around_db = (streaks + deep + 3 * coarse + 1.5 * fine).astype(np.float32)
    rough_mm = (k * (1.1 * low(x, z, 7, 8) + 0.7 * low(x, z, 3, 9))).astype(np.float32)
    descending = _descending(chambers, at)
    skin = sum(0.5 * 0.6**n * ridge(z - 3.2 * n, 0.7) for n in range(1, 5))
    shimmer = 10 ** ((8 * fine + 6 * middle + 5 * low(x, z, 13, 6) - 3 + line_db) / 20)
    return Surroundings(
        line_db=line_db,
        around_db=around_db,
        liver_db=_liver(x, z, texture, rng),
        chest_db=_layers(x, z) + middle,
        chest=chest < 0,
        rib=rib,
        lung=lung,
        liver=liver,
        descending=descending,
        shimmer=((chest > 0) * shimmer).astype(np.float32),
        fixed_spec=(0.9 * ridge(chest, 0.8) + skin).astype(np.float32),
        rough_lv=-rough_mm,
        rough_rv=-1.6 * rough_mm,
        rough_atria=-1.3 * rough_mm,
        atrial_db=(6 * low(x, z, 12, 14) + 3 * low(x, z, 5, 15) - 13).astype(np.float32),
        sac_db=(0.6 * around_db - 6).astype(np.float32),
        ring_db=(8 * ridge(descending - 1, 1.2 * k)).astype(np.float32),
        muscle=_muscle(texture),
    )  # fmt: skip


def _layers(x: Array, z: Array) -> Array:
    """Muscle and fat of the chest wall, dB."""
    fine = 0.5 * np.sin(z * np.float32(2 * math.pi / 3.1) + np.float32(1.2) * np.sin(x / 9))
    return 3 * (fine + np.float32(0.7) * np.sin(z * np.float32(2 * math.pi / 5.3) + x / 15))


def _organs(
    world: list[Array], rest: Distances, uneven: Array, a: Anatomy, *, subcostal: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Liver below and to the right, lung beside; world axes x left, y back, z up around the heart."""
    k = a.scale
    x, y, z = world
    liver = (z + 58 * k + 0.25 * x < 0) & (rest.heart > 3 * k)
    if subcostal:  # all that the beam meets before the heart
        before = np.cumsum(rest.heart < 3 * k, 0) == 0
        liver |= before & (np.cumsum(before, 0) < 0.62 * len(before))
    clear = rest.heart > k * (7 + 4 * uneven)
    side = (x > 62 * k) | (x < -58 * k) | ((y < -30 * k) & (rest.heart > 14 * k))
    lung = clear & ~liver & side & (y < 42 * k)
    return liver, lung & (x > 70 * k) if subcostal else lung


def _rib(x: Array, z: Array, chest_mm: float, rng: np.random.Generator) -> np.ndarray:
    """In a poor window one rib cuts an edge of the sector."""
    side, poor = (1 if rng.random() < 0.5 else -1), rng.random() < 0.3
    place, depth = side * (0.62 * chest_mm + rng.uniform(3.5, 7)), 0.62 * chest_mm
    across, along = (x - place) / np.float32(0.3 * chest_mm), (z - depth) / np.float32(0.22 * chest_mm)
    return (across**2 + along**2 < 1) & poor


def _liver(x: Array, z: Array, texture: Texture, rng: np.random.Generator) -> Array:
    """Level over the liver's own, dB: even, with vessels that are dark and some bright-walled."""
    level = 1.2 * texture.low(x, z, 9, 12)
    for _ in range(5):
        u, v, turn = rng.uniform(-45, 45), rng.uniform(28, 130), rng.uniform(0, math.pi)
        length, radius = rng.uniform(8, 22), rng.uniform(1.2, 3.2)
        along = (x - u) * math.cos(turn) + (z - v) * math.sin(turn)
        across = np.abs((z - v) * math.cos(turn) - (x - u) * math.sin(turn) + 0.012 * along**2)
        away = np.hypot(np.maximum(np.abs(along) - length, 0), across) - radius
        level = np.where(away < 0, -20, level + 7 * ridge(away - 0.6, 0.8))
    return level.astype(np.float32)


def _descending(chambers: Chambers, at: Xyz) -> Array:
    """A tube along the spine behind the left atrium."""
    rest = chambers.beat.moment(0.0)
    lay, turn = chambers.layout(rest), chambers.heart_from_world[:3, :3]
    behind = lay.left_atrium + turn @ point(6, 38, 0) * lay.k
    up = unit(turn @ point(0, 0, 1)) * 120 * lay.k
    return cones(at, [Cone(behind - up, behind + up, 10.5 * lay.k, 10.5 * lay.k)])[0]


def _muscle(texture: Texture) -> Array:
    axis = ((np.arange(TABLE) - TABLE // 2) * TABLE_PITCH_MM).astype(np.float32)
    x, z = np.broadcast_to(axis, (TABLE, TABLE)), np.broadcast_to(axis[:, None], (TABLE, TABLE))
    low = texture.low
    return (4.5 * low(x, z, 3.3, 21) + 4 * low(x, z, 6, 22) + 3 * low(x, z, 11, 23)).astype(np.float32)
