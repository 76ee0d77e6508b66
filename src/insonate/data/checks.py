"""Which rows make a manifest: cells, files and patients, checked once."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from insonate.data.columns import KINDS, REAL, SPLITS, TEXT, WHOLE, Row, all_columns, is_path, patient_key
from insonate.data.spacing import spacing_or_none
from insonate.errors import InsonateError, ManifestError, nearest
from insonate.files import inside

MAX_FRAMES = 1_000_000
MAX_CELL = 100_000


class Checked(NamedTuple):
    """Rows that may be used, and what was odd about them."""

    rows: list[Row]
    notes: tuple[str, ...]


def checked_rows(rows: list[Row], root: Path, source: str, *, check_files: bool) -> Checked:
    """Rows with every column of `all_columns`, each cell of its column's type.

    Args:
        rows: as a table gave them.
        root: resolved folder of their paths.
        source: what errors call the table.
        check_files: also check that every media and mask file is there.

    Raises:
        ManifestError: there are none, or a cell, a file or a patient of them cannot be used.
    """
    if not rows:
        raise ManifestError(source, "has no rows", "Add at least one media item")
    has_patients = any(row.get("patient_id") for row in rows)
    columns = all_columns(rows)
    unknown_spacing = 0
    checked = []
    for number, row in enumerate(rows, 1):
        where = f"{source}, row {number}"
        new = {column: _cell(column, row.get(column), where) for column in columns}
        if not has_patients and "patient_id" not in row:
            new["patient_id"] = str(new["path"])
        _check_row(new, where)
        unknown_spacing += _mend_spacing(new)
        checked.append(new)
    _check_files(checked, root, source, check_files=check_files)
    _check_patients(checked, source)
    _even_numbers(checked, columns)
    notes = []
    if not has_patients:
        notes.append("no patient_id: each file counts as a patient of its own")
    if unknown_spacing:
        notes.append(f"{unknown_spacing} rows with a spacing that cannot be: taken as unknown")
    if doubled := _num_files_in_two_splits(checked):
        notes.append(f"{doubled} files are in two splits, under different patients: scores will flatter")
    return Checked(rows=checked, notes=tuple(notes))


def _cell(column: str, value: Any, where: str) -> Any:
    where = f"{where}, column {column!r}"
    if getattr(value, "shape", None) == ():
        value = value.item()  # of numpy
    if isinstance(value, str) and len(value) > MAX_CELL:
        raise ManifestError(where, f"holds {len(value)} characters", f"Keep a cell to {MAX_CELL}")
    if isinstance(value, float) and math.isnan(value):
        value = None
    if column in TEXT:
        return "" if value is None else str(value)
    if is_path(column):
        return str(value) if value else None
    if value is None:
        return None
    if column in WHOLE or column in REAL:
        return _numeric_cell(column, value, where)
    return _label_cell(value, where)


def _label_cell(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and math.isinf(value):
        raise ManifestError(where, f"{value} is no finite number", "Leave the cell empty where it is unknown")
    if isinstance(value, list | tuple):
        return _list_cell(value, where)
    return value.tolist() if hasattr(value, "tolist") else value


def _numeric_cell(column: str, value: Any, where: str) -> float | int:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ManifestError(where, f"{value!r} is no number", "Leave the cell empty where unknown") from None
    if column in WHOLE:
        lowest = 0 if column == "frame" else 1
        if not (lowest <= number <= MAX_FRAMES and number == int(number)):
            raise ManifestError(
                where, f"{value!r} is no whole number from {lowest} to {MAX_FRAMES}", "Correct it"
            )
        return int(number)
    if number < 0:
        raise ManifestError(where, f"{value!r} is negative", "Leave the cell empty where it is unknown")
    return number


def _list_cell(values: Sequence[Any], where: str) -> list[float]:
    try:
        numbers = [math.nan if v is None else float(v) for v in values]
    except (TypeError, ValueError):
        raise ManifestError(where, "is no flat list of numbers", "Write [x0, y0, x1, y1]") from None
    if any(map(math.isinf, numbers)):
        raise ManifestError(where, "holds an infinite number", "Use NaN where a point is missing")
    return numbers


def _check_row(row: Row, where: str) -> None:
    row["kind"] = row["kind"] or "image"
    if row["kind"] not in KINDS:
        raise ManifestError(
            f"{where}, column 'kind'", f"{row['kind'][:40]!r} is no kind", nearest(row["kind"], KINDS)
        )
    if row["split"] and row["split"] not in SPLITS:
        raise ManifestError(
            f"{where}, column 'split'", f"{row['split'][:40]!r} is no split", nearest(row["split"], SPLITS)
        )
    if not row["path"]:
        raise ManifestError(f"{where}, column 'path'", "is empty", "Name the media file")
    if not row["patient_id"].strip():
        raise ManifestError(
            f"{where}, column 'patient_id'",
            "is empty",
            "Name the patient, so that no patient is in two splits",
        )
    if row.get("frame") is not None and row["frames"] is not None and row["frame"] >= row["frames"]:
        raise ManifestError(
            f"{where}, column 'frame'", f"frame {row['frame']} of {row['frames']} frames", "Count from 0"
        )


def _mend_spacing(row: Row) -> bool:
    pair = row["spacing_row_mm"], row["spacing_col_mm"]
    if pair == (None, None) or spacing_or_none(*pair):
        return False
    row["spacing_row_mm"] = row["spacing_col_mm"] = None
    return True


def _check_files(rows: list[Row], root: Path, source: str, *, check_files: bool) -> None:
    known: set[str] = set()
    folders: set[str] = set()
    for number, row in enumerate(rows, 1):
        for column in filter(is_path, row):
            name = row[column]
            if not name or name in known:
                continue
            _check_file(
                name, root, f"{source}, row {number}, column {column!r}", folders, check_files=check_files
            )
            known.add(name)


def _check_file(name: str, root: Path, where: str, folders: set[str], *, check_files: bool) -> None:
    # `folders` are those known to lie inside the root: a file in one is looked at once, with `lstat`
    if "\0" in name or "://" in name or Path(name).is_absolute():
        raise ManifestError(
            where, f"{name[:80]!r} is no relative file path", "Give it relative to the manifest"
        )
    folder, _, last = name.rpartition("/")
    try:
        mode = (root / name).lstat().st_mode if folder in folders and last not in {"", "..", "."} else None
        if mode is None or stat.S_ISLNK(mode):
            mode = _inside_mode(name, root, where)
    except (OSError, ValueError):
        if not check_files:
            return
        raise ManifestError(
            where, f"no file {name[:80]!r} in {root}", "Correct the path or remove the row"
        ) from None
    if check_files and not stat.S_ISREG(mode):
        raise ManifestError(where, f"{name[:80]!r} is no regular file", "Name one media file a row")
    if last not in {"", "..", "."} and folder not in folders and _stays_inside(folder, root):
        folders.add(folder)


def _inside_mode(name: str, root: Path, where: str) -> int:
    try:
        target = inside(root, name)
    except InsonateError:
        raise ManifestError(
            where, f"{name[:80]!r} leads outside {root}", "Put the manifest above the media that it names"
        ) from None
    return target.stat().st_mode


def _stays_inside(folder: str, root: Path) -> bool:
    try:
        inside(root, folder)
    except InsonateError:
        return False
    return True


def _even_numbers(rows: list[Row], columns: Sequence[str]) -> None:
    """A column that holds whole numbers and fractions holds fractions only, as Parquet would have it."""
    for column in columns:
        kinds = {type(row[column]) for row in rows} - {type(None)}
        if kinds != {int, float}:
            continue
        for row in rows:
            row[column] = None if row[column] is None else float(row[column])


def _check_patients(rows: list[Row], source: str) -> None:
    seen: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if not row["split"]:
            continue
        first = seen.setdefault(patient_key(row["patient_id"]), row["split"])
        if first != row["split"]:
            raise ManifestError(
                f"{source}, row {number}, column 'patient_id'",
                f"{row['patient_id'][:80]!r} is in the splits {first!r} and {row['split']!r}",
                "Keep all items of a patient in one split; `split_by_patient` does",
            )


def _num_files_in_two_splits(rows: list[Row]) -> int:
    splits: dict[str, set[str]] = {}
    for row in rows:
        if row["split"]:
            name = f"{row['path']}/{row.get('member') or ''}"  # one tar holds items of every split
            splits.setdefault(name, set()).add(row["split"])
    return sum(len(of_file) > 1 for of_file in splits.values())
