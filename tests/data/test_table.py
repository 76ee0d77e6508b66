"""Manifest files: what is written reads back as the same rows, and no spreadsheet takes it for a formula."""

from __future__ import annotations

import csv
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insonate.data.manifest import Manifest
from insonate.data.table import FORMULA
from insonate.errors import ManifestError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    [
        "=1+1",
        "'=x",
        "''",
        "-",
        "+a",
        "@b",
        '"',
        "a,b",
        "a\nb",
        "\ta",
        "\rx",
        "1e-3",
        "true",
        "nan",
        "007",
        "[1]",
    ]
)
NAMES = (TEXTS.filter(bool) | st.sampled_from(["=cmd|'/c calc'!A1", "'=name", "@x", "-a"])).filter(
    lambda name: (
        not name.endswith("_path") and name not in {"frame", "frames", "fps", "height", "width", "split"}
    )
)
LABELS = (
    st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2)
    | st.lists(st.none() | st.booleans(), min_size=2, max_size=2)
    | st.lists(st.integers(-(10**17), 10**17), min_size=2, max_size=2)
    | st.lists(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1), min_size=2, max_size=2)
    | st.lists(TEXTS.filter(lambda text: not text.lstrip().startswith("[")), min_size=2, max_size=2)
)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@settings(max_examples=60, deadline=None)
@given(
    labels=st.dictionaries(NAMES, LABELS, max_size=3),
    view=TEXTS,
    patient=TEXTS.filter(lambda text: text.strip()),
)
def test_what_is_written_reads_back_the_same(ending, labels, view, patient):
    rows = [
        {"path": f"{i}.png", "patient_id": patient, "view": view}
        | {name: two[i] for name, two in labels.items() if name not in {"path", "patient_id", "view", "kind"}}
        for i in range(2)
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            manifest = Manifest.from_rows(rows, folder, check_files=False)
        except ManifestError:  # what is refused is not written
            return
        path = manifest.write(Path(folder) / f"m.{ending}")
        back = Manifest.read(path, check_files=False)
        np.testing.assert_equal(back.rows, manifest.rows)
        if ending == "csv":
            with path.open(encoding="utf-8", newline="") as file:
                cells = [cell for line in csv.reader(file) for cell in line]
            texts = [cell for cell in cells if cell.startswith(FORMULA)]
            assert all(math.isfinite(float(text)) for text in texts)


def test_a_column_that_is_called_like_a_formula_keeps_its_name(tmp_path):
    manifest = Manifest.from_rows(
        [{"path": "a.png", "patient_id": "p", "=SUM(A1)": "x", "'=b": 1}], tmp_path, check_files=False
    )
    path = manifest.write(tmp_path / "m.csv")
    assert path.read_text().splitlines()[0].endswith(",'=SUM(A1),''=b")
    assert Manifest.read(path, check_files=False).rows == manifest.rows
