"""De-identification of an archive: a kill, the splits of patients, and the pictures beside the echoes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import planted
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from test_deidentify import dicom

from insonate.cli import main
from insonate.data.deidentify import deidentify
from insonate.data.manifest import Manifest
from insonate.data.media import probe, read_frames, write_dicom

FILES = 10
MM, SECONDS, MV, CM_PER_S = 3, 4, 0, 7
PATIENTS = 6


def command(*words):
    return [sys.executable, "-m", "insonate", "data", *map(str, words)]


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["insonate", "data", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


def made(out):
    """Digests of all that a run made, but for the order of its journal and what outlives a kill."""
    private = {
        name: digest
        for name, digest in planted.digests(Path(f"{out}.private")).items()
        if name.endswith("png")
    }
    return planted.digests(out), private


def test_a_killed_run_goes_on_and_makes_what_an_unbroken_one_makes(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        Image.fromarray(planted.echoes(1, number)[0]).save(tmp_path / "in" / f"{number}.png")
    key = tmp_path / "key"
    words = command("deidentify", tmp_path / "in", tmp_path / "cut", "--key", key, "--workers", 1)
    journal = tmp_path / "cut.private" / "done.jsonl"
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = len(journal.read_text().splitlines())
    assert 0 < before < FILES
    assert not (tmp_path / "cut" / "audit.csv").exists()
    again = deidentify(tmp_path / "in", tmp_path / "cut", key=key, workers=1)
    whole = deidentify(tmp_path / "in", tmp_path / "whole", key=key, workers=1)
    assert (again.kept, whole.kept) == (before, 0)
    assert made(tmp_path / "cut") == made(tmp_path / "whole")
    assert {"audit.csv", "manifest.parquet"} < set(made(tmp_path / "cut")[0])
    assert "before_after_001.png" in made(tmp_path / "cut")[1]


def test_patients_are_split_alike_before_and_after(tmp_path, monkeypatch):
    """Each has its own number of frames, by which this test knows it again."""
    (tmp_path / "in").mkdir()
    for number in range(PATIENTS):
        for part in "ab" if number < 2 else "a":
            dicom(tmp_path / "in" / f"{number}{part}.dcm", frames=number + 1, PatientID=f"Q{number}")
    key, clean = tmp_path / "key", tmp_path / "clean"
    key.write_text("5c" * 32)
    run(monkeypatch, "deidentify", tmp_path / "in", clean, "--key", key, "--workers", 1)
    run(monkeypatch, "scan", tmp_path / "in", "-o", tmp_path / "in" / "m.csv", "--workers", 1)
    run(monkeypatch, "split", tmp_path / "in" / "m.csv", "--key", key)
    run(monkeypatch, "split", clean / "manifest.parquet")
    before, after = Manifest.read(tmp_path / "in" / "m.csv"), Manifest.read(clean / "manifest.parquet")
    splits = [{(row["frames"], row["split"]) for row in manifest.rows} for manifest in (before, after)]
    assert splits[0] == splits[1]
    assert len(splits[0]) == PATIENTS  # the two files of a patient are never parted
    assert len({split for _, split in splits[0]}) > 1


def test_a_key_that_is_not_there_is_refused(tmp_path, monkeypatch, capfd):
    manifest, none = tmp_path / "m.csv", tmp_path / "none"
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    manifest.write_text("path,patient_id\na.png,a\n")
    monkeypatch.setattr(sys, "argv", ["insonate", "data", "split", str(manifest), "--key", str(none)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "none: is not there" in capfd.readouterr().err
    assert not none.exists()


def region(kind, form, box, units):
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = form, kind, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[0], box[1]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2] - 1, box[3] - 1
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = 0.02, 0.03
    return item


BOXES = {"2d": (20, 30, 180, 150), "spectral": (20, 170, 300, 230), "ecg": (20, 240, 300, 280)}
M_MODE = (190, 30, 300, 150)


@pytest.fixture
def screen(tmp_path):
    """A frame of four pictures with a name above them and one between: its path, and its pixels."""
    rng = np.random.default_rng(0)
    pixels = np.zeros((300, 320), np.uint8)
    left, top, right, bottom = BOXES["2d"]
    pixels[top:bottom, left:right] = rng.integers(40, 125, (bottom - top, right - left))
    left, top, right, bottom = M_MODE
    pixels[top:bottom, left:right] = rng.integers(20, 100, (bottom - top, 1))
    left, top, right, bottom = BOXES["spectral"]
    wave = 20 + 15 * np.sin(np.arange(right - left) / 9)
    pixels[top:bottom, left:right] = 90 * (np.arange(bottom - top)[:, None] < wave)
    left, top, right, bottom = BOXES["ecg"]
    beat = (top + 20 - 15 * (np.arange(right - left) % 60 < 4)).astype(int)
    pixels[beat, np.arange(left, right)] = 180
    picture = Image.fromarray(pixels)
    for place in ((10, 6), (60, 153), (30, 284)):
        ImageDraw.Draw(picture).text(place, "SMITH JOHN 12.03.1961", 255, font_size=13)
    pixels = np.asarray(picture)
    path = tmp_path / "in" / "a.dcm"
    path.parent.mkdir()
    write_dicom(
        path, pixels[None], spacing=None, frame_time_ms=None, patient_id="1", study_id="1", series_id="1",
        vendor="", item_id="1",
    )  # fmt: skip
    header = pydicom.dcmread(path)
    header.SequenceOfUltrasoundRegions = [
        region(1, 1, BOXES["2d"], (MM, MM)), region(1, 2, M_MODE, (SECONDS, MM)),
        region(3, 3, BOXES["spectral"], (SECONDS, CM_PER_S)), region(10, 4, BOXES["ecg"], (SECONDS, MV)),
    ]  # fmt: skip
    header.save_as(path)
    return path, pixels


def test_doppler_m_mode_and_ecg_stay_and_names_beside_them_go(screen, tmp_path):
    path, before = screen
    result = deidentify(path.parent, tmp_path / "out", workers=1)
    clean = tmp_path / "out" / result.manifest.rows[0]["path"]
    after = read_frames(clean)[0]
    beside = np.ones(after.shape, bool)
    for left, top, right, bottom in (*BOXES.values(), M_MODE):
        beside[top:bottom, left:right] = False
        inner = (slice(top + 3, bottom - 3), slice(left + 3, right - 3))
        assert np.array_equal(after[inner], before[inner])
    assert before[beside].max() == 255  # the names
    assert not after[beside].any()
    assert [r.name for r in probe(clean).regions] == ["2d", "m-mode", "spectral", "ecg"]
    assert probe(clean).regions == probe(path).regions
