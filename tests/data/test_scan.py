"""Scan: what is refused before the work, and what is told after it."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time

import pytest
from PIL import Image

from insonate.cli import main
from insonate.data import pool
from insonate.data import scan as scan_module
from insonate.data.limits import limited
from insonate.data.manifest import Manifest
from insonate.data.scan import scan
from insonate.errors import ManifestError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "still.png")
    return folder


@pytest.mark.parametrize(
    ("out", "word"), [("archive/found.txt", r"\.parquet or \.csv"), ("elsewhere/found.csv", "does not lie")]
)
def test_a_place_that_will_not_do_is_refused_before_the_scan(folder, monkeypatch, out, word):
    monkeypatch.setattr(pool, "run", lambda *a, **k: pytest.fail("scanned first"))
    with pytest.raises(ManifestError, match=word):
        scan(folder, folder.parent / out)


@pytest.mark.parametrize("name", ["clip.wmv", "clip.mpeg", "slice.dcm"])
def test_a_file_that_is_named_as_media_and_is_none_is_told(folder, name):
    (folder / name).write_bytes(b"no medium")
    (folder / "notes.txt").write_bytes(b"no medium")
    result = scan(folder)
    assert [unread.path for unread in result.errors] == [name]
    assert result.manifest.column("path") == ["still.png"]


def test_a_folder_that_cannot_be_opened_is_told(folder, monkeypatch):
    (folder / "closed").mkdir()
    open_folder = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open_folder(path)

    monkeypatch.setattr(os, "scandir", refusing)
    result = scan(folder)
    assert [unread.path for unread in result.errors] == ["closed"]
    assert len(result.manifest) == 1


def test_files_that_name_no_patient_are_counted_for_people(folder, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["insonate", "data", "scan", str(folder), "--out", str(folder / "m.csv")]
    )
    with pytest.raises(SystemExit):
        main()
    assert "1 files name no patient" in capsys.readouterr().err


def deadly(directory, decode, bounds, name):
    """What the scan's worker does, but for files that take it down."""
    if name == "deadly.png":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "endless.png":
        time.sleep(60)
    return LOOK(directory, decode, bounds, name)


LOOK = scan_module._look


def test_a_file_that_kills_or_holds_its_reader_is_told_and_the_scan_goes_on(folder, monkeypatch):
    for name in ("deadly.png", "endless.png", *(f"{i}.png" for i in range(6))):
        (folder / name).write_bytes((folder / "still.png").read_bytes())
    monkeypatch.setattr(scan_module, "_look", deadly)
    result = scan(folder, workers=2, seconds=1.0)
    assert [unread.path for unread in result.errors] == ["deadly.png", "endless.png"]
    assert "memory ran out" in result.errors[0].reason
    assert "longer than 1 s" in result.errors[1].reason
    assert result.manifest.column("path") == [*(f"{i}.png" for i in range(6)), "still.png"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_second_scan_reads_what_is_new_or_changed_and_keeps_what_people_added(folder, monkeypatch, ending):
    out = folder.parent / f"m.{ending}"  # above the folder: paths start with its name
    for i in range(4):
        Image.new("L", (8, 8)).save(folder / f"{i}.png")
    rows = scan(folder, out).manifest.rows
    labelled = [
        {
            **row,
            "path": f"archive/{row['path']}",
            "patient_id": "anna",
            "split": "train",
            "view": "A4C",
            "label": "a",
        }
        for row in rows
    ]
    Manifest.from_rows(labelled, folder.parent).write(out)
    Image.new("L", (16, 8)).save(folder / "1.png")
    (folder / "2.png").unlink()
    Image.new("L", (8, 8)).save(folder / "new.png")
    read = []
    run = pool.run
    monkeypatch.setattr(pool, "run", lambda f, items, *a, **k: run(f, read.extend(items) or read, *a, **k))
    result = scan(folder, out)
    assert read == ["1.png", "new.png"]
    assert result.kept == 3
    found = {row["path"]: row for row in Manifest.read(out).rows}
    assert list(found) == [f"archive/{name}.png" for name in ("0", "1", "3", "new", "still")]
    assert found["archive/1.png"]["width"] == 16
    for name in ("0", "1", "3", "still"):
        row = found[f"archive/{name}.png"]
        found_there = (row["patient_id"], row["split"], row["view"], row["label"])
        assert found_there == ("anna", "train", "A4C", "a")
    assert found["archive/new.png"]["label"] is None
    assert any("1 files have changed" in note for note in result.manifest.notes)
    assert any("'2.png'" in note for note in result.manifest.notes)
    read.clear()
    assert scan(folder, out).kept == 5
    assert read == []


def test_a_manifest_of_other_folders_or_none_at_all_is_not_replaced(folder):
    out = folder.parent / "m.csv"
    (folder.parent / "other").mkdir()
    Image.new("L", (8, 8)).save(folder.parent / "other/o.png")
    scan(folder.parent / "other", out)
    before = out.read_bytes()
    with pytest.raises(ManifestError, match=r"other/o\.png"):
        scan(folder, out)
    assert out.read_bytes() == before
    out.write_text("my notes\n")
    with pytest.raises(ManifestError, match="Mend it, remove it"):
        scan(folder, out)
    assert out.read_text() == "my notes\n"


def test_limits_hold_in_the_workers(folder):
    with limited(side_px=4):
        Image.new("L", (3, 3)).save(folder / "small.png")
        result = scan(folder)
    assert result.manifest.column("path") == ["small.png"]
    assert "side_px=4" in result.errors[0].reason


def test_rows_come_in_the_order_of_names_for_any_number_of_workers(folder):
    for i in range(30):
        Image.new("L", (8 + 200 * (i % 3), 8)).save(folder / f"{i:02}.png")
    one, three = (scan(folder, workers=n).manifest.rows for n in (1, 3))
    assert one == three
    assert [row["path"] for row in one] == sorted(row["path"] for row in one)


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_strict_exits_with_1_on_findings(folder, monkeypatch, capsys, strict, code):
    (folder / "bad.png").write_bytes(b"no picture")
    out = folder / "m.csv"
    monkeypatch.setattr(
        sys, "argv", ["insonate", "data", "scan", str(folder), "--out", str(out), "--json", *strict]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code or 0) == code
    shown = json.loads(capsys.readouterr().out)
    assert (shown["items"], shown["unchanged"], [e["path"] for e in shown["errors"]]) == (1, 0, ["bad.png"])
    assert out.is_file()
