"""What a dataset hands to training: labels that can be learned, weights that can weigh."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from insonate.data.augment import Augment
from insonate.data.dataset import ManifestDataset
from insonate.data.loader import collate
from insonate.data.manifest import Manifest
from insonate.data.media import write_video
from insonate.data.pointorders import to_internal, to_official
from insonate.data.pointsets import POINT_SETS
from insonate.data.sampler import Balance, EpochSampler, ItemKey
from insonate.data.targets import PointSetsTarget, PointsTarget
from insonate.data.transforms import InputFormat
from insonate.errors import ManifestError

FMT = InputFormat(height=16, width=24)
TARGET = PointsTarget(column="points", names=("left", "right"), hflip=(1, 0))


def manifest(folder, **cells):
    Image.new("L", (48, 32)).save(folder / "i.png")
    row = {"path": "i.png", "patient_id": "p", "points": [2.0, 16.0, 45.0, 16.0]}
    return Manifest.from_rows([row | cells], folder)


def test_a_point_that_a_crop_cuts_off_is_not_learned(tmp_path):
    dataset = ManifestDataset(manifest(tmp_path), FMT, TARGET, Augment(crop_scale=(0.2, 0.4), hflip=0.5))
    seen = []
    for seed in range(40):
        sample = dataset[ItemKey(0, seed)]
        labels = np.array(dataset.labels[0])
        if sample["meta"].input_from_original[0][0] < 0:
            labels = labels[::-1]
        x = sample["meta"].to_input(labels)[:, 0]
        inside = (x >= -0.5) & (x <= 23.5)
        assert (sample["visible"].numpy() <= inside).all()
        seen.append(sample["visible"].tolist())
    assert [True, True] not in seen
    assert {True, False} == {one for pair in seen for one in pair}


def test_a_label_outside_of_the_picture_stays_a_label_of_the_evaluation(tmp_path):
    dataset = ManifestDataset(manifest(tmp_path, points=[-9.0, 16.0, 45.0, 16.0]), FMT, TARGET)
    assert dataset[0]["visible"].all()


def test_a_point_far_outside_of_the_picture_is_refused_in_one_line(tmp_path):
    dataset = ManifestDataset(manifest(tmp_path, points=[2.0, 16.0, 450.0, 16.0]), FMT, TARGET)
    with pytest.raises(ManifestError, match=r"i\.png: a point at \(450, 16\) lies far outside .* 48 × 32"):
        dataset[0]


def mixed(folder, *rows):
    Image.new("L", (48, 32)).save(folder / "i.png")
    own = [{"path": "i.png", "patient_id": f"p{i}", "keypoints": [3.0] * 2 * count, "points_set": name}
           for i, (name, count) in enumerate(rows)]  # fmt: skip
    return Manifest.from_rows(own, folder)


def several(*names):
    sets = {name: POINT_SETS[name].target("keypoints") for name in names}
    return PointSetsTarget(column="keypoints", sets=sets)


def test_rows_of_several_point_sets_make_one_padded_batch(tmp_path):
    rows = mixed(tmp_path, ("HC", 4), ("IVC", 2), ("PLAX", 22), ("FUGC", 2))
    dataset = ManifestDataset(rows, FMT, several("HC", "IVC", "FUGC"))
    assert (len(dataset), dataset.left_out, dataset.sets()) == (3, 1, ["HC", "IVC", "FUGC"])
    batch = collate([dataset[i] for i in range(3)])
    assert batch["points_xy"].shape == (3, 4, 2)
    assert batch["visible"].sum(dim=1).tolist() == [4, 2, 2]
    assert [meta.points_set for meta in batch["meta"]] == ["HC", "IVC", "FUGC"]
    one = ManifestDataset(rows, FMT, POINT_SETS["PLAX"].target("keypoints"))  # a task of one set
    assert (len(one), one.left_out) == (1, 3)
    with pytest.raises(ManifestError, match="for the points A4C"):
        ManifestDataset(rows, FMT, POINT_SETS["A4C"].target("keypoints"))


@pytest.mark.parametrize("augment", [None, Augment()])
def test_labels_in_either_order_give_the_internal_one(tmp_path, augment):
    Image.new("L", (48, 32)).save(tmp_path / "i.png")
    points = np.arange(32.0).reshape(16, 2) % 31
    points[2:4] = [[30.0, 5.0], [10.0, 9.0]]  # the upper end first, as the challenge has it: the right one
    given = [of(points, "A4C").ravel().tolist() for of in (to_official, to_internal)]
    rows = [{"path": "i.png", "patient_id": "p", "points_set": "A4C", "keypoints": one} for one in given]
    dataset = ManifestDataset(Manifest.from_rows(rows, tmp_path), FMT, several("A4C"), augment)
    official, internal = (dataset[ItemKey(i, 0) if augment else i]["points"] for i in range(2))
    assert np.array_equal(official, internal)
    assert internal[2, 0] < internal[3, 0]


def test_unknown_sets_and_mixed_counts_are_named_in_one_line(tmp_path):
    for name in ("HCC", ""):
        with pytest.raises(ManifestError, match=r"item 1 .*points_set.*AOP, FUGC, .*fetal_femur"):
            ManifestDataset(mixed(tmp_path, (name, 4), ("HC", 4)), FMT, several("HC"))
    with pytest.raises(ManifestError, match=r"item 2 .*no list of 4 numbers of IVC, but 8 entries"):
        ManifestDataset(mixed(tmp_path, ("HC", 4), ("IVC", 4)), FMT, several("HC", "IVC"))


def test_a_balanced_epoch_draws_by_the_root_of_the_size_and_wears_no_item_out():
    groups = ["AOP"] * 400 + ["HC"] * 100 + ["IVC"] * 4

    def sampler(rank=0, world=1):
        return EpochSampler(
            504, 12, seed=3, shuffle=True, rank=rank, world=world, drop_last=True,
            balance=Balance(groups, 0.5),
        )  # fmt: skip

    whole = sampler()
    names = np.array(groups)[whole.order(0)]
    shares = {name: int((names == name).sum()) for name in ("AOP", "HC", "IVC")}
    assert shares == {"AOP": 315, "HC": 158, "IVC": 31}  # 20 : 10 : 2
    over = np.concatenate([whole.order(epoch) for epoch in range(6)])
    counts = np.bincount(over, minlength=504)
    for first, last in ((0, 400), (400, 500), (500, 504)):
        assert np.ptp(counts[first:last]) <= 1  # all of a group equally often
    assert not np.array_equal(whole.order(0), whole.order(1))
    keys = [key for step in whole for key in step]
    assert len({key.item_seed for key in keys}) == len(keys)  # seen again means changed again

    whole.start_step = 30  # after a stop
    assert [key for step in whole for key in step] == keys[30 * 12 :]
    halves = [list(sampler(rank, 2)) for rank in range(2)]
    wide = [key for step in zip(*halves, strict=True) for half in step for key in half]
    assert [key.index for key in wide] == whole.order(0)[: len(wide)].tolist()


@pytest.mark.parametrize("weight", ["82 kg", -1.0, True])
def test_a_weight_that_cannot_weigh_is_named(tmp_path, weight):
    with pytest.raises(ManifestError, match=r"i\.png, column 'weight'.*rename"):
        ManifestDataset(manifest(tmp_path, weight=weight), FMT)
    assert ManifestDataset(manifest(tmp_path, weight=2), FMT)[0]["weight"] == 2.0


@pytest.fixture
def clip(tmp_path):
    frames = np.repeat(np.arange(8, dtype=np.uint8)[:, None, None] * 30, 32, 1).repeat(48, 2)
    write_video(tmp_path / "c.mp4", frames, fps=10.0)
    return tmp_path


@pytest.mark.parametrize("kind", ["video", ""])
def test_a_clip_without_the_column_frames_gives_all_its_frames(clip, kind):
    rows = [{"path": "c.mp4", "kind": kind, "patient_id": "p"}]
    table = Manifest.from_rows(rows, clip)
    dataset = ManifestDataset(table, FMT, augment=Augment())
    assert {dataset[ItemKey(0, seed)]["meta"].frame for seed in range(60)} == set(range(8))
    assert ManifestDataset(table, FMT)[0]["meta"].frame == 4  # the middle one, as with the column
    assert ManifestDataset(table, FMT).original(0).mean() == pytest.approx(120, abs=12)


def test_points_of_a_clip_need_their_frame_also_without_the_column_frames(clip):
    row = {"path": "c.mp4", "kind": "video", "patient_id": "p", "points": [2.0, 16.0, 45.0, 16.0]}
    with pytest.raises(ManifestError, match="for which of 8 frames"):
        ManifestDataset(Manifest.from_rows([row], clip), FMT, TARGET)
    dataset = ManifestDataset(Manifest.from_rows([row | {"frame": 3}], clip), FMT, TARGET)
    assert dataset[0]["meta"].frame == 3
