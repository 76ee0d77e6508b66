"""Heart studies as written: media, masks, labels, the same bytes on any number of processes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from insonate.data.media import probe, read_frames
from insonate.errors import InsonateError
from insonate.phantom import VIEWS, generate
from insonate.phantom.heart import HeartOrder, render_heart, views_of_study

FAST = {"kind": "heart", "patients": 1, "views": ("A4C", "PSAX-MV"), "size": 64, "seed": 2}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    out = tmp_path_factory.mktemp("hearts") / "set"
    return out, generate(out, formats=("mp4", "dicom"), **FAST)


def test_clips_hold_a_beat_and_say_where_its_ends_are(clips):
    out, manifest = clips
    assert manifest.column("kind") == ["video", "dicom"]
    for row in manifest.rows:
        info = probe(out / row["path"])
        assert info.frames == row["frames"] >= row["fps"] * 60 / row["heart_rate_bpm"]
        assert info.fps == pytest.approx(row["fps"], rel=1e-3)
        assert row["frame"] != row["es_frame"]
        assert row["synthetic"]
        assert row["site"] == "phantom"
        assert row["ef"] == pytest.approx(100 * (1 - row["esv_ml"] / row["edv_ml"]))


def test_masks_are_of_the_labelled_frames_and_the_ventricle_shrinks(clips):
    out, manifest = clips
    row = manifest.rows[0]
    diastole, systole = (read_frames(out / row[f"{when}mask_path"])[0] for when in ("", "es_"))
    assert set(np.unique(diastole)) == {0, 1, 2, 3}
    assert (systole == 1).sum() < (diastole == 1).sum()
    chambers = read_frames(out / row["chambers_mask_path"])[0]
    assert {1, 2, 3, 4, 5} <= set(np.unique(chambers))


def test_keypoints_are_of_the_view_and_lie_in_the_picture(clips):
    _, manifest = clips
    four, short = manifest.rows
    assert short["keypoints_a4c"] is None
    for column in ("keypoints_a4c", "es_keypoints_a4c"):
        points = np.array(four[column]).reshape(16, 2)
        seen = points[np.isfinite(points).all(1)]
        assert len(seen) >= 12
        assert (seen >= 0).all()
        assert (seen < 64).all()
    assert np.array(four["view_poses"]).reshape(len(VIEWS), 4, 4)[0][3].tolist() == [0, 0, 0, 1]
    assert four["view_offset_mm"] < 15


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    for workers in (1, 2):
        generate(tmp_path / str(workers), workers=workers, **FAST)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


def test_the_same_order_gives_the_same_clip_and_another_patient_another():
    order = HeartOrder(seed=1, patient=0, item=0, view="PLAX", size=64, clip=False)
    first, again = render_heart(order), render_heart(order)
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.row["world_from_probe"] == again.row["world_from_probe"]
    other = render_heart(HeartOrder(seed=1, patient=1, item=0, view="PLAX", size=64, clip=False))
    assert other.frames.tobytes() != first.frames.tobytes()


def test_overlays_are_drawn_where_the_mask_says_and_can_be_left_out():
    orders = [
        HeartOrder(seed=1, patient=0, item=0, view="A4C", size=128, clip=False, overlays=share)
        for share in (1.0, 0.0)
    ]
    marked, plain = (render_heart(order) for order in orders)
    where = marked.masks["overlay_mask_path"] > 0
    assert marked.row["burned_in"]
    assert not plain.row["burned_in"]
    assert "overlay_mask_path" not in plain.masks
    assert np.array_equal(marked.frames[0][~where], plain.frames[0][~where])
    assert marked.frames[0][where].mean() > plain.frames[0][where].mean() + 50


def test_studies_lack_views_but_never_all():
    counts = [len(views_of_study(0, patient, VIEWS, 0.5)) for patient in range(200)]
    assert min(counts) >= 1
    assert 4 < np.mean(counts) < 6
    assert len({tuple(views_of_study(0, patient, VIEWS, 0.3)) for patient in range(20)}) > 10


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"views": ("A4D",)}, "no view 'A4D'"),
        ({"views": ()}, "no views"),
        ({"views": ("A4C", "A4C")}, "twice"),
        ({"ef_pct": 90}, "ejection fraction of 90 %"),
        ({"missing": 1.0}, "missing"),
        ({"size": 2048, "formats": ("mp4",)}, "clips of 2048 px"),
        ({"degraded": 1.5}, "1.5 of the items degraded"),
        ({"overlays": -1.0}, "with overlays"),
        ({"kind": "fetal"}, "not of kind 'fetal'"),
    ],
)
def test_bad_wishes_are_told_before_anything_is_written(tmp_path, changes, told):
    with pytest.raises(InsonateError, match=told):
        generate(tmp_path / "set", **(FAST | changes))
    assert not list(tmp_path.iterdir())
