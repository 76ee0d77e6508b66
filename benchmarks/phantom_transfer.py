"""What a model learns from the phantom alone, tested on real pictures, against other things to learn from.

Run: python benchmarks/phantom_transfer.py DATA OUT [--steps 400] [--patients 160]
DATA holds camus_4ch and hc18_landmarks. Same network, steps and augmentation for every source; an
interrupted run goes on. Sources: the phantom's truth with random textures, the phantom, the labels of a tenth
of the real patients, and those after the phantom. Prints a table in Markdown and writes OUT/transfer.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from insonate.data import Manifest
from insonate.data.adapters import ADAPTERS
from insonate.data.media import read_frames
from insonate.data.media.writing import write_png
from insonate.evaluate import Evaluation, compare_evaluations, evaluate_model
from insonate.experiments.pretraining import SMALL_VIT, recipe_of
from insonate.files import atomic_write, publish_dir
from insonate.hub import load
from insonate.phantom import generate
from insonate.recipes import run_recipe

BATCH = 16
SIDE = [64, 64]
"""of the network's input: 8 × 8 patches"""
FEW = 0.1
AUGMENT: dict[str, Any] = {
    "rotate_deg": 20.0, "scale": [0.75, 1.25], "shift": 0.08, "brightness": 0.25, "contrast": 0.3,
    "gamma": [0.6, 1.6], "noise": 0.05,
}  # fmt: skip
HEAD_BOX = (270, 400)
"""height and width of a real head's picture at half size"""
SOURCES = ("random textures", "phantom", "few real", "phantom, then few real")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A task on real pictures, and phantoms with the same labels."""

    name: str
    real: str
    """the data set"""
    task: dict[str, Any]
    score: str
    mask: str
    """column of the masks that textures are drawn in"""
    make: Callable[[Path, int], Manifest]


def hearts(folder: Path, patients: int) -> Manifest:
    """Two stills of each patient, at the ends of diastole and systole."""
    return generate(
        folder, kind="heart", patients=patients, images_per_patient=2, views=("A4C",), size=160, overlays=0.3,
        seed=11,
    )  # fmt: skip


def heads(folder: Path, patients: int) -> Manifest:
    """Two pictures of each fetus, cut about the head to the shape that real ones have."""
    whole = generate(folder / "whole", kind="head", patients=patients, size=HEAD_BOX[1], seed=11)
    rng, rows = np.random.default_rng(0), []
    with publish_dir(folder / "cut") as root:
        for row in whole.rows:
            masked = read_frames(folder / "whole" / row["head_mask_path"])[0]
            middle = np.nonzero(masked)[0].mean() - HEAD_BOX[0] / 2 + rng.normal(0, 15)
            top = int(np.clip(middle, 0, HEAD_BOX[1] - HEAD_BOX[0]))
            for column in ("path", "head_mask_path"):
                image = read_frames(folder / "whole" / row[column])[0]
                write_png(root / row[column], image[top : top + HEAD_BOX[0]])
            points = np.array(row["keypoints_hc"]).reshape(-1, 2) - (0, top)
            rows.append({**row, "height": HEAD_BOX[0], "keypoints_hc": points.ravel().tolist()})
        Manifest.from_rows(rows, root).write(root / "manifest.parquet")
    return Manifest.read(folder / "cut" / "manifest.parquet")


PROBLEMS = (
    Problem(
        name="CAMUS segmentation", real="camus_4ch", score="dice", mask="chambers_mask_path", make=hearts,
        task={
            "name": "segmentation", "column": "mask_path",
            "classes": ["background", "left_ventricle", "myocardium", "left_atrium"],
        },
    ),
    Problem(
        name="HC18 points", real="hc18_landmarks", score="mre_mm", mask="head_mask_path", make=heads,
        task={"name": "keypoints", "column": "keypoints_hc", "points": "HC", "head_width": 64},
    ),
)  # fmt: skip


def textured(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """H W: each region of `label` with a random level and random noise of a random grain.

    Source: the idea of Billot et al. 2023 (SynthSeg, arXiv 2107.09559): labels are true, textures are not.
    """
    image = np.zeros(label.shape)
    for value in np.unique(label):
        noise = ndimage.gaussian_filter(rng.normal(size=label.shape), rng.uniform(0.5, 3, 2))
        own = rng.uniform(10, 200) + rng.uniform(3, 40) * noise / noise.std()
        image = np.where(label == value, own, image)
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def for_training(made: Manifest, folder: Path, mask: str | None) -> Path:
    """The manifest with all items in the training split; with `mask`, of textures drawn in those masks."""
    root = made.root
    if mask is None:
        rows = [{**row, "split": "train"} for row in made.rows]
        return Manifest.from_rows(rows, root).write(root / "training.parquet")
    rng, rows = np.random.default_rng(1), []
    with publish_dir(folder) as out:
        for row in made.rows:
            labels = {name: row[name] for name in row if name.endswith("mask_path") and row[name]}
            for path in labels.values():
                write_png(out / path, read_frames(root / path)[0])
            write_png(out / row["path"], textured(read_frames(root / row[mask])[0], rng))
            rows.append({**row, "split": "train"})
        Manifest.from_rows(rows, out).write(out / "manifest.parquet")
    return folder / "manifest.parquet"


def trained(
    problem: Problem,
    manifest: Path,
    run_dir: Path,
    steps: int,
    *,
    fraction: float = 1.0,
    weights: Path | None = None,
) -> Path:
    """The folder of a model after `steps` steps."""
    rows = [row for row in Manifest.read(manifest).rows if row["split"] == "train"]
    epochs = max(1, round(steps / max(1, len(rows) * fraction // BATCH)))
    recipe = recipe_of(
        seed=0,
        data={
            "manifest": str(manifest), "batch": BATCH, "fraction": fraction, "val_split": None,
            "augment": AUGMENT,
        },
        backbone={
            **SMALL_VIT,
            "input_size": SIDE,
            "train": "all",
            "weights": None if weights is None else str(weights),
        },
        task=problem.task,
        optim={
            "epochs": epochs, "lr": 1.0e-3, "warmup_epochs": min(1, epochs / 10), "clip": 1.0,
            "precision": "fp32",
        },
    )  # fmt: skip
    return run_recipe(recipe, run_dir).model_dir


def run_problem(problem: Problem, data: Path, out: Path, steps: int, patients: int) -> dict[str, Evaluation]:
    """By source, all on the real test split."""
    real = out / problem.real / "manifest.parquet"
    if not real.exists():
        ADAPTERS[problem.real](data / problem.real, real.parent)
    folder = out / f"phantom-{problem.real}"
    found = next(
        iter(sorted(folder.rglob("manifest.parquet"), key=lambda path: "cut" not in path.parts)), None
    )
    made = problem.make(folder, patients) if found is None else Manifest.read(found)
    textures = out / f"textures-{problem.real}"
    if not textures.exists():
        for_training(made, textures, problem.mask)
    plain = for_training(made, folder, None)
    runs = out / "runs" / problem.real
    phantom = trained(problem, plain, runs / "phantom", steps)
    models = {
        "random textures": trained(problem, textures / "manifest.parquet", runs / "textures", steps),
        "phantom": phantom,
        "few real": trained(problem, real, runs / "few", steps, fraction=FEW),
        "phantom, then few real": trained(problem, real, runs / "then", steps, fraction=FEW, weights=phantom),
    }
    return {
        name: evaluate_model(
            load(model), Manifest.read(real), out=runs / f"evaluation-{name.replace(' ', '-')}",
        )
        for name, model in models.items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--only", choices=[problem.real for problem in PROBLEMS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    told, lines = (
        {},
        ["| real test set | learnt from | score | value | against few real |", "|---|---|---|---|---|"],
    )
    for problem in (one for one in PROBLEMS if options.only in (None, one.real)):
        arms = run_problem(problem, options.data, options.out, options.steps, options.patients)
        trivial = arms["few real"].trivial[problem.score]
        lines.append(f"| {problem.name} | no picture at all | `{problem.score}` | {_told(trivial)} | |")
        for source in SOURCES:
            value = arms[source].metrics[problem.score]
            gain = compare_evaluations(arms[source], arms["few real"])[problem.score]
            against = "" if source == "few real" else _told(gain)
            lines.append(f"| {problem.name} | {source} | `{problem.score}` | {_told(value)} | {against} |")
            told[f"{problem.name}, {source}"] = {**value.to_dict(), "against few real": gain.to_dict()}
    atomic_write(options.out / "transfer.json", json.dumps(told, indent=1) + "\n")
    print("\n".join(lines))


def _told(interval: Any) -> str:
    return f"{interval.value:.3g} ({interval.low:.3g} – {interval.high:.3g})"


if __name__ == "__main__":
    main()
