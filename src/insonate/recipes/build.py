"""`Recipe` → what trains: loader, backbone with its weights, objective or task, and the validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from insonate.data import Batch, InputFormat, Loader, Manifest, ManifestDataset, collate
from insonate.data.manifest import patient_key
from insonate.data.sampler import Balance
from insonate.errors import RecipeError, nearest
from insonate.evaluate import predict_loop
from insonate.hub import load
from insonate.models import Backbone, build_backbone, freeze, official_weights
from insonate.objectives import build_objective
from insonate.objectives.base import Objective
from insonate.recipes.schema import Recipe
from insonate.recipes.teaching import teach
from insonate.tasks import build_task
from insonate.tasks.base import Prediction, Task
from insonate.tasks.median_distill import MedianDistill
from insonate.tasks.regression import Regression
from insonate.weights import load_into, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a run trains, with what, and how it is validated."""

    method: Objective | Task
    manifest: Manifest
    """the rows that are trained on"""
    loader: Loader
    validate: Callable[[Objective | Task], dict[str, float]] | None
    """mean scores over the validation split; none where the recipe has no such split"""
    settle: Callable[[Task], None] | None
    """fits what a task fits on held-out items; none where there are none"""
    digests: dict[str, str]
    """name of each part of the data, for people → digest of what is read of its rows"""
    notes: tuple[str, ...] = ()
    """what is odd about the data but not wrong, for people"""


def build(recipe: Recipe) -> Built:
    """Everything that a recipe names; the initial weights depend on its seed only.

    Raises:
        RecipeError: an option does not fit, or a split has too few items.
        InsonateError: a file or a weight does not fit; the message names it.
    """
    data = recipe.data
    manifest = Manifest.read(Path(data.manifest))
    train = some_patients(_split(manifest, recipe, "split"), fraction=data.fraction, seed=recipe.seed)
    held_out = None if data.val_split is None else _split(manifest, recipe, "val_split")
    method = build_method(recipe)
    target = method.target() if isinstance(method, Task) else None
    fmt = input_format(method.backbone)
    dataset = ManifestDataset(train, fmt, target, data.augment)
    where = f"{data.manifest}, split {data.split!r}"
    if len(dataset) < data.batch:
        what = f"{len(dataset)} usable items, fewer than a batch of {data.batch}"
        raise RecipeError(where, what, "Add items, or make data.batch smaller")
    if isinstance(method, Regression):
        method.fit(dataset.labels)
    sets = dataset.sets()
    loader = Loader(
        dataset, data.batch, seed=recipe.seed, workers=data.workers, timeout_s=data.timeout_s,
        balance=None if sets is None or data.balance == 1 else Balance(sets, data.balance),
    )  # fmt: skip
    digests = {f"the rows of data.split {data.split!r} in {data.manifest}": dataset.digest()}
    notes = list(manifest.notes)
    if isinstance(method, MedianDistill):
        digests["the teachers"], told = teach(method, dataset, recipe.seed)
        notes += told
    validate: Callable[[Objective | Task], dict[str, float]] | None = None
    settle: Callable[[Task], None] | None = None
    if held_out is not None:
        kept = ManifestDataset(held_out, fmt, target)
        digests[f"the rows of data.val_split {data.val_split!r} in {data.manifest}"] = kept.digest()
        _check_monitor(method, kept, recipe)
        validate, settle = validation(kept, recipe), settling(kept, recipe)
    if dataset.left_out:
        notes.append(f"{where}: {dataset.left_out} of {len(train)} items have no label and are left out")
    used = train.with_rows(dataset.rows)
    return Built(
        method=method, manifest=used, loader=loader, validate=validate, settle=settle, digests=digests,
        notes=tuple(notes),
    )  # fmt: skip


def _check_monitor(method: Objective | Task, dataset: ManifestDataset, recipe: Recipe) -> None:
    """Find a wrong `optim.monitor` before the first epoch: the names follow from the label of one item.

    Raises:
        RecipeError: the validation gives no such value; the nearest are named.
    """
    monitor = recipe.optim.monitor
    if monitor is None:
        return
    known = {"val_loss"}
    if isinstance(method, Task):
        (truth,) = method.truth(collate([dataset[0]]))
        known = {*method.score(truth, truth), *method.metrics()}
    if monitor not in known:
        raise RecipeError("optim.monitor", f"the validation gives no {monitor!r}", nearest(monitor, known))


def _split(manifest: Manifest, recipe: Recipe, key: str) -> Manifest:
    name = getattr(recipe.data, key)
    found = {row["split"] or "(none)" for row in manifest.rows}
    if name not in found:
        mend = "Run `insonate data split` on it" + ("" if key == "split" else ", or set data.val_split=null")
        what = f"no rows of split {name!r} in {recipe.data.manifest} (it has {', '.join(sorted(found))})"
        raise RecipeError(f"data.{key}", what, mend)
    return manifest.select(split=name)


def build_method(recipe: Recipe) -> Objective | Task:
    """Backbone (with its weights, partly frozen) inside the recipe's objective or task.

    Raises:
        InsonateError: an option or a weight does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        backbone = build_backbone(recipe.backbone.options())
        if recipe.backbone.weights is not None:
            start_from(backbone, Path(recipe.backbone.weights))
        freeze(backbone, recipe.backbone.train)
        if recipe.task is not None:
            return build_task(backbone, recipe.task.options())
        assert recipe.objective is not None  # the schema wants one of the two
        return build_objective(backbone, recipe.objective.options())


def start_from(backbone: Backbone, path: Path) -> None:
    """Load a model folder's encoder, a weights file or an official checkpoint into `backbone`.

    Raises:
        WeightsError: they are of another architecture; the first differing tensors are named.
    """
    if path.is_dir():
        state: Mapping[str, Any] = load(path).backbone.state_dict()
    else:
        state = official_weights(read(path), backbone, where=path)
    load_into(backbone, state, path)


def input_format(backbone: Backbone) -> InputFormat:
    """What the dataset must make of a picture for this backbone."""
    spec = backbone.spec
    height, width = spec.input_size
    return InputFormat(
        height=height, width=width, channels=spec.channels, mean=spec.mean, std=spec.std,
        resize=spec.resize, interpolation=spec.interpolation, margin=spec.margin,
        standardise=spec.standardise,
    )  # fmt: skip


def some_patients(manifest: Manifest, *, fraction: float, seed: int) -> Manifest:
    """The rows of a share of the patients, chosen by hash: smaller shares lie inside larger ones."""
    if fraction >= 1:
        return manifest

    def rank(patient: str) -> bytes:
        return hashlib.blake2b(f"fraction {seed} {patient}".encode()).digest()

    keys = [patient_key(row["patient_id"] or "") for row in manifest.rows]
    patients = sorted(set(keys), key=rank)
    chosen = set(patients[: math.ceil(fraction * len(patients) - 1e-9)])  # 0.07 · 100 is above 7
    return manifest.with_rows([row for row, key in zip(manifest.rows, keys, strict=True) if key in chosen])


def validation(dataset: ManifestDataset, recipe: Recipe) -> Callable[[Objective | Task], dict[str, float]]:
    """Mean scores of a task, or the loss of an objective, over a held-out dataset."""

    def validate(method: Objective | Task) -> dict[str, float]:
        loader = _in_order(dataset, recipe)
        if isinstance(method, Task):
            return mean_scores(method, *predict_loop(method, loader))
        return {"val_loss": mean_loss(method, loader)}

    return validate


def settling(dataset: ManifestDataset, recipe: Recipe) -> Callable[[Task], None]:
    """`Task.settle` over a held-out dataset."""

    @torch.no_grad()
    def settle(task: Task) -> None:
        task.eval()
        device = next(task.parameters()).device
        batches = _in_order(dataset, recipe).epoch(0)
        task.settle(Batch(**{**batch, "image": batch["image"].to(device)}) for batch in batches)

    return settle


def _in_order(dataset: ManifestDataset, recipe: Recipe) -> Loader:
    data = recipe.data
    return Loader(
        dataset, min(data.batch, len(dataset)), seed=recipe.seed, shuffle=False, drop_last=False,
        workers=data.workers, timeout_s=data.timeout_s,
    )  # fmt: skip


def mean_scores(
    task: Task, predictions: Sequence[Prediction], truths: Sequence[Prediction]
) -> dict[str, float]:
    """Each score averaged over the items to which it applies, and the metrics over all items at once."""
    scores: dict[str, list[float]] = {}
    for prediction, truth in zip(predictions, truths, strict=True):
        for name, value in task.score(prediction, truth).items():
            scores.setdefault(name, []).append(value)
    present = {name: [v for v in values if not math.isnan(v)] for name, values in scores.items()}
    means = {name: math.fsum(values) / len(values) for name, values in present.items() if values}
    metrics = task.metrics()
    if len(metrics):
        found, wanted = (
            torch.from_numpy(np.stack([one.value for one in some])).float() for some in (predictions, truths)
        )
        for metric in metrics.values():
            metric.distributed_available_fn = lambda: False  # each rank has all items already
        metrics.update(found, wanted)
        means |= {name: float(value) for name, value in metrics.compute().items()}
    return means


@torch.no_grad()
def mean_loss(method: nn.Module, loader: Loader) -> float:
    """Loss over the loader's items, in eval mode, with the same masks at each call."""
    device = next(method.parameters()).device
    was_training, losses, weights = method.training, [], []
    method.eval()
    try:
        for batch in loader.epoch(0, 0):
            batch["image"] = batch["image"].to(device)
            losses.append(float(method(batch).total))
            weights.append(len(batch["meta"]))
    finally:
        method.train(was_training)
    return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
