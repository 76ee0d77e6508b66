"""The report of one evaluation: its sections, from the table of scores to the worst predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from insonate.evaluate.charts import bland_altman_chart, confusion, learning_curves, success_chart
from insonate.evaluate.evaluation import Evaluation
from insonate.evaluate.points import UNITS, PointErrors
from insonate.evaluate.report import Cell, Part, Section, Table, Text
from insonate.evaluate.sets import BY_TASK
from insonate.evaluate.statistics import POOLED_RESAMPLES, RESAMPLES, bland_altman
from insonate.tasks.base import Prediction
from insonate.tasks.biometry import MEAN_SCORES
from insonate.tasks.certainty import NEAR_PX

EXPLAINED = "How to read this"


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
        Section(EXPLAINED, [Text(_method(evaluation))]),
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
    caption = (
        f"Mean radial error (95 % interval); {points.missing} points without a label are left out; "
        f"{points.refused} were not found and count as in the middle of the picture"
    )
    rows: list[list[Cell]] = [
        [name, *(points.per_point[unit][name] for unit in UNITS), one.items]
        for name, one in points.per_point["px"].items()
    ]
    success: list[list[Cell]] = [[name, rate, rate.items] for name, rate in points.success.items()]
    return [
        Table(
            columns=["point", "px", "mm", "px of 256 × 256", "% of diagonal", "items"], rows=rows,
            caption=caption,
        ),
        Table(
            columns=["within", "part of the points", "items"], rows=success,
            caption="Success rate (95 % interval)",
        ),
        success_chart({"": points}),
        confidence_table(points),
    ]  # fmt: skip


def confidence_table(points: PointErrors) -> Table:
    """What confidence was told, and what share of the points was near."""
    told = points.reliability
    return Table(
        columns=["confidence", f"within {NEAR_PX:g} px of 256", "points"],
        rows=list(zip(told.confidence.tolist(), told.near.tolist(), told.points.tolist(), strict=True)),
        caption=f"Confidence against outcome, by tenths; mean distance {told.error:.3f}",
    )


def sets_sections(
    whole: Evaluation, pages: Mapping[str, list[Section]], run_dir: Path | None
) -> list[Section]:
    """The report of a model of several tasks: all together, then each by itself.

    Args:
        whole: of all tasks.
        pages: name of each task → its sections.
        run_dir: of the training, for the learning curve.
    """
    rows: list[list[Cell]] = [
        [name, *(one.metrics.get(score) for score in MEAN_SCORES), len(one.item_ids),
         len(set(one.patients)), one.trivial.get("mre_px")]
        for name, one in whole.sets.items()
    ]  # fmt: skip
    by_image: list[Cell] = ["by image", *(whole.metrics[score] for score in MEAN_SCORES)]
    by_task: list[Cell] = ["by task", *(whole.metrics[score + BY_TASK] for score in MEAN_SCORES)]
    rows += [[*by_image, len(whole.item_ids), len(set(whole.patients)), None], [*by_task, None, None, None]]
    table = Table(
        columns=["task", "px", "mm", "px of 256 × 256", "% of diagonal", "images", "patients",
                 "px without looking"],
        rows=rows, caption="Mean radial error (95 % interval); by image the largest task rules, by task each "
        "counts once",
    )  # fmt: skip
    curves = {name: one.points for name, one in whole.sets.items() if one.points is not None}
    lines: list[Part] = [] if run_dir is None else list(learning_curves(run_dir / "metrics.jsonl"))
    return [
        Section("All tasks", [table, success_chart(curves)]),
        *(
            Section(f"{name}: {one.title}", one.parts)
            for name, page in pages.items()
            for one in page
            if one.title != EXPLAINED
        ),
        Section("Learning curve", lines),
        Section(EXPLAINED, [Text(_method(whole))]),
    ]


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
    if not any(one.trivial for one in (evaluation, *evaluation.sets.values())):
        return text + "No training labels were at hand, so the answer without looking is missing."
    return (
        text
        + "“Without looking” is the answer made of the training labels alone (how often each class occurs, "
        "mean value, mean shape); a difference whose interval holds 0 shows no skill."
    )
