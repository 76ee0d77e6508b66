"""What a user may do wrong with a model of nine tasks is one line, or a warning beside a careful answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from insonate.cli import app
from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.data.pointsets import POINT_SETS
from insonate.deploy.measured import NO_ECHOES, NO_SCALE
from insonate.errors import InsonateError
from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task
from insonate.tasks.base import Outputs
from insonate.tasks.keypoints import Keypoints

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 70), dtype=np.uint8)


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A model of the nine tasks whose maps are even: it sees no point anywhere."""
    torch.manual_seed(0)
    encoder = build_backbone({"name": "vit", "width": 48, "depth": 1, "heads": 3, "input_size": [64, 64]})
    options = {"name": "biometry", "column": "keypoints", "heads": "shared", "head_width": 32}
    task = build_task(encoder, options).eval()
    with torch.no_grad():
        for parameter in task.head.parameters():
            parameter.zero_()
    return Model(encoder, task).save_pretrained(tmp_path_factory.mktemp("flat"))


@pytest.fixture
def picture(tmp_path):
    write_png(tmp_path / "p.png", PICTURE)
    return tmp_path / "p.png"


def ran(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def said(flat, picture, *words):
    result = ran("predict", picture, "--model", flat, "--task", "hc", "-o", picture.parent / "o", *words)
    assert result.exit_code == 0, result.output
    return json.loads(next((picture.parent / "o").glob("*.json")).read_text("utf-8")), result.stderr


def seeing(monkeypatch, points, seen=0.9):
    """Let every model see HC's points at these places, in sizes of the picture from its middle."""
    given = torch.tensor([points], dtype=torch.float32)
    sure = torch.full((1, 4), 0.9)
    sure[0, -1] = seen
    monkeypatch.setattr(Keypoints, "predict", lambda self, batch, tta=False: Outputs(given * 64, sure))


def test_an_unknown_task_names_all_nine(flat, picture):
    result = ran("predict", picture, "--model", flat, "--task", "head", "-o", picture.parent / "o")
    assert isinstance(result.exception, InsonateError)
    told = str(result.exception)
    assert all(name in told for name in POINT_SETS)
    assert "\n" not in told


def test_a_map_without_a_peak_gives_no_point_and_says_so(flat, picture):
    told, stderr = said(flat, picture)
    (found,) = told["predictions"]
    assert found["value"] == [[None, None]] * 4
    assert found["confidence"] == [0.0] * 4
    assert told["measurements"] == {}
    assert any(line.startswith("no clear place for bpd_upper") for line in told["warnings"])
    assert "no clear place for bpd_upper" in stderr


def test_one_diameter_alone_says_why_the_others_are_not_measured(flat, picture, monkeypatch):
    seeing(monkeypatch, [(0, -0.2), (0, 0.2), (0.3, 0), (-0.3, 0)], seen=0.0)
    told, _ = said(flat, picture, "--spacing", "0.5")
    assert "bpd_mm" in told["measurements"]
    assert "hc_mm" not in told["measurements"]
    assert "not measured, since one of their points has no clear place: ofd, hc" in told["warnings"]


def test_missing_spacing_gives_pixels_alone_and_says_so(flat, picture, monkeypatch):
    seeing(monkeypatch, [(0, -0.2), (0, 0.2), (0.3, 0), (-0.3, 0)])
    told, stderr = said(flat, picture)
    assert set(told["measurements"]) == {"hc_px", "bpd_px", "ofd_px"}
    assert told["spacing_mm"] is None
    assert NO_SCALE in told["warnings"]
    assert NO_SCALE in stderr


def test_points_outside_the_picture_are_told(flat, picture, monkeypatch):
    seeing(monkeypatch, [(0, -0.2), (0, 0.2), (0.7, 0), (-0.7, 0)])
    told, _ = said(flat, picture)
    assert "outside the picture: ofd_right, ofd_left" in told["warnings"]


def test_a_picture_without_a_sector_is_told(flat, picture):
    write_png(picture, np.zeros((90, 70), np.uint8))
    told, stderr = said(flat, picture)
    assert NO_ECHOES in told["warnings"]
    assert NO_ECHOES in stderr


@pytest.mark.parametrize("count", [6, 10])
def test_labels_of_another_number_of_points_are_one_line(flat, picture, count):
    rows = [
        {"path": "p.png", "patient_id": "a", "split": "test", "points_set": "HC", "keypoints": [9.0] * n}
        for n in (8, count)
    ]
    manifest = Manifest.from_rows(rows, picture.parent).write(picture.parent / "m.parquet")
    result = ran("evaluate", flat, manifest, "--out", picture.parent / "e")
    assert isinstance(result.exception, InsonateError)
    assert "\n" not in str(result.exception)
    assert str(count) in str(result.exception)
