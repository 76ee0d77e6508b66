"""What every registered task promises, on a transformer and on a convolutional pyramid."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.errors import InsonateError, RecipeError
from insonate.models import build_backbone
from insonate.tasks import TASKS, build_task
from tasks.tiny import batch, ready

SIZE = 64
BACKBONES = {
    "vit_tiny": {"name": "vit_tiny", "input_size": [SIZE, SIZE], "patch": 16},
    "convnext_atto": {"name": "convnext_atto", "input_size": [SIZE, SIZE]},
}
OPTIONS = {
    "classification": {"column": "c", "classes": ["a", "b"], "head": "attentive"},
    "regression": {"column": "v_weeks"},
    "segmentation": {"column": "m", "classes": ["background", "head"], "width": 32},
    "keypoints": {"column": "k", "points": "HC"},
    "biometry": {"column": "k", "points": ["HC", "FA"]},
    "median_distill": {
        "column": "k",
        "student": {"name": "biometry", "points": ["HC", "FA"]},
        "teachers": ["a"],
    },
}


def made(backbone: str, name: str):
    torch.manual_seed(0)
    return ready(build_task(build_backbone(BACKBONES[backbone]), {"name": name, **OPTIONS[name]}))


@pytest.mark.parametrize("name", TASKS.names())
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_few_steps_on_one_batch_lower_the_loss(backbone, name):
    task, given = made(backbone, name), batch(4, SIZE)
    task.train()
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-4)
    losses = []
    for _ in range(8):
        loss = task(given).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        task.after_step(0.5)
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert min(losses[-2:]) < 0.95 * losses[0]


def test_every_task_has_small_options_here():
    assert set(OPTIONS) == set(TASKS.names())


@pytest.mark.parametrize("name", TASKS.names())
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_reach_the_backbone_and_the_loss_depends_on_the_seeds_alone(backbone, name):
    task, given = made(backbone, name).train(), batch(4, SIZE)
    losses = []
    for one in (task, made(backbone, name).train()):
        torch.manual_seed(7)  # as the loop does in each step: dropout may use it
        losses.append(one(given).total)
    assert torch.equal(*losses)
    losses[0].backward()
    first = list(task.backbone.layers()[0].parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in first)
    grads = [p.grad for p in task.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("name", TASKS.names())
def test_pictures_that_do_not_fit_the_patches_are_refused(name):
    with pytest.raises(InsonateError, match="patch"):
        made("vit_tiny", name)(batch(2, SIZE + 1))


@pytest.mark.parametrize("name", TASKS.names())
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_batch_becomes_scored_json_ready_pictured_predictions(backbone, name):
    task, given = made(backbone, name).eval(), batch(3, SIZE)
    with torch.no_grad():
        found = task.decode(task.predict(given, tta=True), given)
    truths = task.truth(given)
    keys = {frozenset(task.score(f, t)) for f, t in zip(found, truths, strict=True)}
    assert len(keys) == 1  # every item has the same scores
    assert keys == {frozenset(task.score(task.trivial(truths, t.meta), t)) for t in truths}
    metrics = task.metrics()
    if len(metrics):
        metrics.update(*(torch.as_tensor(np.stack([p.value for p in side])) for side in (found, truths)))
        assert all(torch.isfinite(value) for value in metrics.compute().values())
    for prediction in found:
        assert prediction.kind == task.kind
        json.dumps(prediction.to_dict(), allow_nan=False)
        width, height = task.draw(Image.new("RGB", (96, 64)), prediction, truths[0]).size
        assert width >= 96
        assert height >= 64
    assert task.target().column == task.config.column


@pytest.mark.parametrize("name", TASKS.names())
def test_options_and_weights_make_the_same_task_again(name):
    task, given = made("convnext_atto", name).train(), batch(2, SIZE)
    task(given)
    again = build_task(build_backbone(task.backbone.options), task.config.model_dump(mode="json"))
    again.load_state_dict(task.state_dict())
    with torch.no_grad():
        assert torch.equal(task.eval().predict(given).values, again.eval().predict(given).values)


def test_unknown_names_and_options_say_the_nearest():
    backbone = build_backbone(BACKBONES["convnext_atto"])
    with pytest.raises(RecipeError, match="keypoints"):
        build_task(backbone, {"name": "keypoint"})
    with pytest.raises(RecipeError, match="classes"):
        build_task(backbone, {"name": "classification", "column": "c", "clases": ["a", "b"]})


@pytest.mark.parametrize("name", TASKS.names())
def test_loss_is_full_precision_under_autocast(name):
    task, given = made("vit_tiny", name).train(), batch(2, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = task(given).total
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(task(given).total.item(), rel=0.05)
