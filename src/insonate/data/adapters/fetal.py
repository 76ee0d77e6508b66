"""Fetal pictures in their published layouts: HC18 heads and FETAL_PLANES_DB."""

from __future__ import annotations

import csv
import re
from functools import partial
from pathlib import Path

import numpy as np

from insonate.data import media
from insonate.data.adapters.gather import (
    files_below,
    filled,
    gather,
    located,
    media_row,
    there,
    train_or_val,
)
from insonate.data.adapters.points import ellipse_ends, point_columns
from insonate.data.adapters.tables import need_columns, number, plain_name, read_table
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError


def hc18(root: Path, out: Path) -> Manifest:
    """HC18: fetal heads with the outline of the skull and the head circumference.

    Columns: `hc_mm`, `mask_path` (the head, 0 and 1: the source draws its outline, which may run past the
    picture), `points_set` and `keypoints` (HC: ends of the axes of the ellipse through the outline). A
    patient is the number that file names start with. Split: test is the source's, without labels; 15 % of
    the other patients become val.

    Args:
        root: holds training_set/, test_set/ and their tables of pixel sizes.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "training_set_pixel_size_and_HC.csv")
    names = {Path(name).name: name for name in files_below(root, [".png"])}
    rows: list[Row] = []
    notes: tuple[str, ...] = ()
    for part, table in (
        ("training", "training_set_pixel_size_and_HC.csv"),
        ("test", "test_set_pixel_size.csv"),
    ):
        if not (root / table).is_file():
            notes += (f"no {table}: the {part} set is left out",)
            continue
        found, missing = _hc18_part(root, names, part, root / table)
        rows, notes = rows + found, notes + missing
    outlines = {
        row["mask_path"]: names[f"{Path(row['path']).stem}_Annotation.png"]
        for row in rows
        if row["mask_path"]
    }
    made = {mask: partial(_filled, root / outline) for mask, outline in outlines.items()}
    unmarked = sum(row["split"] != "test" and row["mask_path"] is None for row in rows)
    notes += (f"{unmarked} training pictures have no outline",) if unmarked else ()
    return gather(root, out, rows, made=made, notes=notes)


def _hc18_part(root: Path, names: dict[str, str], part: str, path: Path) -> tuple[list[Row], tuple[str, ...]]:
    """Rows of the training or the test set, and what is missing."""
    table = read_table(path)
    need_columns(table, ["filename", "pixel size(mm)"], path)
    files = [names.get(cell["filename"], f"{part}_set/{cell['filename']}") for cell in table]
    found, missing = there(root, files, path)
    rows = []
    for i, (cell, name) in enumerate(zip(table, files, strict=True), 1):
        if name not in found:
            continue
        where = f"{path}, row {i}"
        patient = _leading_number(plain_name(cell["filename"], where), where)
        size_mm = number(cell["pixel size(mm)"], where, "pixel size(mm)")
        row = media_row(root, name, patient, view="fetal head", site="HC18")
        row |= {"spacing_row_mm": size_mm, "spacing_col_mm": size_mm, "split": "test"}
        row |= {"hc_mm": None, "mask_path": None, "points_set": None, "keypoints": None}
        if part == "training":
            circumference = "head circumference (mm)"
            row["split"] = train_or_val(patient)
            row["hc_mm"] = number(cell.get(circumference, ""), where, circumference)
            outline = names.get(f"{Path(name).stem}_Annotation.png")
            if outline is not None:
                row["mask_path"] = f"masks/{Path(name).stem}.png"
                ends = ellipse_ends(media.read_frames(root / outline, [0], grey=True)[0])
                row |= point_columns("HC", ends) if ends else {}
        rows.append(row)
    return rows, missing


def fetal_planes_db(root: Path, out: Path) -> Manifest:
    """FETAL_PLANES_DB: six planes of routine fetal ultrasound, with the plane of the brain.

    Columns: `label` (plane), `brain_plane`, `operator`; the machine is `vendor`. Split: test is the source's;
    15 % of its training patients become val.

    Args:
        root: holds FETAL_PLANES_DB_data.csv and Images/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "FETAL_PLANES_DB_data.csv")
    path = root / "FETAL_PLANES_DB_data.csv"
    table = _semicolons(path)
    need_columns(
        table, ["Image_name", "Patient_num", "Plane", "Brain_plane", "US_Machine", "Operator", "Train"], path
    )
    files = [f"Images/{plain_name(c['Image_name'], f'{path}, row {i}')}.png" for i, c in enumerate(table, 1)]
    found, notes = there(root, files, path)
    rows = []
    for i, (cell, name) in enumerate(zip(table, files, strict=True), 1):
        if name not in found:
            continue
        patient = cell["Patient_num"].strip()
        trained = number(cell["Train"], f"{path}, row {i}", "Train") == 1
        brain = cell["Brain_plane"].strip()
        row = media_row(root, name, patient, vendor=cell["US_Machine"].strip(), site="FETAL_PLANES_DB")
        row["split"] = train_or_val(patient) if trained else "test"
        row["view"] = row["label"] = cell["Plane"].strip()
        row["brain_plane"] = None if brain.lower() == "not a brain" else brain
        rows.append(row | {"operator": cell["Operator"].strip()})
    return gather(root, out, rows, notes=notes)


def _filled(path: Path) -> np.ndarray:
    return filled(media.read_frames(path, [0], grey=True)[0], path)


def _leading_number(name: str, where: str) -> str:
    match = re.match(r"\d+", name)
    if match is None:
        raise ManifestError(where, f"{name!r} does not start with a number", "Is this the file of this set?")
    return match[0]


def _semicolons(path: Path) -> list[dict[str, str]]:
    """Rows of a table with semicolons; blanks around the names of columns are dropped.

    Raises:
        ManifestError: it cannot be read, or a row has another length.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines(), delimiter=";", strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise ManifestError(path, f"is no readable CSV file ({error})", "Copy the data set again") from None
    if len(lines) < 2 or any(line and len(line) != len(lines[0]) for line in lines):
        raise ManifestError(path, "has no rows, or rows of another length", "Copy the data set again")
    header = [name.strip() for name in lines[0]]
    return [dict(zip(header, line, strict=True)) for line in lines[1:] if line]
