from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from insonate.evaluate.statistics import (
    bland_altman,
    bootstrap_mean,
    bootstrap_pooled,
    paired_difference,
    patient_index,
)


def test_interval_of_one_item_a_patient_agrees_with_scipy():
    scores = np.random.default_rng(1).normal(5, 2, 60)
    ours = bootstrap_mean(scores, [f"p{i}" for i in range(60)], resamples=4000)
    theirs = stats.bootstrap((scores,), np.mean, n_resamples=4000, method="percentile", rng=0)
    assert ours.value == pytest.approx(scores.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05)


def test_nominal_interval_covers_the_true_mean_of_clustered_scores():
    random = np.random.default_rng(0)
    patients = np.repeat([f"p{i}" for i in range(40)], 5)
    hits = naive = 0
    for trial in range(200):
        scores = np.repeat(random.normal(0, 1, 40), 5) + random.normal(0, 0.3, 200)
        interval = bootstrap_mean(scores, patients, resamples=400, seed=trial)
        hits += interval.low <= 0 <= interval.high
        alone = bootstrap_mean(scores, [""] * 200, resamples=400, seed=trial)
        naive += alone.low <= 0 <= alone.high
    assert 0.89 <= hits / 200 <= 0.99
    assert naive / 200 < 0.75  # items as if independent: the reason for drawing patients


def test_patients_with_more_items_weigh_more():
    interval = bootstrap_mean([1, 1, 1, 0], ["a", "a", "a", "b"], resamples=4000)
    assert interval.value == 0.75
    assert (interval.low, interval.high) == (0.0, 1.0)  # only a, or only b, in a quarter of the samples each
    assert interval.patients == 2


def test_scores_that_do_not_apply_are_left_out():
    interval = bootstrap_mean([1.0, np.nan, 3.0], ["a", "b", "c"])
    assert (interval.value, interval.items, interval.patients) == (2.0, 2, 2)
    assert bootstrap_mean([np.nan], ["a"]).items == 0


def test_one_patient_gives_no_interval():
    interval = bootstrap_mean([1.0, 2.0], ["a", "a"])
    assert interval.value == 1.5
    assert np.isnan([interval.low, interval.high]).all()


def test_equal_seeds_give_equal_intervals_and_items_may_be_reordered():
    scores, patients = np.random.default_rng(3).normal(size=30), [f"p{i % 7}" for i in range(30)]
    assert bootstrap_mean(scores, patients, seed=5) == bootstrap_mean(scores, patients, seed=5)
    assert bootstrap_mean(scores, patients, seed=5) != bootstrap_mean(scores, patients, seed=6)


def test_chunks_do_not_change_the_interval(monkeypatch):
    scores, patients = np.random.default_rng(3).normal(size=30), [f"p{i}" for i in range(30)]
    whole = bootstrap_mean(scores, patients)
    monkeypatch.setattr("insonate.evaluate.statistics.CHUNK", 301)
    assert bootstrap_mean(scores, patients) == whole


def test_pairing_finds_a_difference_that_single_intervals_hide():
    random = np.random.default_rng(2)
    patients = [f"p{i}" for i in range(50)]
    hard = random.normal(0, 5, 50)
    first, second = hard + 0.5 + random.normal(0, 0.1, 50), hard + random.normal(0, 0.1, 50)
    difference = paired_difference(first, second, patients)
    assert 0.4 < difference.low < 0.5 < difference.high < 0.6
    assert bootstrap_mean(first, patients).low < bootstrap_mean(second, patients).high


def test_pooled_bootstrap_of_a_mean_agrees_with_the_vectorised_one():
    scores = np.random.default_rng(4).normal(size=40)
    patients = [f"p{i % 13}" for i in range(40)]
    pooled = bootstrap_pooled(lambda i: {"mean": scores[i].mean()}, patients, resamples=2000)["mean"]
    direct = bootstrap_mean(scores, patients, resamples=2000)
    assert (pooled.low, pooled.high) == pytest.approx((direct.low, direct.high), abs=1e-9)


def test_undefined_resamples_are_left_out_of_a_pooled_interval():
    labels = np.asarray([0, 1, 1, 1])

    def statistic(items):
        return {"share": labels[items].mean() if set(labels[items]) == {0, 1} else np.nan}

    interval = bootstrap_pooled(statistic, ["a", "b", "c", "d"])["share"]
    assert 0 < interval.low < interval.high < 1


def test_bland_altman_gives_bias_and_limits():
    truth = np.asarray([10.0, 20.0, 30.0, np.nan])
    agreement = bland_altman(truth + np.asarray([1.0, 2.0, 3.0, 0.0]), truth)
    assert agreement.bias == pytest.approx(2)
    assert (agreement.low, agreement.high) == pytest.approx((2 - 1.96, 2 + 1.96))
    assert len(agreement.means) == 3


def test_an_unknown_patient_stands_alone():
    assert patient_index(["a", "", "a", ""]).tolist() == [0, 1, 0, 2]


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 scores but 1 patients"):
        bootstrap_mean([1, 2], ["a"])
    with pytest.raises(ValueError, match="first model"):
        paired_difference([1, 2], [1], ["a", "b"])
