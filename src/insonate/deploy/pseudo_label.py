"""Label unlabelled pictures with a model, keep what a regime allows, and say where each label came from.

The manifest holds labelled and unlabelled rows. What is of the evaluation (splits val and test, and those of
further manifests), by patient, examination or file, never reaches the model; what merely looks like it is
dropped by `data.pseudo_labels`. The manifest that is written is trained on as it is.
Shapes: B items, K points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from insonate.data import Batch, Loader, Manifest, ManifestDataset
from insonate.data.fairsplit import SOURCE_COLUMN
from insonate.data.likeness import Likeness, likeness
from insonate.data.manifest import Row
from insonate.data.plausible import Bounds, bounds
from insonate.data.pointsets import FRAME_PX, SPREAD_PX
from insonate.data.pseudo_labels import (
    HELD_OUT,
    Candidate,
    Regime,
    choose,
    guarded,
    provenance,
    repeats,
)
from insonate.data.sector import find_sector
from insonate.data.shards.read import open_row
from insonate.errors import InsonateError, ManifestError, ModelError
from insonate.hub import Model
from insonate.progress import Track, untracked
from insonate.tasks.base import Outputs, Prediction
from insonate.tasks.biometry import Biometry
from insonate.tasks.keypoints import Keypoints

BATCH = 16
BORDER = 0.02
"""of the picture's diagonal, by which a point may lie outside the sector that was found"""
SECTOR_PX = 128
"""longer side of the picture in which the sector is sought"""
Points = Keypoints | Biometry


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabelled:
    """What came of it."""

    manifest: Manifest
    """labelled rows as they were, and a row for each pseudo-label; no unlabelled ones"""
    kept: dict[str, int]
    """task → number of pseudo-labels"""
    guarded: int
    """unlabelled rows of the evaluation, which the model did not see"""
    dropped: dict[str, int]
    """reason → number of pictures"""
    errors: tuple[tuple[str, str], ...]
    """file, reason: media of pool and evaluation that cannot be read; nothing is compared with the latter"""


def pseudo_label(
    model: Model,
    manifest: Manifest,
    regime: Regime,
    *,
    evaluation: Sequence[Manifest] = (),
    track: Track = untracked,
) -> PseudoLabelled:
    """Choose and label pictures by a regime.

    Args:
        model: a keypoints model, or an ensemble.
        manifest: rows with and without a label of the model's column; an unlabelled clip gives frames,
            evenly spread, as many as the regime takes of one.
        regime: see `REGIMES`.
        evaluation: further manifests that are tested on.
        track: shows the progress.

    Raises:
        ModelError: the model has no keypoints task.
        ManifestError: there are no labelled rows to train on, or no unlabelled ones.
    """
    task = model.task
    if not isinstance(task, Keypoints | Biometry):
        raise ModelError("pseudo-label", "the model locates no points", "Give a keypoints model")
    column = task.config.column
    labelled, pool = _parted(manifest, column, task)
    tested = [row for row in manifest.rows if row["split"] in HELD_OUT]
    further = [row for other in evaluation for row in other.rows]
    free, left_out = guarded(pool, [*tested, *further])
    errors: list[tuple[str, str]] = []
    looks = [
        look for source, rows in ((manifest, tested), *((one, one.rows) for one in evaluation))
        for _, look, _ in _looks(source, _frames(rows, regime.per_clip), errors, track, "evaluation")
    ]  # fmt: skip
    seen = list(_looks(manifest, _frames(free, regime.per_clip), errors, track, "pool"))
    candidates = _candidates(model, task, manifest, seen, track)
    allowed, counts = _of_labels(task, manifest, labelled)
    choice = choose(
        candidates,
        regime,
        bounds=allowed,
        labelled=counts,
        held_out=[look for look in looks if look is not None],
        in_sector=partial(_in_sector, manifest),
    )
    teacher = model.digest()
    rows = [row for row in manifest.rows if row.get(column) is not None]
    extra = [row for row in labelled for _ in range(repeats(counts[_task_of(task, row)], regime) - 1)]
    rows += extra + [provenance(one, regime, teacher, column) for one in choice.kept]
    return PseudoLabelled(
        manifest=Manifest.from_rows(rows, manifest.root, check_files=False),
        kept=dict(Counter(one.task for one in choice.kept)),
        guarded=left_out,
        dropped=dict(choice.dropped),
        errors=tuple(errors),
    )


def _parted(manifest: Manifest, column: str, task: Points) -> tuple[list[Row], list[Row]]:
    """Rows that persons labelled for training, and those without a label.

    Raises:
        ManifestError: one of the two is empty.
    """
    manifest.column(column)  # raises where there is no such column
    own = [row for row in manifest.rows if _asked(task, row)]
    labelled = [
        row for row in own
        if row[column] is not None and row["split"] not in HELD_OUT
        and not str(row.get(SOURCE_COLUMN) or "").startswith("pseudo")
    ]  # fmt: skip
    pool = [row for row in own if row[column] is None]
    for rows, what, mend in (
        (labelled, f"has no row of the training with a label in {column!r}", "Add labelled rows"),
        (pool, f"has a label in {column!r} in every row", "Add unlabelled rows, with an empty cell there"),
    ):
        if not rows:
            raise ManifestError(manifest.source, what, mend)
    return labelled, pool


def _in_sector(manifest: Manifest, one: Candidate) -> bool:
    """Whether all points lie within the sector, or near its border as labels do; True where none is found."""
    with open_row(manifest, one.row) as file:
        grey = Image.fromarray(np.asarray(file.read([one.row.get("frame") or 0], grey=True)[0]))
    scale = min(1.0, SECTOR_PX / max(grey.size))
    width, height = (max(1, round(scale * side)) for side in grey.size)
    small = np.asarray(grey.resize((width, height), Image.Resampling.BOX))  # h w
    sector = find_sector(small[None])
    if sector is None:
        return True
    far_px = ndimage.distance_transform_edt(~sector.mask)  # h w, 0 within
    columns, rows = ((one.points_xy + 0.5) * scale - 0.5).round().astype(int).T
    far_px = far_px[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return bool((far_px <= BORDER * np.hypot(height, width)).all())


def _frames(rows: Sequence[Row], most: int) -> list[Row]:
    """Each row with its frame; of a clip without one as many as `most`, evenly spread."""
    found: list[Row] = []
    for row in rows:
        count = row["frames"] or 1
        if row.get("frame") is not None or count == 1:
            found.append(row)
            continue
        places = np.unique(np.linspace(0, count - 1, min(most, count) + 2).round().astype(int)[1:-1])
        found += [{**row, "frame": int(frame)} for frame in places]
    return found


def _looks(
    manifest: Manifest, rows: Sequence[Row], errors: list[tuple[str, str]], track: Track, what: str
) -> Iterator[tuple[Row, Likeness | None, tuple[int, int]]]:
    """Each row that can be read, what is kept of its picture to compare it, and its height and width."""
    for row in track(rows, total=len(rows), what=f"pseudo-label, {what}"):
        try:
            with open_row(manifest, row) as file:
                grey = np.asarray(file.read([row.get("frame") or 0], grey=True)[0])
        except InsonateError as error:
            errors.append((row["path"], f"{error.what}. {error.mend}"))
            continue
        yield row, likeness(grey), (grey.shape[0], grey.shape[1])


def _candidates(
    model: Model,
    task: Points,
    manifest: Manifest,
    seen: Sequence[tuple[Row, Likeness | None, tuple[int, int]]],
    track: Track,
) -> list[Candidate]:
    if not seen:
        return []
    dataset = ManifestDataset(manifest.with_rows([row for row, _, _ in seen]), model.format)
    loader = Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)
    predictions: list[Prediction] = []
    gaps: list[float] = []
    with torch.inference_mode():
        for batch in track(loader.epoch(0), total=len(loader), what="pseudo-label, batches"):
            batch["image"] = batch["image"].to(model.device)
            both, apart_px = _both_views(task, batch)
            gaps += apart_px.nanmean(dim=-1).cpu().tolist()
            predictions += task.decode(type(both)(*(part.cpu() for part in both)), batch)
    return [
        Candidate(
            row=row, task=_task_of(task, row), points_xy=found.value, hw=hw,
            confidence=float(np.nanmean(found.confidence)), flip_gap_px=gap, likeness=look,
        )
        for (row, look, hw), found, gap in zip(seen, predictions, gaps, strict=True)
    ]  # fmt: skip


def _both_views(task: Points, batch: Batch) -> tuple[Outputs, Tensor]:
    """The mean of the picture's points and of its mirror's, and how far both lie apart, B K, in px of 256."""
    image = batch["image"]
    straight, mirrored = task.predict(batch), task.predict(Batch(**{**batch, "image": image.flip(-1)}))
    order = _mirror(task, batch).to(image.device)  # B K
    seen = mirrored.values.take_along_dim(order[..., None], dim=1)
    back = seen * seen.new_tensor([-1.0, 1.0])  # B K 2
    size = back.new_tensor(image.shape[:-3:-1])  # W, H
    apart_px = FRAME_PX * ((straight.values - back) / size).norm(dim=-1)  # B K
    confidence = (straight.confidence + mirrored.confidence.take_along_dim(order, dim=1)) / 2
    confidence = confidence * torch.exp(-apart_px / 2 / SPREAD_PX)
    return Outputs((straight.values + back) / 2, confidence), apart_px


def _mirror(task: Points, batch: Batch) -> Tensor:
    """Old index of each item's points after a mirror, B K; itself beyond its own."""
    if isinstance(task, Keypoints):
        return task.mirror.cpu().expand(len(batch["meta"]), -1)
    orders = [task.sets[meta.points_set].hflip for meta in batch["meta"]]
    most = max(map(len, orders))
    return torch.tensor([[*order, *range(len(order), most)] for order in orders])


def _of_labels(
    task: Points, manifest: Manifest, labelled: Sequence[Row]
) -> tuple[Mapping[str, Bounds], Counter[str]]:
    """Task → what its labels allow, and how many there are."""
    shapes: dict[str, list[tuple[np.ndarray, tuple[int, int]]]] = {}
    for row in labelled:
        height, width = row["height"], row["width"]
        if height is None or width is None:
            with open_row(manifest, row) as file:
                height, width = file.info.height, file.info.width
        points_xy = np.asarray(row[task.config.column], dtype=np.float64).reshape(-1, 2)
        shapes.setdefault(_task_of(task, row), []).append((points_xy, (int(height), int(width))))
    counts = Counter({name: len(found) for name, found in shapes.items()})
    return {name: bounds(name, found) for name, found in shapes.items()}, counts


def _asked(task: Points, row: Row) -> bool:
    """Whether the model locates the points of this row."""
    named = row.get("points_set") or ""
    return named in {"", task.config.points} if isinstance(task, Keypoints) else named in task.sets


def _task_of(task: Points, row: Row) -> str:
    if isinstance(task, Keypoints):
        return task.config.points or task.config.column
    return str(row.get("points_set") or "")
