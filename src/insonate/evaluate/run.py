"""Evaluate a model on labelled items: scores with intervals by patient, beside the answer without looking."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from insonate.data import Batch, Loader, Manifest, ManifestDataset
from insonate.data.dataset import has_label
from insonate.data.manifest import Row, patient_key
from insonate.errors import ManifestError, ModelError
from insonate.evaluate.agreement import agreements
from insonate.evaluate.evaluation import Evaluation, Scores
from insonate.evaluate.page import evaluation_sections, sets_sections
from insonate.evaluate.points import point_errors
from insonate.evaluate.report import Picture, Section, picture, render_report
from insonate.evaluate.sets import of_all_sets
from insonate.evaluate.statistics import (
    POOLED_RESAMPLES,
    Interval,
    bootstrap_mean,
    bootstrap_pooled,
    paired_difference,
)  # fmt: skip
from insonate.files import writable, write_folder
from insonate.hub import Model, to_json
from insonate.progress import Track, untracked
from insonate.tasks.base import Prediction, Task

BASELINE_ITEMS = 1000
"""training labels that the trivial answer is made of, evenly spread over the training items"""
BATCH = 16
GROUPS = ("site", "vendor")
LOWER_IS_BETTER = re.compile(
    r"^(?!dice).*(error|loss|distance|hausdorff|hd95|assd|mae|mse|_px$|_mm$|_weeks$|_deg$)"
)


def evaluate_model(  # noqa: PLR0913  each is the user's to set
    model: Model,
    manifest: Manifest,
    *,
    out: Path,
    split: str = "test",
    train_manifest: Manifest | None = None,
    tta: bool = False,
    run_dir: Path | None = None,
    seed: int = 0,
    track: Track = untracked,
) -> Evaluation:
    """Score a model on one split and write `evaluation.json` and `report.html` into `out`.

    Args:
        model: with a task.
        manifest: with the task's label column.
        out: folder of the two files; those of an earlier evaluation are replaced.
        split: which rows; items without a label are left out.
        train_manifest: what the model was trained on (its rows of split "train", or those without
            a split), for the trivial answer and the search for leaks; else `manifest` itself.
        tta: average with the mirrored image, where the task does so.
        run_dir: of the training; its learning curve goes into the report.
        seed: of the bootstrap.
        track: shows the progress.

    Raises:
        InsonateError: `out` cannot be written.
        ModelError: the model has no task.
        ManifestError: no such split, no labels in it, or a patient of it was also trained on.
    """
    out = writable(out)
    own = _task_of(model)
    trained = manifest if train_manifest is None else train_manifest
    rows = manifest.select(split=split)
    apart = split != "train" or train_manifest is not None
    asked = Asked(
        model=model, rows=rows, trained=trained, apart=apart, split=split, tta=tta, seed=seed, track=track
    )
    if len(own.choices()) == 1:
        evaluation, sections = _one(own, asked, run_dir)
    else:
        evaluation, sections = _several(own, asked, run_dir)
    what = f"{len(evaluation.sets)} tasks" if evaluation.sets else f"{evaluation.kind} of {evaluation.task}"
    title = f"{what} on {split}"
    report = render_report(title, sections, synthetic=evaluation.synthetic)
    write_folder(out, {"report.html": report, "evaluation.json": to_json(evaluation.to_dict())})
    return evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an evaluation was asked for."""

    model: Model
    rows: Manifest
    trained: Manifest
    apart: bool
    """whether no patient of the rows may be among those of the training"""
    split: str
    tta: bool
    seed: int
    track: Track


def _one(task: Task, asked: Asked, run_dir: Path | None) -> tuple[Evaluation, list[Section]]:
    """The evaluation of one task and its page."""
    dataset = ManifestDataset(asked.rows, asked.model.format, task.target())
    if asked.apart:
        _check_leak(dataset.rows, _training_rows(asked.trained), asked.rows.source)
    predictions, truths = predict_loop(task, _in_order(dataset), tta=asked.tta, track=asked.track)
    baseline = _baseline(asked.model, task, asked.trained, truths)
    evaluation = _evaluated(task, dataset, predictions, truths, baseline, split=asked.split, seed=asked.seed)
    return evaluation, evaluation_sections(evaluation, predictions, truths, run_dir=run_dir)


def _several(task: Task, asked: Asked, run_dir: Path | None) -> tuple[Evaluation, list[Section]]:
    """The evaluation of each task that has labelled rows, and of all together, on one page.

    Raises:
        ManifestError: no row has a label.
    """
    each: dict[str, Evaluation] = {}
    pages: dict[str, list[Section]] = {}
    for name in task.choices():
        one = task.chosen(name)
        if any(has_label(row, one.target()) for row in asked.rows.rows):
            evaluation, pages[name] = _one(one, asked, None)
            each[name] = replace(evaluation, task=name)
    if not each:
        told = f"no row of split {asked.split!r} has a label in {task.config.column!r}"
        raise ManifestError(asked.rows.source, told, f"Label points of {', '.join(task.choices())}")
    whole = of_all_sets(each, task=task.config.column, seed=asked.seed)
    return whole, sets_sections(whole, pages, run_dir)


def predict_loop(
    task: Task, loader: Loader, *, tta: bool = False, track: Track = untracked
) -> tuple[list[Prediction], list[Prediction]]:
    """Predictions and truths of the loader's items, in its order."""
    device = next(task.parameters()).device
    training = task.training
    task.eval()
    predictions: list[Prediction] = []
    truths: list[Prediction] = []
    try:
        with torch.inference_mode():
            for cpu_batch in track(loader.epoch(0), total=len(loader), what="evaluation, batches"):
                outputs = task.predict(_on(cpu_batch, device), tta=tta)
                outputs = type(outputs)(*(part.cpu() for part in outputs))
                predictions += task.decode(outputs, cpu_batch)
                truths += task.truth(cpu_batch)
    finally:
        task.train(training)
    return predictions, truths


def _task_of(model: Model) -> Task:
    if model.task is None:
        raise ModelError("evaluation", "the model has no task", "Train a task on it first")
    return model.task


def _in_order(dataset: ManifestDataset) -> Loader:
    return Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)


def _on(batch: Batch, device: torch.device) -> Batch:
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    return Batch(**moved)  # type: ignore[typeddict-item]  # the keys are those of `batch`


def _training_rows(manifest: Manifest) -> list[Row]:
    """Rows of the split "train", or those without a split where there are none."""
    rows = [row for row in manifest.rows if row["split"] == "train"]
    return rows or [row for row in manifest.rows if not row["split"]]


def _check_leak(tested: Sequence[Row], trained: Sequence[Row], where: str) -> None:
    """Refuse a test on patients of the training.

    Raises:
        ManifestError: a patient is on both sides.
    """
    known = {patient_key(row["patient_id"]) for row in trained if row["patient_id"]}
    leaked = sorted({row["patient_id"] for row in tested if patient_key(row["patient_id"]) in known})
    if leaked:
        raise ManifestError(
            where,
            f"{len(leaked)} patients were also trained on: {', '.join(leaked[:3])}",
            "Split by patient, or make the ids of different data sets differ",
        )


def _baseline(model: Model, task: Task, manifest: Manifest, truths: Sequence[Prediction]) -> list[Prediction]:
    """The trivial prediction of each item; [] where there are no training labels."""
    target = task.target()
    labelled = [row for row in _training_rows(manifest) if has_label(row, target)]
    if not labelled:
        return []
    count = min(len(labelled), BASELINE_ITEMS)
    chosen = np.unique(np.linspace(0, len(labelled) - 1, count).round().astype(int))
    some = manifest.with_rows([labelled[i] for i in chosen])
    dataset = ManifestDataset(some, model.format, task.target())
    known = [truth for batch in _in_order(dataset).epoch(0) for truth in task.truth(batch)]
    return [task.trivial(known, truth.meta) for truth in truths]


def _evaluated(
    task: Task,
    dataset: ManifestDataset,
    predictions: list[Prediction],
    truths: list[Prediction],
    baseline: list[Prediction],
    *,
    split: str,
    seed: int,
) -> Evaluation:
    patients = tuple(truth.meta.patient_id for truth in truths)
    scores, plain_scores = _scores(task, predictions, truths), _scores(task, baseline, truths)
    return Evaluation(
        task=task.config.column,
        kind=task.kind,
        split=split,
        item_ids=tuple(truth.meta.item_id for truth in truths),
        patients=patients,
        scores=scores,
        metrics=_means(scores, patients, seed) | _pooled(task, predictions, truths, POOLED_RESAMPLES, seed),
        trivial=_means(plain_scores, patients, seed) | _pooled(task, baseline, truths, 0, seed),
        gain={
            name: paired_difference(scores[name], plain_scores[name], patients, seed=seed)
            for name in scores
            if name in plain_scores
        },
        groups=_groups(scores, truths, seed),
        agreements=agreements(predictions, truths, resamples=POOLED_RESAMPLES, seed=seed),
        points=point_errors(predictions, truths, seed=seed),
        synthetic=any(row.get("site") == "phantom" or row.get("synthetic") for row in dataset.rows),
        examples=_examples(task, dataset, predictions, truths, scores),
    )


def _scores(task: Task, predictions: Sequence[Prediction], truths: Sequence[Prediction]) -> Scores:
    """Name → N."""
    if not predictions:
        return {}
    rows = [task.score(prediction, truth) for prediction, truth in zip(predictions, truths, strict=True)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.asarray([row.get(name, math.nan) for row in rows], dtype=np.float64) for name in names}


def _means(scores: Scores, patients: Sequence[str], seed: int) -> dict[str, Interval]:
    return {name: bootstrap_mean(values, patients, seed=seed) for name, values in scores.items()}


def _pooled(
    task: Task, predictions: Sequence[Prediction], truths: Sequence[Prediction], resamples: int, seed: int
) -> dict[str, Interval]:
    """Metrics over all items at once, with intervals from `resamples` resamples."""
    metrics = task.metrics()
    if not predictions or not len(metrics):
        return {}
    found = torch.from_numpy(np.stack([prediction.value for prediction in predictions])).float()  # N …
    wanted = torch.from_numpy(np.stack([truth.value for truth in truths])).float()  # N …

    def statistic(items: np.ndarray) -> dict[str, float]:
        metrics.reset()
        metrics.update(found[items], wanted[items])
        return {name: float(value) for name, value in metrics.compute().items()}

    return bootstrap_pooled(
        statistic, [truth.meta.patient_id for truth in truths], resamples=resamples, seed=seed
    )


def _groups(
    scores: Scores, truths: Sequence[Prediction], seed: int
) -> dict[str, dict[str, dict[str, Interval]]]:
    groups: dict[str, dict[str, dict[str, Interval]]] = {}
    for column in GROUPS:
        values = np.asarray([getattr(truth.meta, column) for truth in truths])
        names = sorted({str(value) for value in values if value})
        if len(names) < 2:
            continue
        groups[column] = {}
        for name in names:
            chosen = np.flatnonzero(values == name)
            patients = [truths[int(i)].meta.patient_id for i in chosen]
            groups[column][name] = _means({k: s[chosen] for k, s in scores.items()}, patients, seed)
    return groups


def _examples(
    task: Task,
    dataset: ManifestDataset,
    predictions: Sequence[Prediction],
    truths: Sequence[Prediction],
    scores: Scores,
) -> tuple[Picture, ...]:
    """The two best, the median and the two worst items by the first score that is not just right or wrong."""
    from PIL import Image

    name = next(
        (n for n, s in scores.items() if len(np.unique(s[np.isfinite(s)])) > 2), next(iter(scores), "")
    )
    if not name:
        return ()
    values = scores[name]
    sign = 1 if LOWER_IS_BETTER.match(name) else -1
    order = [int(i) for i in np.argsort(sign * values, kind="stable") if np.isfinite(values[i])]
    picked: dict[int, str] = {}
    for word, indices in (
        ("worst", order[-2:]),
        ("best", order[:2]),
        ("median", order[len(order) // 2 :][:1]),
    ):
        for i in indices:
            picked.setdefault(i, word)
    pictures = []
    for i in sorted(picked, key=order.index):
        image = Image.fromarray(dataset.original(i)).convert("RGB")
        drawn = task.draw(image, predictions[i], truths[i])
        pictures.append(picture(drawn, f"{picked[i]}: {name} {values[i]:.3g} · {truths[i].meta.item_id}"))
    return tuple(pictures)
