from __future__ import annotations

import json
import math
import re
import sys

import numpy as np
import pytest
import torch

from insonate.cli import main
from insonate.data import Loader, Manifest, ManifestDataset
from insonate.data.media import write_png
from insonate.errors import InsonateError, ManifestError, ModelError
from insonate.evaluate import compare_evaluations, evaluate_model, predict_loop
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def manifest(tmp_path):
    """Bright images are class b, dark ones class a; the value is the brightness."""
    rows = []
    for i in range(24):
        bright = i % 2
        write_png(tmp_path / f"{i}.png", np.full((24, 32), 40 + 150 * bright + i, np.uint8))
        rows.append({
            "path": f"{i}.png", "kind": "image", "patient_id": f"p{i // 2}", "frames": 1, "height": 24,
            "width": 32, "split": "train" if i < 8 else "test", "label": EVIL if bright else "a",
            "level_mm": 40.0 + 150 * bright + i, "vendor": "north" if i % 3 else "south", "site": "phantom",
        })  # fmt: skip
    return Manifest.from_rows(rows, tmp_path)


def made(options):
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    return Model(backbone, build_task(backbone, options))


@pytest.fixture
def classifier():
    return made({"name": "classification", "column": "label", "classes": ["a", EVIL]})


def test_an_evaluation_has_intervals_groups_and_the_trivial_answer(classifier, manifest, tmp_path):
    evaluation = evaluate_model(classifier, manifest, out=tmp_path / "e")
    assert len(evaluation.item_ids) == 16
    correct = evaluation.metrics["correct"]
    assert correct.patients == 8
    assert correct.value == pytest.approx(evaluation.metrics["accuracy"].value)
    assert evaluation.trivial["log_loss"].value == pytest.approx(math.log(2))  # half of the training labels
    assert evaluation.trivial["auroc"].value == pytest.approx(0.5)
    gain = evaluation.metrics["log_loss"].value - evaluation.trivial["log_loss"].value
    assert evaluation.gain["log_loss"].value == pytest.approx(gain)
    assert set(evaluation.groups) == {"vendor"}  # one site only
    assert set(evaluation.groups["vendor"]) == {"north", "south"}
    assert evaluation.synthetic


@pytest.mark.parametrize("column", ["site", "vendor"])
def test_each_group_is_scored_by_itself_with_intervals_over_its_patients(
    classifier, manifest, tmp_path, column
):
    names = ("north hospital", "south hospital")
    rows = [
        row | {"site": "", "vendor": "", column: names[i // 12]} for i, row in enumerate(manifest.rows)
    ]  # 2 and 6 test patients
    evaluation = evaluate_model(classifier, manifest.with_rows(rows), out=tmp_path / "e")
    group_of = {row["path"]: row[column] for row in rows}
    of_item = np.asarray([group_of[item] for item in evaluation.item_ids])
    assert set(evaluation.groups) == {column}
    assert set(evaluation.groups[column]) == set(names)
    written = json.loads((tmp_path / "e/evaluation.json").read_text())["groups"][column]
    html = (tmp_path / "e/report.html").read_text()
    assert f"By {column}" in html
    for name, patients in zip(names, (2, 6), strict=True):
        found = evaluation.groups[column][name]["log_loss"]
        assert found.value == pytest.approx(evaluation.scores["log_loss"][of_item == name].mean())
        assert found.patients == patients
        assert found.low < found.value < found.high
        assert (written[name]["log_loss"]["low"], written[name]["log_loss"]["high"]) == (
            found.low,
            found.high,
        )
        assert name in html
    assert not evaluation.synthetic


def test_the_written_files_tell_the_same(classifier, manifest, tmp_path):
    evaluation = evaluate_model(classifier, manifest, out=tmp_path / "e")
    content = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert content["metrics"]["log_loss"]["value"] == evaluation.metrics["log_loss"].value
    assert len(content["items"]) == 16
    html = (tmp_path / "e" / "report.html").read_text()
    assert "<script" not in html
    assert "Synthetic data" in html
    assert "Confusion matrix" in html
    assert html.count("data:image/png") == 5  # two best, the median, two worst


def test_regression_is_shown_by_bland_altman(manifest, tmp_path):
    model = made({"name": "regression", "column": "level_mm", "mean": 120.0, "std": 60.0})
    evaluation = evaluate_model(model, manifest, out=tmp_path / "e")
    html = (tmp_path / "e" / "report.html").read_text()
    assert "Bland–Altman of level_mm" in html
    train = [row["level_mm"] for row in manifest.rows if row["split"] == "train"]
    test = [row["level_mm"] for row in manifest.rows if row["split"] == "test"]
    expected = np.abs(np.asarray(test) - np.mean(train)).mean()
    assert evaluation.trivial["abs_error"].value == pytest.approx(expected, rel=1e-5)


def test_predictions_come_in_the_order_of_the_dataset(classifier, manifest):
    dataset = ManifestDataset(manifest, classifier.format, classifier.task.target())
    classifier.task.train()
    predictions, truths = predict_loop(classifier.task, Loader(dataset, 5, shuffle=False, drop_last=False))
    assert [p.meta.item_id for p in predictions] == [t.meta.item_id for t in truths] == [
        row["path"] for row in manifest.rows
    ]  # fmt: skip
    assert classifier.task.training
    np.testing.assert_allclose(
        predictions[3].value, classifier.predict(dataset.original(3), tta=False).value, atol=1e-6
    )


def test_without_training_labels_the_trivial_answer_is_missing(classifier, manifest, tmp_path):
    evaluation = evaluate_model(classifier, manifest.select(split="test"), out=tmp_path / "e")
    assert evaluation.trivial == {}
    assert "No training labels" in (tmp_path / "e" / "report.html").read_text()


def test_a_patient_of_the_training_in_the_test_is_an_error(classifier, manifest, tmp_path):
    rows = [dict(row) for row in manifest.rows]
    other = Manifest.from_rows([row | {"split": ""} for row in rows[:8]], tmp_path)
    test = manifest.select(split="test")
    assert evaluate_model(classifier, test, out=tmp_path / "e", train_manifest=other).trivial
    leaked = Manifest.from_rows([row | {"split": ""} for row in rows[:10]], tmp_path)
    with pytest.raises(ManifestError, match="1 patients were also trained on: p4"):
        evaluate_model(classifier, test, out=tmp_path / "f", train_manifest=leaked)
    assert not (tmp_path / "f").exists()


def test_two_models_are_compared_item_by_item(classifier, manifest, tmp_path):
    first = evaluate_model(classifier, manifest, out=tmp_path / "a")
    again = compare_evaluations(first, first)["log_loss"]
    assert (again.value, again.low, again.high) == (0, 0, 0)
    with torch.no_grad():
        next(classifier.task.head.parameters()).add_(0.1)
    second = evaluate_model(classifier, manifest, out=tmp_path / "b")
    difference = compare_evaluations(first, second)["log_loss"]
    assert difference.value == pytest.approx(
        first.metrics["log_loss"].value - second.metrics["log_loss"].value
    )
    other = evaluate_model(classifier, manifest, out=tmp_path / "c", split="train")
    with pytest.raises(InsonateError, match="no item in common"):
        compare_evaluations(first, other)


def test_a_model_without_task_cannot_be_evaluated(manifest, tmp_path):
    with pytest.raises(ModelError, match="no task"):
        evaluate_model(Model(build_backbone(VIT)), manifest, out=tmp_path)


def test_one_patient_has_no_interval_and_every_place_says_so(
    classifier, manifest, tmp_path, monkeypatch, capsys
):
    one = manifest.with_rows([row | {"patient_id": "p", "split": "test"} for row in manifest.rows[8:]])
    folder = classifier.save_pretrained(tmp_path / "model")
    arguments = [
        "evaluate",
        str(folder),
        str(one.write(manifest.root / "m.csv")),
        "--out",
        str(tmp_path / "e"),
    ]
    monkeypatch.setattr(sys, "argv", ["insonate", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    shown = capsys.readouterr().out
    assert "(no interval: one patient)" in shown
    assert "nan" not in shown.lower()
    content = json.loads((tmp_path / "e/evaluation.json").read_text())
    for found in content["metrics"].values():
        assert (found["low"], found["high"]) == (None, None)
        assert found["no_interval"] == "no interval: one patient"
    html = (tmp_path / "e/report.html").read_text()
    assert html.count("(no interval: one patient)") >= len(content["metrics"])
    assert "nan" not in html.partition("</style>")[2].partition("data:image")[0].lower()


def test_the_report_counts_measurements_and_those_out_of_range(manifest, tmp_path):
    rows = [
        row | {"hc_mm": 50.0 if i % 4 else 10.0} for i, row in enumerate(manifest.rows)
    ]  # a quarter is out of range
    model = made({"name": "regression", "column": "hc_mm", "mean": 300.0, "std": 1e-6})
    evaluate_model(model, manifest.with_rows(rows), out=tmp_path / "e")
    html = (tmp_path / "e/report.html").read_text()
    row = re.search(
        r'<th scope="row">hc_mm</th>((?:<td>[^<]*</td>)+)', html.partition("Measurements</h2>")[2]
    )
    assert re.findall("<td>([^<]*)</td>", row[1]) == ["mm", "40 to 420", "16", "0", "16", "4"]


def test_a_place_that_cannot_be_written_is_told_before_the_work(classifier, manifest, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("insonate.evaluate.run.predict_loop", lambda *a, **k: pytest.fail("worked first"))
    with pytest.raises(InsonateError, match="no folder"):
        evaluate_model(classifier, manifest, out=tmp_path / "file" / "e")
