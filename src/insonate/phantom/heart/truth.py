"""Landmarks of the cardiac keypoint tasks, from the geometry of the plane and never from its picture.

Rules: shared spec phantom, section 2.6; names and meaning of the points: shared spec sonichu, section D.
A point is (nan, nan) where its source is more than 5 mm from the plane or the plane does not cut it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from insonate.phantom.heart.chambers import Distances
from insonate.phantom.heart.motion import Moment
from insonate.phantom.heart.section import NEAR_MM, NOWHERE, Section, Spot
from insonate.phantom.heart.solids import Point, point
from insonate.phantom.physics import Array

if TYPE_CHECKING:
    from insonate.phantom.heart.scene import Plane

TASKS = {"A4C": "A4C", "PLAX": "PLAX", "PSAX-AV": "PSAX", "SCIVC": "IVC"}
"""view → keypoint task that is labelled in it"""
Pair = tuple[Spot, Spot]
MISSING: Pair = (NOWHERE, NOWHERE)
LEVELS_MM = {"VAO": 12.0, "STJ": 22.0, "AAO": 34.0, "AV": 0.5, "LVOT": -5.0}
"""height of each aortic line over the annulus, times the patient's scale"""


def landmarks(plane: Plane, now: Moment, t_s: float) -> dict[str, Spot]:
    """(x, z) in mm by name, for the task of the plane's view; empty where the view has none."""
    rules: dict[str, Callable[[Section], dict[str, Pair]]] = {
        "A4C": _a4c, "PLAX": _plax, "PSAX-AV": _psax, "SCIVC": _cava,
    }  # fmt: skip
    if plane.name not in rules:
        return {}
    pairs = rules[plane.name](Section(plane, now, t_s))
    return {f"{name}_p{i}": spot for name, pair in pairs.items() for i, spot in enumerate(pair, start=1)}


def _spot(place: np.ndarray) -> Spot:
    return float(place[0]), float(place[1])


def _a4c(cut: Section) -> dict[str, Pair]:
    lay = cut.lay
    chambers: tuple[tuple[str, Callable[[Distances], Array], Point, float], ...] = (
        ("LV", lambda d: d.lv, lay.mitral, lay.mitral_mm),
        ("RV", lambda d: d.rv, lay.tricuspid, lay.tricuspid_mm),
        ("LA", lambda d: d.la, lay.mitral, lay.mitral_mm),
        ("RA", lambda d: d.ra, lay.tricuspid, lay.tricuspid_mm),
    )
    found: dict[str, Pair] = {}
    for name, field, ring, ring_mm in chambers:
        found |= {f"{name}_long": MISSING, f"{name}_trans": MISSING}
        hinges = cut.hinges(ring, ring_mm)
        base = None if hinges is None else (hinges[0] + hinges[1]) / 2
        ventricle = name.endswith("V")
        reach = cut.farthest if ventricle else cut.through  # an apex, or a roof
        end = None if base is None else reach(field, base)
        if base is None or end is None:
            continue
        found[f"{name}_long"] = (_spot(end), _spot(base)) if ventricle else (_spot(base), _spot(end))
        found[f"{name}_trans"] = cut.widest(field, base, end) or MISSING
    return found


def _plax(cut: Section) -> dict[str, Pair]:
    found: dict[str, Pair] = dict.fromkeys(
        ("LV", "RV", "IVS", "LVPW", "VAO", "STJ", "AAO", "AV", "LVOT", "LA", "RVOT"), MISSING
    )
    return found | _ventricle_line(cut) | _root_lines(cut)


def _ventricle_line(cut: Section) -> dict[str, Pair]:
    """One line across the ventricle at the tips of the leaflets: RV, septum, LV, posterior wall."""
    k, apex = cut.lay.k, point(0, 0, cut.plane.chambers.anatomy.length_mm)
    start, away = cut.project(point(0, 0, cut.now.base_mm + 22 * k))
    toward, _ = cut.project(apex)
    axis = (toward - start) / np.linalg.norm(toward - start)
    up = np.array([-axis[1], axis[0]])
    up *= -np.sign(up[1])
    found: dict[str, Pair] = {}
    front, back = cut.exits(lambda d: d.lv, start, up), cut.exits(lambda d: d.lv, start, -up)
    if front is None or back is None or away > 2 * NEAR_MM:
        return found
    found["LV"] = front.spot, back.spot
    septum, wall = cut.exits(lambda d: d.epi, start, up), cut.exits(lambda d: d.epi, start, -up)
    if wall is not None:
        found["LVPW"] = back.spot, wall.spot
    if septum is None:
        return found
    found["IVS"] = septum.spot, front.spot
    beyond = cut.exits(lambda d: d.rv, np.array(septum.spot) + 0.5 * up, up)
    if beyond is not None and float(cut.at(*(np.array([v]) for v in septum.spot + 1.0 * up)).rv[0]) < 0:
        found["RV"] = beyond.spot, septum.spot
    return found


def _root_lines(cut: Section) -> dict[str, Pair]:
    """Diameters of outflow tract and aortic root; on the line of the sinuses, RVOT before and LA behind."""
    lay, found = cut.lay, {}
    below, _ = cut.project(lay.root - 5 * lay.k * lay.aorta)
    above, _ = cut.project(lay.root + 40 * lay.k * lay.aorta)
    axis = (above - below) / np.linalg.norm(above - below)
    up = np.array([-axis[1], axis[0]])
    up *= -np.sign(up[1])
    for name, height in LEVELS_MM.items():
        middle, away = cut.project(lay.root + height * lay.k * lay.aorta)
        field: Callable[[Distances], Array] = (lambda d: d.lvot) if height < 0 else (lambda d: d.aorta)
        front, back = cut.exits(field, middle, up), cut.exits(field, middle, -up)
        if front is None or back is None or away > NEAR_MM:
            continue
        found[name] = front.spot, back.spot
        if name == "VAO":
            found |= _beside_root(cut, np.array(front.spot), np.array(back.spot), up)
    return found


def _beside_root(cut: Section, front: np.ndarray, back: np.ndarray, up: np.ndarray) -> dict[str, Pair]:
    found: dict[str, Pair] = {}
    near, far = cut.enters(lambda d: d.la, back, -up), cut.exits(lambda d: d.la, back, -up)
    if near is not None and far is not None and near.along_mm < 10:
        found["LA"] = near.spot, far.spot
    near, far = cut.enters(lambda d: d.rv, front, up), cut.exits(lambda d: d.rv, front, up)
    if near is not None and far is not None and near.along_mm < 12:
        found["RVOT"] = far.spot, near.spot
    return found


def _chord(cut: Section, place: Point, onward: Point, field: Callable[[Distances], Array]) -> Pair:
    """Across a tube, at right angles to its axis in the picture; upper end first."""
    middle, away = cut.project(place)
    ahead, _ = cut.project(onward)
    axis = (ahead - middle) / np.linalg.norm(ahead - middle)
    up = np.array([-axis[1], axis[0]])
    up *= -np.sign(up[1]) or 1.0
    first, second = cut.exits(field, middle, up), cut.exits(field, middle, -up)
    if first is None or second is None or away > NEAR_MM:
        return MISSING
    return first.spot, second.spot


def _psax(cut: Section) -> dict[str, Pair]:
    """Right outflow tract 10 mm below the pulmonary valve, main pulmonary artery at half its length."""
    lay = cut.lay
    inflow = lay.outflow[1] - lay.pulmonary
    below = lay.pulmonary + inflow / np.linalg.norm(inflow) * 10 * lay.k
    half = (lay.pulmonary + lay.bifurcation) / 2
    return {
        "RVOT": _chord(cut, below, lay.pulmonary, lambda d: d.rv),
        "PA": _chord(cut, half, lay.bifurcation, lambda d: d.pulmonary),
    }


def _cava(cut: Section) -> dict[str, Pair]:
    """Inferior vena cava 15 mm from the right atrium."""
    lay = cut.lay
    steps = np.arange(0, 60, 0.5)
    outside = [float(_right_atrium(cut, lay.cava + lay.caudal * step)) >= 0 for step in steps]
    mouth = lay.cava + lay.caudal * float(steps[int(np.argmax(outside))])
    return {"IVC": _chord(cut, mouth + lay.caudal * 15 * lay.k, mouth, lambda d: d.cava)}


def _right_atrium(cut: Section, place: Point) -> float:
    spot, _ = cut.project(place)
    return float(cut.at(*(np.array([v]) for v in spot)).ra[0])
