"""A model of several tasks is evaluated task by task and in all; what its confidence is worth is told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.data.pointsets import POINT_SETS
from insonate.errors import ManifestError
from insonate.evaluate import bootstrap_mean, evaluate_model, reliability
from insonate.evaluate.statistics import bootstrap_mean_of_means
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}


def manifest(folder, counts):
    rng = np.random.default_rng(0)
    rows = []
    for name, count in counts.items():
        for i in range(count):
            write_png(folder / f"{name}{i}.png", rng.integers(0, 255, (32, 48)).astype(np.uint8))
            points = rng.uniform(4, 28, (len(POINT_SETS[name].names), 2))
            rows.append({
                "path": f"{name}{i}.png", "kind": "image", "patient_id": f"{name}{i // 2}", "frames": 1,
                "height": 32, "width": 48, "spacing_row_mm": 0.5, "spacing_col_mm": 0.5,
                "split": "train" if i < 2 else "test", "points_set": name,
                "keypoints": points.ravel().tolist(), "site": "here",
            })  # fmt: skip
    return Manifest.from_rows(rows, folder)


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    options = {"name": "biometry", "column": "keypoints", "points": ["HC", "IVC", "FUGC"], "head_width": 16}
    task = build_task(backbone, options)
    for head in task.head.heads.values():
        head.final.weight.data *= 1e6
    return Model(backbone, task.eval())


def test_each_task_and_all_together_are_scored_drawn_and_written(model, tmp_path):
    rows = manifest(tmp_path, {"HC": 8, "IVC": 4})
    whole = evaluate_model(model, rows, out=tmp_path / "e")
    assert list(whole.sets) == ["HC", "IVC"]
    assert [len(one.item_ids) for one in whole.sets.values()] == [6, 2]
    errors = [one.metrics["mre_px"].value for one in whole.sets.values()]
    assert whole.metrics["mre_px"].value == pytest.approx((6 * errors[0] + 2 * errors[1]) / 8)
    assert whole.metrics["mre_px_by_task"].value == pytest.approx(np.mean(errors))
    assert whole.metrics["mre_mm"].value == pytest.approx(0.5 * whole.metrics["mre_px"].value)
    assert whole.metrics["mre_px"].items == 8
    assert whole.sets["HC"].trivial["mre_px"].value > 0  # from the training rows of its own set
    assert {"hc_mm", "bpd_mm"} <= set(whole.sets["HC"].agreements)
    assert set(whole.sets["IVC"].points.per_point["percent"]) == {"IVC_p1", "IVC_p2"}

    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert set(told["sets"]) == {"HC", "IVC"}
    assert told["sets"]["HC"]["points"]["per_point_input_px"]["bpd_upper"]["value"] > 0
    assert told["sets"]["HC"]["points"]["reliability"]["near_px"] == 10
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count("How to read this") == 2  # its link and its heading
    for words in (
        "2 tasks on test",
        "All tasks",
        "HC: Result",
        "IVC: Points",
        "by task",
        "each counts once",
        "Confidence",
    ):
        assert words in page
    assert "FUGC" not in page  # nothing is labelled for it


def test_the_errors_of_a_point_are_told_in_four_units(model, tmp_path):
    whole = evaluate_model(model, manifest(tmp_path, {"IVC": 4}), out=tmp_path / "e")
    per_point = {unit: one["IVC_p1"].value for unit, one in whole.sets["IVC"].points.per_point.items()}
    assert per_point["mm"] == pytest.approx(per_point["px"] / 2)
    assert per_point["percent"] == pytest.approx(100 * per_point["px"] / np.hypot(32, 48))
    assert 256 / 48 <= per_point["input_px"] / per_point["px"] <= 256 / 32


def test_rows_of_no_task_and_patients_of_the_training_are_refused(model, tmp_path):
    rows = manifest(tmp_path, {"PLAX": 4})
    with pytest.raises(ManifestError, match=r"no row of split 'test' .* HC, IVC, FUGC"):
        evaluate_model(model, rows, out=tmp_path / "e")
    leaking = manifest(tmp_path, {"IVC": 4})
    for row in leaking.rows:
        row["patient_id"] = "same"
    with pytest.raises(ManifestError, match="also trained on"):
        evaluate_model(model, leaking, out=tmp_path / "e")


def test_the_mean_of_means_draws_the_patients_of_each_group():
    rng = np.random.default_rng(0)
    groups = [(rng.normal(mean, 1, 60), [f"p{i // 3}" for i in range(60)]) for mean in (2.0, 10.0)]
    groups.append((np.full(3, np.nan), ["a", "b", "c"]))
    one = bootstrap_mean_of_means(groups)
    means = [scores.mean() for scores, _ in groups[:2]]
    assert one.value == pytest.approx(np.mean(means))
    assert (one.items, one.patients) == (120, 40)
    widths = [(b.high - b.low) / 4 for b in (bootstrap_mean(*group) for group in groups[:2])]
    assert (one.high - one.low) / 4 == pytest.approx(np.hypot(*widths) / 2, rel=0.15)  # independent
    assert np.isnan(bootstrap_mean_of_means(groups[2:]).value)


def test_reliability_of_honest_and_of_boasting_confidence():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0, 1, 20_000)
    error_px = np.where(rng.uniform(0, 1, len(chance)) < chance, 5.0, 20.0)
    assert reliability(chance, error_px).error < 0.02
    boasting = reliability(np.sqrt(chance), error_px)
    assert boasting.error == pytest.approx(2 / 3 - 1 / 2, abs=0.02)  # mean of √u minus mean of u
    assert boasting.points.sum() == len(chance)
