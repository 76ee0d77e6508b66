"""Shards: what is packed, what is read back, and what a kill or a flipped byte leaves."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image
from test_templates import fan

from insonate.cli import main
from insonate.data import media, shards
from insonate.data.dataset import ManifestDataset
from insonate.data.manifest import Manifest
from insonate.data.shards.index import index_path
from insonate.data.shards.read import ShardItem, _reader, reader
from insonate.data.spacing import Spacing
from insonate.data.targets import MaskTarget, PointsTarget
from insonate.data.transforms import InputFormat
from insonate.errors import InsonateError, ManifestError, MediaError

FMT = InputFormat(height=32, width=48, channels=1)


def picture(hw, seed=0):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (8, 12), np.uint8).astype(np.uint8))
    return np.asarray(small.resize(hw[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def archive(tmp_path):
    """Four stills with a mask and points, a clip, and a DICOM clip with one labelled frame."""
    folder = tmp_path / "in"
    rows = []
    for i in range(4):
        media.write_png(folder / f"{i}.png", picture((64, 96), i))
        mask = np.zeros((64, 96), np.uint8)
        mask[16:32, 24:60] = i
        media.write_png(folder / "masks" / f"{i}.png", mask)
        rows.append(
            {
                "path": f"{i}.png",
                "patient_id": f"p{i}",
                "split": "train" if i else "val",
                "mask_path": f"masks/{i}.png",
                "keypoints": [23.5, 15.5, math.nan, math.nan],
                "spacing_row_mm": 0.2,
                "spacing_col_mm": 0.3,
                "file_bytes": 1000,
            }
        )
    clip = np.stack([picture((48, 64), 10 + t) for t in range(5)])
    media.write_video(folder / "clip.mp4", clip, 20.0)
    rows.append({"path": "clip.mp4", "patient_id": "c", "split": "train"})
    media.write_dicom(
        folder / "cine.dcm", clip, spacing=Spacing(row_mm=0.1, col_mm=0.2), frame_time_ms=40.0,
        patient_id="d", study_id="s", series_id="1", vendor="V", item_id="i",
    )  # fmt: skip
    rows.append({"path": "cine.dcm", "patient_id": "d", "split": "train", "frame": 3, "kind": "dicom"})
    return Manifest.from_rows(rows, folder)


def test_rows_follow_their_pixels(archive, tmp_path):
    result = shards.shard(archive, tmp_path / "out", shards.PackOptions(size_px=48), items=4, workers=1)
    assert (result.shards, result.kept, result.errors) == (2, 0, [])
    rows = Manifest.read(tmp_path / "out" / "manifest.parquet").rows
    assert [row["patient_id"] for row in rows] == [row["patient_id"] for row in archive.rows]
    assert (rows[1]["height"], rows[1]["width"], rows[1]["spacing_row_mm"]) == (32, 48, pytest.approx(0.4))
    assert rows[1]["keypoints"][:2] == [11.5, 7.5]
    assert "file_bytes" not in rows[1]
    assert math.isnan(rows[1]["keypoints"][2])
    assert (rows[4]["frames"], rows[4]["fps"], rows[4]["width"]) == (5, pytest.approx(20), 48)
    assert (rows[5]["frames"], rows[5]["frame"], rows[5]["kind"]) == (1, 0, "image")
    assert rows[5]["spacing_col_mm"] == pytest.approx(0.2 * 64 / 48)
    with tarfile.open(tmp_path / "out" / "shard-00000.tar") as tar:  # as any WebDataset reader sees it
        names = tar.getnames()
    assert names[:3] == ["s00000000.00000.jpg", "s00000000.mask_path.png", "s00000000.json"]


def test_loops_are_kept_whole_when_asked_for_with_their_labelled_frame(archive, tmp_path):
    options = shards.PackOptions(size_px=None, loops=True)
    manifest = shards.shard(archive, tmp_path / "out", options, workers=1).manifest
    row = manifest.rows[5]
    assert (row["frames"], row["frame"], row["kind"]) == (5, 3, "video")
    dataset = ManifestDataset(manifest.select(split="train"), InputFormat(height=48, width=64))
    original = media.read_frames(archive.root / "cine.dcm", grey=True)[3]
    assert np.abs(dataset.original(4).astype(int).reshape(48, 64) - original).mean() < 3


def test_lists_that_are_no_points_stay_as_they_are(archive, tmp_path):
    pose, motion = [float(v) for v in range(16)], [1.0] * 17
    rows = [{**row, "probe_poses": pose, "wall_motion": motion} for row in archive.rows]
    manifest = Manifest.from_rows(rows, archive.root)
    packed = shards.shard(manifest, tmp_path / "out", shards.PackOptions(size_px=32), workers=1)
    assert packed.errors == []
    assert all(row["probe_poses"] == pose and row["wall_motion"] == motion for row in packed.manifest.rows)
    assert packed.manifest.rows[1]["keypoints"][0] != rows[1]["keypoints"][0]


def test_the_same_dataset_trains_on_files_and_shards(archive, tmp_path):
    result = shards.shard(archive, tmp_path / "out", shards.PackOptions(quality=95), workers=1)
    for target in (
        None,
        MaskTarget(column="mask_path", classes=("bg", "a", "b", "c")),
        PointsTarget(column="keypoints", names=("a", "b"), hflip=(0, 1)),
    ):
        files, packed = (ManifestDataset(m, FMT, target) for m in (archive, result.manifest))
        assert len(files) == len(packed)
        for i in range(len(files)):
            first, second = files[i], packed[i]
            assert float((first["image"] - second["image"]).abs().mean()) < 0.03
            if "mask" in first:
                assert (first["mask"] == second["mask"]).all()
            if "points" in first:
                np.testing.assert_allclose(first["points"], second["points"], atol=1e-4)
        assert len({packed.item_id(i) for i in range(len(packed))}) == len(packed)
        assert files.digest() != packed.digest()


def test_crops_to_the_sector_and_takes_points_along(tmp_path):
    y, x = np.mgrid[:96, :128]
    radius, angle = np.hypot(x - 63.5, y - 10), np.arctan2(x - 63.5, y - 10)
    inside = (radius < 70) & (np.abs(angle) < 0.6)
    frames = np.stack(
        [np.where(inside, np.maximum(60, picture((96, 128), t)), 0).astype(np.uint8) for t in range(6)]
    )
    frames[:, 2:8, 2:30] = 255  # writing
    media.write_video(tmp_path / "in" / "a.mp4", frames, 20.0)
    row = {
        "path": "a.mp4",
        "patient_id": "a",
        "spacing_row_mm": 0.5,
        "spacing_col_mm": 0.5,
        "tip": [64.0, 50.0],
    }
    manifest = Manifest.from_rows([row], tmp_path / "in")
    packed = shards.shard(manifest, tmp_path / "out", shards.PackOptions(crop="sector"), workers=1).manifest
    (new,) = packed.rows
    left, top = 64 - new["tip"][0], 50 - new["tip"][1]
    assert (left, top) == (pytest.approx(24, abs=4), pytest.approx(10, abs=4))
    assert (new["height"], new["width"]) == (pytest.approx(70, abs=5), pytest.approx(80, abs=6))
    assert new["spacing_row_mm"] == 0.5
    with shards.open_row(packed, new) as item:
        assert item.read([0])[0][:8, :8].max() < 40


@pytest.mark.parametrize("half", [0, 1])
def test_points_of_either_half_of_a_split_screen_stay_on_their_pixels(tmp_path, half):
    (frame,), inside = fan()
    screen = np.concatenate([frame, np.zeros_like(frame[:, :20]), frame], axis=1)
    x, y = 120 + 260 * half, 100
    screen[y - 3 : y + 4, x - 3 : x + 4] = 255
    assert inside[y, 120]
    media.write_png(tmp_path / "in" / "a.png", screen)
    row = {"path": "a.png", "patient_id": "a", "tip": [float(x), float(y)]}
    manifest = Manifest.from_rows([row], tmp_path / "in")
    options = shards.PackOptions(crop="sector", size_px=None)
    packed = shards.shard(manifest, tmp_path / "out", options, workers=1).manifest
    (new,) = packed.rows
    tip_x, tip_y = (round(v) for v in new["tip"])
    assert 0 <= tip_x < new["width"]
    with shards.open_row(packed, new) as item:
        picture = item.read([0])[0]
    assert picture[tip_y, tip_x] > 200
    assert picture[tip_y, tip_x - 20] < 200


def test_frames_of_a_clip_in_any_order(archive, tmp_path):
    manifest = shards.shard(archive, tmp_path / "out", workers=1).manifest
    original = media.read_frames(archive.root / "clip.mp4", grey=True)
    with shards.open_row(manifest, manifest.rows[4]) as item:
        frames = item.read([4, 0, 4])
        assert item.info.times_s == pytest.approx((0, 0.05, 0.1, 0.15, 0.2))
        assert frames.shape == (3, 48, 64)
        assert np.abs(frames.astype(int) - original[[4, 0, 4]]).mean() < 3
        assert item.read([]).shape == (0, 48, 64)
        with pytest.raises(MediaError, match=r"no 's00000004.00005.jpg'"):
            item.read([5])


def test_a_second_run_packs_only_what_changed(archive, tmp_path):
    first = shards.shard(archive, tmp_path / "out", items=2, workers=1)
    tars = sorted((tmp_path / "out").glob("*.tar"))
    before = [tar.read_bytes() for tar in tars]
    media.write_png(archive.root / "2.png", picture((64, 96), 99))
    second = shards.shard(archive, tmp_path / "out", items=2, workers=1)
    assert (first.kept, second.kept) == (0, 2)
    assert [tar.read_bytes() == old for tar, old in zip(tars, before, strict=True)] == [True, False, True]
    third = shards.shard(archive.with_rows(archive.rows[:2]), tmp_path / "out", items=2, workers=1)
    assert (third.kept, len(third.manifest)) == (1, 2)
    assert len(list((tmp_path / "out").glob("shard-*"))) == 2
    with pytest.raises(ManifestError, match="of shards already"):
        shards.shard(third.manifest, tmp_path / "again")
    archive.write(archive.root / "manifest.parquet")
    with pytest.raises(ManifestError, match="a manifest of other media"):
        shards.shard(archive, archive.root)
    assert len(Manifest.read(archive.root / "manifest.parquet")) == len(archive)


def test_what_cannot_be_read_costs_itself(archive, tmp_path):
    (archive.root / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    media.write_png(archive.root / "masks" / "2.png", np.zeros((5, 5), np.uint8))
    result = shards.shard(archive, tmp_path / "out", items=2, workers=2)
    assert [name for name, _ in result.errors] == ["1.png", "2.png"]
    assert "same size" in result.errors[1][1]
    assert len(result.manifest) == 4


def test_damage_is_told_on_reading(archive, tmp_path):
    manifest = shards.shard(archive, tmp_path / "out", workers=1).manifest
    tar = tmp_path / "out" / "shard-00000.tar"
    whole, index = tar.read_bytes(), index_path(tar).read_text()
    member = reader(tar).members["s00000000.00000.jpg"]

    def attempt():
        _reader.cache_clear()
        with shards.open_row(manifest, manifest.rows[0]) as item:
            return item.read([0])

    assert attempt().shape == (1, 64, 96)
    for at in (member.offset, member.offset + member.size - 1):
        tar.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(MediaError, match="has changed since it was written"):
            attempt()
    tar.write_bytes(whole[:-512])
    with pytest.raises(MediaError, match="its index says"):
        attempt()
    tar.write_bytes(whole)
    for text in (
        index[:50],
        "[1]",
        '{"members": [["a", -1, 2, 3]]}',
        index.replace(f",{member.size},", ",99999999,"),
    ):
        index_path(tar).write_text(text)
        with pytest.raises(MediaError, match=r"index of a shard|behind the end"):
            attempt()
    index_path(tar).unlink()
    with pytest.raises(MediaError, match="cannot be opened"):
        attempt()
    index_path(tar).write_text(index)
    with pytest.raises(ManifestError, match="no height"):
        ShardItem(tar, {**manifest.rows[0], "height": None})


SCRIPT = """
import sys
from insonate.data import shards
from insonate.data.manifest import Manifest
shards.shard(Manifest.read(sys.argv[1]), sys.argv[2], items=20, workers=2)
"""


def test_a_kill_leaves_whole_shards_only(tmp_path):
    media.write_png(tmp_path / "in" / "a.png", picture((300, 400)))
    rows = [{"path": "a.png", "patient_id": str(i)} for i in range(200)]
    manifest = Manifest.from_rows(rows, tmp_path / "in")
    manifest.write(tmp_path / "in" / "m.csv")
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "in" / "m.csv", out])
    while run.poll() is None and not index_path(out / "shard-00001.tar").exists():
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    for index in out.glob("*.index"):
        found = reader(index.with_suffix(".tar"))
        assert sum(bool(found.read(name)) for name in found.members) == 40
    left = len(list(out.glob("*.index")))
    result = shards.shard(manifest, out, items=20, workers=2)
    assert result.kept == left >= 2
    assert len(result.manifest) == 200
    assert not list(out.glob(".tmp-*"))


def test_a_full_disk_leaves_no_half_shard(archive, tmp_path, monkeypatch):
    from insonate import files

    class Full(files.Disk):
        def write(self, file, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "disk", Full())
    with pytest.raises(InsonateError, match="the disk is full"):
        shards.shard(archive, tmp_path / "out", workers=1)
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".lock"}


def test_the_command_names_what_it_leaves_out(archive, tmp_path, monkeypatch, capsys):
    (archive.root / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    archive.write(archive.root / "manifest.csv")
    words = ["insonate", "data", "shard", str(archive.root / "manifest.csv"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--size", "32", "--strict", "--workers", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr()
    assert stop.value.code == 1
    assert "5 items in 1 shards" in told.out
    assert "1.png: " in told.err
