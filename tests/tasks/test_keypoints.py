"""Keypoints: loss by hand, missing points, mirror, units."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data.pointsets import POINT_SETS
from insonate.data.spacing import Spacing
from insonate.errors import RecipeError
from insonate.measure import distance_mm
from insonate.tasks import build_task
from insonate.tasks.base import Outputs
from tasks.tiny import Tiny, batch, meta


def hc(**options):
    torch.manual_seed(0)
    return build_task(Tiny(), {"name": "keypoints", "column": "keypoints_hc", "points": "HC", **options})


@pytest.mark.parametrize("points", sorted(POINT_SETS))
def test_mirrored_image_gives_exactly_mirrored_points(points):
    torch.manual_seed(0)
    task = build_task(Tiny(), {"name": "keypoints", "column": "c", "points": points}).eval()
    given = batch()
    task.head.final.weight.data *= 1e5
    straight = task.predict(given, tta=True)
    assert straight.values.abs().amax() > 1  # far from the flat map
    mirrored = task.predict({**given, "image": given["image"].flip(-1)}, tta=True)
    order = list(task.hflip)
    assert torch.equal(mirrored.values[..., 0], -straight.values[:, order, 0])
    assert torch.equal(mirrored.values[..., 1], straight.values[:, order, 1])
    assert torch.equal(mirrored.confidence, straight.confidence[:, order])


def test_mirror_needs_one_call_of_the_backbone(monkeypatch):
    task, calls = hc().eval(), []
    forward = task.backbone.forward
    monkeypatch.setattr(task.backbone, "forward", lambda x: calls.append(len(x)) or forward(x))
    task.predict(batch(3), tta=True)
    assert calls == [6]


def test_without_the_mirror_tta_sees_the_picture_alone(monkeypatch):
    task, calls, given = hc(tta_mirror=False).eval(), [], batch(3)
    plain = task.predict(given)
    forward = task.backbone.forward
    monkeypatch.setattr(task.backbone, "forward", lambda x: calls.append(len(x)) or forward(x))
    assert torch.equal(task.predict(given, tta=True).values, plain.values)
    assert calls == [3]


def test_coordinate_loss_is_told_in_pixels_of_256():
    task, given = hc(js_weight=0.0), batch(2)
    task.train()
    task.head.final.weight.data.zero_()  # flat maps: all points at the centre
    centre = (32 - 1) / 2
    given["points_xy"] = torch.full((2, 4, 2), centre)
    given["points_xy"][..., 0] += 4.0  # 32 px of 256, in x only
    assert task(given).total.item() == pytest.approx((32 - 0.5) / 2, abs=1e-3)
    given["points_xy"][..., 0] = centre + 1 / 16  # half a pixel of 256: the square part, 0.5·0.5²
    assert task(given).total.item() == pytest.approx(0.125 / 2, abs=1e-3)


def test_missing_points_and_items_without_weight_give_no_gradient():
    task, given = hc(), batch(2)
    given["points_xy"][:, 1:] = float("nan")
    given["visible"][:, 1] = False
    loss = task(given).total
    loss.backward()
    assert loss.isfinite()
    grads = task.head.final.weight.grad.flatten(1).abs().sum(dim=1)
    assert grads[0] > 0
    assert (grads[1:] == 0).all()
    assert all(p.grad.isfinite().all() for p in task.parameters())

    task.zero_grad()
    given["weight"] = torch.zeros(2)
    task(given).total.backward()
    assert all((p.grad == 0).all() for p in task.parameters())


def test_weights_choose_between_items():
    task, both = hc().eval(), batch(2)
    one = {k: v[:1] if k != "step_seed" else v for k, v in both.items()}
    both["weight"] = torch.tensor([2.0, 0.0])
    assert task(both).total.item() == pytest.approx(task(one).total.item(), rel=1e-5)


def test_a_level_pair_may_be_met_in_either_order():
    task = hc()
    wanted = torch.tensor([[[-0.2, 0.001], [0.2, -0.001], [0.3, 0.0], [-0.3, 0.0]]])  # BPD lies level
    found = wanted[:, [1, 0, 3, 2]]
    met = task._met_order(found, wanted)
    assert torch.equal(met[:, :2], found[:, :2])
    assert torch.equal(met[:, 2:], wanted[:, 2:])  # left and right are sure


def test_decoded_points_and_measurements_are_those_of_the_original():
    task = hc()
    original = np.array([[48.0, 12], [48, 52], [78, 32], [18, 32]])  # BPD 40 px, OFD 60 px
    given = batch(1)
    in_input = given["meta"][0].to_input(original)
    outputs = Outputs(torch.tensor(in_input[None] - 15.5), torch.ones(1, 4))
    (prediction,) = task.decode(outputs, given)
    assert np.allclose(prediction.value, original)
    sizes = {name: one.value for name, one in prediction.measurements.items()}
    assert (sizes["bpd_mm"], sizes["ofd_mm"]) == pytest.approx((20.0, 30.0))
    assert sizes["hc_mm"] == pytest.approx(79.327, abs=1e-3)
    assert sizes["ci_percent"] == pytest.approx(66.667, abs=1e-3)
    assert 12 < sizes["ga_weeks"] < 14
    assert sizes["ga_weeks"] == pytest.approx(8.96 + 0.54 * 7.9327 + 0.0003 * 7.9327**3, abs=1e-3)  # of HC
    told = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))["measurements"]
    assert (told["bpd_mm"]["unit"], told["bpd_mm"]["in_range"]) == ("mm", True)
    assert told["bpd_mm"]["convention"] == "outer to outer"
    assert told["ga_weeks"]["limits"] == [12, 42]

    given["meta"] = [meta(spacing_mm=None)]
    (unscaled,) = task.decode(outputs, given)
    lengths = {name: one.value for name, one in unscaled.measurements.items()}
    assert lengths == pytest.approx({"bpd_px": 40, "ofd_px": 60, "hc_px": 2 * sizes["hc_mm"]})
    assert unscaled.measurements["hc_px"].in_range is None
    assert unscaled.text().endswith("the spacing is unknown")


def test_a_number_out_of_its_range_is_given_with_a_flag_in_json_and_picture():
    task = hc()
    original = np.array([[48.0, 12], [48, 52], [78, 32], [18, 32]])
    small = meta(spacing_mm=0.1)  # BPD 4 mm, OFD 6 mm
    truth = task._prediction(original, np.ones(4), small)
    told = truth.to_dict()["measurements"]
    assert told["bpd_mm"]["value"] == pytest.approx(4.0)
    assert {name for name, one in told.items() if one["in_range"] is False} == {
        "bpd_mm", "ofd_mm", "hc_mm", "ga_weeks",
    }  # fmt: skip
    assert str(truth.measurements["bpd_mm"]) == "4 mm (out of range)"
    larger = task._prediction(original, np.ones(4), meta(spacing_mm=1.0))
    assert np.isnan(task.score(larger, truth)["ga_error_weeks"])  # no formula says how old the label is
    assert task.score(truth, larger)["ga_error_weeks"] > 1  # a wild prediction does count


def test_lengths_in_mm_stay_on_pixels_that_are_not_square():
    task, spacing = hc(), Spacing(row_mm=0.3, col_mm=0.9)
    original = np.array([[40.0, 12], [56, 52], [78, 40], [18, 22]])
    given = replace(meta(), spacing=spacing)
    moved = task._projected(original, given)
    for start, end in ((0, 1), (2, 3)):
        before = distance_mm(original[start], original[end], spacing)
        assert distance_mm(moved[start], moved[end], spacing) == pytest.approx(before, abs=1e-9)
    first, second = ((moved[i] - moved[i + 1]) * (0.9, 0.3) for i in (0, 2))
    assert first @ second == pytest.approx(0, abs=1e-9)


def test_score_tells_pixels_millimetres_and_measurements():
    task, given = hc(), batch(1)
    (truth,) = task.truth(given)
    shifted = Outputs(given["points_xy"] - 15.5 + torch.tensor([1.0, 0.0]), torch.ones(1, 4))
    plain = hc(project=False)
    (prediction,) = plain.decode(shifted, given)
    scores = plain.score(prediction, truth)
    assert scores["mre_px"] == pytest.approx(3.0, abs=1e-4)  # 96 / 32 original pixels to one of the input
    assert scores["mre_mm"] == pytest.approx(1.5, abs=1e-4)
    assert scores["hc_error_mm"] == pytest.approx(0, abs=1e-3)
    given["visible"][:, 0] = False
    (partly,) = task.truth(given)
    assert np.isnan(partly.value[0]).all()
    assert partly.confidence.tolist() == [0, 1, 1, 1]
    scores = plain.score(prediction, partly)
    assert scores["mre_px"] == pytest.approx(3.0, abs=1e-4)
    assert np.isnan(scores["hc_error_mm"])


def test_error_in_the_challenges_order_punishes_a_level_line_that_tilts_the_other_way():
    task = build_task(Tiny(), {"name": "keypoints", "column": "c", "points": "PSAX"})
    label = np.array([[40.0, 10], [40, 30], [20, 50], [50, 52]])
    truth = task._prediction(label, np.ones(4), meta())
    shift = np.array([[0, 0], [0, 0], [0, 2], [0, -2]])
    tilted = task._prediction(label + shift, np.ones(4), meta())
    scores = task.score(tilted, truth)
    assert scores["mre_px"] == pytest.approx(1.0)
    assert scores["mre_official_px"] == pytest.approx(30 / 2)  # both ends of one line of two
    assert "mre_official_px" not in hc().score(truth, truth)


def test_mean_shape_is_stretched_to_the_item():
    task, given = hc(), batch(3)
    given["points_xy"][:] = torch.tensor([[15.5, 15.5]])
    given["visible"][0, 0] = False
    guess = task.trivial(task.truth(given), meta(original_hw=(100, 200)))
    assert np.allclose(guess.value, [99.5, 49.5], atol=1e-4)


def test_confidence_falls_with_the_spread():
    task, given = hc().eval(), batch(2)
    task.head.final.weight.data *= 1e4
    flat = task.predict(given).confidence
    task.head.log_tau.data += 4
    sharp = task.predict(given).confidence
    assert (flat >= 0).all()
    assert (sharp <= 1).all()
    assert sharp.mean() > flat.mean()


def test_drawing_leaves_the_given_picture_and_shows_truth_and_prediction():
    task, given = hc(), batch(1)
    (truth,) = task.truth(given)
    (prediction,) = task.decode(Outputs(torch.zeros(1, 4, 2), torch.ones(1, 4)), given)
    picture = Image.new("RGB", (96, 64))
    drawn = np.asarray(task.draw(picture, prediction, truth))
    assert not np.asarray(picture).any()
    assert (drawn == (0, 220, 120)).all(axis=-1).any()
    assert (drawn == (255, 214, 0)).all(axis=-1).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": "HCC"}, "HC"),
        ({"points": "HC", "names": ["a"]}, "either"),
        ({}, "either"),
        ({"names": ["a", "b"], "hflip": [1, 1]}, "permutation"),
        ({"names": ["a", "b", "c"], "hflip": [1, 2, 0]}, "twice"),
        ({"points": "HC", "jsweight": 1.0}, "js_weight"),
    ],
)
def test_options_that_cannot_be_are_named(options, said):
    with pytest.raises(RecipeError, match=said):
        build_task(Tiny(), {"name": "keypoints", "column": "c", **options})


def test_own_points_need_no_set():
    task = build_task(
        Tiny(), {"name": "keypoints", "column": "c", "names": ["a", "b", "c"], "hflip": [1, 0, 2]}
    )
    assert task.target().hflip == (1, 0, 2)
    given = batch(2, points=3)
    assert task(given).total.isfinite()
    assert [p.names for p in task.decode(task.eval().predict(given), given)] == [("a", "b", "c")] * 2
