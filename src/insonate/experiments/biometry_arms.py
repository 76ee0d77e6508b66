"""Arms of a biometry experiment: train a recipe, score one model or several as one, by task and patient.

Errors are in pixels of the picture stretched to 256 × 256: sets of different sizes can be put together.
Shapes: N test images.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from insonate.data import Loader, Manifest, ManifestDataset
from insonate.data.pointorders import OFFICIAL, to_official
from insonate.data.pointsets import FRAME_PX
from insonate.errors import RunError
from insonate.evaluate import Interval, bootstrap_mean, paired_difference, predict_loop
from insonate.evaluate.statistics import bootstrap_mean_of_means
from insonate.hub import Model
from insonate.recipes import Recipe, run_recipe
from insonate.tasks.base import Prediction

SCORE = "mre_input_px"
AUGMENT: dict[str, Any] = {
    "rotate_deg": 10.0, "scale": [0.9, 1.1], "shift": 0.05, "hflip": 0.5, "brightness": 0.2, "contrast": 0.2,
}  # fmt: skip
BATCH = 16
TIMED = 15
"""pictures of which the median time is told"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How one model, or several as one, did on the test images."""

    errors: np.ndarray
    """N, mean radial error of each image"""
    items: tuple[str, ...]
    tasks: tuple[str, ...]
    patients: tuple[str, ...]
    official: np.ndarray
    """N, the same with prediction and label put into the challenge's order, where their set is known"""

    @property
    def weighted(self) -> Interval:
        """Mean over images."""
        return bootstrap_mean(self.errors, self.patients)

    @property
    def unweighted(self) -> Interval:
        """Mean over tasks of their means."""
        return bootstrap_mean_of_means([
            (self.errors[rows], [self.patients[i] for i in rows]) for rows in self.rows().values()
        ])  # fmt: skip

    def rows(self) -> dict[str, np.ndarray]:
        """Task → indices of its images."""
        names = np.asarray(self.tasks)
        return {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(self.tasks)}

    def of_task(self, task: str) -> Interval:
        """Mean over the images of one task."""
        rows = self.rows()[task]
        return bootstrap_mean(self.errors[rows], [self.patients[i] for i in rows])

    def minus(self, other: Scored) -> Interval:
        """Paired difference of the errors; below 0 = this one is better."""
        return paired_difference(self.errors, other.errors, self.patients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One line of the tables."""

    problem: str
    synthetic: bool
    part: str
    """init, teacher, together, order or split"""
    name: str
    passes: int
    """backbone passes of a picture, without the mirrored view"""
    plain: Scored
    mirrored: Scored | None
    """with the mirrored view"""
    ms: float | None = None
    """CPU time of a picture without the mirrored view"""
    items: int = 0
    """pictures that it was trained on"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = {
            "problem": self.problem, "synthetic": self.synthetic, "part": self.part, "name": self.name,
            "passes": self.passes, "ms": self.ms, "items": self.items,
        }  # fmt: skip
        for name, one in (("plain", self.plain), ("mirrored", self.mirrored)):
            if one is not None:
                found[name] = {
                    "weighted": one.weighted.to_dict(), "unweighted": one.unweighted.to_dict(),
                    "tasks": {task: one.of_task(task).to_dict() for task in one.rows()},
                }  # fmt: skip
        return found


def scored(model: Model, manifest: Manifest, *, tta: bool) -> Scored:
    """Errors on the split "test"."""
    task = model.task
    assert task is not None  # the experiment trains nothing else
    dataset = ManifestDataset(manifest.select(split="test"), model.format, task.target())
    loader = Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)
    predictions, truths = predict_loop(task, loader, tta=tta)
    scores = [task.score(found, truth) for found, truth in zip(predictions, truths, strict=True)]
    return _scored([one[SCORE] for one in scores], predictions, truths)


def _scored(
    errors: Sequence[float], predictions: Sequence[Prediction], truths: Sequence[Prediction]
) -> Scored:
    return Scored(
        errors=np.array(errors),
        items=tuple(truth.meta.item_id for truth in truths),
        tasks=tuple(truth.meta.points_set or truth.task for truth in truths),
        patients=tuple(truth.meta.patient_id for truth in truths),
        official=np.array([_official(*pair) for pair in zip(predictions, truths, strict=True)]),
    )


def _official(found: Prediction, truth: Prediction) -> float:
    if truth.task not in OFFICIAL:
        return float("nan")
    height, width = truth.meta.original_hw
    apart = to_official(found.placed(), truth.task) - to_official(truth.value, truth.task)  # K 2
    lengths = np.linalg.norm(apart * FRAME_PX / (width, height), axis=-1)  # K
    known = lengths[np.isfinite(lengths)]
    return float(known.mean()) if len(known) else float("nan")


def centre_guess(model: Model, manifest: Manifest) -> Scored:
    """What the mean shape of the training labels scores: the answer without looking."""
    task = model.task
    assert task is not None  # the experiment trains nothing else
    known, tested = (
        _truths(model, manifest.select(split="train")), _truths(model, manifest.select(split="test")),
    )  # fmt: skip
    guesses = [task.trivial(known, truth.meta) for truth in tested]
    errors = [task.score(guess, truth)[SCORE] for guess, truth in zip(guesses, tested, strict=True)]
    return _scored(errors, guesses, tested)


def _truths(model: Model, rows: Manifest) -> list[Prediction]:
    assert model.task is not None  # see `centre_guess`
    dataset = ManifestDataset(rows, model.format, model.task.target())
    loader = Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)
    return [truth for batch in loader.epoch(0) for truth in model.task.truth(batch)]


def milliseconds(model: Model, *, tta: bool) -> float:
    """Median time of one picture on this machine, in one thread."""
    picture = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = [_timed(model, picture, tta=tta) for _ in range(TIMED)]
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(times)


def _timed(model: Model, picture: np.ndarray, *, tta: bool) -> float:
    start_s = time.process_time()
    model.predict(picture, tta=tta, task=model.tasks[0])
    return time.process_time() - start_s


def trained(recipe: Recipe, run_dir: Path) -> Path:
    """The model folder of a run; one that is done is not done again.

    Raises:
        RunError: it was interrupted.
    """
    result = run_recipe(recipe, run_dir)
    if result.interrupted:
        raise RunError(run_dir, "was interrupted", "The same command goes on from there")
    return result.model_dir


def recipe_of(
    manifest: Path,
    backbone: Mapping[str, Any],
    method: Mapping[str, Any],
    *,
    steps: int,
    items: int,
    seed: int = 0,
    augment: Mapping[str, Any] | None = None,
    lr: float = 1.0e-3,
) -> Recipe:
    """About `steps` steps on the training rows of a manifest; `items` is their number.

    An objective is told from a task by its name.
    """
    batch = min(BATCH, items)
    epochs = max(2, round(steps * batch / items))
    pretrains = method["name"] == "ijepa"
    return Recipe.model_validate(
        {
            "seed": seed,
            "data": {
                "manifest": str(manifest), "batch": batch, "val_split": None,
                "augment": dict(AUGMENT if augment is None else augment),
            },
            "backbone": dict(backbone),
            "objective" if pretrains else "task": dict(method),
            "optim": {
                "epochs": epochs, "lr": lr, "warmup_epochs": min(2, epochs / 4), "clip": 1.0,
                "weight_decay": 0.04 if pretrains else 0.05, "backbone_lr_scale": 0.1 if pretrains else 1.0,
                "precision": "fp32",  # the published numbers are of fp32, on any machine
            },
        }
    )  # fmt: skip


def training_items(manifest: Manifest, column: str | None) -> int:
    """Rows of the training that have a label in `column`; all of them without one."""
    rows: Sequence[Any] = manifest.select(split="train").rows
    return sum(column is None or row.get(column) is not None for row in rows)
