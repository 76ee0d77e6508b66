"""Rows as CSV or Parquet files: reading with types, writing safe for spreadsheets. Imports no torch.

Reading what was written gives the same rows.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from insonate.data.columns import COLUMNS, REAL, TEXT, WHOLE, Row, all_columns, is_path
from insonate.errors import ManifestError
from insonate.files import Content

MAX_COLUMNS, MAX_ROWS = 2_000, 20_000_000
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|[+-]?\.[0-9]+", re.ASCII)
NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""first characters by which a spreadsheet takes a cell for a formula"""


def read_table(path: Path) -> list[Row]:
    """The rows of a `.csv` or `.parquet` file.

    Raises:
        ManifestError: another ending, or it cannot be read as such a file.
    """
    reader = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
    if reader is None:
        raise ManifestError(path, _ending(path), "Give a .parquet or .csv file")
    return reader(path)


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
    raise ManifestError(path, _ending(path), "Write to a .parquet or .csv file")


def _ending(path: Path) -> str:
    return f"ends in {path.suffix!r}" if path.suffix else "has no ending"


def _read_csv(path: Path) -> list[Row]:
    mend = "Write it as a UTF-8 CSV file with commas"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [_unguarded(cell) for cell in next(lines, [])]
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
        raise _unread(path, "CSV", error, mend) from None
    return typed(rows, path)


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
        raise _unread(path, "Parquet", error, "Write it again, or give a .csv") from None
    return typed(rows, path)


def _unread(path: Path, kind: str, error: Exception, mend: str) -> ManifestError:
    """Tell a file that the system does not give from one whose content is damaged."""
    if isinstance(error, OSError) and error.errno:
        reason = os.strerror(error.errno)
        return ManifestError(path, f"cannot be read ({reason})", "Check the path and what you may read")
    return ManifestError(path, f"is no readable {kind} file ({error})", mend)


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


def typed(rows: list[Row], where: object) -> list[Row]:
    """Columns of text that hold numbers, truth values or lists, turned into those, in place.

    Raises:
        ManifestError: a text among the numbers of a column is none, or a list is damaged.
    """
    for column in all_columns(rows):
        if column in TEXT or is_path(column):
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
    writer = csv.writer(text, lineterminator="\r\n")  # with \n alone a cell of \r goes unquoted
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
