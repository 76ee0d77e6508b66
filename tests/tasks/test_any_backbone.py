"""Any backbone with any task: every family at toy size trains two steps, frozen, partly and whole."""

from __future__ import annotations

import math

import pytest
import torch

from insonate.errors import RecipeError
from insonate.models import BACKBONES, build_backbone, freeze
from insonate.tasks import TASKS, build_task
from tasks.tiny import batch, ready

SIZE = 64
WITHOUT_LAST = {("panecho", "segmentation")}
"""its pyramid is of the single frames, so the last layers, over the frames, do not take part"""
SMALL_VIT = {"name": "vit", "width": 24, "depth": 4, "heads": 3}
LEARNED = {**SMALL_VIT, "position": "learned", "class_token": True}
FAMILIES = {
    "ijepa": SMALL_VIT,
    "vjepa": {**SMALL_VIT, "frames": 4, "tubelet": 2, "position": "rope"},
    "vjepa, gated": {**SMALL_VIT, "frames": 4, "tubelet": 2, "position": "rope_paired", "mlp": "swiglu"},
    "vjepa2.1": {**SMALL_VIT, "name": "vjepa21", "frames": 4},
    "videomae": {**SMALL_VIT, "frames": 4, "tubelet": 2, "position": "sinusoid"},
    "usfm": {**SMALL_VIT, "position": "relative", "class_token": True, "layer_scale": 0.1},
    "usfm fine-tuned": {
        **SMALL_VIT, "position": "relative_per_block", "class_token": True, "final_norm": False,
    },
    "tinyusfm": {**LEARNED, "heads": 12, "raw_taps": [0, 1, 2, 3]},
    "biomedclip": {**LEARNED, "registers": 2, "conventions": "clip"},
    "echoclip": {"name": "convnext", "depths": [1, 1, 2, 1], "widths": [8, 16, 24, 32], "final_norm": False},
    "echoprime": {"name": "echoprime", "stages": [1, 1, 2, 1], "stem": 8, "frames": 4},
    "panecho": {
        "name": "panecho", "depths": [1, 1, 1, 1], "widths": [8, 16, 24, 32], "layers": 2, "frames": 2,
    },
    "sonichu": {**SMALL_VIT, "patch_padding": 2},
    "sononet": {"name": "sononet", "width": 4},
    "timm": {"name": "timm", "model": "mobilenetv3_small_050"},
}  # fmt: skip
TASK_OPTIONS = {
    "classification": {"column": "c", "classes": ["a", "b"]},
    "regression": {"column": "v_weeks"},
    "segmentation": {"column": "m", "classes": ["background", "head"], "width": 32},
    "keypoints": {"column": "k", "points": "HC"},
    "biometry": {"column": "k", "points": ["HC", "FA"], "head_width": 32},
    "median_distill": {
        "column": "k",
        "student": {"name": "keypoints", "points": "HC", "head_width": 32},
        "teachers": ["a"],
    },
}


def train_two_steps(made, given) -> None:
    optimiser = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        loss = made(given).total
        assert math.isfinite(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def check_predicts(made, given) -> None:
    made.eval()
    with torch.no_grad():
        assert made.predict(given).values.isfinite().all()


@pytest.mark.parametrize("protocol", ["none", 1, "all"])
@pytest.mark.parametrize("task", TASKS.names())
@pytest.mark.parametrize("family", FAMILIES)
def test_any_backbone_trains_with_any_task_under_any_protocol(family, task, protocol) -> None:
    torch.manual_seed(0)
    backbone = build_backbone({**FAMILIES[family], "input_size": [SIZE, SIZE]})
    freeze(backbone, protocol)
    before = {name: p.detach().clone() for name, p in backbone.named_parameters()}
    options = {"name": task, **TASK_OPTIONS[task]}
    if protocol == 1 and (family, task) in WITHOUT_LAST:
        with pytest.raises(RecipeError, match=r"does not run the last 3 layers .* at least 3 layers"):
            build_task(backbone, options)
        freeze(backbone, 3)
    made = ready(build_task(backbone, options)).train()
    given = batch(4, SIZE)
    train_two_steps(made, given)
    moved = {name for name, p in backbone.named_parameters() if not torch.equal(p, before[name])}
    assert bool(moved) != (protocol == "none")
    check_predicts(made, given)


@pytest.mark.parametrize("task", TASKS.names())
@pytest.mark.parametrize("family", [name for name, o in FAMILIES.items() if "frames" in o])
def test_video_backbones_train_on_clips_with_any_task(family, task) -> None:
    torch.manual_seed(0)
    backbone = build_backbone({**FAMILIES[family], "input_size": [SIZE, SIZE]})
    made = ready(build_task(backbone, {"name": task, **TASK_OPTIONS[task]})).train()
    given = batch(4, SIZE)
    moving = torch.linspace(0.5, 1.5, backbone.spec.frames)[:, None, None, None]
    given["image"] = given["image"][:, None] * moving  # B T C H W
    first = backbone.layers()[0]
    before = {name: p.detach().clone() for name, p in first.named_parameters()}
    train_two_steps(made, given)
    assert any(not torch.equal(p, before[name]) for name, p in first.named_parameters())
    check_predicts(made, given)


def test_every_family_is_here() -> None:
    families = {options["name"] for options in FAMILIES.values()}
    named = {"vit_", "vjepa_", "videomae_", "convnext_", "tinyusfm", "usfm"}  # sizes of `vit` and `convnext`
    assert {n for n in BACKBONES.names() if not n.startswith(tuple(named))} <= families
    assert set(TASK_OPTIONS) == set(TASKS.names())


@pytest.mark.parametrize("family", [name for name, o in FAMILIES.items() if "frames" in o])
def test_video_backbones_take_clips(family) -> None:
    backbone = build_backbone({**FAMILIES[family], "input_size": [SIZE, SIZE]}).eval()
    clip = torch.randn(2, backbone.spec.frames, 3, SIZE, SIZE)
    with torch.no_grad():
        tokens, maps = backbone(clip), backbone.pyramid(clip)
    assert tokens.patch.shape == (2, math.prod(tokens.grid), backbone.spec.embed_dim)
    assert [tuple(m.shape[-2:]) for m in maps] == [(SIZE // s, SIZE // s) for s in (4, 8, 16, 32)]
