"""One item of a heart study: a clip of a beat or a still, its masks and its row of the manifest.

A study has the asked views, perhaps without some; each is taken near its exact pose, by one machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from insonate.phantom.acquire import TRACKER_LATE_S, Faults, tracked, turned
from insonate.phantom.heart.anatomy import Anatomy
from insonate.phantom.heart.chambers import Chambers
from insonate.phantom.heart.poses import VIEWS, world_from_probe
from insonate.phantom.heart.scene import Plane
from insonate.phantom.heart.texture import volume
from insonate.phantom.heart.tissue import LA, LABELS, LV, LVOT, MYOCARDIUM, PAPILLARY
from insonate.phantom.heart.truth import TASKS
from insonate.phantom.overlay import STYLES, Facts, ecg_strip, overlaid
from insonate.phantom.physics import PRE_ROLL, Frame, Labels, Machine, Maps, stream
from insonate.phantom.scene import Truth
from insonate.phantom.vendors import SECTOR, VENDORS, Vendor

RATES_FPS = (20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 80.0, 120.0)
RATE_ODDS = (0.1, 0.2, 0.22, 0.18, 0.15, 0.08, 0.05, 0.02)
HAND_MM, HAND_DEG = 2.0, 2.5
"""standard deviation of a sonographer's pose around the exact one, each axis"""


@dataclass(frozen=True, kw_only=True)
class HeartOrder:
    """One item to render."""

    seed: int
    patient: int
    item: int
    view: str
    size: int
    clip: bool
    """one beat, or one frame"""
    ef_pct: float | None = None
    degraded: float = 0.0
    """share of clips with lost contact and dropped frames"""
    overlays: float = 1.0
    """share of studies with the vendor's graphics and text in the picture"""
    timed: bool = False
    """the medium tells the time of each frame: dropped ones are absent, else the one before stands still"""


@dataclass(frozen=True, kw_only=True)
class HeartItem:
    """T H W frames, H W masks by manifest column, and the row but for its paths."""

    frames: Frame
    masks: dict[str, Frame]
    row: dict[str, Any]


def views_of_study(seed: int, patient: int, views: tuple[str, ...], missing: float) -> list[str]:
    """The views that a study has: each is missing with probability `missing`, but not all."""
    draws = stream(seed, patient, "study").random(len(views))
    left = [view for view, draw in zip(views, draws, strict=True) if draw >= missing]
    return left or [views[int(draws.argmax())]]


def render_heart(order: HeartOrder) -> HeartItem:
    """Draw patient and acquisition of the order and render it.

    Raises:
        InsonateError: an unknown view, or an ejection fraction that cannot be.
    """
    chambers = Chambers(Anatomy.draw(stream(order.seed, order.patient, "anatomy"), ef_pct=order.ef_pct))
    acquisition = stream(order.seed, order.patient, f"acquisition/{order.item}")
    vendor = _vendor(order, chambers.anatomy.scale).jittered(acquisition).thinned(order.size)
    placed = by_hand(world_from_probe(chambers, order.view), chambers.anatomy.scale, acquisition)
    texture, beat = volume(order.seed), chambers.beat
    fps = float(acquisition.choice(RATES_FPS, p=RATE_ODDS))
    start = float(acquisition.uniform()) if order.clip else float(acquisition.choice([0.0, beat.end_systole]))
    plane = Plane(chambers, texture, acquisition, view=order.view, placed=placed, start=start)
    plane.depth_mm *= float(acquisition.uniform(0.86, 1.10))
    noise = stream(order.seed, order.patient, f"noise/{order.item}")
    machine = Machine(vendor, plane.depth_mm, size=order.size, rng=noise, texture=texture)
    cache, (quantile, level) = plane.static(machine.grid), plane.gain
    operator_db = float(acquisition.normal(0, 2))
    machine.auto_gain(plane.frame(cache, 0.0), quantile=quantile, level=level, operator_db=operator_db)
    count = math.ceil(beat.period_s * fps) + 1 if order.clip else 1
    labelled = _labelled(plane, count, fps) if order.clip else {"": 0}
    faults = _faults(order, count, fps, tuple(labelled.values()))
    kept: dict[int, Labels] = {}

    def moments(first: int) -> Any:
        for number in range(first, count):
            maps: Maps = plane.frame(cache, number / fps)
            if number in labelled.values():
                kept[number] = machine.screen.labels(maps.label)
            yield maps if faults is None else faults.applied(maps, number / fps)

    first = -PRE_ROLL if order.clip else 0
    frames = machine.clip(moments(first), first=first)
    numbers, frames = _kept(frames, faults, timed=order.timed)
    masks = {
        f"{prefix}{column}": picture
        for prefix, number in labelled.items()
        for column, picture in _masks(kept[number]).items()
    }
    marked, strip = _marked(order), None
    if marked:
        style, phases = STYLES[vendor.name], [beat.phase(number / fps, start) for number in numbers]
        facts = Facts(
            patient=f"{order.patient:05d}", view=order.view, f_mhz=vendor.f_mhz, fps=fps,
            depth_mm=plane.depth_mm,
        )  # fmt: skip
        frames, masks["overlay_mask_path"] = overlaid(frames, machine.screen, style, facts, phases)
        strip = ecg_strip(style, order.size, beat.period_s)
    row = _row(order, plane, machine, labelled, numbers, fps)
    row |= _followed(order, plane, numbers / fps) | {
        "burned_in": marked,
        "overlay_mask_path": None,
        "ecg_box_px": None if strip is None else strip[0],
        "ecg_s_per_px": None if strip is None else strip[1],
        "contact_lost_s": None if faults is None else list(faults.lost_s),
        "dropped_frames": None if faults is None or not faults.dropped else list(map(float, faults.dropped)),
    }
    return HeartItem(frames=frames, masks=masks, row=row)


def _kept(frames: Frame, faults: Faults | None, *, timed: bool) -> tuple[np.ndarray, Frame]:
    """Numbers of the frames that the medium will hold, and these frames."""
    numbers = np.arange(len(frames))
    if faults is None:
        return numbers, frames
    if not timed:
        return numbers, faults.frozen(frames)
    numbers = np.setdiff1d(numbers, faults.dropped)
    return numbers, frames[numbers]


def _marked(order: HeartOrder) -> bool:
    return bool(stream(order.seed, order.patient, "overlay").random() < order.overlays)


def _faults(order: HeartOrder, count: int, fps: float, keep: tuple[int, ...]) -> Faults | None:
    rng = stream(order.seed, order.patient, f"faults/{order.item}")
    return Faults.draw(rng, count, fps, keep) if order.clip and rng.random() < order.degraded else None


def _followed(order: HeartOrder, plane: Plane, times_s: np.ndarray) -> dict[str, list[float]]:
    """Poses of the probe, 16 numbers a frame: true, and as a tracker tells them."""
    rng = stream(order.seed, order.patient, f"tracker/{order.item}")
    true, late = (
        np.stack([plane.probe_at(float(t_s) - lag) for t_s in times_s]) for lag in (0.0, TRACKER_LATE_S)
    )
    return {"probe_poses": true.ravel().tolist(), "tracker_poses": tracked(late, rng).ravel().tolist()}


def _vendor(order: HeartOrder, scale: float) -> Vendor:
    """The study's machine; small patients are scanned with a higher frequency."""
    name = SECTOR[int(stream(order.seed, order.patient, "vendor").integers(len(SECTOR)))]
    return VENDORS[name].tuned(scale)


def by_hand(exact: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A pose near the exact one: shifted on the skin and turned a little."""
    turn = np.eye(4)
    turn[:3, :3] = turned(np.radians(rng.normal(0, HAND_DEG, 3)))
    turn[:2, 3] = rng.normal(0, HAND_MM * scale, 2)
    return np.asarray(exact @ turn)


def _labelled(plane: Plane, count: int, fps: float) -> dict[str, int]:
    """Frames nearest to end-diastole and end-systole."""
    beat = plane.chambers.beat
    phases = np.array([beat.phase(number / fps, plane.start) for number in range(count)])

    def near(phase: float) -> int:
        return int(np.abs((phases - phase + 0.5) % 1 - 0.5).argmin())

    return {"": near(0.0), "es_": near(beat.end_systole)}


def _masks(label: Labels) -> dict[str, Frame]:
    """All labels as they are, and left ventricle 1, its muscle 2, left atrium 3."""
    coarse = np.zeros(len(LABELS), np.uint8)
    coarse[[LV, LVOT, PAPILLARY, MYOCARDIUM, LA]] = 1, 1, 1, 2, 3
    return {"mask_path": coarse[label], "chambers_mask_path": label}


def _row(
    order: HeartOrder,
    plane: Plane,
    machine: Machine,
    labelled: dict[str, int],
    numbers: np.ndarray,
    fps: float,
) -> dict[str, Any]:
    """The row; `numbers` says when each frame of the medium was taken, `labelled` which ones have labels."""
    name = f"phantom-heart-{order.seed}-{order.patient:05d}"
    exact, screen = world_from_probe(plane.chambers, order.view), machine.screen
    turn = exact[:3, :3].T @ plane.world_from_probe[:3, :3]
    truth = plane.truth(labelled[""] / fps)
    place = {prefix: int(np.searchsorted(numbers, number)) for prefix, number in labelled.items()}
    uneven = len(numbers) > 1 and numbers[-1] != len(numbers) - 1
    row: dict[str, Any] = {
        "patient_id": name, "study_id": f"{name}-study", "series_id": f"{name}-{order.item}",
        "view": order.view, "scene": "heart", "site": "phantom", "vendor": machine.vendor.name,
        "synthetic": True, "frames": len(numbers), "fps": fps if order.clip else None, "height": order.size,
        "width": order.size, "spacing_row_mm": screen.mm_per_px, "spacing_col_mm": screen.mm_per_px,
        "frame": place[""], "es_frame": place.get("es_"),
        "frame_times_s": (numbers / fps).tolist() if uneven else None,
        "probe_xy_px": list(screen.to_px(0, 0)),
        "f_mhz": machine.vendor.f_mhz, "depth_mm": plane.depth_mm, "phase0": plane.start,
        "world_from_probe": plane.world_from_probe.ravel().tolist(),
        "view_poses": np.stack([world_from_probe(plane.chambers, view) for view in VIEWS]).ravel().tolist(),
        "view_offset_mm": float(np.linalg.norm(plane.world_from_probe[:3, 3] - exact[:3, 3])),
        "view_turn_deg": math.degrees(math.acos(np.clip((np.trace(turn) - 1) / 2, -1, 1))),
        "wall_motion": list(plane.chambers.anatomy.wall_motion),
    }  # fmt: skip
    for prefix in ("", "es_"):
        shown = plane.truth(labelled[prefix] / fps) if prefix in labelled else None
        for view, task in TASKS.items():
            points = _points(shown, machine, task) if shown is not None and view == order.view else None
            row[f"{prefix}keypoints_{task.lower()}"] = points
    return row | dict(truth.columns)


def _points(truth: Truth, machine: Machine, task: str) -> list[float] | None:
    """x0, y0, x1, ... in pixels in the official order of the task, NaN where not visible; None if none is."""
    from insonate.data.pointorders import to_official
    from insonate.data.pointsets import POINT_SETS

    places = np.array([machine.screen.to_px(*truth.points_mm[name]) for name in POINT_SETS[task].names])
    whole = np.nan_to_num(np.rint(places), nan=-1).astype(int)
    size = machine.screen.size
    column, row = np.clip(whole, 0, size - 1).T
    shown = (whole >= 0).all(1) & (whole < size).all(1) & machine.screen.inside[row, column]
    places[~shown] = np.nan
    return to_official(places, task).ravel().tolist() if shown.any() else None
