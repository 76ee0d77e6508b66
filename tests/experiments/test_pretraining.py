"""The study on a phantom of a few patients: all arms trained, compared by pairs, not trained twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from insonate.evaluate import render_report
from insonate.experiments.pretraining import Problem, Study, gain, run_study, sections
from insonate.phantom import generate

BACKBONE = {"name": "vit", "width": 48, "depth": 1, "heads": 3, "input_size": [80, 80], "patch": 8}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("phantom") / "data"
    generate(root, kind="head", patients=14, images_per_patient=1, seed=1, size=96)
    manifest = root / "manifest.parquet"
    keypoints = Problem(
        name="HC",
        manifest=manifest,
        task={"name": "keypoints", "column": "keypoints_hc", "points": "HC"},
        score="mre_mm",
        lower_is_better=True,
        epochs=1,
        fraction=1.0,
        batch=4,
    )
    return Study(
        unlabelled=manifest, backbone=BACKBONE, pretrain_epochs=1, problems=[keypoints], pretrain_batch=4
    )


def test_every_arm_is_evaluated_on_the_same_items_and_a_second_call_trains_nothing(
    study: Study, tmp_path: Path
) -> None:
    arms = run_study(study, tmp_path)
    assert {(arm.protocol, arm.init) for arm in arms} == {
        (protocol, init) for protocol in ("frozen", "fine-tuned") for init in ("random", "pretrained")
    }
    assert len({arm.evaluation.item_ids for arm in arms}) == 1
    for arm in arms:
        random = next(one for one in arms if one.protocol == arm.protocol and one.init == "random")
        expected = random.evaluation.metrics["mre_mm"].value - arm.evaluation.metrics["mre_mm"].value
        assert gain(arms, arm).value == pytest.approx(expected, abs=1e-9)

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")}
    assert len(stamps) >= 5
    run_study(study, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("model.safetensors")} == stamps
    assert len(json.loads((tmp_path / "study.json").read_text())) == 4
    page = render_report("study", sections(study, arms, tmp_path), synthetic=True)
    assert "Synthetic data" in page
    assert "gain by pretraining" in page
