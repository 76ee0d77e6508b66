"""Does pretraining help? The same heads, labels, steps and rates, from pretrained and from random weights.

A study pretrains one encoder on unlabelled frames, then trains each problem's head on the frozen and on the
fine-tuned encoder, from both initialisations, and compares them on held-out patients: differences are paired
by item, their intervals resample patients. The demo and the real-data results are two studies.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insonate.data import Manifest
from insonate.errors import RunError
from insonate.evaluate import (
    Evaluation,
    Section,
    Table,
    Text,
    compare_evaluations,
    evaluate_model,
    learning_curves,
)
from insonate.files import atomic_write
from insonate.hub import load, to_json
from insonate.recipes import Recipe, run_recipe

PROTOCOLS: dict[str, str] = {"frozen": "none", "fine-tuned": "all"}
"""protocol → what of the backbone trains"""
SMALL_VIT: dict[str, Any] = {
    "name": "vit", "width": 96, "depth": 4, "heads": 4, "input_size": [96, 96], "patch": 8,
    "conventions": "standardised",
}  # fmt: skip
"""0.5 M parameters, 12 × 12 patches"""
AUGMENT: dict[str, Any] = {
    "rotate_deg": 10.0, "scale": [0.9, 1.1], "shift": 0.05, "brightness": 0.2, "contrast": 0.2,
}  # fmt: skip
INITS = ("random", "pretrained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A labelled problem of a study."""

    name: str
    manifest: Path
    task: Mapping[str, Any]
    """task options of the recipe"""
    score: str
    """score by which the initialisations are compared"""
    lower_is_better: bool
    epochs: int
    fraction: float = 1.0
    """share of the training patients whose labels are used"""
    batch: int = 16
    frozen_lr: float = 3.0e-3
    """learning rate of the head on the frozen encoder"""
    augment: Mapping[str, Any] = field(default_factory=lambda: AUGMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One encoder and the problems it is tried on."""

    unlabelled: Path
    """manifest of the pretraining frames; only its training split is read"""
    backbone: Mapping[str, Any]
    pretrain_epochs: int
    problems: Sequence[Problem]
    pretrain_batch: int = 16
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One trained model of a study and how it did."""

    problem: Problem
    protocol: str
    init: str
    model_dir: Path
    evaluation: Evaluation


def run_study(study: Study, out: Path) -> list[Arm]:
    """Pretrain, adapt, evaluate; what is done already in `out` is not done again.

    Raises:
        InsonateError: a step failed; the message names it.
    """
    start_s = time.monotonic()
    say(start_s, "pretraining with I-JEPA")
    pretrained = _trained(pretraining_recipe(study), out / "pretrain")
    arms = []
    for problem in study.problems:
        for protocol in PROTOCOLS:
            for init in INITS:
                say(start_s, f"{problem.name}: {protocol}, {init} initialisation")
                run_dir = out / f"{problem.name}-{protocol}-{init}".replace(" ", "-").lower()
                weights = pretrained if init == "pretrained" else None
                recipe = problem_recipe(study, problem, train=PROTOCOLS[protocol], weights=weights)
                model_dir = _trained(recipe, run_dir)
                evaluation = evaluate_model(
                    load(model_dir),
                    Manifest.read(problem.manifest),
                    out=run_dir / "evaluation",
                    run_dir=run_dir,
                    seed=study.seed,
                )
                arms.append(
                    Arm(
                        problem=problem,
                        protocol=protocol,
                        init=init,
                        model_dir=model_dir,
                        evaluation=evaluation,
                    )
                )
    atomic_write(out / "study.json", to_json(study_table(arms)))
    say(start_s, "all arms trained and evaluated")
    return arms


def _trained(recipe: Recipe, run_dir: Path) -> Path:
    result = run_recipe(recipe, run_dir)
    if result.interrupted:
        raise RunError(run_dir, "was interrupted", "The same command goes on from there")
    return result.model_dir


def pretraining_recipe(study: Study) -> Recipe:
    """I-JEPA on the study's unlabelled frames."""
    return recipe_of(
        seed=study.seed,
        data={
            "manifest": str(study.unlabelled),
            "batch": study.pretrain_batch,
            "val_split": None,
            "augment": {"crop_scale": [0.4, 1.0], "hflip": 0.5},
        },
        backbone=dict(study.backbone),
        objective={"name": "ijepa", "predictor_depth": 3, "predictor_width": 96, "ema": [0.99, 1.0]},
        optim={
            "epochs": study.pretrain_epochs,
            "lr": 2.0e-3,
            "backbone_lr_scale": 0.1,  # the predictor must keep up with the encoder, or the features collapse
            "warmup_epochs": min(max(1, study.pretrain_epochs // 10), study.pretrain_epochs / 2),
            "weight_decay": 0.04,
            "save_every": 200,
            "precision": "fp32",  # the published numbers are of fp32, on any machine
        },
    )


def problem_recipe(study: Study, problem: Problem, *, train: str, weights: Path | None) -> Recipe:
    """A head on the study's encoder; both initialisations get the same."""
    return recipe_of(
        seed=study.seed,
        data={
            "manifest": str(problem.manifest),
            "batch": problem.batch,
            "fraction": problem.fraction,
            "val_split": None,
            "augment": dict(problem.augment),
        },
        backbone={
            **study.backbone,
            "train": train,
            "weights": None if weights is None else str(weights),
        },
        task=dict(problem.task),
        optim={
            "epochs": problem.epochs,
            "lr": problem.frozen_lr if train == "none" else 1.0e-3,
            "warmup_epochs": min(1, problem.epochs / 2),
            "clip": 1.0,
            "precision": "fp32",
        },
    )


def recipe_of(**parts: Any) -> Recipe:
    """A recipe from its parts; the options of methods are checked where they are built."""
    return Recipe.model_validate(parts)


def study_table(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """A row per arm, and the paired gain of pretraining in the pretrained ones (positive = better)."""
    rows = []
    for arm in arms:
        score = arm.problem.score
        row: dict[str, Any] = {
            "problem": arm.problem.name,
            "protocol": arm.protocol,
            "init": arm.init,
            "score": score,
            **arm.evaluation.metrics[score].to_dict(),
        }
        if arm.init == "pretrained":
            row["gain"] = gain(arms, arm).to_dict()
        rows.append(row)
    return rows


def gain(arms: Sequence[Arm], arm: Arm) -> Any:
    """Paired improvement of `arm` over the same protocol from random weights; positive = better."""
    (other,) = [
        one
        for one in arms
        if (one.problem.name, one.protocol, one.init) == (arm.problem.name, arm.protocol, "random")
    ]
    first, second = arm.evaluation, other.evaluation
    if arm.problem.lower_is_better:
        first, second = second, first
    return compare_evaluations(first, second)[arm.problem.score]


def sections(study: Study, arms: Sequence[Arm], out: Path) -> list[Section]:
    """The study as parts of a report: the question, the table, pictures."""
    rows = []
    for arm in arms:
        metrics, trivial = arm.evaluation.metrics, arm.evaluation.trivial
        rows.append(
            [
                f"{arm.problem.name}, {arm.protocol}, {arm.init}",
                arm.problem.score,
                metrics[arm.problem.score],
                trivial.get(arm.problem.score),
                gain(arms, arm) if arm.init == "pretrained" else None,
            ]
        )
    patients = {arm.problem.name: arm.evaluation.metrics[arm.problem.score].patients for arm in arms}
    shown = ", ".join(f"{name}: {count}" for name, count in patients.items())
    found = [
        Section(
            "Does pretraining help?",
            [
                Text(
                    "I-JEPA on unlabelled frames of the training patients, then the same heads, labels, "
                    "steps and rates from pretrained and from random weights. Brackets: 95 % bootstrap "
                    "interval by patient; they do not cover chance in training: one seed an arm. "
                    f"Patients in the test split: {shown}."
                ),
                Table(
                    columns=["arm", "score", "value", "trivial answer", "gain by pretraining"],
                    rows=rows,
                    caption="Gain: paired by item; positive = better.",
                ),
            ],
        ),
        Section("Pretraining", learning_curves(out / "pretrain" / "metrics.jsonl")),
    ]
    for problem in study.problems:
        best = [arm for arm in arms if arm.problem is problem and arm.init == "pretrained"][-1]
        title = f"{problem.name}: {best.protocol}, pretrained (best, median, worst)"
        found.append(Section(title, list(best.evaluation.examples)))
    return found


def say(start_s: float, text: str) -> None:
    """A line of progress on stderr."""
    print(f"[{time.monotonic() - start_s:5.0f} s] {text}", file=sys.stderr)  # noqa: T201
