from __future__ import annotations

import pytest
import torch

from insonate.hub import Model
from insonate.models import build_backbone
from insonate.tasks import build_task

VIT = {"name": "vit", "input_size": [32, 32], "patch": 8, "width": 16, "depth": 2, "heads": 2}


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    backbone = build_backbone(VIT)
    task = build_task(
        backbone, {"name": "classification", "column": "lesion_class", "classes": ["benign", "malignant"]}
    )
    info = {
        "recipe": {"seed": 3, "backbone": VIT},
        "data": {"items": 12, "patients": 4, "sites": ["phantom"]},
        "metrics": {"auroc": {"value": 0.75, "low": 0.6, "high": 0.9}},
    }
    return Model(backbone, task, info)


@pytest.fixture
def encoder() -> Model:
    torch.manual_seed(1)
    return Model(build_backbone(VIT))
