"""`generate`: manifest, media, masks; the same bytes on any number of processes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
import pytest

from insonate.data.manifest import Manifest
from insonate.data.media import probe, read_frames
from insonate.errors import InsonateError
from insonate.measure.points import MEASURED, measure
from insonate.phantom import generate


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "set"
    manifest = generate(out, kind="mixed", patients=6, images_per_patient=1, seed=4, size=128)
    return out, manifest


def test_manifest_reads_back_with_truth_for_each_scene(mixed):
    out, manifest = mixed
    again = Manifest.read(out / "manifest.parquet")
    assert again.rows == manifest.rows
    assert len(manifest) == 6
    for row in manifest.rows:
        assert row["site"] == "phantom"
        assert row["synthetic"]
        head = row["scene"] == "head"
        assert (row["keypoints_hc"] is not None) == head
        assert (row["hc_mm"] is not None) == head
        assert (row["lesion_class"] is not None) != head
        assert (row["mask_path"] is not None) != head


def test_media_and_masks_are_as_the_manifest_says(mixed):
    out, manifest = mixed
    for row in manifest.rows:
        info = probe(out / row["path"])
        assert (info.frames, info.height, info.width) == (row["frames"], row["height"], row["width"])
        mask = read_frames(out / (row["mask_path"] or row["head_mask_path"]))[0]
        assert mask.shape == (128, 128)
        assert set(np.unique(mask)) == {0, 255}


def test_five_patients_fill_all_splits_and_none_is_in_two(tmp_path):
    manifest = generate(tmp_path / "set", kind="breast", patients=5, images_per_patient=2, size=64)
    assert set(manifest.column("split")) == {"train", "val", "test"}
    by_patient = {(row["patient_id"], row["split"]) for row in manifest.rows}
    assert len(by_patient) == 5


def test_two_processes_write_the_same_bytes_as_one(mixed, tmp_path):
    out, _ = mixed
    generate(tmp_path / "set", kind="mixed", patients=6, images_per_patient=1, seed=4, size=128, workers=2)
    assert digests(out) == digests(tmp_path / "set")


def test_a_patient_does_not_depend_on_how_many_there_are(mixed, tmp_path):
    out, _ = mixed
    generate(tmp_path / "set", kind="mixed", patients=2, images_per_patient=1, seed=4, size=128)
    fewer, more = digests(tmp_path / "set"), digests(out)
    media = [name for name in fewer if name.endswith(".png")]
    assert len(media) == 4
    assert all(fewer[name] == more[name] for name in media)


def test_clips_are_written_as_video_and_dicom_with_spacing(tmp_path):
    manifest = generate(
        tmp_path / "set", kind="breast", patients=2, images_per_patient=1, size=64, formats=("mp4", "dicom")
    )
    assert manifest.column("kind") == ["video", "dicom"]
    for row in manifest.rows:
        info = probe(tmp_path / "set" / row["path"])
        assert info.frames == row["frames"] == 16
        assert info.fps == pytest.approx(25)
    assert info.spacing.row_mm == pytest.approx(row["spacing_row_mm"], rel=1e-4)


def test_clips_of_other_scenes_are_calibrated_dicom_with_frame_times(tmp_path):
    manifest = generate(
        tmp_path / "set", kind="cava", patients=1, images_per_patient=1, size=64, formats=("dicom",)
    )
    (row,) = manifest.rows
    info = probe(tmp_path / "set" / row["path"])
    assert info.frames == row["frames"] > 20
    assert row["frames"] / info.fps >= 3  # a whole breath, of at most 20 a minute
    assert info.spacing.col_mm == pytest.approx(row["spacing_col_mm"], rel=1e-4)
    assert row["cava_mask_path"]


def test_a_head_is_a_calibrated_multi_frame_dicom_from_which_its_truth_is_measured(tmp_path):
    manifest = generate(
        tmp_path / "set", kind="head", patients=1, images_per_patient=1, size=96, formats=("dicom",)
    )
    (row,) = manifest.rows
    header = pydicom.dcmread(tmp_path / "set" / row["path"])
    (region,) = header.SequenceOfUltrasoundRegions
    assert header.NumberOfFrames == row["frames"] == 16
    assert region.PhysicalUnitsXDirection == region.PhysicalUnitsYDirection == 3  # cm
    frames = read_frames(tmp_path / "set" / row["path"])
    assert frames.shape[:3] == (16, 96, 96)
    assert all((one != frames[0]).any() for one in frames[1:])
    spacing = probe(tmp_path / "set" / row["path"]).spacing
    assert spacing.row_mm == pytest.approx(row["spacing_row_mm"], rel=1e-6)
    assert spacing.col_mm == pytest.approx(row["spacing_col_mm"], rel=1e-6)
    assert spacing.row_mm == pytest.approx(10 * region.PhysicalDeltaY)
    found = measure(MEASURED["HC"], np.asarray(row["keypoints_hc"]).reshape(-1, 2), spacing)
    assert found["hc_mm"].value == pytest.approx(row["hc_mm"], rel=0.02)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "cardiac"}, "no kind 'cardiac'"),
        ({"patients": 0}, "0 patients"),
        ({"size": 8}, "8 px"),
        ({"formats": ("gif",)}, "gif"),
        ({"formats": ("mp4",), "size": 65}, "odd size"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, changes, told):
    arguments = {"kind": "head", "patients": 1} | changes
    with pytest.raises(InsonateError, match=told):
        generate(tmp_path / "set", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InsonateError, match="not empty"):
        generate(tmp_path, kind="lesion", patients=1, images_per_patient=1, size=64)
    assert [p.name for p in tmp_path.iterdir()] == ["note"]
