"""`generate`: draw patients, render their pictures, write media and a manifest with the truth.

Each item is a pure function of (seed, patient, item number within the patient), so the bytes are the same on
one process or many. Media and manifest go through `data`, imported only when something is written: the
workers that render need numpy and scipy alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insonate.files import publish_dir
from insonate.phantom.heart import VIEWS, HeartItem, HeartOrder, render_heart
from insonate.phantom.heart.truth import TASKS
from insonate.phantom.items import Item, labelled, render
from insonate.phantom.orders import FORMATS, AnyOrder, PhantomSet

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest

MANIFEST = "manifest.parquet"
AnyItem = Item | HeartItem


def generate(  # noqa: PLR0913 each is an option of its own
    out: Path | str,
    *,
    kind: str,
    patients: int,
    images_per_patient: int | None = None,
    views: Sequence[str] = VIEWS,
    missing: float = 0.0,
    ef_pct: float | None = None,
    ga_weeks: float | None = None,
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
        kind: "heart" (beating hearts in standard views), one scene of `cast.ROLES`, or one of `cast.KINDS`:
            "fetal" (head, abdomen and femur of each), "lesion" (breast, thyroid, liver in turn), "mixed"
            (head and breast in turn), "biometry" (all nine keypoint tasks in turn).
        patients: how many; patient n is the same whatever their number.
        images_per_patient: pictures of each, from different probe positions; 2 if None. Where a patient has
            several views (heart, fetal): of each view, 1 if None.
        views: of hearts, among `heart.VIEWS`.
        missing: share of its views that a heart study lacks, 0 up to but not including 1.
        ef_pct: ejection fraction of all hearts; None draws one for each.
        ga_weeks: gestational age of all fetuses; None draws one for each.
        degraded: share of the heart clips with lost contact and dropped frames, 0 to 1.
        overlays: share of the heart studies with the machine's graphics and text in the picture, 0 to 1.
        seed: another seed, other patients.
        size: height and width in pixels; even for "mp4".
        formats: "png", "mp4", "dicom"; the items take turns. Videos and DICOM are clips: a beat of a heart, a
            breath of a vein, 16 frames or more of others; labels are those of the frame `frame` (and of a
            heart's `es_frame`).
        workers: processes that render.

    Returns:
        The manifest that was written, split by patient.

    Raises:
        InsonateError: an argument is out of range, or `out` holds files already.
    """
    wanted = PhantomSet(
        kind=kind, patients=patients, images_per_patient=images_per_patient, views=tuple(views),
        missing=missing, ef_pct=ef_pct, ga_weeks=ga_weeks, degraded=degraded, overlays=overlays, seed=seed,
        size=size, formats=tuple(formats),
    )  # fmt: skip
    from insonate.data.manifest import Manifest

    out, numbers = Path(out), list(wanted.orders())
    with publish_dir(out) as folder:
        rows = [
            _write(folder, item, wanted.format(number))
            for number, item in zip(numbers, samples(wanted, workers=workers), strict=True)
        ]
        Manifest.from_rows(rows, folder).write(folder / MANIFEST)
    return Manifest.read(out / MANIFEST)


def samples(wanted: PhantomSet, *, workers: int = 1) -> Iterator[AnyItem]:
    """The items of a set, without files: frames, masks, and the row that a manifest would have."""
    orders = list(wanted.orders().values())
    for order, item in zip(orders, _rendered(orders, workers), strict=True):
        row = item.row | {"split": wanted.split(order.patient)}
        task = TASKS.get(row["view"])
        if task is not None:
            row |= labelled(task, row[f"keypoints_{task.lower()}"])
        yield replace(item, row=row)


def _rendered(orders: list[AnyOrder], workers: int) -> Iterator[AnyItem]:
    if workers <= 1:
        yield from map(_render, orders)
        return
    context = multiprocessing.get_context("spawn")  # fork would copy locks of torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_render, orders, chunksize=4)


def _render(order: AnyOrder) -> AnyItem:
    return render_heart(order) if isinstance(order, HeartOrder) else render(order)


def _write(folder: Path, item: AnyItem, format_name: str) -> dict[str, Any]:
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
