"""Confidence of points: calibrated on held-out labels, kept with the model; no point without a peak."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given as anything
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from insonate.models import build_backbone
from insonate.tasks import build_task
from insonate.tasks.certainty import FEWEST, Certainty, isotonic
from tasks.test_biometry import made, mixed
from tasks.tiny import Tiny, batch


@settings(max_examples=100, deadline=None)
@anything(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_isotonic_regression_rises_keeps_the_mean_and_is_the_nearest(values):
    found = isotonic(np.array(values))
    assert (np.diff(found) >= -1e-12).all()
    assert found.sum() == pytest.approx(sum(values), abs=1e-9)
    assert np.allclose(isotonic(found), found)
    spread = np.sum((found - values) ** 2)
    for other in (np.full(len(values), np.mean(values)), np.sort(values)):  # any other rising sequence
        assert spread <= np.sum((other - values) ** 2) + 1e-9


def test_a_fitted_certainty_tells_how_often_points_are_near():
    generator = np.random.default_rng(0)
    raw = generator.uniform(0, 0.5, 5000)  # says 0.5 at most
    near = generator.uniform(0, 1, len(raw)) < 0.2 + 1.6 * raw
    error_px = np.where(near, 3.0, 30.0)
    error_px[:100] = np.nan  # not labelled
    certainty = Certainty()
    assert np.array_equal(certainty.chance(raw), raw)
    certainty.fit(raw[: FEWEST - 1], np.zeros(FEWEST - 1))
    assert certainty.fitted_on == 0  # too few
    certainty.fit(raw, error_px)
    assert certainty.fitted_on == 4900
    asked = np.array([0.05, 0.2, 0.45])
    assert np.allclose(certainty.chance(asked), 0.2 + 1.6 * asked, atol=0.07)
    assert (np.diff(certainty.chance(np.linspace(0, 1, 50))) >= 0).all()


def hc(**options):
    torch.manual_seed(0)
    task = build_task(Tiny(), {"name": "keypoints", "column": "c", "points": "HC", **options}).eval()
    task.head.final.weight.data *= 1e6
    return task


def test_settling_calibrates_on_held_out_items_and_is_saved_with_the_weights():
    task, given = hc(project=False), batch(16)
    with torch.no_grad():
        outputs = task.predict(given)
        task.settle([given, given])
    assert task.certainty.fitted_on == 128
    told = np.stack([one.confidence for one in task.decode(outputs, given)])
    assert np.allclose(told, task.certainty.chance(outputs.confidence.numpy()))
    again = hc()
    again.load_state_dict(task.state_dict())
    assert np.array_equal(again.certainty.chance(np.array([0.3])), task.certainty.chance(np.array([0.3])))

    one, errors = task.outcome(outputs, given)
    truth = given["points_xy"].numpy() - 15.5
    wanted = 8 * np.linalg.norm(outputs.values.numpy() - truth, axis=-1)  # 32 px stand for 256
    assert np.allclose(errors, wanted.ravel(), rtol=1e-4)
    assert np.array_equal(one, outputs.confidence.numpy().ravel())


def test_each_set_of_a_nine_task_model_is_calibrated_by_its_own_items():
    task = made(points=["HC", "IVC", "FA"]).eval()
    with torch.no_grad():
        task.settle(mixed(*["HC"] * 8, *["IVC"] * 20, seed=seed) for seed in range(2))
    assert {name: one.fitted_on for name, one in task.certainty.items()} == {"HC": 64, "IVC": 80, "FA": 0}
    assert task.chosen("HC").certainty is task.certainty["HC"]


@pytest.mark.parametrize("name", ["keypoints", "biometry"])
def test_a_map_without_a_peak_gives_a_warning_and_no_point(name):
    options = {"points": "HC"} if name == "keypoints" else {"points": ["HC", "IVC"]}
    torch.manual_seed(0)
    task = build_task(Tiny(), {"name": name, "column": "c", **options}).eval()
    head = task.head if name == "keypoints" else task.head.heads["HC"]
    head.final.weight.data *= 1e6
    head.final.weight.data[2:] = 0  # the last two points' maps are even
    given = batch(2)
    with torch.no_grad():
        outputs = task.predict(given, tta=True)
        (found, _) = task.decode(outputs, given)
    assert (outputs.confidence[:, 2:] == 0).all()
    assert np.isnan(found.value).any(axis=1).tolist() == [False, False, True, True]
    assert found.confidence[2] == 0
    assert found.warnings == ("no clear place for ofd_right, ofd_left: not told",)
    assert "hc_mm" not in found.measurements  # it would need the point
    assert "bpd_mm" in found.measurements
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["value"][2] == [None, None]
    assert told["warnings"] == list(found.warnings)
    assert "no clear place" in found.text()
    (truth, _) = task.truth(given)
    assert found.placed()[2].tolist() == [47.5, 31.5]  # in scores it stands in the middle
    scores = task.score(found, truth)
    wanted = np.linalg.norm(found.placed() - truth.value, axis=1).mean()
    assert scores["mre_px"] == pytest.approx(wanted)
    assert task.draw(Image.new("RGB", (96, 64)), found, truth).size[0] > 0


def test_an_untrained_model_tells_no_points():
    backbone = build_backbone({"name": "vit", "input_size": [64, 64], "width": 24, "depth": 1, "heads": 3})
    task = build_task(backbone, {"name": "keypoints", "column": "c", "points": "HC"}).eval()
    with torch.no_grad():
        found = task.decode(task.predict(batch(2, 64)), batch(2, 64))
    assert all(np.isnan(one.value).all() and not one.measurements for one in found)
