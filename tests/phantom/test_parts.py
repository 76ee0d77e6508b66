"""Sets that are made part by part: an interruption costs a part, and the same wish goes on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from insonate.data import shards
from insonate.data.media import probe
from insonate.errors import InsonateError
from insonate.phantom import generate, parts

WISH = {"kind": "breast", "patients": 5, "images_per_patient": 1, "size": 64}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "whole"
    generate(out, **WISH)
    return digests(out)


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A set whose making was interrupted within the third item, its medium written."""
    out, written, calls = tmp_path / "set", parts.write_item, []

    def interrupted(*given):
        calls.append(given)
        row = written(*given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return row

    with monkeypatch.context() as patch:
        patch.setattr(parts, "write_item", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(out, **WISH)
    return out


def test_an_interrupted_set_goes_on_and_ends_as_if_nothing_had_been(stopped, whole, monkeypatch):
    assert len(list((stopped / "parts").iterdir())) == 2
    assert not (stopped / "manifest.parquet").exists()
    made, finished = [], parts.finished
    monkeypatch.setattr(parts, "finished", lambda job: made.append(job) or finished(job))
    manifest = generate(stopped, **WISH)
    assert [job.order.patient for job in made] == [2, 3, 4]
    assert len(manifest) == 5
    assert digests(stopped) == whole


def test_a_killed_command_goes_on_and_its_shards_hold_all_frames(tmp_path):
    wish = WISH | {"patients": 24}  # so many that the kill comes before the last
    out, words = tmp_path / "set", ["-m", "insonate", "data", "phantom"]
    for name, value in wish.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    command = [sys.executable, *words, str(out), "--workers", "1"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not list((out / "parts").glob("*.json")) and run.poll() is None:
            time.sleep(0.005)
    finally:
        run.kill()
        run.wait()
    assert not (out / "manifest.parquet").exists()
    manifest = generate(out, **wish)
    generate(tmp_path / "whole", **wish)
    assert digests(out) == digests(tmp_path / "whole")
    packed = shards.shard(manifest, tmp_path / "shards", workers=1)
    assert len(packed.manifest) == len(manifest)


def test_a_finished_set_is_not_made_again(stopped, monkeypatch):
    generate(stopped, **WISH)
    monkeypatch.setattr(parts, "finished", None)
    assert len(generate(stopped, **WISH)) == 5


def test_processes_go_on_with_what_one_began(stopped, whole):
    generate(stopped, workers=2, **WISH)
    assert digests(stopped) == whole


def test_another_wish_is_refused_in_a_begun_folder(stopped):
    before = digests(stopped)
    with pytest.raises(InsonateError, match="another wish \\(seed: 0, now 1\\)"):
        generate(stopped, seed=1, **WISH)
    assert digests(stopped) == before


def test_a_damaged_wish_is_told(stopped):
    (stopped / "phantom.json").write_text("{")
    with pytest.raises(InsonateError, match="cannot be read"):
        generate(stopped, **WISH)


@pytest.fixture(scope="module")
def degraded(tmp_path_factory):
    """Clips with lost contact and dropped frames, as video and as DICOM."""
    folder = tmp_path_factory.mktemp("degraded")
    wish = {"kind": "heart", "views": ("A4C",), "patients": 3, "size": 64, "degraded": 1.0, "seed": 2}
    return {
        name: (folder / name, generate(folder / name, formats=(name,), **wish)) for name in ("mp4", "dicom")
    }


def test_dicom_leaves_dropped_frames_out_and_tells_the_time_of_each(degraded):
    (_, video), (folder, dicom) = degraded["mp4"], degraded["dicom"]
    assert any(row["frame_times_s"] for row in dicom.rows)
    for still, row in zip(video.rows, dicom.rows, strict=True):
        lost = row["dropped_frames"] or []
        info = probe(folder / row["path"])
        assert info.frames == row["frames"] == still["frames"] - len(lost)
        assert len(row["probe_poses"]) == 16 * row["frames"]
        header = pydicom.dcmread(folder / row["path"], stop_before_pixels=True)
        if row["frame_times_s"] is None:
            assert header.FrameTime == pytest.approx(1000 / row["fps"])
            continue
        steps_ms = [float(step) for step in header.FrameTimeVector]
        assert "FrameTime" not in header
        assert steps_ms[0] == 0
        assert max(steps_ms) > 1500 / row["fps"]
        assert sum(steps_ms) == pytest.approx(1000 * row["frame_times_s"][-1])
        time_s = row["frame_times_s"][row["frame"]]
        assert time_s * still["fps"] == pytest.approx(still["frame"])


def test_dicom_calibrates_its_tissue_and_its_ecg(degraded):
    folder, dicom = degraded["dicom"]
    traced = [row for row in dicom.rows if row["ecg_box_px"]]
    assert traced
    for row in traced:
        tissue, ecg = pydicom.dcmread(folder / row["path"]).SequenceOfUltrasoundRegions
        assert (tissue.PhysicalUnitsXDirection, tissue.RegionDataType) == (3, 1)
        assert tissue.PhysicalDeltaX == pytest.approx(row["spacing_col_mm"] / 10)
        assert tissue.ReferencePixelY0 == round(row["probe_xy_px"][1])
        assert (ecg.PhysicalUnitsXDirection, ecg.RegionDataType, ecg.RegionSpatialFormat) == (4, 10, 4)
        assert ecg.PhysicalDeltaX * row["width"] == pytest.approx(2 * 60 / row["heart_rate_bpm"])
        assert ecg.RegionLocationMinY0 > row["height"] / 2
