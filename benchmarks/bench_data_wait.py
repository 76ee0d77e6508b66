"""Share of a training step that waits for data: I-JEPA, PNG frames of the phantom, one loader process.

Run: python benchmarks/bench_data_wait.py --size real [--threads 2] [--json OUT]. The goal is under 5 % for
ViT-S at 224 px on two cores (size real); it exits with 1 above it. Size toy is a ViT-Ti at 96 px: a check
that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch

from insonate.files import atomic_write
from insonate.phantom import generate
from insonate.recipes import Recipe, run_recipe

GOAL_PERCENT = 5.0
SIZES = {
    "toy": {"name": "vit_tiny", "input_size": [96, 96], "patch": 8},
    "real": {"name": "vit_small", "input_size": [224, 224], "patch": 16},
}
BATCH, STEPS = 8, 6


def wait_percent(size: str, folder: Path) -> list[float]:
    generate(folder / "data", kind="head", patients=BATCH * STEPS * 2, images_per_patient=1)
    recipe = Recipe.model_validate(
        {
            "data": {
                "manifest": str(folder / "data" / "manifest.parquet"),
                "batch": BATCH,
                "workers": 1,
                "val_split": None,
                "augment": {"crop_scale": [0.3, 1.0]},
            },
            "backbone": SIZES[size],
            "objective": {"name": "ijepa"},
            "optim": {"epochs": 1, "log_every": 1, "precision": "fp32"},
        }
    )
    run = run_recipe(recipe, folder / "run").run_dir
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["data_wait_percent"] for row in rows if row["event"] == "train"][
        1:
    ]  # the first starts workers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="toy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        waits = wait_percent(options.size, Path(folder))
    result = {
        "name": "data_wait",
        "size": options.size,
        "threads": options.threads,
        "steps": len(waits),
        "median_percent": statistics.median(waits),
        "max_percent": max(waits),
        "goal_percent": GOAL_PERCENT,
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json is not None:
        atomic_write(options.json, text + "\n")
    return int(options.size == "real" and result["median_percent"] > GOAL_PERCENT)


if __name__ == "__main__":
    raise SystemExit(main())
