"""One item of a scene: a still or a clip, its mask and its row of the manifest.

An item is a pure function of (seed, patient, scene, number), so that it is the same in any process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from insonate.phantom.acquire import Faults
from insonate.phantom.cast import ROLES, Shoot
from insonate.phantom.overlay import STYLES, Facts, overlaid
from insonate.phantom.painting import Painted
from insonate.phantom.physics import PRE_ROLL, Frame, Labels, Machine, Maps, lattice, stream
from insonate.phantom.vendors import VENDORS


@dataclass(frozen=True, kw_only=True)
class Order:
    """One item to render."""

    scene: str
    """among `cast.ROLES`"""
    seed: int
    patient: int
    item: int
    size: int
    frames: int | None = 1
    """None: as many as the scene's clip has"""
    ga_weeks: float | None = None
    """of a fetus; None draws it"""
    degraded: float = 0.0
    """odds that a clip has lost contact and dropped frames"""
    overlays: float = 0.0
    """odds that the study's machine draws over its pictures"""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A rendered item: T H W frames, H W masks by manifest column, and the row but for its paths."""

    frames: Frame
    masks: dict[str, Frame]
    row: dict[str, Any]

    @property
    def mask(self) -> Frame:
        """H W: of what the scene is about, at frame 0."""
        return self.masks[_mask_column(self.row)]


def _mask_column(row: dict[str, Any]) -> str:
    """Lesions of all organs have one column, so that one model learns them."""
    return "mask_path" if row.get("lesion_class") is not None else f"{row['scene']}_mask_path"


def staged(order: Order) -> tuple[Painted, Machine]:
    """The scene of an order and the machine that looks at it, its gain set."""
    role = ROLES[order.scene]
    acquisition = stream(order.seed, order.patient, f"acquisition/{order.scene}/{order.item}")
    number = int(stream(order.seed, order.patient, "vendor").integers(len(role.probes)))
    vendor = VENDORS[role.probes[number]]
    vendor = (vendor.softened() if role.soft else vendor).jittered(acquisition).thinned(order.size)
    texture = lattice(order.seed, role.blur_mm)
    anatomy = stream(order.seed, order.patient, "anatomy")
    shoot = Shoot(
        anatomy=anatomy, acquisition=acquisition, texture=texture, machine=vendor, ga_weeks=order.ga_weeks
    )
    scene = role.make(shoot)
    span_mm = None
    if vendor.shape != "linear":
        drop_mm = vendor.radius_mm * (1 - math.cos(math.radians(vendor.half_angle_deg)))
        shown_mm = max(scene.least_span_mm, scene.depth_mm + drop_mm)
        span_mm = shown_mm * float(acquisition.uniform(1.0, 1.15))
    noise = stream(order.seed, order.patient, f"noise/{order.scene}/{order.item}")
    machine = Machine(vendor, scene.depth_mm, size=order.size, rng=noise, texture=texture, span_mm=span_mm)
    return scene, machine


def render(order: Order) -> Item:
    """Draw patient and acquisition of the order and render it."""
    scene, machine = staged(order)
    cache = scene.static(machine.grid)
    still = scene.frame(cache, 0.0)
    quantile, level = scene.gain
    operator = stream(order.seed, order.patient, f"operator/{order.scene}/{order.item}")
    machine.auto_gain(still, quantile=quantile, level=level, operator_db=float(operator.normal(0, 3)))
    count = scene.clip_frames if order.frames is None else order.frames
    faults, first = _faults(order, count, scene.fps), 0 if count == 1 else -PRE_ROLL

    def moments() -> Iterator[Maps]:
        for number in range(first, count):
            maps = scene.frame(cache, number / scene.fps)
            yield maps if faults is None else faults.applied(maps, number / scene.fps)

    frames = machine.clip(moments(), first=first)
    row = _row(order, scene, machine, count)
    masks = {_mask_column(row): mask_of(scene, machine.screen.labels(still.label))}
    if faults is not None:
        frames = faults.frozen(frames)
        row["contact_lost_s"] = list(faults.lost_s)
        row["dropped_frames"] = list(map(float, faults.dropped)) or None
    row["burned_in"] = stream(order.seed, order.patient, "overlay").random() < order.overlays
    if row["burned_in"]:
        facts = Facts(
            patient=f"{order.patient:05d}", view=scene.name.upper(), f_mhz=machine.vendor.f_mhz,
            fps=scene.fps, depth_mm=scene.depth_mm,
        )  # fmt: skip
        style = replace(STYLES[machine.vendor.name], ecg=False)
        frames, masks["overlay_mask_path"] = overlaid(frames, machine.screen, style, facts, [0.0] * count)
    return Item(frames=frames, masks=masks, row=row)


def _faults(order: Order, count: int, fps: float) -> Faults | None:
    rng = stream(order.seed, order.patient, f"faults/{order.scene}/{order.item}")
    return Faults.draw(rng, count, fps, (0,)) if count > 1 and rng.random() < order.degraded else None


def mask_of(scene: Painted, label: Labels) -> Frame:
    """H W: the values of the scene's mask from its labels."""
    values = np.zeros(256, np.uint8)
    for part, value in scene.mask_values.items():
        values[part] = value
    return values[label]


def _row(order: Order, scene: Painted, machine: Machine, count: int) -> dict[str, Any]:
    name = f"phantom-{order.seed}-{order.patient:05d}"
    truth, screen = scene.truth(0.0), machine.screen
    row: dict[str, Any] = {
        "patient_id": name, "study_id": f"{name}-study", "series_id": f"{name}-{order.scene}-{order.item}",
        "view": scene.name, "scene": scene.name, "site": "phantom", "vendor": machine.vendor.name,
        "synthetic": True, "frames": count, "fps": None if count == 1 else scene.fps,
        "height": order.size, "width": order.size, "spacing_row_mm": screen.mm_per_px,
        "spacing_col_mm": screen.mm_per_px, "frame": 0, "f_mhz": machine.vendor.f_mhz,
        "depth_mm": scene.depth_mm,
    }  # fmt: skip
    points_set = ROLES[order.scene].points
    if points_set is not None:
        places = [screen.seen_px(*place) for place in truth.points_mm.values()]
        row |= labelled(points_set, [v for place in places for v in place])
    return row | dict(truth.columns)


def labelled(points_set: str, points: list[float] | None) -> dict[str, Any]:
    """The columns of points x0, y0, x1, …: in one column for all sets, and in one for this set alone."""
    return {
        "points_set": None if points is None else points_set,
        "keypoints": points,
        f"keypoints_{points_set.lower()}": points,
    }
