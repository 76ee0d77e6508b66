"""An exported model says what torch says, for any number of pictures, and says so without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import WITHOUT_TORCH
from typer.testing import CliRunner

from insonate.cli import app
from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.deploy import export as exporting
from insonate.deploy.export import export
from insonate.deploy.runtime import Exported, prepare
from insonate.errors import InsonateError, ManifestError, ModelError
from insonate.hub import Model, load
from insonate.models import build_backbone
from insonate.tasks import build_task

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIZE = {"input_size": [64, 64]}
BACKBONES = {
    "vit": {"name": "vit", "width": 48, "depth": 2, "heads": 3, **SIZE},
    "class token": {
        "name": "vit", "width": 48, "depth": 2, "heads": 3, "position": "learned", "class_token": True,
        "registers": 2, "conventions": "clip", **SIZE,
    },
    "relative": {
        "name": "vit", "width": 48, "depth": 2, "heads": 3, "position": "relative", "layer_scale": 0.1,
        **SIZE,
    },
    "clips": {
        "name": "vit", "width": 48, "depth": 2, "heads": 3, "position": "rope", "frames": 4, "tubelet": 2,
        **SIZE,
    },
    "convnext": {"name": "convnext", "depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32], **SIZE},
    "sononet": {"name": "sononet", "width": 4, **SIZE},
}  # fmt: skip
TASKS = {
    "classification": {"column": "lesion", "classes": ["a", "b", "c"]},
    "regression": {"column": "age_weeks", "mean": 20.0, "std": 4.0},
    "segmentation": {"column": "mask", "classes": ["background", "head"], "width": 32},
    "keypoints": {"column": "points_xy", "points": "HC", "head_width": 16},
    "biometry": {"column": "points_xy", "points": ["HC", "AOP", "PLAX"], "head_width": 16},
}
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)


def made(backbone: str = "vit", task: str = "classification", **options: object) -> Model:
    torch.manual_seed(0)
    encoder = build_backbone(BACKBONES[backbone])
    whole = build_task(encoder, {"name": task, **TASKS[task], **options})
    with torch.no_grad():
        for parameter in whole.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Model(encoder, whole.eval(), info={"license": "Apache-2.0"})


def same(
    model: Model, exported: Exported, picture: np.ndarray, task: str | None = None, *, tta: bool = False
) -> None:
    ours, theirs = exported.predict(picture, task, tta=tta), model.predict(picture, task=task, tta=tta)
    theirs = theirs[0] if isinstance(theirs, list) else theirs
    if ours.kind == "segmentation":
        assert (ours.value != theirs.value).mean() < 1e-3
    else:
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-3, atol=1e-3, equal_nan=True)
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-3, equal_nan=True)
    assert ours.names == theirs.names or ours.kind == "segmentation"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_kind_of_encoder_is_exported(backbone, tmp_path) -> None:
    model = made(backbone)
    report = export(model, tmp_path / "x", to="onnx")
    assert report.error < 1e-5
    exported = Exported(tmp_path / "x")
    same(model, exported, PICTURE)
    same(model, exported, np.stack([PICTURE, 255 - PICTURE, PICTURE // 2], -1))


@pytest.mark.parametrize("task", [name for name in TASKS if name != "classification"])
def test_every_task_is_exported(task, tmp_path) -> None:
    model = made(task=task)
    export(model, tmp_path / "x", to="onnx")
    exported = Exported(tmp_path / "x")
    assert exported.tasks == model.tasks
    for name in model.tasks:
        same(model, exported, PICTURE, name)
        same(model, exported, PICTURE, name, tta=True)


def test_a_model_that_knows_no_mirror_is_shown_none(tmp_path) -> None:
    model = made(task="keypoints", tta_mirror=False)
    export(model, tmp_path / "x", to="onnx")
    exported = Exported(tmp_path / "x")
    same(model, exported, PICTURE, tta=True)
    assert np.array_equal(exported.predict(PICTURE, tta=True).value, exported.predict(PICTURE).value)


def test_the_encoder_is_in_the_graph_once_for_all_tasks(tmp_path) -> None:
    import onnx

    export(made(task="biometry"), tmp_path / "x", to="onnx")
    graph = onnx.load(str(tmp_path / "x" / "model.onnx"))
    assert sum(node.op_type == "Softmax" for node in graph.graph.node) == 2 + 3  # two blocks, three heads
    facts = json.loads(next(p.value for p in graph.metadata_props if p.key == "insonate"))
    assert set(facts["tasks"]) == {"HC", "AOP", "PLAX"}
    assert facts["input"]["rule"].startswith("stretch to size")
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert facts["license"] == "Apache-2.0"


def test_openvino_says_the_same(tmp_path) -> None:
    pytest.importorskip("openvino")
    model = made(task="biometry")
    assert export(model, tmp_path / "x", to="openvino").error < 1e-5
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["insonate.json", "model.bin", "model.xml"]
    same(model, Exported(tmp_path / "x"), PICTURE, "HC")


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_graph_of_16_bits_is_smaller_and_says_the_same(to, tmp_path) -> None:
    pytest.importorskip("openvino")
    made(task="biometry").save_pretrained(tmp_path / "m", storage="float16")
    model = load(tmp_path / "m")
    assert export(model, tmp_path / "whole", to=to).error < 1e-4
    report = export(model, tmp_path / "half", to=to, storage="fp16")
    assert report.error < 1e-3
    numbers = {"onnx": "model.onnx", "openvino": "model.bin"}[to]
    whole, half = ((tmp_path / name / numbers).stat().st_size for name in ("whole", "half"))
    assert half < 0.75 * whole  # of these small networks much is structure
    same(model, Exported(tmp_path / "half"), PICTURE, "PLAX")


def test_numbers_that_16_bits_cannot_hold_are_refused(tmp_path) -> None:
    model = made()
    with torch.no_grad():
        next(model.backbone.parameters()).view(-1)[0] = 1e6
    for call in (
        lambda: model.save_pretrained(tmp_path / "m", storage="float16"),
        lambda: export(model, tmp_path / "x", to="onnx", storage="fp16"),
    ):
        with pytest.raises(ModelError, match="above 65504"):
            call()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match="int8 graphs are stored as they are"):
        export(made(), tmp_path / "x", to="onnx", int8=True, storage="fp16", data=Manifest([], tmp_path))


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("shape", [(200, 300), (40, 33), (64, 64, 3), (100, 90, 1)])
def test_pictures_are_prepared_as_with_torch(resize, shape) -> None:
    conventions = "clip" if resize == "crop" else "imagenet"
    model = Model(build_backbone(BACKBONES["vit"] | {"conventions": conventions}))
    picture = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    ours, (sx, sy, tx, ty) = prepare(picture, model.input.model_dump(mode="json"))
    theirs, matrix = model.preprocess(picture)
    assert np.abs(ours - theirs.numpy()).max() < 1e-5
    np.testing.assert_allclose(np.asarray(matrix)[:2], [[sx, 0, tx], [0, sy, ty]])


@pytest.fixture
def labelled(tmp_path) -> Manifest:
    rng, rows = np.random.default_rng(0), []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        write_png(path, rng.integers(0, 255, (64, 80), dtype=np.uint8))
        rows.append({"path": path.name, "patient_id": str(number), "lesion": "abc"[number % 3]})
    return Manifest.from_rows(rows, tmp_path)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_int8_is_gated_by_the_score_of_the_task(to, labelled, tmp_path) -> None:
    pytest.importorskip("nncf")
    report = export(made(), tmp_path / "x", to=to, int8=True, data=labelled)
    (gate,) = report.gates
    assert (gate.task, gate.score, gate.items) == ("lesion", "correct", 12)
    assert gate.exported >= gate.torch - 0.005
    facts = json.loads((tmp_path / "x" / "insonate.json").read_text())
    assert (facts["precision"], facts["gates"][0]["score"]) == ("int8", "correct")


def test_int8_that_spoils_the_score_is_not_written(labelled, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(exporting.Judge.judged.__globals__["SCORES"], "classification", ("correct", 2.0))
    monkeypatch.setattr(exporting.Gate, "holds", lambda gate: False)
    with pytest.raises(ModelError, match="int8 changes correct of lesion from"):
        export(made(), tmp_path / "x", to="onnx", int8=True, data=labelled)
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_exported_is_one_line(labelled, tmp_path, monkeypatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    model = made()
    for call, words, kind in [
        (lambda: export(Model(model.backbone), tmp_path / "x", to="onnx"), "no task that reads", ModelError),
        (lambda: export(model, tmp_path / "x", to="onnx", int8=True), "--int8.*calibrated", ModelError),
        (lambda: export(model, tmp_path / "full", to="onnx"), "not empty", InsonateError),
        (
            lambda: export(made(task="regression"), tmp_path / "x", to="onnx", int8=True, data=labelled),
            "no label of any task",
            ManifestError,
        ),
        (lambda: Exported(tmp_path), "insonate.json", ModelError),
    ]:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    export(model, tmp_path / "good", to="onnx")
    words = ["predict", tmp_path / "0.png", "--model", tmp_path / "good", "-o", tmp_path / "o", "--ga", "32w"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "an exported model serves no --ga" in str(result.exception)
    monkeypatch.setitem(exporting.TOLERANCES, "fp32", 0.0)
    with pytest.raises(ModelError, match="differs from torch by"):
        export(model, tmp_path / "x", to="onnx")
    assert not (tmp_path / "x").exists()


PROGRAM = f"""{WITHOUT_TORCH}
from insonate.cli import main
model, picture, out = sys.argv[1:]
sys.argv = ["insonate", "predict", picture, "--model", model, "--task", "hc", "-o", out, "--json"]
main()
"""


def test_it_runs_where_torch_is_not(tmp_path) -> None:
    model = made(task="biometry")
    model.save_pretrained(tmp_path / "m")
    write_png(tmp_path / "p.png", PICTURE)
    words = ["export", tmp_path / "m", "--to", "onnx", "-o", tmp_path / "x"]
    told = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    assert "largest difference from torch" in told.stdout
    command = [sys.executable, "-c", PROGRAM, *(str(tmp_path / name) for name in ("x", "p.png", "out"))]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (found,) = told["predictions"]
    theirs = model.predict(PICTURE, task="HC", tta=True)
    value = [[np.nan if x is None else x for x in point] for point in found["value"]]
    np.testing.assert_allclose(value, theirs.value, atol=1e-3, equal_nan=True)
    assert found["names"] == list(theirs.names)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    sizes = {name: size["value"] for name, size in found["measurements"].items()}
    assert sizes == pytest.approx({name: one.value for name, one in theirs.measurements.items()}, rel=1e-3)
