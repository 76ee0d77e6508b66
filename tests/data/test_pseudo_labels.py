"""Which pseudo-labels a regime keeps: filters, caps, and that nothing of the evaluation is ever kept."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.likeness import likeness
from insonate.data.plausible import anatomical, bounds, features, inside
from insonate.data.pseudo_labels import (
    CAP,
    CLIP,
    COPY,
    DOUBT,
    EVALUATION,
    FLIP,
    REGIMES,
    SECTOR,
    SHAPE,
    Candidate,
    Regime,
    choose,
    guarded,
    provenance,
    repeats,
)

HW = (200, 300)
HEAD = np.array([[150.0, 50], [150, 150], [220, 100], [80, 100]])
ALL = Regime(name="all", teacher="labels", weight=0.5, quantile=0.0, per_clip=100)


def picture(seed):
    return np.random.default_rng(seed).integers(0, 255, HW, dtype=np.uint8)


def row(number, **changes):
    return {
        "path": f"{number}.png", "patient_id": f"p{number}", "study_id": "", "series_id": "", "split": "",
        "frames": 1, "height": HW[0], "width": HW[1], **changes,
    }  # fmt: skip


def candidate(number, *, points=HEAD, confidence=0.5, gap=1.0, seed=None, task="HC", **changes):
    return Candidate(
        row=row(number, **changes), task=task, points_xy=points, hw=HW, confidence=confidence,
        flip_gap_px=gap, likeness=likeness(picture(number if seed is None else seed)),
    )  # fmt: skip


LABELS = [(HEAD * [1, scale] + [0, shift], HW) for scale in (0.9, 1.0, 1.1) for shift in (-5, 0, 5)]


def chosen(candidates, regime=ALL, held_out=(), labelled=9):
    return choose(
        candidates, regime, bounds={"HC": bounds("HC", LABELS), "FA": bounds("FA", LABELS)},
        labelled={"HC": labelled, "FA": labelled}, held_out=held_out,
    )  # fmt: skip


def numbers(choice):
    return sorted(int(one.row["path"].removesuffix(".png")) for one in choice.kept)


def test_each_filter_drops_its_own():
    given = [
        candidate(0), candidate(1, gap=9.0), candidate(2, points=HEAD + 500), candidate(3, points=HEAD * 0.3),
        candidate(4, seed=0, confidence=0.4),
    ]  # fmt: skip
    choice = chosen(given)
    assert numbers(choice) == [0]
    assert choice.dropped == {FLIP: 1, SHAPE: 2, COPY: 1}


def test_points_outside_the_echoes_are_dropped_and_only_what_is_left_is_looked_at():
    asked = []

    def in_sector(one):
        asked.append(one.row["path"])
        return one.row["path"] != "2.png"

    allowed = {"HC": bounds("HC", LABELS)}
    given = [candidate(1), candidate(2), candidate(3, gap=9.0)]
    choice = choose(given, ALL, bounds=allowed, labelled={"HC": 9}, held_out=(), in_sector=in_sector)
    assert numbers(choice) == [1]
    assert choice.dropped == {FLIP: 1, SECTOR: 1}
    assert asked == ["1.png", "2.png"]


def test_confidence_is_judged_within_each_task():
    sure = [candidate(i, confidence=0.5 + i / 100) for i in range(10)]
    unsure = [candidate(10 + i, confidence=0.01 + i / 1000, task="FA") for i in range(10)]
    regime = Regime(name="half", teacher="", weight=1.0, quantile=0.5)
    choice = chosen(sure + unsure, regime)
    assert numbers(choice) == [5, 6, 7, 8, 9, 15, 16, 17, 18, 19]
    assert choice.dropped == {DOUBT: 10}


def test_caps_hold_for_clips_and_tasks_whatever_the_order():
    frames = [candidate(i, series_id="loop", patient_id="one") for i in range(8)]
    others = [candidate(20 + i) for i in range(8)]
    regime = Regime(name="few", teacher="", weight=1.0, quantile=0.0, per_clip=3, most=7)
    choice = chosen(frames + others, regime)
    assert choice.dropped == {CLIP: 5, CAP: 4}
    assert len(choice.kept) == 7
    assert numbers(choice) == numbers(chosen((frames + others)[::-1], regime))


def test_selective_caps_by_labels_and_balanced_repeats_them():
    assert REGIMES["selective"].cap("HC", 849) == 8490
    assert REGIMES["selective"].cap("FUGC", 221) == 1105
    assert [REGIMES[name].cap("HC", 849) for name in ("r1", "r2", "r3", "balanced")] == [
        1500,
        3000,
        5000,
        2000,
    ]
    assert [REGIMES[name].weight for name in ("r1", "r2", "r3")] == [0.5, 0.7, 1.0]
    assert [repeats(count, REGIMES["balanced"]) for count in (32, 499, 500, 3400)] == [16, 2, 1, 1]
    assert repeats(32, REGIMES["r3"]) == 1


def test_planted_copies_of_the_evaluation_take_their_whole_group_with_them():
    planted = picture(100).astype(np.int16) + np.random.default_rng(1).integers(-6, 7, HW)
    leaked = Candidate(
        row=row(1, patient_id="renamed", series_id="s"), task="HC", points_xy=HEAD, hw=HW, confidence=0.9,
        flip_gap_px=0.0, likeness=likeness(np.clip(planted * 0.9, 0, 255).astype(np.uint8)),
    )  # fmt: skip
    sibling = candidate(2, patient_id="Renamed ")  # another picture of the patient, unlike the evaluation
    held_out = [likeness(picture(100)), likeness(picture(101))]
    choice = chosen([leaked, sibling, candidate(3)], held_out=held_out)
    assert numbers(choice) == [3]
    assert choice.dropped == {EVALUATION: 2}
    assert numbers(chosen([leaked, sibling, candidate(3)])) == [1, 2, 3]


@pytest.mark.parametrize(
    "same", [{"patient_id": " P9 "}, {"study_id": "exam"}, {"series_id": "loop"}, {"path": "9.png"}]
)
def test_rows_of_an_evaluated_group_never_reach_the_model(same):
    tested = row(9, split="test", study_id="exam", series_id="loop")
    free, left_out = guarded([row(1, **same), row(2), row(3, split="val")], [tested])
    assert [one["path"] for one in free] == ["2.png"]
    assert left_out == 2


def test_a_pseudo_label_tells_where_it_came_from():
    made = provenance(candidate(1), REGIMES["r2"], "ab" * 32, "keypoints_hc")
    assert made["keypoints_hc"] == HEAD.ravel().tolist()
    assert made["label_source"] == "pseudo:r2@" + "ab" * 6
    assert (made["weight"], made["split"], made["pseudo_teacher"]) == (0.7, "train", "ab" * 32)
    assert (made["pseudo_confidence"], made["pseudo_flip_gap_px"]) == (0.5, 1.0)


def test_anatomy_rules_out_what_no_labels_are_needed_for():
    assert anatomical(HEAD, "HC")
    assert not anatomical(HEAD * [1, 0.3], "HC")
    heart = np.zeros((16, 2))
    heart[[0, 1, 9, 4, 5, 13], 1] = [10, 50, 90, 12, 52, 88]
    assert anatomical(heart, "A4C")
    heart[1, 1] = 95
    assert not anatomical(heart, "A4C")
    long_axis = np.zeros((22, 2))
    for place, start in enumerate((16, 14, 8, 10, 12)):
        long_axis[start : start + 2, 0] = 10 * place
    assert anatomical(long_axis, "PLAX")
    assert anatomical(-long_axis, "PLAX")
    long_axis[8:10, 0] = 99
    assert not anatomical(long_axis, "PLAX")


def test_features_do_not_change_with_the_size_of_the_picture():
    np.testing.assert_allclose(features(HEAD, HW), features(2 * HEAD, (400, 600)))
    assert inside(HEAD, HW)
    assert not inside(HEAD - [100, 0], HW)
    odd = features(HEAD[:3], HW)
    assert odd.shape == (4,)
    missing = bounds("x", [(np.full((4, 2), np.nan), HW)])
    assert missing.allow(HEAD, HW)  # labels that tell nothing allow all
    few = bounds("x", [(HEAD * (1 + k / 10), HW) for k in range(5)])
    many = bounds("x", [(HEAD * (1 + k / 1000), HW) for k in range(401)])
    assert few.allow(HEAD * 0.75, HW)  # five labels do not show how small it may be
    assert not many.allow(HEAD * 0.9, HW)
    assert many.allow(HEAD * 1.2, HW)
    with pytest.raises(ValueError, match="no labels"):
        bounds("HC", [])
