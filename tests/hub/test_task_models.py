"""A model of every task, on both families of backbones, is the same after it was saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insonate.hub import Model, load
from insonate.models import build_backbone
from insonate.tasks import build_task

BACKBONES = {
    "vit": {"name": "vit", "width": 48, "depth": 2, "heads": 3, "input_size": [64, 64], "patch": 16},
    "convnext": {"name": "convnext_atto", "input_size": [64, 64]},
}
TASKS = {
    "classification": {"classes": ["a", "b"]},
    "regression": {},
    "segmentation": {"classes": ["background", "lesion"]},
    "keypoints": {"points": "HC", "head_width": 16},
    "biometry": {"points": ["HC", "FA"], "head_width": 16},
}


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("family", BACKBONES)
def test_a_saved_model_predicts_the_same_when_loaded(family, kind, tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONES[family])
    task = build_task(backbone, {"name": kind, "column": "label", **TASKS[kind]})
    if "points" in TASKS[kind]:
        for head in getattr(task.head, "heads", {"one": task.head}).values():
            head.final.weight.data *= 1e6  # else maps without a peak
    model = Model(backbone, task.eval())
    picture = np.random.default_rng(0).integers(0, 255, (80, 100), dtype=np.uint8)
    named = "fa" if kind == "biometry" else None
    expected = model.predict(picture, task=named).value
    assert np.isfinite(expected).all()
    model.save_pretrained(tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").predict(picture, task=named).value, expected)
