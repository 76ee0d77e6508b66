"""Teachers of a distillation: loaded, remembered in a file or asked online, and whether remembering is fair.

The file is filled once for all items and read from then on, so that a run that goes on sees the same targets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from insonate.data import ItemKey, Loader, ManifestDataset, collate
from insonate.data.point_cache import SeenPoints, read_points, write_points
from insonate.data.pointsets import FRAME_PX
from insonate.data.sampler import seed_of
from insonate.errors import RecipeError
from insonate.hub import Model, load
from insonate.hub.ensemble import FUSIONS
from insonate.progress import tracked
from insonate.tasks.base import Task
from insonate.tasks.median_distill import MedianDistill
from insonate.tasks.teachers import CachedTeachers, OnlineTeachers, Teachers, seen_points

BATCH = 16


def teach(task: MedianDistill, dataset: ManifestDataset, seed: int) -> tuple[str, list[str]]:
    """Give a distillation its teachers.

    Args:
        task: to be trained; its options name the teachers.
        dataset: that it trains on, with its augmentation.
        seed: of the run.

    Returns:
        What the teachers are, for the check that a run goes on with the same ones; and lines for people.

    Raises:
        RecipeError: the teachers have other points or another input.
        InsonateError: a teacher cannot be loaded, or the file is of other teachers.
    """
    config = task.config
    models = [load(source) for source in config.teachers]
    members = [
        _checked(model, task, dataset, source) for model, source in zip(models, config.teachers, strict=True)
    ]
    online = OnlineTeachers(members, FUSIONS[config.fuse])
    digests = [model.digest() for model in models]
    if config.cache is None:
        task.teach(online)
        return " ".join(digests), [f"{len(models)} teachers look at every batch"]
    key = hashlib.sha256(repr([*digests, dataset.fmt]).encode()).hexdigest()
    items = remembered(Path(config.cache), key, online, dataset, task)
    cached = CachedTeachers(items, task.sets(), FUSIONS[config.fuse])
    gap_px = equivariance_gap(online, cached, dataset, seed, config.check_items)
    used: Teachers = online if gap_px > config.largest_gap_px else cached
    task.teach(used)
    verdict = "and are asked online" if used is online else "and are remembered"
    seen = min(config.check_items, len(dataset))
    note = (
        f"{len(models)} teachers: what they say of {seen} augmented pictures differs by {gap_px:.2f} px of "
        f"{FRAME_PX} from what they said of the plain ones, {verdict}"
    )
    return " ".join([*digests, "online" if used is online else "cached"]), [note]


def remembered(
    path: Path, key: str, online: OnlineTeachers, dataset: ManifestDataset, task: MedianDistill
) -> Mapping[str, SeenPoints]:
    """What the teachers say of each item of the dataset; the file at `path` gains what it lacks."""
    known = read_points(path, key)
    missing = [i for i in range(len(dataset)) if dataset.item_id(i) not in known]
    if missing:
        rows = dataset.manifest.with_rows([dataset.rows[i] for i in missing])
        plain = ManifestDataset(rows, dataset.fmt, dataset.target)
        loader = Loader(plain, min(BATCH, len(plain)), shuffle=False, drop_last=False)
        for batch in tracked(loader.epoch(0), total=len(loader), what="teachers, batches"):
            known |= seen_points(online, batch, task.sets())
        write_points(path, key, known)
    return known


@torch.no_grad()
def equivariance_gap(
    online: Teachers, cached: Teachers, dataset: ManifestDataset, seed: int, count: int
) -> float:
    """Mean distance, in px of a picture of 256, between what both say of the first augmented items.

    Points that either puts outside the picture are left out; 0 where nothing is compared.
    """
    total, points = 0.0, 0
    for start in range(0, min(count, len(dataset)), BATCH):
        keys = [
            ItemKey(i, seed_of("item", seed, 0, i))
            for i in range(start, min(start + BATCH, count, len(dataset)))
        ]
        batch = collate([dataset[key] for key in keys])
        size = torch.tensor(batch["image"].shape[:-3:-1])  # W, H
        first, second = (said(batch).points / size for said in (online, cached))  # B K 2
        inside = (first.abs() <= 0.5).all(dim=-1) & (second.abs() <= 0.5).all(dim=-1)  # B K
        total += FRAME_PX * float((first - second).norm(dim=-1)[inside].sum())
        points += int(inside.sum())
    return total / points if points else 0.0


def _checked(model: Model, task: MedianDistill, dataset: ManifestDataset, source: str) -> Task:
    """The teacher's task.

    Raises:
        RecipeError: it has none, or other points or another input than the student.
    """
    where = f"task.teachers, {source}"
    teacher = model.task
    if teacher is None or teacher.kind != task.kind:
        raise RecipeError(where, "locates no points", "Give keypoints models")
    if _order(teacher) != _order(task.student):
        raise RecipeError(where, "has other points than the student", "Give teachers of the same points")
    if model.format != dataset.fmt:
        raise RecipeError(
            where, f"takes another input than the student ({model.format})", "Give both one size and format"
        )
    return teacher


def _order(task: Task) -> object:
    """What a task's points are, whatever their column."""
    target = task.target()
    return {name: one.names for name, one in getattr(target, "sets", {"": target}).items()}
