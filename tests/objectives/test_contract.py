"""What every registered objective promises, on each backbone that it takes.

A new one needs an entry in OPTIONS (small numbers), and in `REFUSES` where it takes not every backbone.
"""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch

from insonate.data import Loader, Meta
from insonate.errors import InsonateError, RecipeError
from insonate.models import build_backbone
from insonate.objectives import OBJECTIVES, build_objective
from insonate.train.fit import fit
from insonate.train.log import read_rows
from insonate.train.settings import Settings

SIZE = 64
BACKBONES = {
    "vit": {"name": "vit", "input_size": [SIZE, SIZE], "patch": 8, "width": 48, "depth": 2, "heads": 3},
    "convnext_atto": {"name": "convnext_atto", "input_size": [SIZE, SIZE]},
}
OPTIONS = {
    "ijepa": {"predictor_width": 24, "predictor_depth": 1, "min_keep": 4, "ema": [0.9, 1.0]},
}
REFUSES = {("ijepa", "convnext_atto")}
CASES = [(name, b) for name in OBJECTIVES.names() for b in BACKBONES if (name, b) not in REFUSES]


def made(name: str, backbone: str, seed: int = 0):
    torch.manual_seed(seed)
    return build_objective(build_backbone(BACKBONES[backbone]), {"name": name, **OPTIONS[name]})


def batch(count: int = 4, *, size: int = SIZE, seed: int = 0) -> dict:
    image = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    image[1::2, :, : size // 2] += 1.0
    return {
        "image": image,
        "meta": [Meta(item_id=f"item-{i}", original_hw=(size, size)) for i in range(count)],
        "item_seed": [100 * seed + i for i in range(count)],
        "step_seed": seed,
    }


def loss_of(objective, given: dict) -> torch.Tensor:
    torch.manual_seed(given["step_seed"])  # as the loop does: dropout may use it
    return objective(given).total


def steps(objective, count: int) -> list[float]:
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(count):
        loss = loss_of(objective, batch())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        objective.after_step(step / count)
        losses.append(loss.item())
    return losses


def test_every_objective_has_small_options_here():
    assert set(OPTIONS) == set(OBJECTIVES.names())


@pytest.mark.parametrize(("name", "backbone"), sorted(REFUSES))
def test_a_backbone_that_cannot_serve_is_refused_and_named(name, backbone):
    with pytest.raises(RecipeError, match=r"^objective"):
        made(name, backbone)


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_the_loss_is_finite_and_its_gradient_reaches_the_backbone(name, backbone):
    objective = made(name, backbone).train()
    losses = objective(batch())
    assert losses.total.ndim == 0
    assert losses.total.dtype == torch.float32
    assert math.isfinite(losses.total.item())
    assert all(math.isfinite(part.item()) and not part.requires_grad for part in losses.parts.values())
    losses.total.backward()
    trained = [p for p in objective.backbone.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)
    assert any(bool(p.grad.any()) for p in objective.backbone.layers()[0].parameters())


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_a_few_steps_on_one_batch_lower_the_loss(name, backbone):
    losses = steps(made(name, backbone).train(), 10)
    assert all(map(math.isfinite, losses))
    assert min(losses[-2:]) < 0.95 * losses[0]


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_what_is_random_comes_from_the_seeds_alone(name, backbone):
    objective = made(name, backbone).train()
    first = loss_of(objective, batch())
    torch.rand(7)
    assert torch.equal(loss_of(objective, batch()), first)
    assert torch.equal(loss_of(made(name, backbone).train(), batch()), first)


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_state_makes_the_same_objective_again(name, backbone):
    objective = made(name, backbone).train()
    steps(objective, 2)
    again = made(name, backbone, seed=1).train()
    assert not torch.equal(loss_of(again, batch()), loss_of(objective, batch()))
    again.load_state_dict(objective.state_dict())
    assert torch.equal(loss_of(again, batch()), loss_of(objective, batch()))
    assert steps(again, 1) == steps(objective, 1)


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_the_exported_encoder_is_the_same_when_built_and_loaded(name, backbone):
    objective = made(name, backbone).train()
    steps(objective, 2)
    encoder = objective.encoder_for_export().eval()
    again = build_backbone(objective.backbone.options).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(batch()["image"]).patch, encoder(batch()["image"]).patch)


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_pictures_that_do_not_fit_the_patches_are_refused(name, backbone):
    with pytest.raises(InsonateError, match="patch"):
        made(name, backbone)(batch(size=SIZE + 1))


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_autocast_changes_the_loss_little(name, backbone):
    objective = made(name, backbone).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss_of(objective, batch())
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(loss_of(objective, batch()).item(), rel=0.05)


class Pictures:
    """Eight noisy pictures for the real loader."""

    def __len__(self) -> int:
        return 8

    def item_id(self, index: int) -> str:
        return f"item-{index}"

    def __getitem__(self, key):
        one = batch(1, seed=key.item_seed % 1000)
        return {"image": one["image"][0], "meta": one["meta"][0], "item_seed": key.item_seed}


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_an_interrupted_run_ends_in_the_same_bits(name, backbone, tmp_path):
    settings = Settings(epochs=2, lr=1e-3, log_every=1)

    def run(folder: str, *, stopped: bool = False):
        objective = made(name, backbone)
        after_step = objective.after_step
        if stopped:
            objective.after_step = lambda p: os.kill(os.getpid(), signal.SIGTERM) or after_step(p)
        fit(objective, Loader(Pictures(), 4, seed=5), settings, tmp_path / folder)
        return objective

    whole = run("whole")
    for stopped in (True, True, False):
        again = run("parts", stopped=stopped)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())
    rows = [
        [(row["step"], row["loss"]) for row in read_rows(tmp_path / folder / "metrics.jsonl")]
        for folder in ("whole", "parts")
    ]
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]
    values = read_rows(tmp_path / "whole" / "metrics.jsonl")[-1]
    assert set(whole.floors) <= set(values)  # else its collapse would go unseen
