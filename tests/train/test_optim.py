"""Parameter groups."""

from __future__ import annotations

import pytest
import torch
from toys import ToyTask

from insonate.train.optim import build_optimizer, parameter_groups, set_rates
from insonate.train.settings import Settings


def by_name(task: ToyTask, layer_decay: float) -> dict[str, tuple[float, bool]]:
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    return {
        names[id(parameter)]: (group["lr_scale"], group["decayed"])
        for group in parameter_groups(task, layer_decay=layer_decay)
        for parameter in group["params"]
    }


def test_each_layer_gets_its_share_of_the_rate():
    groups = by_name(ToyTask(), layer_decay=0.5)
    assert groups["backbone.embed.weight"] == (0.125, True)
    assert groups["backbone.position"] == (0.125, True)  # of no layer: counts to the first
    assert groups["backbone.blocks.0.0.weight"] == (0.25, True)
    assert groups["backbone.blocks.1.0.weight"] == (0.5, True)
    assert groups["backbone.norm.weight"] == (1.0, False)
    assert groups["head.weight"] == (1.0, True)


def test_biases_and_vectors_are_not_decayed():
    groups = by_name(ToyTask(), layer_decay=1.0)
    assert {name for name, (_, decayed) in groups.items() if not decayed} == {
        "backbone.embed.bias", "backbone.blocks.0.0.bias", "backbone.blocks.1.0.bias", "backbone.norm.weight",
        "backbone.norm.bias", "head.bias",
    }  # fmt: skip
    assert len(parameter_groups(ToyTask(), layer_decay=1.0)) == 2


def test_frozen_parameters_are_left_out_and_none_is_twice():
    task = ToyTask()
    task.backbone.requires_grad_(False)
    assert set(by_name(task, 0.5)) == {"head.weight", "head.bias"}
    params = [p for group in parameter_groups(ToyTask(), layer_decay=0.5) for p in group["params"]]
    assert len(params) == len({id(p) for p in params}) == 11


def test_rates_of_a_step_reach_every_group():
    optimizer = build_optimizer(ToyTask(), Settings(layer_decay=0.5), fused=True)
    set_rates(optimizer, lr=0.8, weight_decay=0.3)
    rates = {(g["lr_scale"], g["decayed"]): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert rates[0.125, True] == (pytest.approx(0.1), 0.3)
    assert rates[1.0, False] == (0.8, 0.0)
    assert isinstance(optimizer, torch.optim.AdamW)


def test_the_backbone_has_its_own_scale_beside_the_head() -> None:
    task = ToyTask()
    inside = {id(parameter) for parameter in task.backbone.parameters()}
    for group in parameter_groups(task, layer_decay=1.0, backbone_lr_scale=0.1):
        assert {id(p) in inside for p in group["params"]} == {group["lr_scale"] == 0.1}
