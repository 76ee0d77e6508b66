"""Lung clips in their published layouts: COVID-BLUES and POCUS (covid19_ultrasound)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from insonate.data.adapters.gather import files_below, gather, located, media_row, there
from insonate.data.adapters.tables import finite, need_columns, read_table
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError

CLIP = re.compile(r"patient_(?P<patient>\d+)_(?P<point>[LR][123])(_\d+)?", re.ASCII)
POCUS_ENDINGS = (".mp4", ".avi", ".mov", ".mpg", ".mpeg", ".gif", ".png", ".jpg", ".jpeg")
USELESS_IDS = {"", "nd", "n/a", "unknown", "not used"}


def covid_blues(root: Path, out: Path) -> Manifest:
    """COVID-BLUES: lung clips at six points of each patient, with severity, A- and B-lines and PCR test.

    Columns: `severity` (0 to 3), `a_lines`, `b_lines`, `covid` (PCR); the point (R1 … L3) is `view`, a
    patient's clips are one study. Split: by patient, seed 0.

    Args:
        root: holds severity.csv, clinical_variables.csv and lus_videos/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "severity.csv")
    path, clinical = root / "severity.csv", root / "clinical_variables.csv"
    table, patients = read_table(path), read_table(clinical)
    need_columns(table, ["video_file", "Severity Score", "A-lines", "B-lines"], path)
    need_columns(patients, ["patient_id", "cov_test"], clinical)
    tests = {
        p["patient_id"].strip(): finite(p["cov_test"], f"{clinical}, row {i}", "cov_test")
        for i, p in enumerate(patients, 1)
    }
    files = [f"lus_videos/{cell['video_file']}.mp4" for cell in table]
    found, notes = there(root, files, path)
    rows: list[Row] = []
    for i, (cell, name) in enumerate(zip(table, files, strict=True), 1):
        where = f"{path}, row {i}"
        clip = CLIP.fullmatch(cell["video_file"])
        if clip is None:
            raise ManifestError(where, f"{cell['video_file'][:40]!r} is no clip of this set", "Copy it again")
        if name not in found:
            continue
        severity, test = finite(cell["Severity Score"], where, "Severity Score"), tests.get(clip["patient"])
        row = media_row(
            root, name, clip["patient"], study_id=clip["patient"], view=clip["point"], site="COVID-BLUES",
            vendor="Philips",
        )  # fmt: skip
        rows.append(
            row
            | {
                "severity": None if severity is None else int(severity),
                "a_lines": _yes(cell["A-lines"], where),
                "b_lines": _yes(cell["B-lines"], where),
                "covid": None if test is None else test == 1,
            }
        )
    return gather(root, out, rows, notes=notes, split=True)


def pocus(root: Path, out: Path) -> Manifest:
    """POCUS (covid19_ultrasound): lung clips and pictures of COVID-19, pneumonia and regular lungs.

    Columns: `label`, `probe`, `licence` (an item each). The source's patient ids part clips of one scan: all
    items of one source count as one patient. Label and source are confounded: no benchmark. Split: by these,
    seed 0.

    Args:
        root: holds dataset_metadata.csv, pocus_videos/ and pocus_images/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "dataset_metadata.csv")
    path = root / "dataset_metadata.csv"
    table = _first_columns(path)
    need_columns(table, ["Filename", "Label", "License", "Probe", "Source ID"], path)
    names = {Path(name).stem.lower(): name for name in files_below(root, POCUS_ENDINGS)}
    rows, missing = [], 0
    for cell in table:
        key = cell["Filename"].strip()
        name = names.get(key.lower()) or names.get(Path(key).stem.lower())
        if name is None:
            missing += 1
            continue
        source = cell["Source ID"].strip()
        patient = f"source {source}" if source.lower() not in USELESS_IDS else Path(name).stem
        row = media_row(root, name, patient, view="lung", site="POCUS")
        rows.append(
            row
            | {
                "label": cell["Label"].strip(),
                "probe": cell["Probe"].strip().lower(),
                "licence": cell["License"].strip(),
            }
        )
    if not rows:
        raise ManifestError(path, "names files and none is there", f"Unpack the media into {root}")
    notes = [f"{missing} of {len(table)} files that the table names are not there"] if missing else []
    return gather(root, out, rows, notes=notes, split=True)


def _yes(text: str, where: str) -> bool | None:
    """The source writes yes, no, and both with blanks after them.

    Raises:
        ManifestError: it is neither.
    """
    word = text.strip().lower()
    if word not in {"", "yes", "no"}:
        raise ManifestError(where, f"{text[:20]!r} is neither yes nor no", "Copy the data set again")
    return None if not word else word == "yes"


def _first_columns(path: Path) -> list[dict[str, str]]:
    """The table; its header has a column without a name, and that may come twice.

    Raises:
        ManifestError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [
                {name.strip(): value or "" for name, value in row.items() if name and isinstance(value, str)}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise ManifestError(path, f"is no readable CSV file ({error})", "Copy the data set again") from None
