from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.cli import main
from insonate.data import Manifest, ManifestDataset, vet
from insonate.data.media import read_frames, write_png, write_video
from insonate.deploy import predict_media
from insonate.errors import InsonateError, ModelError
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    return Model(
        backbone, build_task(backbone, {"name": "classification", "column": "c", "classes": ["a", "b"]})
    )


@pytest.fixture
def media(tmp_path):
    for i in range(2):
        write_png(tmp_path / f"{i}.png", np.full((30, 40), 100 * i, np.uint8))
    return [tmp_path / "0.png", tmp_path / "1.png"]


def test_a_bad_file_is_told_and_the_rest_goes_on(model, media, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "out"
    results = list(predict_media([media[0], bad, tmp_path / "missing.png", media[1]], model, out))
    assert [result.error is None for result in results] == [True, False, False, True]
    assert "bad.png" in results[1].error
    assert len(list(out.iterdir())) == 4  # two files each for the two good ones, nothing for the others


def test_json_and_overlay_tell_the_same_prediction(model, media, tmp_path):
    (result,) = predict_media(media[:1], model.save_pretrained(tmp_path / "m"), tmp_path / "out")
    content = json.loads(result.json_path.read_text())
    assert content["predictions"][0]["value"] == pytest.approx(
        model.predict(media[0]).value.tolist(), abs=1e-6
    )
    assert content["notice"] == "not for clinical use"
    with Image.open(result.overlay_path) as overlay:
        assert overlay.size == (280, 210)


def test_results_stay_in_their_folder_whatever_the_file_is_called(model, tmp_path):
    name = tmp_path / "..%2f <img src=x onerror=1> \u202e.png"
    write_png(name, np.zeros((8, 8), np.uint8))
    (result,) = predict_media([name], model, tmp_path / "out")
    assert result.error is None
    assert {path.parent for path in (tmp_path / "out").rglob("*")} == {tmp_path / "out"}
    assert all(c.isalnum() or c in "-." for c in result.json_path.name)


def test_a_model_without_task_is_told_at_once(media, tmp_path):
    with pytest.raises(ModelError, match="no task"):
        list(predict_media(media, Model(build_backbone(VIT)), tmp_path / "out"))


def test_a_segmentation_gives_masks_of_the_original_s_size_named_in_the_json(media, tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    options = {
        "name": "segmentation",
        "column": "mask_path",
        "classes": ["back", "head", "skull"],
        "width": 32,
    }
    model = Model(backbone, build_task(backbone, options))
    write_video(
        tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 255, (3, 30, 40), np.uint8), fps=10
    )
    out = tmp_path / "out"
    still, clip = predict_media([media[0], tmp_path / "clip.mp4"], model, out)
    assert [len(still.mask_paths), len(clip.mask_paths)] == [1, 3]
    for result in (still, clip):
        told = json.loads(result.json_path.read_text())["predictions"]
        assert [out / one["mask"] for one in told] == list(result.mask_paths)
        for prediction, path in zip(result.predictions, result.mask_paths, strict=True):
            mask = read_frames(path)[0]
            assert mask.shape == (30, 40)
            assert np.array_equal(mask, prediction.value)
    row = {
        "path": "0.png",
        "patient_id": "p",
        "mask_path": still.mask_paths[0].relative_to(tmp_path).as_posix(),
    }
    dataset = ManifestDataset(Manifest.from_rows([row], tmp_path), model.format, model.task.target())
    assert np.array_equal(dataset[0]["original_mask"], still.predictions[0].value)


def test_a_place_that_cannot_be_written_is_told_before_the_work(media, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("insonate.deploy.predict.load", lambda source: pytest.fail("worked first"))
    with pytest.raises(InsonateError, match="no folder"):
        list(predict_media(media, "model", tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_tells_what_it_found_and_shows_progress_apart(
    model, media, tmp_path, monkeypatch, capsys, as_json
):
    monkeypatch.setattr("insonate.progress.QUIET_SECONDS", 0.0)
    folder = model.save_pretrained(tmp_path / "model")
    arguments = ["predict", str(media[0]), "--model", str(folder), "--out", str(tmp_path / "out"), *as_json]
    monkeypatch.setattr("sys.argv", ["insonate", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr()
    assert not left.value.code
    assert "0.png: 1 of 1" in shown.err
    (line,) = shown.out.splitlines()
    if as_json:
        assert json.loads(line)["predictions"][0]["names"] == ["a", "b"]
    else:
        assert line.startswith(f"{media[0]}: ")
        assert ": a 0." in line or ": b 0." in line


def crashing(bounds, path):
    """What the worker does, but for a file that takes it down."""
    if path.name == "0.png":
        os.kill(os.getpid(), signal.SIGSEGV)
    return DECODE(bounds, path)


DECODE = vet._decode


def test_a_file_that_crashes_its_decoder_costs_itself_alone(model, media, tmp_path, monkeypatch):
    monkeypatch.setattr(vet, "_decode", crashing)
    results = list(predict_media(media, model, tmp_path / "out"))
    assert [result.media for result in results] == media
    assert "decoder crashed" in results[0].error
    assert results[1].error is None
