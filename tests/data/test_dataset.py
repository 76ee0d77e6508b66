"""What a dataset hands to training: labels that can be learned, weights that can weigh."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from insonate.data.augment import Augment
from insonate.data.dataset import ManifestDataset
from insonate.data.manifest import Manifest
from insonate.data.media import write_video
from insonate.data.sampler import ItemKey
from insonate.data.targets import PointsTarget
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
