"""Folders and public data sets as manifests; the scan; hostile manifests."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from insonate.data.adapters import ADAPTERS, image_folder, image_mask_folder, keypoint_csv
from insonate.data.adapters.tables import unpack
from insonate.data.dataset import ManifestDataset
from insonate.data.manifest import Manifest
from insonate.data.pointsets import POINT_SETS
from insonate.data.scan import scan
from insonate.data.targets import ClassTarget, MaskTarget
from insonate.data.transforms import InputFormat
from insonate.errors import InsonateError, ManifestError

FMT = InputFormat(height=32, width=48, channels=1)


def picture(path, hw=(12, 16), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(hw, value, np.uint8)).save(path)


def part(source, folder, every):
    """A part of a data set: every so many rows of its tables, the archives by link."""
    folder.mkdir()
    for path in source.glob("*.zip"):
        (folder / path.name).symlink_to(path)
    for path in source.glob("*.csv"):
        lines = path.read_text().splitlines()
        (folder / path.name).write_text("\n".join([lines[0], *lines[1::every]]) + "\n")
    return folder


def test_class_folders_become_labels_and_copies(tmp_path):
    for name in ("benign/a.png", "benign/sub/b.png", "malignant/c.png"):
        picture(tmp_path / "in" / name)
    for manifest in (image_folder(tmp_path / "in"), image_folder(tmp_path / "in", tmp_path / "out")):
        assert manifest.column("label") == ["benign", "benign", "malignant"]
        assert ManifestDataset(manifest, FMT, ClassTarget(column="label", classes=("benign", "malignant")))[
            2
        ]["label"]
    assert Manifest.read(tmp_path / "out" / "manifest.parquet").root == (tmp_path / "out").resolve()
    with pytest.raises(InsonateError, match="not empty"):
        image_folder(tmp_path / "in", tmp_path / "out")


def test_masks_find_their_images_by_name(tmp_path):
    for i in range(3):
        picture(tmp_path / "images" / f"{i}.png")
    picture(tmp_path / "masks" / "0_mask.png", value=1)
    picture(tmp_path / "masks" / "2.png", value=0)
    manifest = image_mask_folder(tmp_path / "images", tmp_path / "masks")
    assert manifest.column("mask_path") == ["masks/0_mask.png", None, "masks/2.png"]
    dataset = ManifestDataset(manifest, FMT, MaskTarget(column="mask_path", classes=("bg", "lesion")))
    assert dataset.left_out == 1
    assert [int(dataset[i]["mask"].max()) for i in range(2)] == [1, 0]
    picture(tmp_path / "masks" / "0.png")
    with pytest.raises(ManifestError, match="masks of one image"):
        image_mask_folder(tmp_path / "images", tmp_path / "masks")


def test_a_table_of_points_becomes_keypoints(tmp_path):
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "keypoints.csv").write_text(
        "file,subject,tip_x,tip_y,end_x,end_y,mm_per_px\na.png,s1,1,2,,,0.3\n"
    )
    manifest = ADAPTERS["keypoint_csv"](tmp_path, tmp_path / "out")
    (row,) = manifest.rows
    np.testing.assert_equal(row["keypoints"], [1, 2, math.nan, math.nan])
    assert (row["patient_id"], row["spacing_col_mm"]) == ("s1", 0.3)
    (tmp_path / "keypoints.csv").write_text("file,tip_x,tip_y\na.png,one,2\n")
    with pytest.raises(ManifestError, match=r"row 1, column 'tip_x': 'one'"):
        keypoint_csv(tmp_path / "keypoints.csv", tmp_path / "images")
    (tmp_path / "keypoints.csv").write_text("file,tip_x,tip_y\n../../etc/passwd,1,2\n")
    with pytest.raises(ManifestError, match="outside"):
        keypoint_csv(tmp_path / "keypoints.csv", tmp_path / "images")


def test_hc18_points_are_in_canonical_order_and_give_the_circumference(shared_data, tmp_path):
    source = part(shared_data / "hc18_landmarks", tmp_path / "in", 5)
    manifest = ADAPTERS["hc18_landmarks"](source, tmp_path / "hc")
    assert len(manifest) == 80
    assert {"train", "val", "test"} == set(manifest.column("split"))
    for row in manifest.rows:
        points = np.reshape(row["keypoints_hc"], (4, 2))
        assert points[0, 1] <= points[1, 1]
        assert points[2, 0] >= points[3, 0]
        short, long = (np.linalg.norm(points[i] - points[i + 1]) * row["spacing_row_mm"] / 2 for i in (0, 2))
        perimeter = math.pi * (3 * (short + long) - math.sqrt((3 * short + long) * (short + 3 * long)))
        assert perimeter == pytest.approx(row["hc_mm"], rel=0.05)
    dataset = ManifestDataset(manifest, FMT, POINT_SETS["HC"].target("keypoints_hc"))
    assert dataset[0]["visible"].all()
    masks = ManifestDataset(manifest, FMT, MaskTarget(column="mask_path", classes=("bg", "head")))
    first = np.reshape(manifest.rows[0]["keypoints_hc"], (4, 2))
    area = math.pi / 4 * np.linalg.norm(first[0] - first[1]) * np.linalg.norm(first[2] - first[3])
    assert float(masks[0]["mask"].float().mean()) == pytest.approx(area / (400 * 270), rel=0.05)


def test_camus_masks_and_official_split(shared_data, tmp_path):
    source = part(shared_data / "camus_4ch", tmp_path / "in", 10)
    manifest = ADAPTERS["camus_4ch"](source, tmp_path / "camus")
    assert [len(manifest.select(split=s)) for s in ("train", "val", "test")] == [40, 10, 10]
    target = MaskTarget(column="mask_path", classes=("bg", "lv", "myocardium", "la"))
    mask = ManifestDataset(manifest, InputFormat(height=256, width=256), target)[0]["mask"]
    area_cm2 = float((mask == 1).sum()) * manifest.rows[0]["spacing_row_mm"] ** 2 / 100
    assert area_cm2 == pytest.approx(manifest.rows[0]["lv_area_cm2"], rel=0.03)


def test_pocus_clips_of_one_source_stay_together(shared_data, tmp_path):
    manifest = ADAPTERS["pocus_lung_videos"](shared_data / "pocus_lung_videos", tmp_path / "pocus")
    assert len(manifest) == 55
    classes = tuple(sorted(set(manifest.column("label"))))
    assert len(classes) == 4
    sample = ManifestDataset(manifest, FMT, ClassTarget(column="label", classes=classes))[0]
    assert sample["image"].shape == (1, 32, 48)
    assert sample["meta"].frame == 50


def test_a_foreign_table_is_refused_before_anything_is_written(shared_data, tmp_path):
    (tmp_path / "landmarks.csv").write_text("file,subject\na.png,1\n")
    with pytest.raises(ManifestError, match="no column 'mcfb_split'"):
        ADAPTERS["hc18_landmarks"](tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("images/a.png", b"x" * 100)
    with pytest.raises(ManifestError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", ["images/b.png"], tmp_path / "out")
    data = (tmp_path / "a.zip").read_bytes().replace(b"xxxx", b"xyxx")
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ManifestError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", ["images/a.png"], tmp_path / "out")


def test_the_scan_goes_on_past_what_it_cannot_read(tmp_path):
    picture(tmp_path / "a" / "good.png")
    picture(tmp_path / ".hidden" / "no.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("words")
    whole = (tmp_path / "a" / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:20])
    (tmp_path / "cut_late.png").write_bytes(whole[: whole.index(b"IDAT") + 8])
    (tmp_path / "out.png").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.png")
    result = scan(tmp_path, tmp_path / "manifest.csv")
    assert [row["path"] for row in Manifest.read(tmp_path / "manifest.csv").rows] == ["a/good.png"]
    assert {e.path for e in result.errors} == {"bad.png", "cut.png", "cut_late.png", "out.png", "pipe.png"}
    assert all(e.reason for e in result.errors)


def test_a_scan_without_media_says_what_it_met(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ManifestError, match=r"bad\.png"):
        scan(tmp_path)
    with pytest.raises(ManifestError, match="no folder"):
        scan(tmp_path / "none")


def test_dicom_folders_are_scanned_with_their_header(shared_data):
    result = scan(shared_data / "dicom_us")
    assert len(result.manifest) >= 20
    assert {"dicom"} <= set(result.manifest.column("kind"))
    assert any(row["spacing_row_mm"] for row in result.manifest.rows)


def test_hostile_manifests_are_refused_or_read_cleanly(tools, shared_data, tmp_path):
    out = tmp_path / "hostile"
    command = [sys.executable, tools / "hostile.py", shared_data / "pocus_lung_videos", out]
    options = ["--count", "300", "--seed", "0", "--kinds", "manifest", "--small"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    with (out / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cases = [case for case in csv.DictReader(file) if not case["file"].endswith(".png")]
    before = sorted(p.name for p in out.parent.iterdir())
    met = []
    for case in cases:
        path = out / case["file"]
        manifest, message = attempt(path)
        got = "ok" if manifest else "error"
        assert case["expected"] in {got, "either"}, case
        met.append(got)
        if manifest is None:
            assert path.name in message, case
            assert "\n" not in message
        else:
            back = Manifest.read(manifest.write(out / "manifest" / "back.csv"))
            np.testing.assert_equal(back.rows, manifest.rows)
            with (out / "manifest" / "back.csv").open(newline="", encoding="utf-8") as file:
                cells = [cell for line in csv.reader(file) for cell in line]
            assert not [c for c in cells if c.startswith(("=", "+", "-", "@", "\t", "\r")) and not _number(c)]
            assert all(row["spacing_row_mm"] is None or 0 < row["spacing_row_mm"] < 100 for row in back.rows)
    assert {"ok", "error"} == set(met)
    assert sorted(p.name for p in out.parent.iterdir()) == before
    assert not any((out / "MARKER").iterdir())


def attempt(path):
    try:
        return Manifest.read(path), ""
    except InsonateError as error:
        return None, str(error)


def _number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
