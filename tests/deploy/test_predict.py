from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data.media import write_png
from insonate.deploy import predict_media
from insonate.errors import ModelError
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
        assert overlay.size == (40, 30)


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
