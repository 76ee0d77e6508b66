"""Regression: standardised inside, in its own unit outside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.errors import RecipeError
from insonate.tasks import build_task
from insonate.tasks.base import Outputs
from tasks.tiny import Tiny, batch, meta


def age(**options):
    torch.manual_seed(0)
    return build_task(Tiny(), {"name": "regression", "column": "ga_weeks", **options})


def test_a_blind_head_says_the_mean():
    task = age(mean=25.0, std=5.0, head="attentive").eval()
    task.head.final.weight.data.zero_()
    assert torch.equal(task.predict(batch(), tta=True).values, torch.full((4,), 25.0))


def test_loss_is_huber_of_the_standardised_value():
    task, given = age(mean=25.0, std=5.0), batch(2)
    task.head.final.weight.data.zero_()
    given["value"] = torch.tensor([35.0, 27.5])  # 2 and 0.5 standard deviations
    assert task(given).total.item() == pytest.approx((1.5 + 0.125) / 2)
    given["value"] = torch.tensor([float("nan"), 27.5])
    loss = task(given).total
    loss.backward()
    assert loss.item() == pytest.approx(0.125)
    assert all(p.grad.isfinite().all() for p in task.parameters())


def test_first_training_batch_stands_in_for_fit_and_travels_with_the_weights():
    task, given = age(), batch()  # values 30, 40, 30, 40
    task.train()
    task(given)
    assert (task.mean.item(), task.std.item()) == pytest.approx((35.0, 5.0))
    task({**given, "value": given["value"] * 9})
    assert task.mean.item() == pytest.approx(35.0)
    again = age()
    again.load_state_dict(task.state_dict())
    again.train()
    again({**given, "value": given["value"] * 9})
    assert again.mean.item() == pytest.approx(35.0)


def test_fit_takes_labels_and_leaves_out_missing_ones():
    task = age()
    task.fit([10.0, 20.0, float("nan")])
    assert (task.mean.item(), task.std.item()) == pytest.approx((15.0, 5.0))
    task.fit([7.0, 7.0])
    assert (task.mean.item(), task.std.item()) == (7.0, 1.0)


def test_scores_trivial_and_picture():
    task, given = age(), batch(2)
    truths = task.truth(given)
    found = task.decode(Outputs(torch.tensor([31.0, 38.0]), torch.ones(2)), given)
    assert [task.score(f, t)["abs_error"] for f, t in zip(found, truths, strict=True)] == [1.0, 2.0]
    assert str(found[0].measurements["ga_weeks"]) == "31 weeks"
    assert float(task.trivial(truths, meta()).value) == 35.0
    assert np.asarray(task.draw(Image.new("L", (96, 64)), found[0], truths[0])).any()


def test_metrics_by_hand_and_silent_where_they_do_not_exist():
    metrics = age().metrics()
    metrics.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx({"mae": 1 / 3, "r2": 0.5, "pearson": 0.981981}, abs=1e-5)
    metrics.reset()
    metrics.update(torch.tensor([1.0]), torch.tensor([2.0]))
    assert math.isnan(float(metrics.compute()["r2"]))
    metrics.reset()
    metrics.update(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 3.0, 4.0]))
    assert math.isnan(float(metrics.compute()["pearson"]))


def test_mean_and_std_come_together():
    with pytest.raises(RecipeError, match="together"):
        age(mean=3.0)
