"""Commands about models of points: pseudo-labels, several models as one, the fair split."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from insonate.cli import app
from insonate.data import Manifest
from insonate.errors import InsonateError

VIT = {"name": "vit", "width": 16, "depth": 1, "heads": 2, "patch": 8, "input_size": [32, 32]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 pictures of 12 patients in two tasks, a third without labels; two models."""
    from insonate.hub import Model
    from insonate.models import build_backbone
    from insonate.tasks import build_task

    folder, rows = tmp_path_factory.mktemp("points"), []
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (40, 48), dtype=np.uint8)).save(folder / f"{number}.png")
        length = 40.0 * [1e-3, 1][number % 2]
        rows.append({
            "path": f"{number}.png", "patient_id": f"p{number // 2}", "frames": 1,
            "split": ["train", "test", ""][number // 8],
            "points_set": ("FUGC", "fetal_femur")[number // 2 % 2],
            "keypoints": [2.0, 20, 2 + length, 20] if number < 16 else None,
        })  # fmt: skip
    Manifest.from_rows(rows, folder).write(folder / "manifest.parquet")
    for seed in range(2):
        torch.manual_seed(seed)
        backbone = build_backbone(VIT)
        options = {
            "name": "biometry",
            "column": "keypoints",
            "points": ["FUGC", "fetal_femur"],
            "head_width": 8,
        }
        task = build_task(backbone, options)
        for weight in task.head.parameters():
            weight.data *= 300 if weight.ndim == 4 else 1  # maps with a peak
        Model(backbone, task.eval()).save_pretrained(folder / f"model{seed}")
    return folder


def called(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_pseudo_label_tells_what_it_kept_and_writes_a_manifest(folder):
    out = folder / "r1.parquet"
    done = called(
        "pseudo-label", folder / "model0", folder / "manifest.parquet", "--member", folder / "model1",
        "--regime", "r1", "-o", out, "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)
    rows = Manifest.read(out).rows
    made = [row for row in rows if str(row.get("label_source") or "").startswith("pseudo:r1@")]
    assert sum(told["kept"].values()) == len(made)
    assert sum(told["kept"].values()) + sum(told["dropped"].values()) + told["guarded"] == 8
    with pytest.raises(InsonateError, match="no regime"):
        called("pseudo-label", folder / "model0", folder / "manifest.parquet", "--regime", "r9", "-o", out)


@pytest.mark.parametrize("fuse", ["median", "soup"])
def test_several_models_are_evaluated_as_one(folder, tmp_path, fuse):
    done = called(
        "evaluate", folder / "model0", folder / "manifest.parquet", "--member", folder / "model1",
        "--fuse", fuse, "--out", tmp_path / fuse,
    )  # fmt: skip
    assert done.exit_code == 0
    assert "mre_px" in done.stdout
    with pytest.raises(InsonateError, match="there is one model"):
        called(
            "evaluate", folder / "model0", folder / "manifest.parquet", "--fuse", "soup", "--out", tmp_path
        )


def test_the_fair_split_keeps_patients_together_and_tells_the_leak_of_the_other(folder):
    fair, leaking = folder / "fair.parquet", folder / "leaking.parquet"
    done = called("data", "split", folder / "manifest.parquet", "--fair", "--val", "0.3", "-o", fair)
    assert "have their patient in" in done.stdout
    splits = {}
    for row in Manifest.read(fair).rows:
        splits.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(one) == 1 for one in splits.values())
    assert {"train", "val"} == set().union(*splits.values())
    called("data", "split", folder / "manifest.parquet", "--fair", "--by-image", "-o", leaking)
    assert len({row["patient_id"] for row in Manifest.read(leaking).rows}) == 24
    with pytest.raises(InsonateError, match="--fair only"):
        called("data", "split", folder / "manifest.parquet", "--by-image")
