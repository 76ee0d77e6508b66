"""The report of one evaluation: its sections, from the table of scores to the worst predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insonate.evaluate.charts import bland_altman_chart, confusion, learning_curves, success_chart
from insonate.evaluate.evaluation import Evaluation
from insonate.evaluate.report import Cell, Part, Section, Table, Text
from insonate.evaluate.statistics import POOLED_RESAMPLES, RESAMPLES, bland_altman
from insonate.tasks.base import Prediction


def evaluation_sections(
    evaluation: Evaluation,
    predictions: Sequence[Prediction],
    truths: Sequence[Prediction],
    *,
    run_dir: Path | None,
) -> list[Section]:
    """What the report shows; sections that have nothing to show are empty.

    Args:
        evaluation: the scores.
        predictions: N, in its order.
        truths: N.
        run_dir: of the training, for the learning curve.
    """
    curves: list[Part] = list(learning_curves(run_dir / "metrics.jsonl")) if run_dir is not None else []
    return [
        Section("Result", [metrics_table(evaluation)]),
        *(Section(f"By {column}", [groups_table(evaluation, column)]) for column in evaluation.groups),
        Section("Points", points_parts(evaluation)),
        Section("Agreement", _agreement(evaluation, predictions, truths)),
        Section("Measurements", measurements_table(predictions, truths)),
        Section("Predictions", evaluation.examples),
        Section("Learning curve", curves),
        Section("How to read this", [Text(_method(evaluation))]),
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


def points_parts(evaluation: Evaluation) -> list[Part]:
    """Errors by point and success rates; [] where the task has no points."""
    points = evaluation.points
    if points is None:
        return []
    caption = f"Mean radial error (95 % interval); {points.missing} points without a label are left out"
    rows: list[list[Cell]] = [
        [name, one, points.per_point_mm[name], one.items] for name, one in points.per_point.items()
    ]
    success: list[list[Cell]] = [[name, rate, rate.items] for name, rate in points.success.items()]
    return [
        Table(columns=["point", "error, px", "error, mm", "items"], rows=rows, caption=caption),
        Table(
            columns=["within", "part of the points", "items"], rows=success,
            caption="Success rate (95 % interval)",
        ),
        success_chart(points),
    ]  # fmt: skip


def _agreement(
    evaluation: Evaluation, predictions: Sequence[Prediction], truths: Sequence[Prediction]
) -> list[Part]:
    if evaluation.kind == "classification":
        return [confusion(_classes(predictions), _classes(truths), truths[0].names)]
    told = [one for one in evaluation.agreements.values() if one.statistics]
    if not told:
        return []
    columns = ["mean_abs_error", "bias", "low", "high", "icc"]
    rows: list[list[Cell]] = [
        [
            one.name,
            *(one.statistics[column] for column in columns),
            len(one.truth),
            one.missing,
            one.implausible,
        ]
        for one in told
    ]
    table = Table(
        columns=["measurement", "mean error", "bias", "limits: lower", "upper", "ICC(2,1)", "items",
                 "not predicted", "label out of range"],
        rows=rows, caption="Prediction against label (95 % interval), in the unit of the measurement",
    )  # fmt: skip
    return [table, *(bland_altman_chart(bland_altman(one.predicted, one.truth), one.name) for one in told)]


def _classes(predictions: Sequence[Prediction]) -> list[int]:
    return [int(prediction.value.argmax()) for prediction in predictions]


def measurements_table(predictions: Sequence[Prediction], truths: Sequence[Prediction]) -> list[Part]:
    """How many items have each measurement, and how many of those are out of its range; [] without any."""
    names = dict.fromkeys(name for one in (*truths, *predictions) for name in one.measurements)
    rows: list[list[Cell]] = []
    for name in names:
        sides = [
            [one.measurements[name] for one in side if name in one.measurements]
            for side in (predictions, truths)
        ]
        unit, limits = next((one.unit, one.limits) for side in sides for one in side)
        counts: list[Cell] = []
        for side in sides:
            counts += [len(side), sum(one.in_range is False for one in side)]
        rows.append(
            [name, unit, "not known" if limits is None else f"{limits[0]:g} to {limits[1]:g}", *counts]
        )
    columns = ["measurement", "unit", "plausible", "predicted", "out of range", "labelled", "out of range"]
    return [Table(columns=columns, rows=rows, caption="Number of items")] if rows else []


def _method(evaluation: Evaluation) -> str:
    text = (
        f"{len(evaluation.item_ids)} items of the split “{evaluation.split}”. Intervals: percentile "
        f"bootstrap over patients ({RESAMPLES} resamples; {POOLED_RESAMPLES} for metrics over all items at "
        "once); with few patients they are too narrow. "
    )
    if not evaluation.trivial:
        return text + "No training labels were at hand, so the answer without looking is missing."
    return (
        text
        + "“Without looking” is the answer made of the training labels alone (how often each class occurs, "
        "mean value, mean shape); a difference whose interval holds 0 shows no skill."
    )
