"""`generate`: draw patients, render their pictures, write media and a manifest with the truth.

Each item is a pure function of (seed, patient, item number within the patient), so the bytes are the same on
one process or many. Media and manifest go through `data`, imported only when something is written: the
workers that render need numpy and scipy alone.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from insonate.errors import InsonateError
from insonate.files import publish_dir
from insonate.phantom.fetus import Fetus, Head
from insonate.phantom.heart import (
    EF_RANGE,
    VIEWS,
    HeartItem,
    HeartOrder,
    known_view,
    render_heart,
    views_of_study,
)
from insonate.phantom.lesion import CLASSES, Breast, Lesion
from insonate.phantom.physics import PRE_ROLL, Frame, Machine, lattice, stream
from insonate.phantom.scene import Scene
from insonate.phantom.vendors import CURVED, LINEAR, VENDORS, Vendor

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest

Kind = Literal["fetal", "lesion", "mixed", "heart"]
KINDS = ("fetal", "lesion", "mixed", "heart")
FORMATS = {"png": ".png", "mp4": ".mp4", "dicom": ".dcm"}
CLIP_FRAMES = 16
FPS = 25.0
MANIFEST = "manifest.parquet"
CLIP_SIZE = 1024
"""largest of a heart clip: a beat at 120 frames a second stays below 300 MB"""
SPLITS = ("train", "train", "val", "train", "test", "train", "train")
"""of patient after patient (of one kind), so that five already fill all three splits"""


@dataclass(frozen=True, kw_only=True)
class Order:
    """One item to render."""

    kind: Kind
    seed: int
    patient: int
    item: int
    size: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Item:
    """A rendered item: T H W frames, H W mask of frame 0, and the row of the manifest but for its paths."""

    frames: Frame
    mask: Frame
    row: dict[str, Any]

    @property
    def masks(self) -> dict[str, Frame]:
        """By manifest column."""
        return {"mask_path" if self.row["scene"] == "lesion" else "head_mask_path": self.mask}


def generate(  # noqa: PLR0913 each is an option of its own
    out: Path | str,
    *,
    kind: Kind,
    patients: int,
    images_per_patient: int | None = None,
    views: Sequence[str] = VIEWS,
    missing: float = 0.0,
    ef_pct: float | None = None,
    degraded: float = 0.0,
    overlays: float = 1.0,
    seed: int = 0,
    size: int = 256,
    formats: Sequence[str] = ("png",),
    workers: int = 1,
) -> Manifest:
    """Write a set of labelled phantom pictures.

    Args:
        out: a new folder; `manifest.parquet`, `media/` and `masks/` appear in it, whole or not at all.
        kind: "fetal" (heads with points, HC and gestational age), "lesion" (breast lesions with class and
            mask), "mixed" (every other patient), or "heart" (beating hearts in standard views).
        patients: how many; patient n is the same whatever their number.
        images_per_patient: pictures of each, from different probe positions; 2 if None. Of a heart: of each
            view, 1 if None.
        views: of hearts, among `heart.VIEWS`.
        missing: share of its views that a heart study lacks, 0 up to but not including 1.
        ef_pct: ejection fraction of all hearts; None draws one for each.
        degraded: share of the heart clips with lost contact and dropped frames, 0 to 1.
        overlays: share of the heart studies with the machine's graphics and text in the picture, 0 to 1.
        seed: another seed, other patients.
        size: height and width in pixels; even for "mp4".
        formats: "png", "mp4", "dicom"; the items take turns. Videos and DICOM have 16 frames, or one beat
            of a heart; labels are those of the frame `frame` (and of a heart's `es_frame`).
        workers: processes that render.

    Returns:
        The manifest that was written, split by patient.

    Raises:
        InsonateError: an argument is out of range, or `out` holds files already.
    """
    _check(kind, patients, images_per_patient, size, formats)
    study = Study(
        views=tuple(views), repeats=images_per_patient or 1, missing=missing, ef_pct=ef_pct,
        degraded=degraded, overlays=overlays,
    )  # fmt: skip
    _check_heart(kind, study, largest=size if set(formats) != {"png"} else 0)
    from insonate.data.manifest import Manifest

    out = Path(out)
    orders = (
        _heart_orders(study, patients, seed, size, formats)
        if kind == "heart"
        else _orders(kind, patients, images_per_patient or 2, seed, size, formats)
    )
    with publish_dir(out) as folder:
        rows = [
            _write(folder, item, _format(formats, number))
            for number, item in zip(orders, _rendered(list(orders.values()), workers), strict=True)
        ]
        Manifest.from_rows(rows, folder).write(folder / MANIFEST)
    return Manifest.read(out / MANIFEST)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a heart study is to have; see `generate`."""

    views: tuple[str, ...] = VIEWS
    repeats: int = 1
    missing: float = 0.0
    ef_pct: float | None = None
    degraded: float = 0.0
    overlays: float = 1.0


def _heart_orders(
    study: Study, patients: int, seed: int, size: int, formats: Sequence[str]
) -> dict[int, Order | HeartOrder]:
    """By the item's number, which counts missing views too: no item depends on what others lack."""
    orders: dict[int, Order | HeartOrder] = {}
    for patient in range(patients):
        shown = views_of_study(seed, patient, study.views, study.missing)
        for item, view in enumerate(study.views * study.repeats):
            number = patient * len(study.views) * study.repeats + item
            if view in shown:
                orders[number] = HeartOrder(
                    seed=seed, patient=patient, item=item, view=view, size=size,
                    clip=_format(formats, number) != "png", ef_pct=study.ef_pct, degraded=study.degraded,
                    overlays=study.overlays,
                )  # fmt: skip
    return orders


def _orders(
    kind: Kind, patients: int, images_per_patient: int, seed: int, size: int, formats: Sequence[str]
) -> dict[int, Order | HeartOrder]:
    return {
        (number := patient * images_per_patient + item): Order(
            kind=kind, seed=seed, patient=patient, item=item, size=size,
            frames=1 if _format(formats, number) == "png" else CLIP_FRAMES,
        )
        for patient in range(patients)
        for item in range(images_per_patient)
    }  # fmt: skip


def _check(
    kind: str, patients: int, images_per_patient: int | None, size: int, formats: Sequence[str]
) -> None:
    where = "phantom"
    if kind not in KINDS:
        raise InsonateError(where, f"there is no kind {kind!r}", f"Choose one of {', '.join(KINDS)}")
    if patients < 1 or (images_per_patient is not None and images_per_patient < 1):
        what = f"{patients} patients with {images_per_patient or 2} pictures each"
        raise InsonateError(where, what, "Ask for at least one of each")
    if not 32 <= size <= 4096:
        raise InsonateError(where, f"a size of {size} px", "Choose 32 to 4096")
    if not formats or not set(formats) <= set(FORMATS):
        raise InsonateError(where, f"formats {list(formats)}", f"Choose among {', '.join(FORMATS)}")
    if "mp4" in formats and size % 2:
        raise InsonateError(where, f"an odd size of {size} px in mp4", "Choose an even size")


def _check_heart(kind: str, study: Study, *, largest: int) -> None:
    where, views = "phantom heart", study.views
    if kind != "heart" and study != Study(repeats=study.repeats):
        what = f"views, ejection fraction and the like are of hearts, not of kind {kind!r}"
        raise InsonateError(where, what, "Give --kind heart, or leave them out")
    if kind == "heart" and largest > CLIP_SIZE:
        raise InsonateError(where, f"clips of {largest} px", f"Choose at most {CLIP_SIZE}, or png alone")
    if not views:
        raise InsonateError(where, "no views", f"Choose among {', '.join(VIEWS)}")
    for view in views:
        known_view(view)
    if len(set(views)) < len(views):
        raise InsonateError(where, f"a view twice in {', '.join(views)}", "Name each once")
    if not 0 <= study.missing < 1:
        raise InsonateError(where, f"{study.missing:g} of the views missing", "Choose 0 up to less than 1")
    for name, share in (("degraded", study.degraded), ("with overlays", study.overlays)):
        if not 0 <= share <= 1:
            raise InsonateError(where, f"{share:g} of the items {name}", "Choose 0 to 1")
    low, high = EF_RANGE
    if study.ef_pct is not None and not low <= study.ef_pct <= high:
        what = f"an ejection fraction of {study.ef_pct:g} % is not modelled"
        raise InsonateError(where, what, f"Ask for {low:g} to {high:g} %")


def _format(formats: Sequence[str], number: int) -> str:
    return formats[number % len(formats)]


def _rendered(orders: list[Order | HeartOrder], workers: int) -> Iterator[Item | HeartItem]:
    if workers <= 1:
        yield from map(_render, orders)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy locks of torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_render, orders, chunksize=4)


def _render(order: Order | HeartOrder) -> Item | HeartItem:
    return render_heart(order) if isinstance(order, HeartOrder) else render(order)


def render(order: Order) -> Item:
    """Draw patient and acquisition of the order and render it."""
    fetal = order.kind == "fetal" or (order.kind == "mixed" and order.patient % 2 == 0)
    acquisition = stream(order.seed, order.patient, f"acquisition/{order.item}")
    scene, machine = (_head if fetal else _breast)(order, acquisition)
    cache = scene.static(machine.grid)
    still = scene.frame(cache, 0.0)
    quantile, level = scene.gain
    machine.auto_gain(still, quantile=quantile, level=level, operator_db=float(acquisition.normal(0, 3)))
    first = 0 if order.frames == 1 else -PRE_ROLL
    moments = (scene.frame(cache, number / FPS) for number in range(first, order.frames))
    frames = machine.clip(moments, first=first)
    mask = np.isin(machine.screen.labels(still.label), scene.mask_labels).astype(np.uint8) * np.uint8(255)
    return Item(frames=frames, mask=mask, row=_row(order, scene, machine))


def _head(order: Order, acquisition: np.random.Generator) -> tuple[Scene[Any], Machine]:
    vendor = _vendor(order, CURVED)
    texture = lattice(order.seed, 0.3)  # blur in mm: below the point spread of the probe
    setting = vendor.jittered(acquisition)
    head = Head(Fetus.draw(stream(order.seed, order.patient, "anatomy")), texture, acquisition)
    drop_mm = vendor.radius_mm * (1 - math.cos(math.radians(vendor.half_angle_deg)))
    span_mm = max(head.least_span_mm, head.depth_mm + drop_mm) * acquisition.uniform(1.0, 1.15)
    return head, Machine(
        setting, head.depth_mm, size=order.size, rng=_noise(order), texture=texture, span_mm=span_mm
    )


def _breast(order: Order, acquisition: np.random.Generator) -> tuple[Scene[Any], Machine]:
    vendor, anatomy = _vendor(order, LINEAR), stream(order.seed, order.patient, "anatomy")
    texture = lattice(order.seed, 0.12)
    setting = vendor.jittered(acquisition)
    lesion = Lesion.draw(CLASSES[int(anatomy.integers(2))], anatomy)
    breast = Breast(lesion, texture, acquisition, width_mm=vendor.width_mm, f_mhz=setting.f_mhz)
    return breast, Machine(setting, breast.depth_mm, size=order.size, rng=_noise(order), texture=texture)


def _vendor(order: Order, names: Sequence[str]) -> Vendor:
    return VENDORS[names[int(stream(order.seed, order.patient, "vendor").integers(len(names)))]]


def _noise(order: Order) -> np.random.Generator:
    return stream(order.seed, order.patient, f"noise/{order.item}")


def _row(order: Order, scene: Scene[Any], machine: Machine) -> dict[str, Any]:
    name = f"phantom-{order.seed}-{order.patient:05d}"
    truth = scene.truth(0.0)
    points = [v for x, z in truth.points_mm.values() for v in machine.screen.to_px(x, z)]
    row: dict[str, Any] = {
        "patient_id": name,
        "study_id": f"{name}-study",
        "series_id": f"{name}-{order.item}",
        "view": scene.name,
        "scene": scene.name,
        "site": "phantom",
        "vendor": machine.vendor.name,
        "synthetic": True,
        "frames": order.frames,
        "fps": None if order.frames == 1 else FPS,
        "height": order.size,
        "width": order.size,
        "spacing_row_mm": machine.screen.mm_per_px,
        "spacing_col_mm": machine.screen.mm_per_px,
        "frame": 0,
        "split": _split(order),
        "keypoints_hc": points or None,
        "hc_mm": None,
        "ga_weeks": None,
        "lesion_class": None,
        "lesion_long_mm": None,
        "mask_path": None,
        "head_mask_path": None,
    }
    return row | dict(truth.columns)


def _split(order: Order) -> str:
    number = order.patient // 2 if order.kind == "mixed" else order.patient
    return SPLITS[number % len(SPLITS)]


def _write(folder: Path, item: Item | HeartItem, format_name: str) -> dict[str, Any]:
    """Write medium and mask under `folder`; the finished row."""
    from insonate.data.media.writing import write_dicom, write_png, write_video
    from insonate.data.spacing import Spacing

    row = item.row
    medium = Path("media") / f"{row['series_id']}{FORMATS[format_name]}"
    if format_name == "png":
        write_png(folder / medium, item.frames[0])
    elif format_name == "mp4":
        write_video(folder / medium, item.frames, row["fps"])
    else:
        write_dicom(
            folder / medium,
            item.frames,
            spacing=Spacing(row_mm=row["spacing_row_mm"], col_mm=row["spacing_col_mm"]),
            frame_time_ms=1000 / row["fps"],
            patient_id=row["patient_id"],
            study_id=row["study_id"],
            series_id=row["series_id"],
            vendor=row["vendor"],
            item_id=row["series_id"],
            burned_in=bool(row.get("burned_in")),
        )
    kinds = {"png": "image", "mp4": "video", "dicom": "dicom"}
    paths: dict[str, str] = {}
    for column, mask in item.masks.items():
        extra = column.removesuffix("mask_path").removesuffix("_") if len(item.masks) > 1 else ""
        paths[column] = f"masks/{row['series_id']}{'_' * bool(extra)}{extra}.png"
        write_png(folder / paths[column], mask)
    return {"path": str(medium), "kind": kinds[format_name], **row, **paths}
