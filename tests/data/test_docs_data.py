"""The worked example of docs/data.md: its commands do what the page says, on the files that it names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from insonate.cli import main
from insonate.data.manifest import Manifest
from insonate.data.shards import open_row

PROGRESS = re.compile(r": \d+ of \d+, \S+ \S+ left$")
"""of what takes long on a busy machine"""
PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def worked_example():
    """(command, lines that it prints) of the console under the heading."""
    _, after = PAGE.read_text(encoding="utf-8").split("## A worked example", 1)
    block = after.split("```console\n", 1)[1].split("```", 1)[0]
    told = []
    for line in block.splitlines():
        if line.startswith("$ "):
            told.append((line[2:], []))
        else:
            told[-1][1].append(line)
    return told


@pytest.fixture
def ran(shared_data, tmp_path, monkeypatch, capsys):
    """A folder in which the commands have run, each having printed what the page says."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "data").symlink_to(shared_data)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for command, lines in worked_example():
        words = shlex.split(command)
        if words[0] != "insonate":
            subprocess.run(["bash", "-c", command.replace("python ", f"{sys.executable} ", 1)], check=True)
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        told = capsys.readouterr()
        assert [line for line in (told.err + told.out).splitlines() if not PROGRESS.search(line)] == lines
    return folder


def test_the_worked_example_runs_and_prints_what_the_page_says(ran):
    shards = Manifest.read(ran / "shards" / "manifest.parquet")
    assert len(shards) == 3
    for row in shards.rows:
        with open_row(shards, row) as item:
            assert item.read([0])[0].mean() > 5
    assert (ran / "before_after.jpg").stat().st_size > 10_000
    assert (PAGE.parent / "data_before_after.jpg").stat().st_size > 10_000
