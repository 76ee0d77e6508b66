"""Hostile media: read or refused in one line, within 20 s and 2 GB, with nothing written anywhere."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insonate.data.media import probe
from insonate.data.media.coded import coded_size
from insonate.data.media.sniff import reader_of
from insonate.errors import MediaError

MAGICS = (
    *(b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\x00\x11", b"\xff\x4f\xff\x51", b"\xff\x0a"),
    *(
        b"\x00\x00\x00\x0cJXL \r\n\x87\n\x00\x00\x00\x20jxlc",
        b"\x1f\x8b\x08",
        b"\x08\x00\x05\x00",
        b"\x5c\x01\0\0",
    ),
)
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


@given(st.binary(max_size=200), st.sampled_from(MAGICS))
def test_any_bytes_are_sniffed_and_sized_without_an_error(data: bytes, magic: bytes) -> None:
    reader_of(magic + data)
    size = coded_size(magic + data)
    assert size is None or all(isinstance(side, int) for side in size)


@given(
    dim=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=8, max_size=8),
    code=st.integers(-(2**15), 2**15 - 1),
    numbers=st.lists(st.floats(width=32), min_size=11, max_size=11),
    units=st.integers(0, 255),
)
def test_any_nifti_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, dim: list[int], code: int, numbers: list[float], units: int
) -> None:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, *dim)
    struct.pack_into("<h", head, 70, code)
    struct.pack_into("<8f", head, 76, *numbers[:8])
    struct.pack_into("<3f", head, 108, *numbers[8:])
    head[123], head[344:348] = units, b"n+1\0"
    path = tmp_path_factory.getbasetemp() / "any.nii"
    path.write_bytes(bytes(head) + bytes(64))
    try:
        info = probe(path)
    except MediaError:
        return
    assert info.spacing is None or 1e-4 <= min(info.spacing.row_mm, info.spacing.col_mm) <= 100
