"""ICC, limits of agreement, success rates and means over tasks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.data.sample import Meta
from insonate.data.spacing import Spacing
from insonate.evaluate import agreements, evaluate_model, icc, over_tasks, point_errors
from insonate.hub import Model
from insonate.measure.quantity import quantity
from insonate.models import build_backbone
from insonate.tasks import build_task
from insonate.tasks.base import Prediction
from insonate.tasks.ensemble import KeypointsEnsemble

CARD = {"AOP": 4.8, "FUGC": 3.9, "FA": 7.6, "HC": 8.0, "IVC": 29.0, "PLAX": 15.7, "PSAX": 22.8, "A4C": 63.7,
        "fetal_femur": 7.1}  # fmt: skip


def prediction(points, *, patient="p", spacing_mm=None, **sizes):
    spacing = None if spacing_mm is None else Spacing(row_mm=spacing_mm, col_mm=spacing_mm)
    eye = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    meta = Meta(
        item_id="i", original_hw=(64, 64), input_from_original=eye, spacing=spacing, patient_id=patient
    )
    return Prediction(
        task="t", kind="keypoints", meta=meta, value=np.asarray(points, dtype=float),
        confidence=np.ones(len(points)), names=("a", "b"),
        measurements={name: quantity(name, value) for name, value in sizes.items()},
    )  # fmt: skip


def test_icc_of_the_example_of_its_authors():
    judges = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc(np.array(judges, dtype=float)) == pytest.approx(0.29, abs=5e-3)


def test_icc_falls_with_noise_and_with_a_bias():
    truth = np.random.default_rng(0).normal(300, 20, 400)
    assert icc(np.stack([truth, truth], axis=1)) == pytest.approx(1)
    noisy = truth + np.random.default_rng(1).normal(0, 20, 400)
    assert icc(np.stack([noisy, truth], axis=1)) == pytest.approx(0.667, abs=0.05)  # 400 / (400 + 200)
    shifted = np.stack([truth + 20, truth], axis=1)  # a correlation would say 1
    assert icc(shifted) == pytest.approx(0.667, abs=0.05)
    assert np.isnan(icc(np.ones((3, 2))))
    assert np.isnan(icc(np.ones((1, 2))))


def test_agreement_of_a_measurement_leaves_out_what_cannot_be_compared():
    labels = [100.0, 150.0, 200.0, 250.0, 5.0]  # the last is out of range
    truths = [prediction([(0, 0), (1, 1)], patient=f"p{i}", hc_mm=mm) for i, mm in enumerate(labels)]
    found = [prediction([(0, 0), (1, 1)], hc_mm=mm + 2) for mm in labels[:3]]
    found += [prediction([(0, 0), (1, 1)]), prediction([(0, 0), (1, 1)], hc_mm=7.0)]
    hc = agreements(found, truths, resamples=50)["hc_mm"]
    told = hc.to_dict()
    assert (told["items"], told["missing"], told["implausible"], told["unit"]) == (3, 1, 1, "mm")
    assert hc.statistics["bias"].value == pytest.approx(2)
    assert hc.statistics["mean_abs_error"].value == pytest.approx(2)
    assert (hc.statistics["low"].value, hc.statistics["high"].value) == pytest.approx((2, 2))
    assert 0.99 < hc.statistics["icc"].value < 1
    assert hc.statistics["bias"].patients == 3


def test_success_rates_count_labelled_points_only():
    truth = [prediction([(10, 10), (20, 20)], patient="a", spacing_mm=0.5),
             prediction([(10, 10), (np.nan, np.nan)], patient="b")]  # fmt: skip
    found = [prediction([(13, 10), (20, 32)]), prediction([(10, 10), (0, 0)])]
    errors = point_errors(found, truth)
    assert [errors.per_point["px"][name].value for name in ("a", "b")] == [1.5, 12.0]
    assert errors.per_point["mm"]["b"].value == 6.0
    assert errors.per_point["mm"]["a"].items == 1
    assert errors.success["2px"].value == pytest.approx(0.5)  # none of two, one of one
    assert errors.success["4px"].value == pytest.approx(0.75)
    assert errors.success["20px"].value == pytest.approx(1.0)
    assert (errors.success["1mm"].value, errors.success["2mm"].value) == (0.0, 0.5)  # 1.5 and 6 mm
    assert errors.success["1mm"].items == 1
    thresholds, rates = errors.curve
    assert (np.diff(rates) >= 0).all()
    assert rates[thresholds == 3.0] == pytest.approx(2 / 3)
    # errors of 0, 3 and 12 px: each is found from its own distance on
    assert errors.area == pytest.approx((50 + 47 + 38) / 150, abs=0.01)
    assert errors.missing == 1


def test_mean_over_tasks_gives_the_numbers_of_the_models_card():
    images = dict.fromkeys(CARD, 50) | {"AOP": 616, "IVC": 8, "PSAX": 6, "PLAX": 16, "A4C": 16, "FUGC": 39}
    images["HC"] = 1015 - sum(n for task, n in images.items() if task != "HC")
    mean = over_tasks(CARD, images)
    assert mean.unweighted == pytest.approx(18.0667, abs=5e-5)
    assert 6.5 < mean.weighted < 7.6
    assert mean.images["AOP"] == 616
    with pytest.raises(ValueError, match="errors of"):
        over_tasks(CARD, {"AOP": 1})


def test_an_evaluation_of_points_writes_them_all(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(10):
        write_png(tmp_path / f"{i}.png", rng.integers(0, 255, (32, 32)).astype(np.uint8))
        points = np.array([[16, 4], [16, 26], [29, 16], [3, 16]]) + rng.normal(0, 1, (4, 2))
        rows.append({
            "path": f"{i}.png", "kind": "image", "patient_id": f"p{i}", "frames": 1, "height": 32,
            "width": 32, "spacing_row_mm": 3.0, "spacing_col_mm": 3.0, "split": "train" if i < 3 else "test",
            "points": points.ravel().tolist(),
        })  # fmt: skip
    torch.manual_seed(0)
    vit = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}
    backbone = build_backbone(vit)
    task = build_task(backbone, {"name": "keypoints", "column": "points", "points": "HC"})
    task.head.final.weight.data *= 1e6  # else maps without a peak
    model = Model(backbone, task)
    evaluation = evaluate_model(model, Manifest.from_rows(rows, tmp_path), out=tmp_path / "e")
    told = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert set(told["points"]["per_point_px"]) == {"bpd_upper", "bpd_lower", "ofd_right", "ofd_left"}
    assert len(told["points"]["curve"]["rate"]) == len(told["points"]["curve"]["threshold_px"])
    assert set(told["agreement"]["hc_mm"]["statistics"]) == {
        "mean_abs_error",
        "bias",
        "sd",
        "low",
        "high",
        "icc",
    }
    mean = np.mean([one.value for one in evaluation.points.per_point["px"].values()])
    assert mean == pytest.approx(evaluation.metrics["mre_px"].value)
    ensemble = Model(backbone, KeypointsEnsemble([model.task] * 3))
    same = evaluate_model(ensemble, Manifest.from_rows(rows, tmp_path), out=tmp_path / "f")
    assert same.metrics["mre_px"].value == pytest.approx(mean)
    html = (tmp_path / "e" / "report.html").read_text()
    for words in ("Points</h2>", "Success rate", "ICC(2,1)", "Bland–Altman of hc_mm", "ofd_left"):
        assert words in html
