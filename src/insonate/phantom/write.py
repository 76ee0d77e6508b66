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
from insonate.phantom.lesion import CLASSES, Breast, Lesion
from insonate.phantom.physics import (
    CURVED,
    LINEAR,
    PRE_ROLL,
    VENDORS,
    Frame,
    Machine,
    Vendor,
    lattice,
    stream,
)
from insonate.phantom.scene import Scene

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest

Kind = Literal["fetal", "lesion", "mixed"]
KINDS = ("fetal", "lesion", "mixed")
FORMATS = {"png": ".png", "mp4": ".mp4", "dicom": ".dcm"}
CLIP_FRAMES = 16
FPS = 25.0
MANIFEST = "manifest.parquet"
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


def generate(
    out: Path | str,
    *,
    kind: Kind,
    patients: int,
    images_per_patient: int = 2,
    seed: int = 0,
    size: int = 256,
    formats: Sequence[str] = ("png",),
    workers: int = 1,
) -> Manifest:
    """Write a set of labelled phantom pictures.

    Args:
        out: a new folder; `manifest.parquet`, `media/` and `masks/` appear in it, whole or not at all.
        kind: "fetal" (heads with points, HC and gestational age), "lesion" (breast lesions with class and
            mask), or "mixed" (every other patient).
        patients: how many; patient n is the same whatever their number.
        images_per_patient: pictures of each, from different probe positions.
        seed: another seed, other patients.
        size: height and width in pixels; even for "mp4".
        formats: "png", "mp4", "dicom"; the items take turns. Videos and DICOM have 16 frames; the labels
            are those of frame 0.
        workers: processes that render.

    Returns:
        The manifest that was written, split by patient.

    Raises:
        InsonateError: an argument is out of range, or `out` holds files already.
    """
    _check(kind, patients, images_per_patient, size, formats)
    from insonate.data.manifest import Manifest

    out = Path(out)
    orders = [
        Order(
            kind=kind, seed=seed, patient=patient, item=item, size=size,
            frames=1 if _format(formats, patient * images_per_patient + item) == "png" else CLIP_FRAMES,
        )
        for patient in range(patients)
        for item in range(images_per_patient)
    ]  # fmt: skip
    with publish_dir(out) as folder:
        rows = [
            _write(folder, item, _format(formats, number))
            for number, item in enumerate(_rendered(orders, workers))
        ]
        Manifest.from_rows(rows, folder).write(folder / MANIFEST)
    return Manifest.read(out / MANIFEST)


def _check(kind: str, patients: int, images_per_patient: int, size: int, formats: Sequence[str]) -> None:
    where = "phantom"
    if kind not in KINDS:
        raise InsonateError(where, f"there is no kind {kind!r}", f"Choose one of {', '.join(KINDS)}")
    if patients < 1 or images_per_patient < 1:
        what = f"{patients} patients with {images_per_patient} pictures each"
        raise InsonateError(where, what, "Ask for at least one of each")
    if not 32 <= size <= 4096:
        raise InsonateError(where, f"a size of {size} px", "Choose 32 to 4096")
    if not formats or not set(formats) <= set(FORMATS):
        raise InsonateError(where, f"formats {list(formats)}", f"Choose among {', '.join(FORMATS)}")
    if "mp4" in formats and size % 2:
        raise InsonateError(where, f"an odd size of {size} px in mp4", "Choose an even size")


def _format(formats: Sequence[str], number: int) -> str:
    return formats[number % len(formats)]


def _rendered(orders: list[Order], workers: int) -> Iterator[Item]:
    if workers <= 1:
        yield from map(render, orders)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy locks of torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(render, orders, chunksize=4)


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


def _write(folder: Path, item: Item, format_name: str) -> dict[str, Any]:
    """Write medium and mask under `folder`; the finished row."""
    from insonate.data.media.writing import write_dicom, write_png, write_video
    from insonate.data.spacing import Spacing

    row = item.row
    medium = Path("media") / f"{row['series_id']}{FORMATS[format_name]}"
    if format_name == "png":
        write_png(folder / medium, item.frames[0])
    elif format_name == "mp4":
        write_video(folder / medium, item.frames, FPS)
    else:
        write_dicom(
            folder / medium,
            item.frames,
            spacing=Spacing(row_mm=row["spacing_row_mm"], col_mm=row["spacing_col_mm"]),
            frame_time_ms=1000 / FPS,
            patient_id=row["patient_id"],
            study_id=row["study_id"],
            series_id=row["series_id"],
            vendor=row["vendor"],
            item_id=row["series_id"],
        )
    mask = Path("masks") / f"{row['series_id']}.png"
    write_png(folder / mask, item.mask)
    kinds = {"png": "image", "mp4": "video", "dicom": "dicom"}
    column = "mask_path" if row["scene"] == "lesion" else "head_mask_path"
    return {"path": str(medium), "kind": kinds[format_name], **row, column: str(mask)}
