"""Distillation: what teachers say, asked or remembered; the loss by hand; that the student alone is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from insonate.data.point_cache import SeenPoints, read_points, write_points
from insonate.data.sample import Batch
from insonate.errors import InsonateError, ModelError
from insonate.tasks import build_task
from insonate.tasks.ensemble import median_points
from insonate.tasks.keypoints import Keypoints
from insonate.tasks.teachers import CachedTeachers, OnlineTeachers, is_mirrored, seen_points
from tasks.tiny import Says, Tiny, batch, meta

OPTIONS = {
    "name": "median_distill", "column": "c", "student": {"name": "keypoints", "points": "HC"},
    "teachers": ["a"],
}  # fmt: skip


def student(**changes):
    torch.manual_seed(0)
    return build_task(Tiny(), {**OPTIONS, **changes})


def teacher(seed):
    torch.manual_seed(seed)
    task = build_task(Tiny(), {"name": "keypoints", "column": "c", "points": "HC"}).eval()
    for weight in task.head.parameters():
        weight.data *= 300 if weight.ndim == 4 else 1
    return task


def mirrored(given: Batch) -> Batch:
    """The batch as an augmentation shows it that mirrors and nothing else."""
    width = given["image"].shape[-1]
    flip = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    metas = []
    for one in given["meta"]:
        matrix = tuple(map(tuple, flip @ np.asarray(one.input_from_original)))
        metas.append(one.__class__(**{
            **{name: getattr(one, name) for name in one.__dataclass_fields__}, "input_from_original": matrix,
        }))  # fmt: skip
    return Batch(**{**given, "image": given["image"].flip(-1), "meta": metas})


def named(given: Batch) -> Batch:
    metas = [
        one.__class__(**{**{n: getattr(one, n) for n in one.__dataclass_fields__}, "item_id": str(i)})
        for i, one in enumerate(given["meta"])
    ]
    return Batch(**{**given, "meta": metas})


def test_remembered_targets_are_those_of_teachers_that_look_also_under_a_mirror():
    online, given = OnlineTeachers([teacher(seed) for seed in range(3)], median_points), named(batch(4))
    sets = {"": student().target()}
    cached = CachedTeachers(seen_points(online, given, sets), sets, median_points)
    for seen in (given, mirrored(given)):
        asked, told = online(seen), cached(seen)
        assert asked.points.abs().amax() > 1
        torch.testing.assert_close(told.points, asked.points, rtol=0, atol=1e-4)
        torch.testing.assert_close(told.apart_px, asked.apart_px, rtol=0, atol=1e-3)
    assert is_mirrored(mirrored(given)["meta"][0])
    assert not is_mirrored(meta())


def test_remembered_points_follow_a_turn_and_keep_their_order():
    sets = {"": student().target()}
    points = np.array([[20.0, 10], [20, 50], [60, 30], [10, 30]], np.float32)  # of 96 x 64
    seen = {"0": SeenPoints(points_xy=np.broadcast_to(points, (2, 3, 4, 2)), hw=(64, 96))}
    given = named(batch(1))
    half_turn = np.array([[-1.0, 0, 31], [0, -1, 31], [0, 0, 1]])
    one = given["meta"][0]
    matrix = tuple(map(tuple, half_turn @ np.asarray(one.input_from_original)))
    turned = one.__class__(**{
        **{n: getattr(one, n) for n in one.__dataclass_fields__}, "input_from_original": matrix,
    })  # fmt: skip
    told = CachedTeachers(seen, sets, median_points)(Batch(**{**given, "meta": [turned]}))
    expected = turned.to_input(points)[[1, 0, 3, 2]] - 15.5  # upper first, right first, in the new frame
    np.testing.assert_allclose(told.points[0].numpy(), expected, atol=1e-4)


def test_the_loss_is_that_of_labels_and_half_that_of_teachers():
    given = batch(2)
    found = student().eval().predict(given).values.detach()
    points = found + 4.0
    points[0, 0] = float("nan")  # says nothing
    points[1, 1] = 1e4  # outside the picture
    apart = torch.zeros(2, 4)
    apart[1, 2] = 8.0
    task = student().eval()
    task.teach(Says(points, apart))
    plain = task.student(given).total
    losses = task(given)
    each = 256 * (4.0 / 32 - 0.5 / 256)  # smooth L1 beyond its bend
    expected = each * (5 + math.exp(-1)) / 6
    assert losses.parts["teacher_px"].item() == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(plain.item() + 0.5 * expected, rel=1e-5)
    alike = student(agreement_px=0.0).eval()
    alike.teach(Says(points, apart))
    assert alike(given).parts["teacher_px"].item() == pytest.approx(each, rel=1e-4)


def test_teachers_are_not_trained_saved_or_exported():
    task, given = student().train(), named(batch(4))
    with pytest.raises(ModelError, match="no teachers"):
        task(given)
    members = [teacher(seed) for seed in range(2)]
    before = [p.clone() for p in members[0].parameters()]
    names = set(task.state_dict())
    task.teach(OnlineTeachers(members, median_points))
    assert set(task.state_dict()) == names
    assert all(name.startswith("student.") for name in names)
    losses = task(given)
    losses.total.backward()
    assert all(p.grad is None for p in members[0].parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, members[0].parameters(), strict=True))
    kept = task.for_export()
    assert type(kept) is Keypoints
    assert kept.config.column == "c"


def test_the_file_of_points_comes_back_and_refuses_other_teachers(tmp_path):
    items = {
        "a": SeenPoints(points_xy=np.random.default_rng(0).random((2, 5, 4, 2)).astype(np.float32), hw=(3, 4))
    }
    path = write_points(tmp_path / "points.parquet", "key", items)
    back = read_points(path, "key")
    assert back["a"].hw == (3, 4)
    assert np.array_equal(back["a"].points_xy, items["a"].points_xy)
    assert read_points(tmp_path / "none.parquet", "key") == {}
    with pytest.raises(InsonateError, match="other teachers"):
        read_points(path, "another")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(InsonateError, match="no file of teachers"):
        read_points(tmp_path / "bad.parquet", "key")
