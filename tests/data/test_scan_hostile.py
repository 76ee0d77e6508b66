"""A scan of hostile folders, by the command line too: what is readable is listed, the rest is told."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from insonate.data import scan as scan_module
from insonate.data.manifest import Manifest
from insonate.data.scan import MEMORY_BYTES, scan

LOOK = scan_module._look
STEMS = (
    "a b",
    "élève",
    "e\u0301le\u0300ve",
    "超声",
    "שלום",
    "😀",
    "=1+1",
    "-rf",
    "%s{0}[red]",
    "a;b,c",
    "a'b",
    "n" * 240,
)
"""of files that are like any other"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "archive"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "still.png")
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)  # pytest's own removal recurses once a level


def picture_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path, "PNG")
    return path


def in_deep_folders(folder: Path, levels: int, name: str) -> Iterator[Path]:
    """Folders within each other, made and entered one by one: their path is longer than a call may name."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=place)
        below = os.open(name, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    try:
        yield Path(f"/proc/self/fd/{place}")
    finally:
        os.close(place)


def test_any_nesting_is_scanned(folder: Path) -> None:
    for place in in_deep_folders(folder, 500, "folder"):
        Image.new("L", (8, 8)).save(place / "deep.png")
    depth = len(inspect.stack(0))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 200)  # less than a call a level
    try:
        result = scan(folder, folder / "m.parquet", workers=1)
    finally:
        sys.setrecursionlimit(limit)
    assert result.errors == []
    assert result.manifest.column("path") == ["still.png", "folder/" * 500 + "deep.png"]
    assert len(Manifest.read(folder / "m.parquet")) == 2


def test_a_place_deeper_than_any_path_is_told(folder: Path) -> None:
    for place in in_deep_folders(folder, 25, "n" * 200):
        Image.new("L", (8, 8)).save(place / "deep.png")
    result = scan(folder, workers=1)
    assert result.manifest.column("path") == ["still.png"]
    (unread,) = result.errors
    assert "cannot be opened (File name too long)" in unread.reason


def test_links_and_pipes_end_no_scan(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "one.png").symlink_to("two.png")
    (folder / "two.png").symlink_to("one.png")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "out.png").symlink_to(picture_at(folder.parent / "other.png"))
    (folder / "twin.png").symlink_to("still.png")
    os.mkfifo(folder / "pipe.png")
    result = scan(folder, workers=1, seconds=5)
    assert result.manifest.column("path") == ["still.png", "twin.png"]
    told = {unread.path: unread.reason for unread in result.errors}
    assert "not followed" in told.pop("sub/up")
    assert "outside" in told.pop("out.png")
    assert "outside" in told.pop("zero.png")
    assert "no regular file" in told.pop("pipe.png")
    assert set(told) == {"self.png", "one.png", "two.png", "gone.png"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_odd_names_come_back_from_the_manifest(folder: Path, ending: str) -> None:
    names = sorted(f"{stem}.png" for stem in STEMS)
    for name in names:
        picture_at(folder / name)
    (folder / "still.png").unlink()
    out = folder / f"m.{ending}"
    assert scan(folder, out, workers=1).errors == []
    assert Manifest.read(out).column("path") == names
    assert scan(folder, out, workers=1).kept == len(names)


def test_a_name_that_is_no_text_is_told(folder: Path) -> None:
    raw = os.fsencode(folder) + b"/\xff\xfe.png"
    with open(raw, "wb") as file:  # noqa: PTH123  a path of bytes
        file.write((folder / "still.png").read_bytes())
    (unread,) = scan(folder, workers=1).errors
    assert "not UTF-8" in unread.reason


def greedy(directory, decode, bounds, name):
    """What the scan's worker does, but for a file that asks for more memory than a worker may have."""
    if name == "greedy.png":
        bytearray(MEMORY_BYTES + 2**28)
    return LOOK(directory, decode, bounds, name)


def test_a_file_that_asks_for_two_gigabytes_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_at(folder / "greedy.png")
    monkeypatch.setattr(scan_module, "_look", greedy)
    result = scan(folder, workers=1)
    assert MEMORY_BYTES == 2 * 2**30
    assert result.manifest.column("path") == ["still.png"]
    (unread,) = result.errors
    assert (unread.path, "more memory" in unread.reason) == ("greedy.png", True)


def eating(directory, decode, bounds, name):
    """The same, a little at a time, and each part is used."""
    if name == "eating.png":
        kept = []
        while True:
            kept.append(b"x" * 2**23)
    return LOOK(directory, decode, bounds, name)


def test_a_reader_that_eats_memory_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_at(folder / "eating.png")
    monkeypatch.setattr(scan_module, "_look", eating)
    (unread,) = scan(folder, workers=1, memory_bytes=2**28).errors
    assert (unread.path, "more memory" in unread.reason) == ("eating.png", True)


def command(folder: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable,
        "-m",
        "insonate",
        "data",
        "scan",
        str(folder),
        "--out",
        str(out),
        "--json",
        *more,
    ]
    return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all that lies below."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            status = os.lstat(os.path.join(place, name))  # noqa: PTH118  names that are no text
            found[os.path.join(place, name)] = (status.st_size, status.st_mtime_ns)  # noqa: PTH118
    return found


@pytest.mark.slow
def test_a_folder_of_hostile_files_is_scanned_from_the_command_line(
    shared_data: Path, tools: Path, tmp_path: Path
) -> None:
    hostile = tmp_path / "here" / "hostile"
    making = [sys.executable, tools / "hostile.py", shared_data, hostile, "--count", "1400", "--small"]
    subprocess.run([*making, "--kinds", "media,dicom,manifest"], check=True, stdout=subprocess.DEVNULL)
    before = listing(hostile.parent)
    done = command(hostile, tmp_path / "here" / "found.parquet", "--workers", "2")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert not any(word in done.stderr for word in ("fault of insonate", "ended the process", "longer than"))
    after = listing(hostile.parent)
    assert after.pop(str(tmp_path / "here" / "found.parquet"))
    assert after == before  # nothing beside the manifest was made or changed
    shown = json.loads(done.stdout)
    told = {error["path"]: error["reason"] for error in shown["errors"]}
    assert all(reason and "\n" not in reason for reason in told.values())
    listed = set(Manifest.read(tmp_path / "here" / "found.parquet").column("path"))
    assert len(listed) == shown["items"]
    check_index(hostile, {name.removeprefix("hostile/") for name in listed}, told)


PASSED_OVER = (".nrrd", ".xml", ".csv", ".parquet", ".json", ".txt")
"""no names of media: silent where they hold none"""
FOLDERS = {"special entry: directory", "special entry: parent", "special entry: deep"}


def check_index(hostile: Path, listed: set[str], told: dict[str, str]) -> None:
    """Each case of the catalogue was listed or told, as it expects."""
    with (hostile / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cases = [case for case in csv.DictReader(file) if case["kind"] != "manifest"]
    cases = [case for case in cases if case["done"] not in FOLDERS]
    for case in cases:
        name = case["file"]
        assert (name in listed) + (name in told) == 1 or name.endswith(PASSED_OVER), case
        if case["expected"] == "error":
            assert name not in listed, case
        if case["expected"] == "ok" and "UTF-8" not in case["done"]:
            assert name in listed, case
    assert len(listed) > 10


def test_a_folder_with_nothing_but_hostile_files_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    done = command(tmp_path / "in", tmp_path / "m.csv")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]  # behind the progress, on a slow machine
    assert "bad.png" in line
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "m.csv").exists()
