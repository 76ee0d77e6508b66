"""`generate`: draw patients, render their pictures, write media and a manifest with the truth.

Each item is a pure function of (seed, patient, item number within the patient), so the bytes are the same on
one process or many. Media and manifest go through `data`, imported only when something is written: the
workers that render need numpy and scipy alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insonate.errors import InsonateError, nearest
from insonate.files import publish_dir
from insonate.phantom.cast import HEARTS, KINDS
from insonate.phantom.heart import (
    EF_RANGE,
    VIEWS,
    HeartItem,
    HeartOrder,
    known_view,
    render_heart,
    views_of_study,
)
from insonate.phantom.items import Item, Order, labelled, render

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest

HEART = "heart"
FORMATS = {"png": ".png", "mp4": ".mp4", "dicom": ".dcm"}
MANIFEST = "manifest.parquet"
CLIP_SIZE = 1024
"""largest of a clip: a beat at 120 frames a second stays below 300 MB"""
SPLITS = ("train", "train", "val", "train", "test", "train", "train")
"""of patient after patient (of one kind), so that five already fill all three splits"""


def generate(  # noqa: PLR0913 each is an option of its own
    out: Path | str,
    *,
    kind: str,
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
        kind: "heart" (beating hearts in standard views), one scene of `cast.ROLES`, or one of `cast.KINDS`:
            "fetal" (head, abdomen and femur of each), "lesion" (breast, thyroid, liver in turn), "mixed"
            (head and breast in turn), "biometry" (all nine keypoint tasks in turn).
        patients: how many; patient n is the same whatever their number.
        images_per_patient: pictures of each, from different probe positions; 2 if None. Where a patient has
            several views (heart, fetal): of each view, 1 if None.
        views: of hearts, among `heart.VIEWS`.
        missing: share of its views that a heart study lacks, 0 up to but not including 1.
        ef_pct: ejection fraction of all hearts; None draws one for each.
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
    _check(kind, patients, images_per_patient, size, formats)
    study = Study(
        views=tuple(views), repeats=images_per_patient or 1, missing=missing, ef_pct=ef_pct,
        degraded=degraded, overlays=overlays,
    )  # fmt: skip
    _check_heart(kind, study)
    from insonate.data.manifest import Manifest

    out = Path(out)
    orders = (
        _heart_orders(study, patients, seed, size, formats)
        if kind == HEART
        else _orders(kind, study, patients, images_per_patient, seed, size, formats)
    )
    with publish_dir(out) as folder:
        rows = [
            _write(folder, item, _format(formats, number), _split(kind, order.patient))
            for (number, order), item in zip(
                orders.items(), _rendered(list(orders.values()), workers), strict=True
            )
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
    kind: str, study: Study, patients: int, repeats: int | None, seed: int, size: int, formats: Sequence[str]
) -> dict[int, Order | HeartOrder]:  # fmt: skip
    cast = KINDS[kind]
    orders: dict[int, Order | HeartOrder] = {}
    for patient in range(patients):
        scenes = cast.scenes if cast.whole else (cast.scenes[patient % len(cast.scenes)],)
        shots = [(scene, item) for scene in scenes for item in range(repeats or (1 if cast.whole else 2))]
        for item, (scene, own) in enumerate(shots):
            number = patient * len(shots) + item
            clip = _format(formats, number) != "png"
            if scene in HEARTS:
                orders[number] = HeartOrder(
                    seed=seed, patient=patient, item=own, view=scene, size=size, clip=clip,
                    ef_pct=study.ef_pct, degraded=study.degraded, overlays=study.overlays,
                )  # fmt: skip
            else:
                frames = None if clip else 1
                orders[number] = Order(
                    scene=scene, seed=seed, patient=patient, item=own, size=size, frames=frames
                )
    return orders


def _check(
    kind: str, patients: int, images_per_patient: int | None, size: int, formats: Sequence[str]
) -> None:
    where = "phantom"
    if kind not in {HEART, *KINDS}:
        raise InsonateError(where, f"there is no kind {kind!r}", nearest(kind, [HEART, *KINDS]))
    if patients < 1 or (images_per_patient is not None and images_per_patient < 1):
        what = f"{patients} patients with {images_per_patient or 2} pictures each"
        raise InsonateError(where, what, "Ask for at least one of each")
    if not 32 <= size <= 4096:
        raise InsonateError(where, f"a size of {size} px", "Choose 32 to 4096")
    if not formats or not set(formats) <= set(FORMATS):
        raise InsonateError(where, f"formats {list(formats)}", f"Choose among {', '.join(FORMATS)}")
    if "mp4" in formats and size % 2:
        raise InsonateError(where, f"an odd size of {size} px in mp4", "Choose an even size")
    if size > CLIP_SIZE and set(formats) != {"png"}:
        raise InsonateError(where, f"clips of {size} px", f"Choose at most {CLIP_SIZE}, or png alone")


def _check_heart(kind: str, study: Study) -> None:
    where, views = "phantom heart", study.views
    if kind != HEART and (study.views, study.missing) != (VIEWS, 0.0):
        what = f"views that a study has or lacks are of hearts, not of kind {kind!r}"
        raise InsonateError(where, what, "Give --kind heart, or leave them out")
    hearts = kind == HEART or any(scene in HEARTS for scene in KINDS[kind].scenes)
    if not hearts and study != Study(repeats=study.repeats):
        what = f"ejection fraction, lost contact and overlays are of hearts, not of kind {kind!r}"
        raise InsonateError(where, what, "Give --kind heart, or leave them out")
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


def _split(kind: str, patient: int) -> str:
    turns = 1 if kind == HEART or KINDS[kind].whole else len(KINDS[kind].scenes)
    return SPLITS[patient // turns % len(SPLITS)]


def _with_set(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a heart with its points in the columns that all sets share."""
    points_set = HEARTS.get(row["view"])
    points = None if points_set is None else row[f"keypoints_{points_set.lower()}"]
    return {**row, **labelled(points_set, points)} if points_set is not None else dict(row)


def _write(folder: Path, item: Item | HeartItem, format_name: str, split: str) -> dict[str, Any]:
    """Write medium and mask under `folder`; the finished row."""
    from insonate.data.media.writing import write_dicom, write_png, write_video
    from insonate.data.spacing import Spacing

    row = (
        _with_set(item.row) | {"split": split} if isinstance(item, HeartItem) else item.row | {"split": split}
    )
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
