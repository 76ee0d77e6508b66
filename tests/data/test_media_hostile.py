"""Hostile media: read or refused in one line, within 20 s and 2 GB, with nothing written anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = {"media": 640, "dicom": 360}


@pytest.mark.parametrize("kind", CASES)
def test_hostile_files_are_read_or_refused(shared_data: Path, tools: Path, tmp_path: Path, kind: str) -> None:
    program = Path(__file__).with_name("hostile_media.py")
    options = ["--kinds", kind, "--count", str(CASES[kind])]
    done = subprocess.run(
        [sys.executable, program, tools, shared_data, tmp_path, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    assert done.returncode == 0
    assert sum(result["met"].values()) >= CASES[kind]
    assert set(result["met"]) == {"ok", "error"}
