"""Several point sets in one model: a mixed batch, its loss, its mirror, its arrangement, its certainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data.pointsets import POINT_SETS
from insonate.errors import ModelError, RecipeError
from insonate.models import build_backbone
from insonate.tasks import build_task
from tasks.tiny import Tiny, batch

NINE = tuple(POINT_SETS)
HEADS = ("per_task", "shared", "grouped")


def made(**options):
    torch.manual_seed(0)
    options = {"name": "biometry", "column": "keypoints", "head_width": 32, **options}
    task = build_task(Tiny(), options)
    for name, head in task.head.heads.items():
        head.final.weight.data *= 1e6 if hasattr(head, "deconv") else 20
        head.final.bias.data += torch.randn(len(head.final.bias))
        assert name in task.sets
    return task


def mixed(*names, seed=0):
    """A batch with an item of each named set, points padded as the loader does."""
    most = max(len(POINT_SETS[name].names) for name in names)
    given = batch(len(names), points=most, seed=seed)
    for i, name in enumerate(names):
        count = len(POINT_SETS[name].names)
        given["points_xy"][i, count:] = 0
        given["visible"][i, count:] = False
        given["meta"][i] = replace(given["meta"][i], points_set=name, item_id=f"{i} {name}")
    return given


def rows_of(given, name):
    rows = [i for i, meta in enumerate(given["meta"]) if meta.points_set == name]
    count = len(POINT_SETS[name].names)
    part = {k: v[rows] for k, v in given.items() if isinstance(v, torch.Tensor)}
    part |= {"points_xy": part["points_xy"][:, :count], "visible": part["visible"][:, :count]}
    return rows, {**part, "meta": [given["meta"][i] for i in rows], "item_seed": rows, "step_seed": 0}


@pytest.mark.parametrize("heads", HEADS)
def test_a_mixed_batch_gives_each_item_what_its_own_set_alone_gives(heads):
    task, given = made(heads=heads).eval(), mixed(*NINE, "HC", "HC")
    outputs = task.predict(given, tta=True)
    told = task.decode(outputs, given)
    assert [one.task for one in told] == [*NINE, "HC", "HC"]
    for name in NINE:
        rows, alone = rows_of(given, name)
        one = task.chosen(name)
        wanted = one.decode(one.predict(alone, tta=True), alone)
        for row, expected in zip(rows, wanted, strict=True):
            np.testing.assert_allclose(told[row].value, expected.value, atol=5e-3)
            assert told[row].names == POINT_SETS[name].names
            assert told[row].measurements.keys() == expected.measurements.keys()
    beyond = outputs.values[NINE.index("FUGC"), 2:]
    assert beyond.isnan().all()


@pytest.mark.parametrize("heads", HEADS)
def test_the_backbone_runs_once_and_each_trunk_at_most_once(heads, monkeypatch):
    task, calls = made(heads=heads).eval(), []
    forward = task.backbone.forward
    monkeypatch.setattr(task.backbone, "forward", lambda x: calls.append(len(x)) or forward(x))
    trunks = [module for module in task.head.modules() if isinstance(module, torch.nn.ConvTranspose2d)]
    for trunk in trunks:
        trunk.register_forward_hook(lambda *_: calls.append("trunk"))
    task.predict(mixed(*NINE, *NINE), tta=True)
    assert [one for one in calls if one != "trunk"] == [36]
    assert calls.count("trunk") == len(trunks) == 2 * {"per_task": 9, "shared": 1, "grouped": 3}[heads]


def test_every_image_counts_the_same_whatever_its_number_of_points():
    task, given = made().eval(), mixed("HC", "PLAX", "HC")
    whole = task(given)
    alone = [task.sets[name](rows_of(given, name)[1]) for name in ("HC", "PLAX")]
    assert whole.total.item() == pytest.approx((2 * alone[0].total + alone[1].total).item() / 3, rel=1e-5)
    assert set(whole.parts) == set(alone[0].parts)
    given["weight"] = torch.tensor([1.0, 0.0, 1.0])
    assert task(given).total.item() == pytest.approx(alone[0].total.item(), rel=1e-5)
    given["visible"][:] = False
    nothing = task(given)
    nothing.total.backward()
    assert nothing.total.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_mirrored_images_give_exactly_mirrored_points_of_all_nine_at_once_and_at_two_sizes():
    task, given = made(tta_scales=[0.8]).eval(), mixed(*NINE)
    straight = task.predict(given, tta=True)
    mirrored = task.predict({**given, "image": given["image"].flip(-1)}, tta=True)
    for row, name in enumerate(NINE):
        order = list(POINT_SETS[name].hflip)
        found, turned = straight.values[row, : len(order)], mirrored.values[row, : len(order)]
        assert torch.equal(turned, found[order] * torch.tensor([-1.0, 1.0]))
        assert torch.equal(mirrored.confidence[row, : len(order)], straight.confidence[row, order])
    assert straight.values[:, 0].abs().amax() > 1


def test_without_the_mirror_tta_sees_all_sets_straight():
    task, given = made(tta_mirror=False).eval(), mixed(*NINE)
    plain, tta = task.predict(given), task.predict(given, tta=True)
    assert torch.equal(tta.values.nan_to_num(), plain.values.nan_to_num())
    assert torch.equal(tta.confidence.nan_to_num(), plain.confidence.nan_to_num())


def test_scores_are_means_over_all_and_of_each_set():
    task, given = made().eval(), mixed("HC", "IVC")
    truths = task.truth(given)
    found = task.decode(task.predict(given), given)
    scores = [task.score(f, t) for f, t in zip(found, truths, strict=True)]
    assert scores[0].keys() == scores[1].keys()
    assert scores[0]["mre_px"] == scores[0]["mre_px_HC"] > 0
    assert np.isnan(scores[0]["mre_px_IVC"])
    guess = task.trivial(truths, truths[1].meta)
    assert (guess.task, guess.names) == ("IVC", POINT_SETS["IVC"].names)
    picture = Image.new("RGB", (96, 64))
    assert all(task.draw(picture, f, t).size[0] for f, t in zip(found, truths, strict=True))


def test_options_and_weights_make_the_same_task_again_and_share_nothing_twice():
    for heads in HEADS:
        task, given = made(heads=heads, extra_heads={"tongue": 3}).eval(), mixed(*NINE)
        again = build_task(Tiny(), task.config.model_dump(mode="json")).eval()
        again.load_state_dict(task.state_dict())
        found, expected = (one.predict(given).values for one in (task, again))
        assert torch.equal(found.nan_to_num(-1), expected.nan_to_num(-1))
        assert len(task.state_dict()) == len({t.data_ptr() for t in task.state_dict().values()})
        assert not [name for name in task.state_dict() if name.startswith("sets")]
        assert task.chosen("tongue").names == ("tongue_p1", "tongue_p2", "tongue_p3")


def test_unknown_tasks_name_all_there_are():
    task, given = made(points=["HC", "FA"]).eval(), mixed("HC", "IVC")
    with pytest.raises(ModelError, match=r"IVC.*HC, FA"):
        task.predict(given)
    with pytest.raises(ModelError, match="HC, FA"):
        task.chosen("hcc")
    for points in (["HC", "HC"], []):
        with pytest.raises(RecipeError, match="at least one point set, and each once"):
            made(points=points)
    with pytest.raises(RecipeError, match=", ".join(NINE)):
        made(points=["umbilical"])
    for extra in ({"HC": 4}, {"a.b": 2}):
        with pytest.raises(RecipeError, match="extra head"):
            made(extra_heads=extra)


def count(task) -> int:
    """Parameters without the learned sharpness of the heads, which ViTPose has not."""
    return sum(p.numel() for name, p in task.named_parameters() if not name.endswith("log_tau"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 123_616_572),  # the card's "124M"
        ({"extra_heads": {"tenth": 4}}, 127_812_928),  # "128M", 511 MB
        ({"heads": "shared"}, 90_053_948),
        ({"heads": "grouped"}, 98_444_604),
    ],
)
def test_the_published_size_has_the_published_number_of_parameters(options, expected):
    with torch.device("meta"):
        backbone = build_backbone({"name": "vit_base", "input_size": [256, 256], "position": "learned"})
        task = build_task(backbone, {"name": "biometry", "column": "keypoints", **options})
    assert sum(p.numel() for p in backbone.parameters()) == 85_843_200
    assert count(task) == expected
