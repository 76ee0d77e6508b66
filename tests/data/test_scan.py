"""Scan: what is refused before the work, and what is told after it."""

from __future__ import annotations

import errno
import os
import sys

import pytest
from PIL import Image

from insonate.cli import main
from insonate.data import media
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
    monkeypatch.setattr(media, "probe", lambda path: pytest.fail("scanned first"))
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
