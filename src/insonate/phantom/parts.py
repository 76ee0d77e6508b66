"""A set made part by part: what stops half-way leaves whole parts, and the same wish again goes on there.

    OUT/phantom.json      the wish, so that no other one goes on
    OUT/parts/00012.json  rows of some items, written when all their media and masks are there
    OUT/manifest.parquet  last of all; then parts/ goes away

An item is a pure function of its order: what was written twice is the same.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insonate import __version__
from insonate.errors import InsonateError
from insonate.files import atomic_write, lock, writable
from insonate.phantom.heart import HeartItem, HeartOrder, render_heart
from insonate.phantom.heart.truth import TASKS
from insonate.phantom.items import Item, labelled, render
from insonate.phantom.orders import FORMATS, AnyOrder
from insonate.progress import Track, untracked

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest

MANIFEST, WISH, PARTS = "manifest.parquet", "phantom.json", "parts"
KINDS_OF_MEDIA = {"png": "image", "mp4": "video", "dicom": "dicom"}
MOST_IN_PART, PARTS_AT_LEAST = 16, 64
AnyItem = Item | HeartItem
SECONDS = 1800.0
"""that a part may take: beats at 120 frames a second of 1024 pixels"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One item: what to render and how to write it."""

    order: AnyOrder
    format: str
    split: str


def make(
    out: Path, wish: Mapping[str, Any], jobs: Sequence[Job], *, workers: int, track: Track = untracked
) -> Manifest:
    """Make what is missing of a set in `out`.

    Args:
        out: a new folder, or one where the same wish was begun.
        wish: what the jobs come from, JSON-ready.
        jobs: in the order of the manifest.
        workers: processes; 1 works in this one.
        track: shows the progress.

    Raises:
        InsonateError: `out` holds something else, or cannot be written.
        RunError: another process is at it.
    """
    from insonate.data.manifest import Manifest

    claim(out, {**wish, "made by": f"insonate {__version__}"})
    with lock(out / ".lock"):
        size = max(1, min(MOST_IN_PART, len(jobs) // PARTS_AT_LEAST))
        parts = {
            out / PARTS / f"{number:06d}.json": jobs[first : first + size]
            for number, first in enumerate(range(0, len(jobs), size))
        }
        if not (out / MANIFEST).exists():
            missing = [(path, own) for path, own in parts.items() if not path.exists()]
            deque(track(_done(missing, out, workers), total=len(missing), what="phantom"), maxlen=0)
            rows = [row for path in parts for row in json.loads(path.read_text())]
            Manifest.from_rows(rows, out).write(out / MANIFEST)
        shutil.rmtree(out / PARTS, ignore_errors=True)
    return Manifest.read(out / MANIFEST)


def claim(out: Path, wish: Mapping[str, Any]) -> None:
    """Put the wish into `out`, or find it there.

    Raises:
        InsonateError: `out` holds another wish, or files of something else.
    """
    told = json.dumps(wish, indent=1) + "\n"
    writable(out)
    try:
        there = json.loads((out / WISH).read_text())
    except FileNotFoundError:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            mend = "Choose another name or remove it first"
            raise InsonateError(out, "is there already and not empty", mend) from None
        atomic_write(out / WISH, told)
        return
    except (OSError, ValueError) as error:
        raise InsonateError(out / WISH, f"cannot be read ({error})", "Remove the folder") from None
    asked = json.loads(told)
    other = [name for name in asked if not isinstance(there, dict) or there.get(name) != asked[name]]
    if other:
        name = other[0]
        before = there.get(name) if isinstance(there, dict) else there
        what = f"was begun with another wish ({name}: {before}, now {asked[name]})"
        raise InsonateError(out, what, "Ask for the same again, or choose another name")


def _done(missing: list[tuple[Path, Sequence[Job]]], out: Path, workers: int) -> Iterator[Path]:
    """Make the parts, whichever is ready first."""
    if workers == 1:
        for path, own in missing:
            make_part((path, own), out)
            yield path
        return
    from insonate.data import pool

    for (path, _), outcome in pool.run(partial(make_part, out=out), missing, workers, seconds=SECONDS):
        if isinstance(outcome, InsonateError):
            raise outcome
        yield path


def make_part(part: tuple[Path, Sequence[Job]], out: Path) -> Path:
    """Media and masks of the part's items, then the file with their rows, which is returned."""
    path, jobs = part
    rows = [write_item(out, finished(job), job.format) for job in jobs]
    return atomic_write(path, json.dumps(rows))


def finished(job: Job) -> AnyItem:
    """The item of a job, rendered, with the row that a manifest has."""
    item = render_heart(job.order) if isinstance(job.order, HeartOrder) else render(job.order)
    row = item.row | {"split": job.split}
    task = TASKS.get(row["view"])
    if task is not None:
        row |= labelled(task, row[f"keypoints_{task.lower()}"])
    return replace(item, row=row)


def write_item(out: Path, item: AnyItem, format_name: str) -> dict[str, Any]:
    """Write medium and masks under `out`; the row with their paths."""
    from insonate.data.media.writing import write_png, write_video

    row = item.row
    medium = Path("media") / f"{row['series_id']}{FORMATS[format_name]}"
    if format_name == "png":
        write_png(out / medium, item.frames[0])
    elif format_name == "mp4":
        write_video(out / medium, item.frames, row["fps"])
    else:
        _write_dicom(out / medium, item)
    paths: dict[str, str] = {}
    for column, mask in item.masks.items():
        extra = column.removesuffix("mask_path").removesuffix("_") if len(item.masks) > 1 else ""
        paths[column] = f"masks/{row['series_id']}{'_' * bool(extra)}{extra}.png"
        write_png(out / paths[column], mask)
    return {"path": str(medium), "kind": KINDS_OF_MEDIA[format_name], **row, **paths}


def _write_dicom(path: Path, item: AnyItem) -> None:
    from insonate.data.media.writing import Strip, write_dicom
    from insonate.data.spacing import Spacing

    row = item.row
    box, times_s = row.get("ecg_box_px"), row.get("frame_times_s")
    steps_ms = None if times_s is None else [0.0, *(1000 * (b - a) for a, b in pairwise(times_s))]
    write_dicom(
        path,
        item.frames,
        spacing=Spacing(row_mm=row["spacing_row_mm"], col_mm=row["spacing_col_mm"]),
        frame_time_ms=steps_ms or 1000 / row["fps"],
        patient_id=row["patient_id"],
        study_id=row["study_id"],
        series_id=row["series_id"],
        vendor=row["vendor"],
        item_id=row["series_id"],
        burned_in=bool(row.get("burned_in")),
        probe_xy_px=row.get("probe_xy_px"),
        strip=None if box is None else Strip(box=box, s_per_px=row["ecg_s_per_px"]),
    )
