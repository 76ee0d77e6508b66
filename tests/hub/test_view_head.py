"""The classifier of views: told apart where pictures differ, sure as often as right, kept in the folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.deploy import predict_media
from insonate.errors import ManifestError
from insonate.hub import Model
from insonate.hub.view_head import fit_view
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 1, "heads": 2}


def model():
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    options = {"name": "biometry", "column": "keypoints", "points": ["HC", "IVC"], "head_width": 8}
    return Model(backbone, build_task(backbone, options))


def views(tmp_path, splits=("train", "train", "val")):
    """Bright fields above dark ones, and the reverse."""
    rows, rng = [], np.random.default_rng(0)
    for i in range(24):
        name, noise = ("HC", "IVC")[i % 2], rng.integers(0, 80, (32, 32))
        noise[:16] += 150 * (i % 2)
        noise[16:] += 150 * (1 - i % 2)
        write_png(tmp_path / f"{i}.png", noise.astype(np.uint8))
        rows.append({
            "path": f"{i}.png", "patient_id": str(i), "split": splits[i // 2 % 3], "frames": 1,
            "points_set": name,
        })  # fmt: skip
    return Manifest.from_rows(rows, tmp_path)


def test_views_that_differ_are_told_apart_and_auto_uses_them(tmp_path):
    made = model()
    fit = fit_view(made, views(tmp_path))
    assert (fit.classes, fit.rows, fit.validated) == (("HC", "IVC"), 16, 8)
    assert (fit.accuracy, fit.answered, fit.right) == (1.0, 1.0, 1.0)
    folder = made.save_pretrained(tmp_path / "model")
    loaded = Model.from_pretrained(folder)
    assert set(loaded.tasks) == {"HC", "IVC", "view"}
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    told = list(predict_media(paths, folder, tmp_path / "out", task="auto"))
    assert [one.task for one in told] == ["HC", "IVC"]
    assert min(one.chance for one in told) > 0.9


def test_a_model_with_a_part_keeps_all_of_its_task(tmp_path):
    made = model()
    made.task.certainty["HC"].fit(np.linspace(0, 1, 50), np.linspace(30, 0, 50))
    fit_view(made, views(tmp_path))
    loaded = Model.from_pretrained(made.save_pretrained(tmp_path / "model"))
    for name, tensor in made.task.state_dict().items():
        assert torch.equal(loaded.task.state_dict()[name], tensor), name


@pytest.mark.parametrize("splits", [("train", "train", "train"), ("val", "val", "val")])
def test_views_without_both_splits_are_refused(tmp_path, splits):
    with pytest.raises(ManifestError, match=r"no val|of 0 views"):
        fit_view(model(), views(tmp_path, splits))
