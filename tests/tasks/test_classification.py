"""Classification: loss, probabilities, scores against values by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.errors import RecipeError
from insonate.tasks import build_task
from insonate.tasks.base import Outputs
from tasks.tiny import Tiny, batch, meta


def lesion(**options):
    torch.manual_seed(0)
    return build_task(
        Tiny(),
        {"name": "classification", "column": "lesion_class", "classes": ["benign", "malignant"], **options},
    )


@pytest.mark.parametrize("head", ["linear", "linear_probe", "attentive"])
def test_probabilities_sum_to_one_and_do_not_change_under_a_mirror(head):
    task, given = lesion(head=head).eval(), batch()
    straight = task.predict(given, tta=True)
    mirrored = task.predict({**given, "image": given["image"].flip(-1)}, tta=True)
    assert torch.equal(straight.values, mirrored.values)
    assert torch.allclose(straight.values.sum(dim=1), torch.ones(4))
    assert torch.equal(straight.confidence, straight.values.amax(dim=1))


def test_a_blind_head_loses_ln_2_and_unlabelled_items_nothing():
    task, given = lesion(), batch()
    task.head.final.weight.data.zero_()
    assert task(given).total.item() == pytest.approx(math.log(2))
    task.head.final.bias.data = torch.tensor([2.0, 0.0])
    given["label"] = torch.tensor([0, -1, -1, -1])
    assert task(given).total.item() == pytest.approx(math.log1p(math.exp(-2)))
    given["weight"] = torch.zeros(4)
    assert task(given).total.item() == 0


def test_weight_counts_an_item_as_often():
    task, given = lesion(), batch(2)
    given["weight"] = torch.tensor([3.0, 1.0])
    twice = {**given, "image": given["image"][[0, 0, 0, 1]], "label": given["label"][[0, 0, 0, 1]]}
    del twice["weight"]
    assert task(given).total.item() == pytest.approx(task(twice).total.item(), rel=1e-5)


def test_scores_by_hand():
    task, given = lesion(), batch(2)
    found = task.decode(Outputs(torch.tensor([[0.8, 0.2], [0.6, 0.4]]), torch.tensor([0.8, 0.6])), given)
    truths = task.truth(given)  # classes 0 and 1
    assert task.score(found[0], truths[0]) == pytest.approx({"correct": 1.0, "log_loss": -math.log(0.8)})
    assert task.score(found[1], truths[1]) == pytest.approx({"correct": 0.0, "log_loss": -math.log(0.4)})
    assert json.loads(json.dumps(found[0].to_dict()))["names"] == ["benign", "malignant"]
    guess = task.trivial(task.truth(batch(3)), meta())
    assert guess.value == pytest.approx([2 / 3, 1 / 3])


def test_metrics_take_stacked_values():
    task, metrics = lesion(), lesion().metrics()
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.3, 0.7]])
    truths = np.stack([t.value for t in task.truth(batch(4))])  # 0 1 0 1
    metrics.update(torch.tensor(probs), torch.tensor(truths))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx({"accuracy": 1.0, "auroc": 1.0, "f1": 1.0})
    metrics.reset()
    metrics.update(torch.tensor(probs[[0, 3, 1, 2]]), torch.tensor(truths))
    assert float(metrics.compute()["auroc"]) == pytest.approx(0.75)
    assert float(metrics.compute()["accuracy"]) == pytest.approx(0.5)


def test_auroc_of_one_class_is_unknown_and_silent():
    metrics = lesion().metrics()
    metrics.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert math.isnan(float(metrics.compute()["auroc"]))


def test_drawing_shows_the_true_class_in_green():
    task, given = lesion(), batch(1)
    (truth,) = task.truth(given)
    (found,) = task.decode(Outputs(torch.tensor([[0.9, 0.1]]), torch.tensor([0.9])), given)
    drawn = np.asarray(task.draw(Image.new("L", (96, 64)), found, truth)).astype(int)
    assert drawn.shape == (192, 288, 3)  # small pictures are enlarged, so that text covers little
    assert (drawn[..., 1] - drawn[..., 0] > 60).any()


def test_classes_must_differ():
    with pytest.raises(RecipeError, match="differ"):
        lesion(classes=["a", "a"])
