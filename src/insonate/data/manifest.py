"""Manifest: the table of media items that all data enters by. Parquet or CSV; imports no torch.

Paths are relative to the manifest's own folder (its root) and stay inside it. An empty cell, a null, or a NaN
of a numeric Parquet column is "missing"; the text "NaN" or "inf" among numbers is an error. `kind`, `split`
and what a column may hold is checked once, here; the rest of the project trusts it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from insonate.data.spacing import spacing_or_none
from insonate.errors import InsonateError, ManifestError, nearest
from insonate.files import Content, atomic_write, inside

TEXT = ("path", "kind", "patient_id", "study_id", "series_id", "view", "site", "vendor", "split")
WHOLE = ("frames", "height", "width", "frame")
REAL = ("fps", "spacing_row_mm", "spacing_col_mm")
COLUMNS = (
    "path", "kind", "patient_id", "study_id", "series_id", "view", "site", "vendor", "frames", "fps",
    "height", "width", "spacing_row_mm", "spacing_col_mm", "split",
)  # fmt: skip
"""columns of every manifest; `frame` (the labelled one of a loop) and the label columns may follow"""

KINDS = ("image", "video", "dicom")
SPLITS = ("train", "val", "test")
MAX_COLUMNS, MAX_ROWS, MAX_BYTES, MAX_FRAMES = 2_000, 20_000_000, 4 << 30, 1_000_000
MAX_CELL = 100_000
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|[+-]?\.[0-9]+", re.ASCII)
NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""first characters by which a spreadsheet takes a cell for a formula"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """Checked rows; make one with `read` or `from_rows`."""

    rows: list[Row]
    root: Path
    """folder that the paths are relative to"""
    source: str = "manifest"
    """what errors call it"""
    notes: tuple[str, ...] = field(default=())
    """what was odd but not wrong, for people"""

    @classmethod
    def read(cls, path: Path | str, *, check_files: bool = True) -> Manifest:
        """Read and check a `.parquet` or `.csv` manifest.

        Args:
            path: the manifest; its folder is the root.
            check_files: also check that every media and mask file is there.

        Raises:
            ManifestError: it cannot be read, or a row or column of it cannot be used.
        """
        path = Path(path)
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise ManifestError(path, f"cannot be read ({error})", "Check the path of the manifest") from None
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise ManifestError(path, "is no regular file of at most 4 GiB", "Give a .parquet or .csv file")
        reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
        if reader is None:
            raise ManifestError(path, f"ends in {path.suffix!r}", "Give a .parquet or .csv file")
        return _checked(reader(path), path.parent, str(path), check_files=check_files)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], root: Path | str, *, check_files: bool = True
    ) -> Manifest:
        """Check `rows` (paths relative to `root`) and make a manifest of them.

        Raises:
            ManifestError: a row or column cannot be used.
        """
        return _checked([dict(row) for row in rows], Path(root), "manifest", check_files=check_files)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """All values of a column, `None` where missing.

        Raises:
            ManifestError: no column is called so.
        """
        if self.rows and name not in self.rows[0]:
            raise ManifestError(self.source, f"has no column {name!r}", nearest(name, self.rows[0]))
        return [row[name] for row in self.rows]

    def select(self, *, split: str) -> Manifest:
        """The rows of one split.

        Raises:
            ManifestError: none is there.
        """
        rows = [row for row in self.rows if row["split"] == split]
        if not rows:
            found = ", ".join(sorted({row["split"] or "(none)" for row in self.rows}))
            raise ManifestError(
                self.source, f"has no rows of split {split!r}", f"Splits in it: {found}; `split` makes them"
            )
        return self.with_rows(rows)

    def with_rows(self, rows: list[Row]) -> Manifest:
        """A manifest of other, already checked rows under the same root."""
        return Manifest(rows=rows, root=self.root, source=self.source, notes=self.notes)

    def file(self, row: Row, column: str = "path") -> Path:
        """The file that `column` of a row names.

        Raises:
            ManifestError: the path leads outside the root.
        """
        try:
            return inside(self.root, row[column])
        except InsonateError as error:
            raise ManifestError(self.source, f"column {column!r}: {error.what}", error.mend) from None

    def write(self, path: Path | str) -> Path:
        """Write it as `.parquet` or `.csv`; paths are made relative to the new place.

        Raises:
            ManifestError: another ending, or the media do not lie under the folder of `path`.
        """
        path = Path(path)
        writer = writer_of(path)
        return atomic_write(path, writer(self._moved_to(path), _all_columns(self.rows)))

    def _moved_to(self, path: Path) -> list[Row]:
        old, new = self.root.resolve(), path.parent.resolve()
        if old == new:
            return self.rows
        moved = []
        for row in self.rows:
            row = dict(row)
            for column in filter(_is_path, row):
                if not row[column]:
                    continue
                target = (old / row[column]).resolve()
                if not target.is_relative_to(new):
                    raise ManifestError(
                        path, f"{row[column]!r} does not lie under its folder", f"Write it into {old}"
                    )
                row[column] = target.relative_to(new).as_posix()
            moved.append(row)
        return moved


def patient_key(patient_id: str) -> str:
    """The form in which patient ids are compared: case and outer spaces do not make another patient."""
    return " ".join(patient_id.split()).casefold()


def _is_path(column: str) -> bool:
    return column == "path" or column.endswith("_path")


def _all_columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))


# ------------------------------------------------------------------------------------------------ reading


def _read_csv(path: Path) -> list[Row]:
    mend = "Write it as a UTF-8 CSV file with commas"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(lines, [])
        _check_header(header, path)
        rows = []
        for number, cells in enumerate(lines, 1):
            if not cells:
                continue
            if len(cells) != len(header):
                raise ManifestError(
                    f"{path}, row {number}", f"has {len(cells)} cells, the header {len(header)}", mend
                )
            rows.append(dict(zip(header, map(_unguarded, cells), strict=True)))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ManifestError(path, f"is no readable CSV file ({error})", mend) from None
    return _typed(rows, path)


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_header(file.schema_arrow.names, path)
            if file.metadata.num_rows > MAX_ROWS:
                raise ManifestError(path, f"has {file.metadata.num_rows} rows", f"Keep it to {MAX_ROWS}")
            rows: list[Row] = file.read().to_pylist()
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise ManifestError(
            path, f"is no readable Parquet file ({error})", "Write it again, or give a .csv"
        ) from None
    return _typed(rows, path)


def _check_header(header: Sequence[str], path: Path) -> None:
    if len(header) > MAX_COLUMNS:
        raise ManifestError(path, f"has {len(header)} columns", f"Keep it to {MAX_COLUMNS}")
    if "path" not in header:
        raise ManifestError(path, "has no column 'path'", f"Columns of a manifest: {', '.join(COLUMNS)}")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise ManifestError(path, f"has the column {doubled[0]!r} twice", "Rename or remove one of them")
    if "" in header:
        raise ManifestError(path, f"column {list(header).index('') + 1} has no name", "Name it or remove it")


def _typed(rows: list[Row], where: object) -> list[Row]:
    """Columns of text that hold numbers, truth values or lists, turned into those."""
    for column in _all_columns(rows):
        if column in TEXT or _is_path(column):
            continue
        texts = [row[column] for row in rows if isinstance(row.get(column), str) and row[column].strip()]
        convert = _converter(texts, column, where)
        for number, row in enumerate(rows, 1):
            value = row.get(column)
            if not isinstance(value, str):
                continue
            row[column] = (
                convert(value.strip(), f"{where}, row {number}, column {column!r}") if value.strip() else None
            )
    return rows


def _converter(texts: list[str], column: str, where: object) -> Callable[[str, str], Any]:
    numbers = sum(NUMBER.fullmatch(t.strip()) is not None for t in texts)
    if column in REAL:
        return lambda text, where: math.nan if NOT_A_NUMBER.fullmatch(text) else _number(text, where)
    if column in WHOLE or (texts and 2 * numbers > len(texts)):
        return _number
    if texts and all(t.lstrip().startswith("[") for t in texts):
        return _list
    if texts and {t.strip().lower() for t in texts} <= {"true", "false"}:
        return lambda text, _: text.lower() == "true"
    return lambda text, _: text


def _number(text: str, where: str) -> float | int:
    if not NUMBER.fullmatch(text):
        raise ManifestError(
            where, f"{text[:40]!r} is no finite number", "Leave the cell empty where it is unknown"
        )
    value = float(text)
    whole = re.fullmatch(r"[+-]?[0-9]{1,18}", text)
    return int(text) if whole else value


def _list(text: str, where: str) -> list[float]:
    try:
        values = json.loads(text)
        return [math.nan if v is None else float(v) for v in values]
    except (ValueError, TypeError, RecursionError):
        raise ManifestError(where, f"{text[:40]!r} is no list of numbers", "Write [x0, y0, x1, y1]") from None


# ----------------------------------------------------------------------------------------------- checking


def _checked(rows: list[Row], root: Path, source: str, *, check_files: bool) -> Manifest:
    if not rows:
        raise ManifestError(source, "has no rows", "Add at least one media item")
    has_patients = any(row.get("patient_id") for row in rows)
    columns = _all_columns(rows)
    root = root.resolve()
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
    return Manifest(rows=checked, root=root, source=source, notes=tuple(notes))


def _cell(column: str, value: Any, where: str) -> Any:
    where = f"{where}, column {column!r}"
    if isinstance(value, str) and len(value) > MAX_CELL:
        raise ManifestError(where, f"holds {len(value)} characters", f"Keep a cell to {MAX_CELL}")
    if isinstance(value, float) and math.isnan(value):
        value = None
    if column in TEXT:
        return "" if value is None else str(value)
    if _is_path(column):
        return str(value) if value else None
    if value is None:
        return None
    if column in WHOLE or column in REAL:
        return _numeric_cell(column, value, where)
    if isinstance(value, float) and math.isinf(value):
        raise ManifestError(where, f"{value} is no finite number", "Leave the cell empty where it is unknown")
    if isinstance(value, list | tuple):
        return _list_cell(value, where)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return _cell(column, value.item(), where)
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
        for column in filter(_is_path, row):
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
            splits.setdefault(row["path"], set()).add(row["split"])
    return sum(len(of_file) > 1 for of_file in splits.values())


# ------------------------------------------------------------------------------------------------ writing


def writer_of(path: Path) -> Callable[[list[Row], list[str]], Content]:
    """Rows and columns → the content of a manifest file of this name.

    Raises:
        ManifestError: another ending than `.parquet` or `.csv`.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return _write_csv
    if ending == ".parquet":
        return _write_parquet
    raise ManifestError(path, f"ends in {path.suffix!r}", "Write to a .parquet or .csv file")


def guarded(value: Any) -> str:
    """A CSV cell that no spreadsheet takes for a formula: text that starts like one gets a leading '."""
    if value is None:
        return ""
    if isinstance(value, list):
        return json.dumps([None if math.isnan(v) else v for v in value])
    if not isinstance(value, str):
        return repr(value)
    return f"'{value}" if value.startswith((*FORMULA, "'")) else value


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*FORMULA, "'")) else cell


def _write_csv(rows: list[Row], columns: list[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([guarded(column) for column in columns])
    writer.writerows([[guarded(row.get(column)) for column in columns] for row in rows])
    return text.getvalue()


def _write_parquet(rows: list[Row], columns: list[str]) -> Callable[[BinaryIO], object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (
        dict.fromkeys(TEXT, pa.string())
        | dict.fromkeys(WHOLE, pa.int64())
        | dict.fromkeys(REAL, pa.float64())
    )
    try:
        arrays = {c: pa.array([row.get(c) for row in rows], types.get(c)) for c in columns}
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise ManifestError(
            "manifest", f"cannot be written as Parquet ({error})", "Keep one type a column"
        ) from None
    return lambda file: pq.write_table(pa.table(arrays), file)
