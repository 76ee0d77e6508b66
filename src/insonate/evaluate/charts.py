"""Charts of the report, as SVG: learning curve, confusion matrix, Bland–Altman, success rates, intervals.

matplotlib is imported when the first chart is drawn, without pyplot and without a display.
"""

from __future__ import annotations

import io
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from insonate.errors import one_line
from insonate.evaluate.points import PointErrors
from insonate.evaluate.report import Picture
from insonate.evaluate.statistics import BlandAltman, Interval

COLOURS = ("#2463a8", "#c05621", "#2f855a", "#6b46c1", "#718096", "#b83280")
STYLES = ("-", "--", ":")
CURVE_POINTS = 500
"""of a learning curve; longer ones are averaged"""


def learning_curves(metrics_jsonl: Path) -> list[Picture]:
    """The losses, then the validation scores, of a run's `metrics.jsonl` over its steps; [] without the file.

    A line that is not whole (the run was killed while writing) is passed over.
    """
    series = _read_series(metrics_jsonl) if metrics_jsonl.is_file() else {}
    losses = {name: points for (event, name), points in series.items() if event == "train" and "loss" in name}
    scores = {name: points for (event, name), points in series.items() if event == "eval"}
    return [
        _chart(partial(_draw_lines, group), f"{title} over steps")
        for title, group in (("Training loss", losses), ("Validation", scores))
        if group
    ]


def confusion(predicted: Sequence[int], truth: Sequence[int], names: Sequence[str]) -> Picture:
    """Confusion matrix: rows are the truth, columns the prediction; shade = share of the row."""
    size = len(names)
    matrix = np.zeros((size, size), dtype=np.int64)  # truth, predicted
    np.add.at(matrix, (np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)), 1)

    def draw(axes: Any) -> None:
        axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for row, col in np.ndindex(size, size) if size <= 12 else ():
            dark = matrix[row, col] > 0.5 * max(1, matrix[row].sum())
            axes.text(col, row, str(matrix[row, col]), ha="center", va="center", color="w" if dark else "k")
        labels = [_plain(name, 24) for name in names]
        axes.set_xticks(
            range(size), labels, rotation=45 if size > 3 else 0, ha="right" if size > 3 else "center"
        )
        axes.set_yticks(range(size), labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("truth")

    return _chart(draw, "Confusion matrix: number of items")


def bland_altman_chart(agreement: BlandAltman, name: str) -> Picture:
    """Difference over mean of prediction and truth, with bias and limits; `name` ends in the unit."""

    def draw(axes: Any) -> None:
        axes.scatter(agreement.means, agreement.differences, s=14, color=COLOURS[0], alpha=0.6, linewidths=0)
        for level, style in ((agreement.bias, "-"), (agreement.low, "--"), (agreement.high, "--")):
            if math.isfinite(level):
                axes.axhline(level, color=COLOURS[1], linestyle=style, linewidth=1)
        axes.set_xlabel(f"mean of prediction and truth: {_plain(name)}")
        axes.set_ylabel("prediction minus truth")

    caption = (
        f"Bland–Altman of {one_line(name)}: bias {agreement.bias:.3g}, limits of agreement "
        f"{agreement.low:.3g} to {agreement.high:.3g}"
    )
    return _chart(draw, caption)


def success_chart(points: Mapping[str, PointErrors]) -> Picture:
    """Part of the points found within a distance, over that distance; a curve a task."""

    def draw(axes: Any) -> None:
        for number, (name, one) in enumerate(points.items()):
            thresholds, rates = one.curve
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
            axes.plot(thresholds, rates, style, color=colour, linewidth=1.5, label=_plain(name, 24))
            axes.set_xlim(0, float(thresholds[-1]))
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("distance, px of the original")
        axes.set_ylabel("part of the points within it")
        axes.grid(alpha=0.3)
        if len(points) > 1:
            axes.legend(fontsize=8, loc="lower right")

    areas = ", ".join(f"{name} {one.area:.3f}".strip() for name, one in points.items())
    return _chart(draw, f"Success rate of all points; area under the curve {areas}")


def intervals_chart(intervals: Mapping[str, Interval], caption: str, *, zero: bool = False) -> Picture:
    """Points with their intervals, one a line; with `zero`, a line at 0 (for differences)."""

    def draw(axes: Any) -> None:
        for row, interval in enumerate(intervals.values()):
            axes.plot([interval.low, interval.high], [row, row], color=COLOURS[0], linewidth=2)
            axes.plot([interval.value], [row], "o", color=COLOURS[0])
        axes.set_yticks(range(len(intervals)), [_plain(name, 40) for name in intervals])
        axes.set_ylim(len(intervals) - 0.5, -0.5)
        if zero:
            axes.axvline(0, color="#718096", linewidth=1, linestyle=":")

    return _chart(draw, caption, height_in=0.8 + 0.35 * len(intervals))


def _chart(draw: Callable[[Any], None], caption: str, *, height_in: float = 3.4) -> Picture:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # A fixed salt and no date: the same numbers give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "insonate", "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # names in any script: boxes are fine
        figure = Figure(figsize=(5.2, height_in), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        buffer = io.BytesIO()
        figure.savefig(buffer, metadata={"Date": None, "Creator": None}, format="svg")
    return Picture(data=buffer.getvalue(), media_type="image/svg+xml", caption=caption)


def _draw_lines(group: Mapping[str, np.ndarray], axes: Any) -> None:
    for i, (name, points) in enumerate(group.items()):
        steps, values = _thinned(points)
        axes.plot(steps, values, color=COLOURS[i % len(COLOURS)], linewidth=1.3, label=_plain(name))
    axes.set_xlabel("step")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)


def _thinned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `CURVE_POINTS` points, each the mean of a stretch."""
    stretch = math.ceil(len(points) / CURVE_POINTS)
    starts = np.arange(0, len(points), max(1, stretch))
    counts = np.diff([*starts, len(points)])
    means = np.add.reduceat(points, starts, axis=0) / counts[:, None]  # M 2
    return means[:, 0], means[:, 1]


def _read_series(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Event (train, eval) and name → M 2 of (step, value), in order of steps."""
    found: dict[tuple[str, str], dict[float, float]] = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            continue
        for name, value in record.items():
            if isinstance(value, float) and math.isfinite(value):
                found.setdefault((str(record.get("event")), name), {})[record["step"]] = value
    return {name: np.asarray(sorted(points.items()), dtype=np.float64) for name, points in found.items()}


def _plain(name: str, longest: int = 60) -> str:
    """A name as matplotlib shows it: on one line, cut, and never read as mathematics."""
    text = one_line(name)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")
