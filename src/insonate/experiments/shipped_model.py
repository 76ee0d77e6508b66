"""How the packaged model does on real pictures that it has not seen: lengths in mm, by patient.

Run: python -m insonate.experiments.shipped_model MODEL DATA --out evaluation.json [--without MODEL]
DATA is what `shipped_data` left; `--without` is the same recipe on its real.parquet, without the phantom.
Heads: the circumference against HC18's own number on held-out subjects, and the points against its ellipse.
Hearts: length and width of the left ventricle on CAMUS against those of its masks; no heart of an open
licence was trained on, so that what it knows of them is the phantom's. Beside both stands the answer without
looking: the mean shape of the training labels of that view. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from insonate.data import Loader, Manifest, ManifestDataset
from insonate.evaluate import Interval, bootstrap_mean, predict_loop
from insonate.experiments.told import errors_told
from insonate.files import atomic_write
from insonate.hub import Model, load, to_json
from insonate.tasks.base import Prediction, Task

BATCH = 16
SPLIT = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A length that is compared."""

    test: str
    """what the pictures are"""
    manifest: str
    points: str
    """point set"""
    measurement: str
    title: str
    column: str | None = None
    """of the manifest, with the true number; else that of the labelled points counts"""


WANTED = (
    Wanted(
        test="HC18, held out", manifest="real.parquet", points="HC", measurement="hc_mm", column="hc_mm",
        title="head circumference",
    ),
    Wanted(test="HC18, held out", manifest="real.parquet", points="HC", measurement="bpd_mm", title="BPD"),
    Wanted(test="HC18, held out", manifest="real.parquet", points="HC", measurement="ofd_mm", title="OFD"),
    Wanted(
        test="CAMUS A4C", manifest="camus.parquet", points="A4C", measurement="lv_long_mm", title="LV length",
    ),
    Wanted(
        test="CAMUS A4C", manifest="camus.parquet", points="A4C", measurement="lv_trans_mm", title="LV width",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How one answerer does on one length, in mm."""

    wanted: Wanted
    who: str
    """"model", "without the phantom" or "mean shape" """
    items: int
    patients: int
    unmeasured: int
    """pictures in which it found no such length; they are in no number"""
    mean_abs_error: Interval
    bias: Interval
    sd: float
    """of the differences"""

    @property
    def name(self) -> str:
        """For a card."""
        who = "" if self.who == "model" else f", {self.who}"
        return f"{self.wanted.test}: {self.wanted.title}, mean absolute error in mm{who}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name, "test": self.wanted.test, "length": self.wanted.measurement, "who": self.who,
            "items": self.items, "patients": self.patients, "unmeasured": self.unmeasured, "sd": self.sd,
            "mean_abs_error": self.mean_abs_error.to_dict(), "bias": self.bias.to_dict(),
        }  # fmt: skip


def measured(model: Model, data: Path, *, without: Model | None = None, tta: bool = True) -> list[Line]:
    """All lines; lengths of data that is not there, or of sets that no model has, are left out.

    Args:
        model: of several point sets.
        data: folder of `shipped_data`.
        without: the same recipe without the phantom.
        tta: with the mirrored view, as `insonate predict`.

    Raises:
        InsonateError: a manifest cannot be used.
    """
    lines: list[Line] = []
    for name in dict.fromkeys(one.manifest for one in WANTED):
        lengths = [one for one in WANTED if one.manifest == name]
        points = lengths[0].points
        if not (data / name).is_file() or points not in model.tasks:
            continue
        rows = _rows(data / name, SPLIT, points)
        answers = {"model": _predicted(model, rows, points, tta=tta)}
        if without is not None and points in _learnt(without, data):
            answers["without the phantom"] = _predicted(without, rows, points, tta=tta)
        answers["mean shape"] = _mean_shapes(model, data, rows, points)
        lines += [_line(one, who, answer, rows) for one in lengths for who, answer in answers.items()]
    return lines


Answers = tuple[list[Prediction], list[Prediction]]
"""predictions and truths, in the order of the rows"""


def _learnt(model: Model, data: Path) -> set[str]:
    """Sets of the pictures that the model without the phantom was trained on; of others it knows nothing."""
    rows = Manifest.read(data / "real.parquet", check_files=False).rows
    return {row["points_set"] for row in rows if row["split"] == "train"} & set(model.tasks)


def _rows(path: Path, split: str, points: str) -> Manifest:
    manifest = Manifest.read(path).select(split=split)
    return manifest.with_rows([row for row in manifest.rows if row["points_set"] == points])


def _predicted(model: Model, rows: Manifest, points: str, *, tta: bool) -> Answers:
    task = model.task_named(points)
    return predict_loop(task, _loader(model, task, rows), tta=tta)


def _loader(model: Model, task: Task, rows: Manifest) -> Loader:
    dataset = ManifestDataset(rows, model.format, task.target())
    return Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)


def _mean_shapes(model: Model, data: Path, rows: Manifest, points: str) -> Answers:
    task = model.task_named(points)
    known = _truths(model, task, _rows(data / "manifest.parquet", "train", points))
    tested = _truths(model, task, rows)
    return [task.trivial(known, truth.meta) for truth in tested], tested


def _truths(model: Model, task: Task, rows: Manifest) -> list[Prediction]:
    return [truth for batch in _loader(model, task, rows).epoch(0) for truth in task.truth(batch)]


def _line(wanted: Wanted, who: str, answers: Answers, rows: Manifest) -> Line:
    predictions, truths = answers
    found = _lengths(predictions, wanted.measurement)
    true = _lengths(truths, wanted.measurement)
    if wanted.column is not None:
        true = np.array([np.nan if row[wanted.column] is None else row[wanted.column] for row in rows.rows])
    apart, known = found - true, np.isfinite(true)
    both = np.isfinite(apart)
    patients = [row["patient_id"] for row in rows.rows]
    return Line(
        wanted=wanted, who=who, items=int(both.sum()),
        patients=len({patient for patient, there in zip(patients, both, strict=True) if there}),
        unmeasured=int((known & ~both).sum()), mean_abs_error=bootstrap_mean(np.abs(apart), patients),
        bias=bootstrap_mean(apart, patients), sd=float(apart[both].std()) if both.any() else float("nan"),
    )  # fmt: skip


def _lengths(predictions: Sequence[Prediction], name: str) -> np.ndarray:
    found = [prediction.measurements.get(name) for prediction in predictions]
    return np.array([np.nan if one is None else one.value for one in found])


def table(lines: Sequence[Line]) -> str:
    """In Markdown."""
    rows = [
        "| real test set | length | who | mean absolute error, mm | bias, mm | sd, mm | pictures (of) |",
        "|-|-|-|-|-|-|-|",
    ]
    for line in lines:
        count = f"{line.items} ({line.patients})" + (
            f", {line.unmeasured} not measured" if line.unmeasured else ""
        )
        rows.append(
            f"| {line.wanted.test} | {line.wanted.title} | {line.who} | {_told(line.mean_abs_error)} | "
            f"{_told(line.bias)} | {line.sd:.2f} | {count} |"
        )
    return "\n".join(rows)


def _told(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.2f} – {interval.high:.2f})"


def main() -> None:
    """Command line.

    Raises:
        SystemExit: with 2, when a model or the data cannot be used.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--without")
    given = parser.parse_args()
    with errors_told():
        without = None if given.without is None else load(given.without)
        lines = measured(load(given.model), given.data, without=without)
        atomic_write(given.out, to_json([line.to_dict() for line in lines]))
    sys.stdout.write(f"{table(lines)}\n")


if __name__ == "__main__":
    main()
