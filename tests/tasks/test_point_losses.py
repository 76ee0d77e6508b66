"""Losses of coordinates by hand, their gradients, and that a task follows the one it is told."""

from __future__ import annotations

import math

import pytest
import torch

from insonate.errors import RecipeError
from insonate.tasks import build_task
from insonate.tasks.point_losses import LOSSES
from tasks.tiny import Tiny, batch

CASES = {
    "smooth_l1": ((3.0 - 0.5 + 0.5 * 0.25) / 2, (30 - 0.5 + 0) / 2),
    "l1": (3.5 / 2, 15.0),
    "wing": (
        (10 * math.log(1 + 3 / 2) + 10 * math.log(1 + 0.5 / 2)) / 2,
        (30 - (10 - 10 * math.log(6))) / 2,
    ),
    "euclidean": (math.hypot(3, 0.5), 30.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_by_hand(name):
    found = LOSSES[name](torch.tensor([[3.0, -0.5], [-30.0, 0.0]]))
    assert found.tolist() == pytest.approx(CASES[name], abs=2e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_also_at_no_distance_and_point_away(name):
    apart = torch.tensor([[0.0, 0.0], [5.0, -20.0]], requires_grad=True)
    LOSSES[name](apart).sum().backward()
    assert apart.grad.isfinite().all()
    assert apart.grad[1, 0] > 0 > apart.grad[1, 1]


def test_the_wing_has_no_step_where_it_becomes_straight():
    below, above = LOSSES["wing"](torch.tensor([[9.9999, 0.0], [10.0001, 0.0]]))
    assert above - below == pytest.approx(0.0001, abs=3e-4)


@pytest.mark.parametrize("kind", ["keypoints", "biometry"])
def test_a_task_follows_the_loss_that_it_is_told(kind):
    totals = {}
    for name in LOSSES:
        torch.manual_seed(0)
        points = "HC" if kind == "keypoints" else ["HC"]
        options = {"name": kind, "column": "c", "points": points, "js_weight": 0.0, "loss": name}
        task, given = build_task(Tiny(), options), batch(2)
        given["points_xy"] = given["points_xy"] + 6
        totals[name] = task(given).total.item()
    assert len(set(totals.values())) == len(LOSSES)
    assert totals["l1"] > totals["smooth_l1"]
    assert totals["euclidean"] >= totals["l1"]


def test_an_unknown_loss_is_one_line():
    with pytest.raises(RecipeError, match="loss"):
        build_task(Tiny(), {"name": "keypoints", "column": "c", "points": "HC", "loss": "mse"})
