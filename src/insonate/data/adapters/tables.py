"""What the adapters share: reading tables and archives with care, publishing media with a manifest."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError
from insonate.files import atomic_write, publish_dir

MAX_MEMBER_BYTES = 64 << 20
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,120}", re.ASCII)


def read_table(path: Path, *, encodings: Sequence[str] = ("utf-8-sig",)) -> list[dict[str, str]]:
    """Rows of a CSV file, all cells text, in the first of the encodings that fits.

    Raises:
        ManifestError: it cannot be read, has no rows, a row of another length, or a column twice.
    """
    try:
        text = _decoded(path.read_bytes(), encodings)
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError:
        raise ManifestError(path, "is not there", "Give the folder as the data set is handed out") from None
    except (OSError, ValueError, csv.Error) as error:
        raise ManifestError(
            path, f"is no readable CSV file ({error})", "Check the path and the file"
        ) from None
    if len(lines) < 2:
        raise ManifestError(path, "has no rows", "Check the file")
    header = lines[0]
    if len(set(header)) < len(header):
        raise ManifestError(path, "has a column twice", "Rename or remove one of them")
    odd = next((i for i, line in enumerate(lines) if line and len(line) != len(header)), None)
    if odd is not None:
        raise ManifestError(
            f"{path}, row {odd}", f"has {len(lines[odd])} cells, not {len(header)}", "Correct it"
        )
    return [dict(zip(header, line, strict=True)) for line in lines[1:] if line]


def _decoded(content: bytes, encodings: Sequence[str]) -> str:
    for encoding in encodings[:-1]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode(encodings[-1])


def need_columns(table: Sequence[dict[str, str]], columns: Iterable[str], path: Path) -> None:
    """Check that a table has the columns that an adapter reads.

    Raises:
        ManifestError: one is not there.
    """
    for column in columns:
        if column not in table[0]:
            raise ManifestError(path, f"has no column {column!r}", "Is this the file of this data set?")


def finite(text: str | None, where: str, column: str) -> float | None:
    """The number in a cell; `None` where it is empty or not there.

    Raises:
        ManifestError: it holds anything else.
    """
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ManifestError(
            f"{where}, column {column!r}", f"{text[:40]!r} is no number", "Correct or empty it"
        )
    return value


def number(text: str, where: str, column: str) -> float:
    """The number in a cell that must hold one.

    Raises:
        ManifestError: it does not.
    """
    value = finite(text, where, column)
    if value is None:
        raise ManifestError(f"{where}, column {column!r}", "is empty", "Add the number")
    return value


def plain_name(text: str, where: str) -> str:
    """A file name without folders, safe on every system.

    Raises:
        ManifestError: it is none.
    """
    if not PLAIN_NAME.fullmatch(text):
        raise ManifestError(where, f"{text[:80]!r} is no plain file name", "Use letters, digits, _ . + -")
    return text


def unpack(archive: Path, members: Iterable[str], folder: Path) -> None:
    """Put the named members of a zip file into `folder`, under their names; no other member is looked at.

    The names must come from `plain_name`, with a folder of our own before them.

    Raises:
        ManifestError: the archive is damaged, lacks a member, or one is larger than 64 MiB.
    """
    mend = "Copy the data set again"
    try:
        with zipfile.ZipFile(archive) as file:
            for name in members:
                _unpack_one(file, name, folder / name)
    except (
        zipfile.BadZipFile,
        KeyError,
        RuntimeError,
        zlib.error,
        EOFError,
        OSError,
    ) as error:
        raise ManifestError(archive, f"cannot be unpacked ({error})", mend) from None


def _unpack_one(file: zipfile.ZipFile, name: str, target: Path) -> None:
    with file.open(name) as member:
        data = member.read(MAX_MEMBER_BYTES + 1)  # not the size that the archive claims
    if len(data) > MAX_MEMBER_BYTES:
        raise ManifestError(name, f"is larger than {MAX_MEMBER_BYTES >> 20} MiB", "Copy the data set again")
    atomic_write(target, data)


def publish(out: Path | str, rows: Sequence[Row], fill: Callable[[Path], None]) -> Manifest:
    """A new folder `out` with the media that `fill` puts there, and `manifest.parquet`, whole or not at all.

    Raises:
        InsonateError: `out` is there already, or a row names a file that `fill` did not put there.
    """
    with publish_dir(out) as folder:
        fill(folder)
        Manifest.from_rows(rows, folder).write(folder / "manifest.parquet")
    return Manifest.read(Path(out) / "manifest.parquet")


def published(rows: Sequence[Row], root: Path, out: Path | str | None, note: str = "") -> Manifest:
    """The rows in place (`out` none), or with copies of their files in a new folder `out`."""
    manifest = Manifest.from_rows(rows, root)
    if out is not None:
        manifest = publish(out, manifest.rows, lambda folder: copy_files(manifest, folder))
    return replace(manifest, notes=(*manifest.notes, note)) if note else manifest


def copy_files(manifest: Manifest, folder: Path) -> None:
    """Copies of all files that a manifest names, under the same relative names."""
    for row in manifest.rows:
        for column in (c for c in row if c == "path" or c.endswith("_path")):
            if not row[column]:
                continue
            target = folder / row[column]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(manifest.file(row, column), target)
