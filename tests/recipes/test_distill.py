"""Distillation as a run: teachers from folders, their points in a file, the same bits after a cut."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data import Manifest
from insonate.errors import InsonateError
from insonate.hub import Model, load
from insonate.models import build_backbone
from insonate.recipes import run_recipe
from insonate.recipes.load import check
from insonate.tasks import build_task

VIT = {"name": "vit", "width": 16, "depth": 1, "heads": 2, "patch": 8, "input_size": [32, 32]}
STUDENT = {"name": "biometry", "points": ["HC", "FUGC"], "head_width": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """16 pictures of two sets, and two teachers."""
    folder, rows = tmp_path_factory.mktemp("distill"), []
    rng = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(rng.integers(0, 255, (40, 48), dtype=np.uint8)).save(folder / f"{number}.png")
        name = ("HC", "FUGC")[number % 2]
        points = [20.0, 10, 20, 30, 35, 20, 10, 20] if name == "HC" else [10.0, 20, 35, 22]
        rows.append({
            "path": f"{number}.png", "patient_id": f"p{number}", "frames": 1, "points_set": name,
            "keypoints": points, "split": "train" if number < 12 else "val",
        })  # fmt: skip
    Manifest.from_rows(rows, folder).write(folder / "manifest.parquet")
    for seed in range(2):
        teacher(folder / f"teacher{seed}", seed)
    return folder


def teacher(path, seed, **changes):
    torch.manual_seed(seed)
    backbone = build_backbone(VIT)
    task = build_task(backbone, {"column": "keypoints", **STUDENT, **changes})
    for weight in task.head.parameters():
        weight.data *= 300 if weight.ndim == 4 else 1
    return Model(backbone, task.eval()).save_pretrained(path)


def recipe(folder, *, augment=None, **task):
    return check({
        "data": {
            "manifest": str(folder / "manifest.parquet"), "batch": 4, "augment": augment or {"hflip": 0.5},
        },
        "backbone": VIT,
        "task": {
            "name": "median_distill", "column": "keypoints", "student": STUDENT,
            "teachers": [str(folder / f"teacher{seed}") for seed in range(2)], **task,
        },
        "optim": {"epochs": 2, "lr": 1e-3, "precision": "fp32", "keep": 9, "log_every": 1},
    }, "test")  # fmt: skip


def digest(result):
    return load(result.model_dir).digest()


def test_a_run_leaves_a_plain_student_and_a_file_of_points_and_goes_on_bit_by_bit(folder, tmp_path, capsys):
    cache = tmp_path / "points.parquet"
    whole = run_recipe(recipe(folder, cache=str(cache)), tmp_path / "whole")
    model = load(whole.model_dir)
    assert model.tasks == ("HC", "FUGC")
    assert model.task.config.name == "biometry"
    written = cache.stat().st_mtime_ns
    log = (tmp_path / "whole/metrics.jsonl").read_text()
    assert "teacher_px" in log
    assert "are remembered" in capsys.readouterr().err
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    shutil.rmtree(cut / "model")
    (cut / "result.json").unlink()
    _, *later = sorted((cut / "checkpoints").glob("step-*"))
    assert later
    for one in later:
        shutil.rmtree(one)
    assert digest(run_recipe(recipe(folder, cache=str(cache)), cut)) == digest(whole)
    assert cache.stat().st_mtime_ns == written


def test_mirrors_alone_cost_nothing_and_turns_beyond_the_limit_fall_back(folder, tmp_path, capsys):
    asked = run_recipe(recipe(folder), tmp_path / "asked")
    told = run_recipe(recipe(folder, cache=str(tmp_path / "a.parquet")), tmp_path / "told")
    for name, value in asked.metrics.items():
        assert told.metrics[name] == pytest.approx(value, rel=1e-3, nan_ok=True)
    turns = {"rotate_deg": 90.0, "scale": [0.5, 1.5]}
    turned = recipe(folder, augment=turns, cache=str(tmp_path / "b.parquet"), largest_gap_px=0.5)
    run_recipe(turned, tmp_path / "turned")
    assert "are asked online" in capsys.readouterr().err


def test_teachers_that_do_not_fit_are_told(folder, tmp_path):
    odd = teacher(tmp_path / "odd", 0, points=["HC"])
    with pytest.raises(InsonateError, match="other points"):
        run_recipe(recipe(folder, teachers=[str(odd)]), tmp_path / "run")
    cache = tmp_path / "c.parquet"
    run_recipe(recipe(folder, cache=str(cache)), tmp_path / "one")
    with pytest.raises(InsonateError, match="other teachers"):
        run_recipe(recipe(folder, cache=str(cache), teachers=[str(folder / "teacher0")]), tmp_path / "two")
    wrong = recipe(folder, student={"name": "classification"})
    with pytest.raises(InsonateError, match="keypoints or biometry"):
        run_recipe(wrong, tmp_path / "three")
