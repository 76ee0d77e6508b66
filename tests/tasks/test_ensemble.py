"""Median of models: of outliers, under a mirror, in decoding; a soup and its running statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from insonate.data.pointsets import POINT_SETS
from insonate.errors import ModelError
from insonate.tasks import build_task
from insonate.tasks.ensemble import (
    BiometryEnsemble,
    KeypointsEnsemble,
    geometric_median_points,
    median_points,
    soup,
)
from tasks.test_biometry import made, mixed, rows_of
from tasks.tiny import Tiny, batch


def member(seed, points="HC"):
    torch.manual_seed(seed)
    task = build_task(Tiny(), {"name": "keypoints", "column": "c", "points": points}).eval()
    task.head.final.weight.data *= 1e5
    return task


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_median_is_that_of_numpy(count):
    points = torch.randn(count, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(median_points(points), np.median(points, axis=0), rtol=1e-6)


def test_the_medians_pass_over_outliers_and_the_mean_does_not():
    generator = torch.Generator().manual_seed(0)
    trials, sigma_px = 20_000, 2.0
    for share, expected in ((0.0, (1.12, 1.34, 1.28)), (0.1, (7.40, 1.60, 1.52))):  # the method's own table
        points = sigma_px * torch.randn(5, trials, 2, generator=generator)
        outlier = torch.rand(5, trials, 1, generator=generator) < share
        points = torch.where(outlier, 60.0 * torch.randn(5, trials, 2, generator=generator), points)
        found = [one.norm(dim=-1).mean().item() for one in
                 (points.mean(dim=0), median_points(points), geometric_median_points(points))]  # fmt: skip
        assert found == pytest.approx(expected, rel=0.06)


def test_the_geometric_median_turns_with_the_points_and_the_other_does_not():
    points = torch.randn(5, 200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half = 2**-0.5
    turn = torch.tensor([[half, half], [-half, half]], dtype=torch.float64)
    turned = geometric_median_points(points @ turn)
    assert (turned - geometric_median_points(points) @ turn).norm(dim=-1).mean() < 0.05
    gap = (median_points(points @ turn) - median_points(points) @ turn).norm(dim=-1).mean()
    assert gap == pytest.approx(0.40, abs=0.05)
    same = torch.ones(3, 1, 2)
    assert torch.equal(geometric_median_points(same), same[0])


@pytest.mark.parametrize("points", sorted(POINT_SETS))
def test_mirrored_image_gives_exactly_mirrored_points(points):
    ensemble = KeypointsEnsemble([member(seed, points) for seed in range(3)])
    given = batch(2)
    straight = ensemble.predict(given, tta=True)
    assert straight.values.abs().amax() > 1
    mirrored = ensemble.predict({**given, "image": given["image"].flip(-1)}, tta=True)
    order = list(ensemble.hflip)
    assert torch.equal(mirrored.values[..., 0], -straight.values[:, order, 0])
    assert torch.equal(mirrored.values[..., 1], straight.values[:, order, 1])
    torch.testing.assert_close(mirrored.confidence, straight.confidence[:, order])


def test_an_ensemble_decodes_like_a_model_and_doubts_where_members_differ():
    members, given = [member(seed) for seed in range(3)], batch(2)
    ensemble = KeypointsEnsemble(members)
    outputs = ensemble.predict(given)
    (first, _) = ensemble.decode(outputs, given)
    assert {"hc_mm", "bpd_mm"} <= set(first.measurements)
    alone = torch.stack([one.predict(given).confidence for one in members]).mean(dim=0)
    assert (outputs.confidence < alone).all()
    same = KeypointsEnsemble([members[0]] * 3).predict(given)
    torch.testing.assert_close(same.confidence, members[0].predict(given).confidence)
    assert torch.equal(same.values, members[0].predict(given).values)


def test_members_must_locate_the_same_points():
    with pytest.raises(ModelError, match="same points"):
        KeypointsEnsemble([member(0), member(1, "FA")])
    with pytest.raises(ModelError):
        KeypointsEnsemble([])


def test_a_soup_has_the_mean_weights_and_its_own_statistics():
    first, second, given = member(0), member(1), batch(4)
    mixed = soup([first, second], [given, given])
    states = [one.state_dict() for one in (first, second, mixed)]
    name = next(key for key in states[0] if key.endswith("final.weight"))
    torch.testing.assert_close(states[2][name], (states[0][name] + states[1][name]) / 2)
    means = [key for key in states[0] if key.endswith("running_mean")]
    assert means
    assert any(not torch.allclose(states[2][key], (states[0][key] + states[1][key]) / 2) for key in means)
    again = soup([first, first], [given])
    assert not again.training
    assert torch.equal(next(again.parameters()), next(first.parameters()))
    # the statistics are those of these pictures: evaluation and batch statistics now agree
    evaluated = again.predict(given).values
    for layer in again.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.train()
            assert layer.momentum is not None
    assert (again.predict(given).values - evaluated).abs().max() < 0.5
    with pytest.raises(ModelError, match="one architecture"):
        soup([first, member(0, "FUGC")], [])


def test_a_member_that_sees_nothing_has_no_say():
    points = torch.tensor([[[1.0, 1.0]], [[3.0, 3.0]], [[torch.nan, torch.nan]]])
    for fuse in (median_points, geometric_median_points):
        assert torch.allclose(fuse(points)[0], torch.tensor([2.0, 2.0]), atol=1e-4)
        assert fuse(points[2:]).isnan().all()
    blind = member(0)
    blind.head.final.weight.data.zero_()
    seeing, given = member(1), batch(2)
    together = KeypointsEnsemble([seeing, blind]).predict(given)
    assert torch.equal(together.values, seeing.predict(given).values)
    assert (together.confidence > 0).all()
    nothing = KeypointsEnsemble([blind, blind])
    assert (nothing.predict(given).confidence == 0).all()
    (told, _) = nothing.decode(nothing.predict(given), given)
    assert np.isnan(told.value).all()


def test_an_ensemble_of_nine_task_models_fuses_each_item_of_a_mixed_batch():
    members = [made(points=["HC", "IVC"], head_width=8 * i) for i in (1, 2, 3)]
    for one in members:
        for head in one.head.heads.values():
            head.log_tau.data += 3  # all see peaks
    given = mixed("HC", "IVC", "HC")
    both = BiometryEnsemble(members)
    outputs = both.predict(given, tta=True)
    wanted = torch.stack([one.eval().predict(given, tta=True).values for one in members])
    assert torch.equal(outputs.values.nan_to_num(9.9), median_points(wanted).nan_to_num(9.9))
    assert [one.task for one in both.decode(outputs, given)] == ["HC", "IVC", "HC"]
    _, alone = rows_of(given, "IVC")
    torch.testing.assert_close(both.chosen("IVC").predict(alone, tta=True).values, outputs.values[1:2, :2])
    with pytest.raises(ModelError, match="same points"):
        BiometryEnsemble([members[0], made(points=["HC", "FA"])])
    mixed_weights = soup([made(points=["HC", "IVC"], head_width=8)] * 2, [given])
    assert mixed_weights.predict(given).values.shape == (3, 4, 2)
