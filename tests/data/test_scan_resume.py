"""A scan that is cut off leaves what it has read, and the next one goes on from there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from insonate.data import pool
from insonate.data import scan as scan_module
from insonate.data.limits import limited
from insonate.data.manifest import Manifest
from insonate.data.scan import ScanResult, scan
from insonate.errors import RunError
from insonate.files import lock

LOOK = scan_module._look
FILES = 40
SLOWLY = """
import sys, test_scan_resume
from insonate.data import scan
scan._look = test_scan_resume.slowly
scan.scan(sys.argv[1], sys.argv[2], workers=1)
"""


def slowly(directory, decode, bounds, name):
    """What the scan's worker does, in its own time."""
    time.sleep(0.03)
    return LOOK(directory, decode, bounds, name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for i in range(FILES):
        Image.new("L", (8 + i, 8)).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def cut_off(folder: Path) -> Path:
    """The manifest that a scan did not get to, beside its journal."""
    out = folder.parent / "m.parquet"
    with pytest.raises(KeyboardInterrupt):
        scan(folder, out, workers=1, track=interrupted)
    assert not out.exists()
    return out


def interrupted(work, *, total, what):
    """As a progress bar at which somebody presses Ctrl-C."""
    for number, pair in enumerate(work):
        if number == total // 2:
            raise KeyboardInterrupt
        yield pair


def journal_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    run = pool.run
    monkeypatch.setattr(pool, "run", lambda f, items, *a, **k: run(f, names.extend(items) or names, *a, **k))
    return names


def facts(result: ScanResult) -> list[dict[str, object]]:
    """Rows with paths from the archive on."""
    return [row | {"path": Path(row["path"]).name, "patient_id": ""} for row in result.manifest.rows]


def test_a_killed_scan_goes_on_where_it_was(folder: Path, read: list[str]) -> None:
    out = folder.parent / "m.parquet"
    process = subprocess.Popen([sys.executable, "-c", SLOWLY, folder, out], cwd=Path(__file__).parent)
    end = time.monotonic() + 60
    while time.monotonic() < end and not (journal_of(out).exists() and journal_of(out).stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    result = scan(folder, out)
    assert 0 < result.kept < FILES
    assert len(read) == FILES - result.kept
    assert facts(result) == facts(scan(folder))
    assert Manifest.read(out).column("width") == list(range(8, 8 + FILES))
    assert not journal_of(out).exists()
    read.clear()
    assert scan(folder, out).kept == FILES
    assert read == []


def test_a_file_that_has_changed_since_is_read_again(folder: Path, cut_off: Path, read: list[str]) -> None:
    Image.new("L", (300, 8)).save(folder / "000.png")
    (folder / "001.png").unlink()
    result = scan(folder, cut_off)
    assert "000.png" in read
    assert result.manifest.column("width")[:2] == [300, 10]


def test_a_scan_of_another_kind_takes_nothing_over(folder: Path, cut_off: Path, read: list[str]) -> None:
    with limited(side_px=20):
        assert len(scan(folder, cut_off).errors) == FILES - 13
    assert len(read) == FILES


def test_damaged_lines_are_passed_over(folder: Path, cut_off: Path) -> None:
    journal = journal_of(cut_off)
    first = journal.read_bytes().splitlines()[1]
    assert b'"width": 8,' in first
    journal.write_bytes(first.replace(b'"width": 8,', b'"width": 9,') + b"\n\xff\n\n" + first[:50])
    result = scan(folder, cut_off)
    assert result.kept == 0
    assert facts(result) == facts(scan(folder))


def test_labels_of_the_manifest_survive_a_kill(folder: Path, read: list[str]) -> None:
    out = folder.parent / "m.parquet"
    rows = scan(folder, out).manifest.rows
    Manifest.from_rows(
        [{**row, "path": f"archive/{row['path']}", "label": "a", "file_bytes": 0} for row in rows], out.parent
    ).write(out)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, out, track=interrupted)
    assert Manifest.read(out).column("file_bytes") == [0] * FILES
    read.clear()
    result = scan(folder, out)
    assert len(read) < FILES
    assert result.manifest.column("label") == ["a"] * FILES
    assert any(f"{FILES} files have changed" in note for note in result.manifest.notes)


def test_one_scan_at_a_time_into_a_manifest(folder: Path) -> None:
    out = folder.parent / "m.parquet"
    with lock(journal_of(out)), pytest.raises(RunError, match="another process"):
        scan(folder, out)
