"""The scenes by name: which probes look at them, which points they have, how a patient's is drawn.

Kinds are what a set is made of: one scene, several of each patient (`whole`), or one of them a patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from insonate.phantom.abdomen import Abdomen
from insonate.phantom.cava import Breathing, Cava
from insonate.phantom.cervix import Cervix, Neck
from insonate.phantom.femur import Femur
from insonate.phantom.fetus import Fetus
from insonate.phantom.head import Head
from insonate.phantom.lesion import CLASSES, Lesion
from insonate.phantom.lung import Lung, Pleura
from insonate.phantom.organs import Breast, Liver, Organ, Thyroid
from insonate.phantom.painting import Painted
from insonate.phantom.pelvis import Labour, Pelvis
from insonate.phantom.physics import Lattice
from insonate.phantom.vendors import CAVITY, CURVED, LINEAR, SECTOR, Vendor


@dataclass(frozen=True, kw_only=True)
class Shoot:
    """What a scene is made from."""

    anatomy: np.random.Generator
    """the same for all items of a patient"""
    acquisition: np.random.Generator
    texture: Lattice
    machine: Vendor
    ga_weeks: float | None = None


@dataclass(frozen=True, kw_only=True)
class Role:
    """One scene."""

    make: Callable[[Shoot], Painted]
    probes: tuple[str, ...]
    points: str | None = None
    """the set in `data.pointsets`"""
    blur_mm: float = 0.3
    """of the scatter: below the point spread of the probe"""
    soft: bool = False
    """whether the machine's soft setting is used"""


def _organ(organ: type[Organ], scale: float) -> Callable[[Shoot], Painted]:
    def make(shoot: Shoot) -> Painted:
        lesion = Lesion.draw(CLASSES[int(shoot.anatomy.integers(2))], shoot.anatomy).scaled(scale)
        machine = shoot.machine
        return organ(
            lesion, shoot.texture, shoot.acquisition, width_mm=field_width_mm(machine), f_mhz=machine.f_mhz
        )

    return make


def field_width_mm(machine: Vendor, depth_mm: float = 30.0) -> float:
    """How wide the field is at a depth."""
    if machine.shape == "linear":
        return machine.width_mm
    return 2 * (machine.radius_mm + depth_mm) * math.sin(math.radians(machine.half_angle_deg))


def _head(shoot: Shoot) -> Painted:
    return Head(Fetus.draw(shoot.anatomy, shoot.ga_weeks), shoot.texture, shoot.acquisition)


def _abdomen(shoot: Shoot) -> Painted:
    return Abdomen(Fetus.draw(shoot.anatomy, shoot.ga_weeks), shoot.texture, shoot.acquisition)


def _femur(shoot: Shoot) -> Painted:
    return Femur(Fetus.draw(shoot.anatomy, shoot.ga_weeks), shoot.texture, shoot.acquisition)


def _cervix(shoot: Shoot) -> Painted:
    return Cervix(Neck.draw(shoot.anatomy), shoot.texture, shoot.acquisition)


def _pelvis(shoot: Shoot) -> Painted:
    return Pelvis(Labour.draw(shoot.anatomy), shoot.texture, shoot.acquisition)


def _cava(shoot: Shoot) -> Painted:
    return Cava(Breathing.draw(shoot.anatomy), shoot.texture, shoot.acquisition)


def _lung(shoot: Shoot) -> Painted:
    width_mm = field_width_mm(shoot.machine, 18.0)
    return Lung(Pleura.draw(shoot.anatomy), shoot.texture, shoot.acquisition, width_mm=width_mm)


ROLES: dict[str, Role] = {
    # soft, so that the numbers of docs/results/demo.md stay those of its pictures
    "head": Role(make=_head, probes=CURVED, points="HC", soft=True),
    "abdomen": Role(make=_abdomen, probes=CURVED, points="FA"),
    "femur": Role(make=_femur, probes=CURVED, points="fetal_femur"),
    "cervix": Role(make=_cervix, probes=CAVITY, points="FUGC", blur_mm=0.2),
    "pelvis": Role(make=_pelvis, probes=CURVED, points="AOP"),
    "cava": Role(make=_cava, probes=SECTOR + CURVED, points="IVC"),
    "breast": Role(make=_organ(Breast, 1.0), probes=LINEAR, blur_mm=0.12),
    "thyroid": Role(make=_organ(Thyroid, 0.75), probes=LINEAR, blur_mm=0.12),
    "liver": Role(make=_organ(Liver, 1.7), probes=CURVED),
    "lung": Role(make=_lung, probes=LINEAR + CURVED, blur_mm=0.2),
}
HEARTS = {"A4C": "A4C", "PLAX": "PLAX", "PSAX-AV": "PSAX"}
"""views of the heart among the scenes of a kind → their point set"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a set is made of."""

    scenes: tuple[str, ...]
    whole: bool = False
    """whether each patient is shown in all scenes; otherwise patients take turns"""


KINDS: dict[str, Kind] = {
    **{name: Kind(scenes=(name,)) for name in ROLES},
    "fetal": Kind(scenes=("head", "abdomen", "femur"), whole=True),
    "lesion": Kind(scenes=("breast", "thyroid", "liver")),
    "mixed": Kind(scenes=("head", "breast")),
    "biometry": Kind(
        scenes=("head", "abdomen", "femur", "cervix", "pelvis", "cava", *HEARTS),
    ),
}
"""besides "heart" """
