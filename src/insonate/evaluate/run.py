"""Evaluate a model on labelled items: scores with intervals by patient, beside the answer without looking."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from insonate.data import Batch, Loader, Manifest, ManifestDataset
from insonate.data.manifest import Row, patient_key
from insonate.errors import InsonateError, ManifestError, ModelError
from insonate.evaluate.charts import bland_altman_chart, confusion, learning_curves
from insonate.evaluate.report import Part, Picture, Section, Table, Text, picture, render_report
from insonate.evaluate.statistics import (
    POOLED_RESAMPLES,
    RESAMPLES,
    Interval,
    bland_altman,
    bootstrap_mean,
    bootstrap_pooled,
    paired_difference,
)  # fmt: skip
from insonate.files import atomic_write
from insonate.hub import Model, to_json
from insonate.tasks.base import Prediction, Task

BASELINE_ITEMS = 1000
"""training labels that the trivial answer is made of, evenly spread over the training items"""
GROUPS = ("site", "vendor")
LOWER_IS_BETTER = re.compile(
    r"^(?!dice).*(error|loss|distance|hausdorff|hd95|assd|mae|mse|_px$|_mm$|_weeks$|_deg$)"
)
Scores = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model scored on one split; the arrays go item by item."""

    task: str
    """column of the label"""
    kind: str
    split: str
    item_ids: tuple[str, ...]
    patients: tuple[str, ...]
    scores: Scores
    """name → N; NaN where it does not apply to an item"""
    metrics: dict[str, Interval]
    trivial: dict[str, Interval] = field(default_factory=dict)
    """the same of the answer without looking; empty without training labels"""
    gain: dict[str, Interval] = field(default_factory=dict)
    """model minus trivial, paired by item"""
    groups: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    """site, vendor → its value → metric; only where there are two values or more"""
    synthetic: bool = False
    examples: tuple[Picture, ...] = ()
    """best, median and worst items, drawn"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: all but the pictures."""
        table = _intervals_to_dict
        return {
            "task": self.task, "kind": self.kind, "split": self.split, "synthetic": self.synthetic,
            "metrics": table(self.metrics), "trivial": table(self.trivial), "gain": table(self.gain),
            "groups": {
                column: {name: table(metrics) for name, metrics in values.items()}
                for column, values in self.groups.items()
            },
            "items": [
                {"item_id": item, "patient_id": patient, "scores": {n: s[i] for n, s in self.scores.items()}}
                for i, (item, patient) in enumerate(zip(self.item_ids, self.patients, strict=True))
            ],
        }  # fmt: skip


def evaluate_model(
    model: Model,
    manifest: Manifest,
    *,
    out: Path,
    split: str = "test",
    train_manifest: Manifest | None = None,
    tta: bool = False,
    run_dir: Path | None = None,
    seed: int = 0,
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

    Raises:
        ModelError: the model has no task.
        ManifestError: no such split, no labels in it, or a patient of it was also trained on.
    """
    task = _task_of(model)
    dataset = ManifestDataset(manifest.select(split=split), model.format, task.target())
    trained = manifest if train_manifest is None else train_manifest
    training_rows = _training_rows(trained)
    if split != "train" or train_manifest is not None:
        _check_leak(dataset.rows, training_rows, manifest.source)
    predictions, truths = predict_loop(task, dataset, tta=tta)
    baseline = _baseline(model, task, trained, training_rows, truths)
    evaluation = _evaluated(task, dataset, predictions, truths, baseline, split=split, seed=seed)
    sections = _sections(evaluation, task, predictions, truths, baseline, run_dir=run_dir)
    title = f"{evaluation.kind} of {evaluation.task} on {split}"
    out = Path(out)
    atomic_write(out / "report.html", render_report(title, sections, synthetic=evaluation.synthetic))
    atomic_write(out / "evaluation.json", to_json(evaluation.to_dict()))
    return evaluation


def predict_loop(
    task: Task, dataset: ManifestDataset, batch: int = 16, *, tta: bool = False
) -> tuple[list[Prediction], list[Prediction]]:
    """Predictions and truths of all items, in the order of the dataset."""
    device = next(task.parameters()).device
    training = task.training
    task.eval()
    predictions: list[Prediction] = []
    truths: list[Prediction] = []
    try:
        with torch.inference_mode():
            for cpu_batch in _batches(dataset, batch):
                outputs = task.predict(_on(cpu_batch, device), tta=tta)
                outputs = type(outputs)(*(part.cpu() for part in outputs))
                predictions += task.decode(outputs, cpu_batch)
                truths += task.truth(cpu_batch)
    finally:
        task.train(training)
    return predictions, truths


def compare_evaluations(first: Evaluation, second: Evaluation, *, seed: int = 0) -> dict[str, Interval]:
    """Score by score the mean difference `first - second` over the items that both have, paired by item.

    Raises:
        InsonateError: they have no item in common.
    """
    place = {item: i for i, item in enumerate(second.item_ids)}
    pairs = [(i, place[item]) for i, item in enumerate(first.item_ids) if item in place]
    if not pairs:
        raise InsonateError(
            "comparison", "the two evaluations have no item in common", "Evaluate both on the same split"
        )
    ours, theirs = (np.asarray(indices) for indices in zip(*pairs, strict=True))
    patients = [first.patients[i] for i in ours]
    return {
        name: paired_difference(first.scores[name][ours], second.scores[name][theirs], patients, seed=seed)
        for name in first.scores
        if name in second.scores
    }


def _task_of(model: Model) -> Task:
    if model.task is None:
        raise ModelError("evaluation", "the model has no task", "Train a task on it first")
    return model.task


def _batches(dataset: ManifestDataset, batch: int) -> Any:
    loader = Loader(dataset, min(batch, len(dataset)), shuffle=False, drop_last=False)
    return loader.epoch(0)


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


def _baseline(
    model: Model, task: Task, manifest: Manifest, rows: Sequence[Row], truths: Sequence[Prediction]
) -> list[Prediction]:
    """The trivial prediction of each item; [] where there are no training labels."""
    column = task.target().column
    labelled = [row for row in rows if row.get(column) is not None and row[column] != ""]
    if not labelled:
        return []
    count = min(len(labelled), BASELINE_ITEMS)
    chosen = np.unique(np.linspace(0, len(labelled) - 1, count).round().astype(int))
    some = manifest.with_rows([labelled[i] for i in chosen])
    dataset = ManifestDataset(some, model.format, task.target())
    known = [truth for batch in _batches(dataset, 16) for truth in task.truth(batch)]
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


def _sections(
    evaluation: Evaluation,
    task: Task,
    predictions: Sequence[Prediction],
    truths: Sequence[Prediction],
    baseline: Sequence[Prediction],
    *,
    run_dir: Path | None,
) -> list[Section]:
    curves: list[Part] = list(learning_curves(run_dir / "metrics.jsonl")) if run_dir is not None else []
    return [
        Section("Result", [metrics_table(evaluation)]),
        *(Section(f"By {column}", [groups_table(evaluation, column)]) for column in evaluation.groups),
        Section("Agreement", _agreement(task, predictions, truths)),
        Section("Predictions", evaluation.examples),
        Section("Learning curve", curves),
        Section("How to read this", [Text(_method(evaluation, trivial=bool(baseline)))]),
    ]


def metrics_table(evaluation: Evaluation) -> Table:
    """Each metric with its interval, the trivial answer, and the difference between them."""
    return Table(
        columns=["metric", "model", "without looking", "difference", "items", "patients"],
        rows=[
            [
                name,
                value,
                evaluation.trivial.get(name),
                evaluation.gain.get(name),
                value.items,
                value.patients,
            ]
            for name, value in evaluation.metrics.items()
        ],
        caption="Mean (95 % interval)",
    )


def groups_table(evaluation: Evaluation, column: str) -> Table:
    """The scores of each site or vendor."""
    names = list(evaluation.scores)
    return Table(
        columns=[column, *names, "items"],
        rows=[
            [value, *(metrics[name] for name in names), max(metrics[name].items for name in names)]
            for value, metrics in evaluation.groups[column].items()
        ],
        caption="Mean (95 % interval)",
    )


def _agreement(task: Task, predictions: Sequence[Prediction], truths: Sequence[Prediction]) -> list[Part]:
    if task.kind == "classification":
        return [confusion(_classes(predictions), _classes(truths), truths[0].names)]
    parts: list[Part] = []
    for name in dict.fromkeys(name for truth in truths for name in truth.measurements):
        agreement = bland_altman(_measured(predictions, name), _measured(truths, name))
        if len(agreement.differences) > 1:
            parts.append(bland_altman_chart(agreement, name))
    return parts


def _classes(predictions: Sequence[Prediction]) -> list[int]:
    return [int(prediction.value.argmax()) for prediction in predictions]


def _measured(predictions: Sequence[Prediction], name: str) -> list[float]:
    """The measurement of each item; NaN where it is missing or no number."""
    values = [prediction.measurements.get(name) for prediction in predictions]
    return [
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        for value in values
    ]


def _method(evaluation: Evaluation, *, trivial: bool) -> str:
    text = (
        f"{len(evaluation.item_ids)} items of the split “{evaluation.split}”. Intervals: percentile "
        f"bootstrap over patients ({RESAMPLES} resamples; {POOLED_RESAMPLES} for metrics over all items at "
        "once); with few patients they are too narrow. "
    )
    if not trivial:
        return text + "No training labels were at hand, so the answer without looking is missing."
    return (
        text
        + "“Without looking” is the answer made of the training labels alone (how often each class occurs, "
        "mean value, mean shape); a difference whose interval holds 0 shows no skill."
    )


def _intervals_to_dict(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: interval.to_dict() for name, interval in intervals.items()}
