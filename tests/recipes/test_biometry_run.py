"""A run of several point sets from its recipe: balanced, calibrated on held-out items, used by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data import Manifest
from insonate.data.pointsets import POINT_SETS
from insonate.hub import load
from insonate.models.point_heads import everyones
from insonate.recipes import run_recipe
from insonate.recipes.build import build
from insonate.recipes.load import check, load_recipe

ITEMS = {"FUGC": 80, "IVC": 10}


@pytest.fixture(scope="module")
def manifest_path(tmp_path_factory):
    """Two bright spots side by side (FUGC) or one above the other (IVC)."""
    folder, rows = tmp_path_factory.mktemp("data"), []
    rng = np.random.default_rng(0)
    for name, count in ITEMS.items():
        for i in range(count):
            picture = rng.integers(0, 60, (32, 32), dtype=np.uint8)
            middle, half = rng.uniform(12, 20, 2), 8 * np.array([name == "FUGC", name == "IVC"])
            points = np.stack([middle - half, middle + half])
            for x, y in points.round().astype(int):
                picture[y - 2 : y + 3, x - 2 : x + 3] = 250
            Image.fromarray(picture).save(folder / f"{name}{i}.png")
            rows.append({
                "path": f"{name}{i}.png", "patient_id": f"{name}{i}", "points_set": name, "frames": 1,
                "keypoints": points.ravel().tolist(), "split": "val" if i % 5 == 0 else "train",
            })  # fmt: skip
    return Manifest.from_rows(rows, folder).write(folder / "manifest.parquet")


def recipe(manifest_path, **data):
    return check({
        "data": {"manifest": str(manifest_path), "batch": 8, **data},
        "backbone": {"name": "vit", "width": 32, "depth": 2, "heads": 2, "patch": 4, "input_size": [32, 32]},
        "task": {"name": "biometry", "column": "keypoints", "points": list(ITEMS), "head_width": 16},
        "optim": {"epochs": 7, "lr": 3e-3, "precision": "fp32", "monitor": "mre_px", "mode": "min"},
    }, "test")  # fmt: skip


def test_a_run_learns_both_sets_and_its_model_is_asked_by_name(manifest_path, tmp_path):
    result = run_recipe(recipe(manifest_path), tmp_path / "run")
    assert result.metrics["mre_px"] < 4  # in the middle of the picture it would be 8
    assert result.metrics.keys() >= {"mre_px_FUGC", "mre_px_IVC", "mre_percent"}
    model = load(result.model_dir)
    assert model.tasks == ("FUGC", "IVC")
    assert [one.fitted_on for one in model.task.certainty.values()] == [32, 0]  # 4 points are too few
    found = model.predict(manifest_path.parent / "IVC1.png", task="ivc")
    assert found.task == "IVC"
    assert abs(found.value[0, 0] - found.value[1, 0]) < abs(found.value[0, 1] - found.value[1, 1])
    card = (result.model_dir / "README.md").read_text()
    assert "one chosen at each use: FUGC, IVC" in card
    assert 'predict("study.dcm", task="FUGC")' in card


def test_shares_follow_the_power_that_the_recipe_says(manifest_path):
    for power, share in ((1.0, 8 / 72), (0.5, 1 / (1 + 8**0.5)), (0.0, 1 / 2)):
        built = build(recipe(manifest_path, balance=power))
        batches = [[m.points_set for m in batch["meta"]] for batch in built.loader.epoch(0)]
        names = [name for batch in batches for name in batch]
        assert len(names) == 72
        assert names.count("IVC") / 72 == pytest.approx(share, abs=0.02)
        assert any(len(set(batch)) == 2 for batch in batches)  # batches are mixed


@pytest.mark.parametrize("name", ["sonichu_teacher", "sonichu_tiny"])
def test_the_shipped_recipes_name_all_nine(name):
    shipped = load_recipe(name)
    assert shipped.data.balance == 0.5
    options = shipped.task.options()
    assert options["name"] == "biometry"
    assert set(options.get("points", POINT_SETS)) == set(POINT_SETS)


def test_all_processes_call_the_heads_that_any_of_them_needs(monkeypatch):
    rows = {"HC": torch.tensor([0, 2])}
    plain = torch.nn.ModuleDict({"HC": torch.nn.BatchNorm2d(4)})
    assert everyones(rows, ["HC", "FA", "IVC"], plain, torch.device("cpu")) == rows
    synced = torch.nn.ModuleDict({"HC": torch.nn.SyncBatchNorm(4)})

    def other_has_fa(present, op):
        assert op == torch.distributed.ReduceOp.MAX
        present[1] = 1.0

    monkeypatch.setattr(torch.distributed, "all_reduce", other_has_fa)
    found = everyones(rows, ["HC", "FA", "IVC"], synced, torch.device("cpu"))
    assert {name: index.tolist() for name, index in found.items()} == {"HC": [0, 2], "FA": []}
