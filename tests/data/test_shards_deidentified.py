"""Shards without identity: the same as de-identified first and packed then, and nothing planted in them."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from test_deidentify import TOKEN, dicom, echoes, left_no_trace

from insonate.cli import main
from insonate.data import media, shards
from insonate.data.deidentify import deidentify
from insonate.data.manifest import Manifest
from insonate.data.scan import scan
from insonate.errors import ManifestError


@pytest.fixture
def archive(tmp_path):
    """Two DICOM clips of one patient, a video of odd height, a still; names that tell who it is."""
    folder = tmp_path / "in"
    (folder / TOKEN).mkdir(parents=True)
    for number in range(2):
        dicom(folder / TOKEN / f"{TOKEN}{number}.dcm")
    media.write_video(folder / f"{TOKEN}.mp4", echoes(6, seed=3), 25.0)
    media.write_png(folder / f"{TOKEN}.png", echoes(seed=4)[0])
    return folder


def tars(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


@pytest.mark.parametrize("crop", ["none", "sector"])
def test_shards_are_those_of_the_deidentified_archive(archive, tmp_path, crop):
    options = shards.PackOptions(crop=crop, colour=True)
    clean = deidentify(archive, tmp_path / "clean")
    first = shards.shard(clean.manifest, tmp_path / "two", options, workers=1)
    asked = shards.Deidentify(key=tmp_path / "clean.private" / "key")
    scanned = scan(archive, workers=1).manifest
    second = shards.shard(scanned, tmp_path / "one", options, deidentify=asked, workers=1)
    assert second.manifest.rows == first.manifest.rows
    assert tars(tmp_path / "one") == tars(tmp_path / "two")


def test_what_was_planted_is_in_no_byte_name_or_line(archive, tmp_path, monkeypatch, capfd):
    (archive / f"broken_{TOKEN}.dcm").write_bytes((archive / TOKEN / f"{TOKEN}0.dcm").read_bytes()[:3000])
    rows = [
        {"path": str(path.relative_to(archive)), "patient_id": TOKEN, "study_id": TOKEN, "view": TOKEN,
         TOKEN: 1, "comment": TOKEN, "ef": 60.5, "vendor": TOKEN, "split": "val"}
        for path in sorted(archive.rglob("*.*"))
    ]  # fmt: skip
    Manifest.from_rows(rows, archive).write(archive / "manifest.parquet")
    command = ["insonate", "data", "shard", str(archive / "manifest.parquet"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--deidentify", "--keep", "ef", "--crop", "sector"])
    assert "was left out: see errors.jsonl" in left_no_trace(tmp_path / "out", capfd)
    assert (tmp_path / "out.private" / "before_after_001.png").is_file()
    made = Manifest.read(tmp_path / "out" / "manifest.parquet")
    assert set(made.column("ef")) == {60.5}
    assert set(made.column("split")) == {"val"}
    assert len(set(made.column("patient_id"))) == 1
    assert len((tmp_path / "out" / "audit.csv").read_text().splitlines()) == 1 + len(made)


def test_labels_follow_their_pixels(archive, tmp_path):
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:90] = 1
    media.write_png(archive / "mask.png", mask)
    row = {
        "path": f"{TOKEN}.mp4", "patient_id": "a", "frame": 2, "mask_path": "mask.png",
        "keypoints": [40.0, 30.0, math.nan, math.nan],
    }  # fmt: skip
    asked = shards.Deidentify(keep=("mask_path", "keypoints"))
    options = shards.PackOptions(size_px=64)
    manifest = Manifest.from_rows([row], archive)
    made = shards.shard(manifest, tmp_path / "out", options, deidentify=asked, workers=1)
    item = made.manifest.rows[0]
    assert item["keypoints"][:2] == [19.75, 14.75]
    with shards.open_row(made.manifest, item, "mask_path") as file:
        assert file.read([0]).sum() == pytest.approx(15 * 25, abs=5)


def test_a_second_run_packs_nothing_and_another_key_everything(archive, tmp_path):
    scanned = scan(archive, workers=1).manifest
    for key, kept in (("one", 0), ("one", 2), ("two", 0)):
        asked = shards.Deidentify(key=tmp_path / key)
        result = shards.shard(scanned, tmp_path / "out", deidentify=asked, items=2, workers=1)
        assert (result.shards, result.kept) == (2, kept)
    (tmp_path / "out.private" / "shard-00001.jsonl").unlink()
    assert shards.shard(scanned, tmp_path / "out", deidentify=asked, items=2, workers=1).kept == 1


@pytest.mark.parametrize("column", ["path", "patient_id", "vendor", "nonsense"])
def test_what_may_not_stay_is_refused(archive, tmp_path, column):
    with pytest.raises(ManifestError, match=column):
        shards.shard(
            scan(archive, workers=1).manifest, tmp_path / "out", deidentify=shards.Deidentify(keep=[column])
        )


def test_options_of_deidentification_alone_are_refused(archive, tmp_path, monkeypatch, capsys):
    command = ["insonate", "data", "shard", str(archive / "m.csv"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--keep", "ef"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--deidentify" in capsys.readouterr().err


def test_an_error_of_the_manifest_names_nobody(archive, tmp_path, monkeypatch, capsys):
    rows = [{"path": f"{TOKEN}.png", "patient_id": TOKEN, "split": split} for split in ("train", "val")]
    text = "path,patient_id,split\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    (archive / "m.csv").write_text(text)
    command = ["insonate", "data", "shard", str(archive / "m.csv"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--deidentify"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert TOKEN not in told
    assert "may name people" in told
