"""A packed model is small, tells its sources and errors, and predicts at once, with torch and without."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import WITHOUT_TORCH
from typer.testing import CliRunner

import insonate
from insonate import shipped
from insonate.cli import app
from insonate.data.media import write_png
from insonate.deploy import serving
from insonate.errors import InsonateError, ModelError
from insonate.experiments import shipped_pack
from insonate.experiments.shipped_pack import pack
from insonate.hub import Model, load
from insonate.models import build_backbone, build_part
from insonate.tasks import build_task

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)
ELSEWHERE = "/a folder of one machine"
INTERVAL = {"value": 3.21, "low": 2.5, "high": 4.5}
LINE = {"name": "HC18, held out: HC in mm", "items": 107, "patients": 87, "unmeasured": 0}


def trained() -> Model:
    torch.manual_seed(0)
    encoder = build_backbone({"name": "vit", "width": 48, "depth": 2, "heads": 3, "input_size": [64, 64]})
    task = build_task(
        encoder, {"name": "biometry", "column": "keypoints", "points": ["HC", "AOP"], "head_width": 16}
    )
    with torch.no_grad():
        for parameter in task.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    options = {
        "name": "grid_probe", "width": 48, "outputs": 2, "classes": ["AOP", "HC"], "rows": 4, "columns": 4,
        "cells": 2,
    }  # fmt: skip
    info = {"recipe": {"data": {"manifest": f"{ELSEWHERE}/manifest.parquet"}}}
    return Model(encoder, task.eval(), info, {"view": (options, build_part(options).eval())})


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("shipped")
    source = trained().save_pretrained(root / "trained")
    (root / "evaluation.json").write_text(json.dumps([{**LINE, "mean_abs_error": INTERVAL}]))
    return pack(
        source, root / "evaluation.json", ["insonate train tiny.yaml"], root / "models" / "sonichu_tiny"
    )


@pytest.fixture
def installed(packed, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", packed.folder.parent)
    return packed.folder


def ran(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_is_stored_in_16_bits_and_runs_in_32(packed):
    whole = (packed.folder.parents[1] / "trained" / "model.safetensors").stat().st_size
    assert packed.weights_bytes < 0.6 * whole
    assert packed.apart < 1e-3
    model = load(packed.folder)
    assert {p.dtype for p in model.backbone.parameters()} == {torch.float32}


def test_its_card_tells_errors_sources_and_commands_and_no_folder_of_a_machine(packed):
    card = (packed.folder / "README.md").read_text("utf-8")
    assert "| HC18, held out: HC in mm (107 pictures of 87 patients) | 3.21 | 2.5 – 4.5 |" in card
    for words in ("Not for clinical use", "CC BY 4.0", "license: Apache-2.0", "insonate train tiny.yaml"):
        assert words in card
    for file in packed.folder.rglob("*.*"):
        assert ELSEWHERE.encode() not in file.read_bytes()


def test_predict_takes_it_without_being_told_and_load_by_name(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "p.png", PICTURE)
    result = ran("predict", "p.png", "--task", "hc", "--json", "-o", "out")
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)["predictions"]
    named = insonate.load("sonichu_tiny")
    np.testing.assert_allclose(told["value"], named.predict(PICTURE, task="HC").value, atol=1e-6)
    assert "not for clinical use" in next((tmp_path / "out").glob("*.json")).read_text("utf-8")


def test_a_folder_of_the_same_name_counts_first(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sonichu_tiny").mkdir()
    with pytest.raises(InsonateError, match=r"config\.json"):
        insonate.load("sonichu_tiny")


PROGRAM = f"""{WITHOUT_TORCH}
from pathlib import Path
from insonate import shipped
shipped.FOLDER = Path(sys.argv[1])
from insonate.cli import main
sys.argv = ["insonate", "predict", *sys.argv[2:]]
main()
"""


@pytest.mark.parametrize("way", [("--task", "auto", "--least", "0"), ("--task", "aop", "--no-tta")])
def test_without_torch_it_says_the_same(installed, tmp_path, way):
    write_png(tmp_path / "p.png", PICTURE)
    words = [tmp_path / "p.png", *way, "--spacing", "0.2", "--json"]
    with_torch = ran("predict", *words, "-o", tmp_path / "with")
    assert with_torch.exit_code == 0, with_torch.output
    command = [sys.executable, "-c", PROGRAM, installed.parent, *words, "-o", tmp_path / "without"]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads(done.stdout), json.loads(with_torch.stdout)
    assert ours["task"].casefold() == theirs["task"].casefold()
    (found,), (wanted,) = ours["predictions"], theirs["predictions"]
    np.testing.assert_allclose(
        np.array(found["value"]) / (70, 90), np.array(wanted["value"]) / (70, 90), atol=1e-3
    )
    np.testing.assert_allclose(found["confidence"], wanted["confidence"], atol=1e-3)
    if "auto" in way:
        assert ours["task_chance"] == pytest.approx(theirs["task_chance"], abs=1e-3)
    for name, size in found["measurements"].items():
        assert size["value"] == pytest.approx(wanted["measurements"][name]["value"], rel=0.01)


def test_a_package_without_a_model_says_so_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    result = ran("predict", tmp_path / "p.png")
    assert isinstance(result.exception, ModelError)
    assert str(result.exception) == (
        "model sonichu_tiny: did not come with this package, which holds no model. "
        "Say --model FOLDER or a hub id, or train one: insonate train."
    )


def test_a_model_folder_without_its_graph_needs_torch_and_says_so(packed, monkeypatch):
    monkeypatch.setattr(serving, "has_torch", lambda: False)
    with pytest.raises(ModelError, match="needs torch, which is not installed here"):
        serving.server_of(str(packed.folder.parents[1] / "trained"))
    assert serving.server_of(str(packed.folder)).exported


def test_what_is_too_large_differs_or_tells_no_errors_is_not_packed(packed, tmp_path, monkeypatch):
    source, evaluation = packed.folder.parents[1] / "trained", packed.folder.parents[1] / "evaluation.json"
    with pytest.raises(ModelError, match="is no evaluation"):
        pack(source, source / "config.json", [], tmp_path / "a")
    monkeypatch.setattr(
        shipped_pack, "export", lambda model, out, **_: shutil.copytree(packed.folder / "onnx", out)
    )
    monkeypatch.setattr(shipped_pack, "difference", lambda *_: 0.5)
    with pytest.raises(ModelError, match=r"torch and graph differ by 0\.5"):
        pack(source, evaluation, [], tmp_path / "b")
    monkeypatch.setattr(shipped_pack, "LARGEST_BYTES", 10_000)
    with pytest.raises(ModelError, match="the package takes"):
        pack(source, evaluation, [], tmp_path / "c")
    assert not list(tmp_path.iterdir())
