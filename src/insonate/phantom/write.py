"""`generate`: draw patients, render their pictures, write media and a manifest with the truth.

Each item is a pure function of (seed, patient, item number within the patient), so the bytes are the same on
one process or many, and after a kill.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from insonate.phantom import parts
from insonate.phantom.heart import VIEWS
from insonate.phantom.orders import PhantomSet
from insonate.phantom.parts import AnyItem, Job
from insonate.progress import Track, untracked

if TYPE_CHECKING:
    from insonate.data.manifest import Manifest


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
    overlays: float | None = None,
    seed: int = 0,
    size: int = 256,
    formats: Sequence[str] = ("png",),
    workers: int = 1,
    track: Track = untracked,
) -> Manifest:
    """Write a set of labelled phantom pictures; one that was interrupted goes on.

    Args:
        out: a new folder, or one in which the same was begun: `media/` and `masks/` appear in it part by
            part, `manifest.parquet` when all is there.
        kind: "heart" (beating hearts in standard views), one scene of `cast.ROLES`, or one of `cast.KINDS`:
            "fetal" (head, abdomen and femur of each), "lesion" (breast, thyroid, liver in turn), "mixed"
            (head and breast in turn), "biometry" (all nine keypoint tasks in turn).
        patients: how many; patient n is the same whatever their number.
        images_per_patient: pictures of each, from different probe positions; 2 if None. Where a patient has
            several views (heart, fetal): of each view, 1 if None.
        views: of hearts, among `heart.VIEWS`.
        missing: share of its views that a study of a heart or a fetus lacks, 0 up to but not including 1.
        ef_pct: ejection fraction of all hearts; None draws one for each.
        ga_weeks: gestational age of all fetuses; None draws one for each.
        degraded: share of the clips with lost contact and dropped frames, 0 to 1.
        overlays: share of the studies with the machine's graphics and text in the picture, 0 to 1; None: all
            of hearts, none of others.
        seed: another seed, other patients.
        size: height and width in pixels; even for "mp4".
        formats: "png", "mp4", "dicom"; the items take turns. Videos and DICOM are clips: a beat of a heart, a
            breath of a vein, 16 frames or more of others; labels are those of the frame `frame` (and of a
            heart's `es_frame`).
        workers: processes; 1 works in this one.
        track: shows the progress.

    Returns:
        The manifest that was written, split by patient.

    Raises:
        InsonateError: an argument is out of range, or `out` holds other files already.
    """
    wanted = PhantomSet(
        kind=kind, patients=patients, images_per_patient=images_per_patient, views=tuple(views),
        missing=missing, ef_pct=ef_pct, ga_weeks=ga_weeks, degraded=degraded, overlays=overlays, seed=seed,
        size=size, formats=tuple(formats),
    )  # fmt: skip
    wish = {**asdict(wanted), "views": list(views), "formats": list(formats)}
    return parts.make(Path(out), wish, _jobs(wanted), workers=workers, track=track)


def _jobs(wanted: PhantomSet) -> list[Job]:
    return [
        Job(order=order, format=wanted.format(number), split=wanted.split(order.patient))
        for number, order in wanted.orders().items()
    ]


def samples(wanted: PhantomSet, *, workers: int = 1) -> Iterator[AnyItem]:
    """The items of a set, without files: frames, masks, and the row that a manifest would have."""
    if workers <= 1:
        yield from map(parts.finished, _jobs(wanted))
        return
    context = multiprocessing.get_context("spawn")  # fork would copy locks of torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(parts.finished, _jobs(wanted), chunksize=4)
