"""Why a short I-JEPA run fails or works: the demo's pretraining with one thing changed at a time (synthetic).

Run: python benchmarks/short_pretraining.py OUT [--patients 300] [--epochs 24]. For each run it prints the
health of the target features at the end, and R² (95 % bootstrap interval by patient) of the size of a lesion
from the mean token of held-out pictures by ridge regression. About 10 minutes on two cores. Not timed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from insonate.data import Manifest
from insonate.data.media import read_frames
from insonate.data.transforms import prepare
from insonate.experiments.demo import FULL, demo_study, phantom_data
from insonate.experiments.pretraining import pretraining_recipe
from insonate.hub import load
from insonate.models import Backbone, build_backbone
from insonate.recipes import Recipe, run_recipe
from insonate.recipes.build import input_format

CHANGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "as in the demo": {},
    "encoder as fast as the predictor": {"optim": {"lr": 1.0e-3, "backbone_lr_scale": 1.0}},
    "ImageNet's mean and deviation": {"backbone": {"conventions": "imagenet"}},
}
SHRINK = np.logspace(-4, 1, 6)
"""ridge penalties, as parts of the mean square of the features; chosen by 5 folds of training patients"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=24)
    options = parser.parse_args()
    size = replace(FULL, patients=options.patients, pretrain_epochs=options.epochs)
    path = phantom_data(options.out / "data", size, seed=0)
    manifest = Manifest.read(path)
    base = pretraining_recipe(demo_study(path, size, seed=0))
    torch.manual_seed(0)
    untrained = build_backbone(backbone_options(base))
    print(
        "| pretraining | target_std | effective_rank | position_r2 | R² of the size |\n|---|---|---|---|---|"
    )
    print(f"| none | – | – | – | {size_r2(untrained, manifest)} |", flush=True)
    for name, change in CHANGES.items():
        recipe = changed(base, change)
        run = run_recipe(recipe, options.out / name.replace(" ", "-").replace("'", ""))
        rows = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
        last = [row for row in rows if row["event"] == "train"][-1]
        health = " | ".join(f"{last[key]:.3g}" for key in ("target_std", "effective_rank", "position_r2"))
        print(f"| {name} | {health} | {size_r2(load(run.model_dir).backbone, manifest)} |", flush=True)


def backbone_options(recipe: Recipe) -> dict[str, Any]:
    return recipe.backbone.model_dump(exclude={"train", "weights"}, exclude_unset=True)


def changed(recipe: Recipe, change: Mapping[str, Mapping[str, Any]]) -> Recipe:
    content = recipe.model_dump(exclude_unset=True)
    for part, options in change.items():
        content[part] = {**content[part], **options}
    return Recipe.model_validate(content)


@torch.no_grad()
def size_r2(backbone: Backbone, manifest: Manifest) -> str:
    backbone.eval()
    fmt = input_format(backbone)
    rows = [row for row in manifest.rows if row["lesion_class"]]
    pictures = torch.stack([prepare(read_frames(manifest.root / r["path"])[0], fmt)[0] for r in rows])
    pooled = torch.cat([backbone(part).patch.mean(1) for part in pictures.split(64)]).double().numpy()
    size_mm = np.array([row["lesion_long_mm"] for row in rows])
    patients = np.array([row["patient_id"] for row in rows])
    train = np.array([row["split"] == "train" for row in rows])
    pooled = (pooled - pooled[train].mean(0)) / (pooled[train].std(0) + 1e-9)
    found = ridge(
        pooled[train], size_mm[train], pooled[~train], best_shrink(pooled, size_mm, patients, train)
    )
    errors = (found - size_mm[~train]) ** 2
    spreads = (size_mm[~train] - size_mm[train].mean()) ** 2
    held = patients[~train]
    names = np.unique(held)
    rng = np.random.default_rng(0)
    sums = np.array([[errors[held == name].sum(), spreads[held == name].sum()] for name in names])
    drawn = sums[rng.integers(len(names), size=(1000, len(names)))].sum(1)
    low, high = np.percentile(1 - drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return f"{1 - errors.sum() / spreads.sum():.2f} ({low:.2f} – {high:.2f})"


def best_shrink(pooled: np.ndarray, size_mm: np.ndarray, patients: np.ndarray, train: np.ndarray) -> float:
    """The penalty with the least squared error over folds of whole patients."""
    names = np.unique(patients[train])
    fold = np.searchsorted(names, patients) % 5

    def error(shrink: float) -> float:
        total = 0.0
        for number in range(5):
            seen, held = train & (fold != number), train & (fold == number)
            total += ((ridge(pooled[seen], size_mm[seen], pooled[held], shrink) - size_mm[held]) ** 2).sum()
        return total

    return float(min(SHRINK, key=error))


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray, shrink: float) -> np.ndarray:
    penalty = shrink * np.mean(x**2) * len(x) * np.eye(x.shape[1])
    return new @ np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean())) + y.mean()


if __name__ == "__main__":
    main()
