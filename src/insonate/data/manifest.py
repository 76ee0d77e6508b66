"""Manifest: the table of media items that all data enters by. Parquet or CSV; imports no torch.

Paths are relative to the manifest's own folder (its root) and stay inside it. An empty cell, a null, or a NaN
of a numeric Parquet column is "missing"; the text "NaN" or "inf" among numbers is an error. `kind`, `split`
and what a column may hold is checked once, here; the rest of the project trusts it.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insonate.data.checks import checked_rows
from insonate.data.columns import COLUMNS, SPLITS, Row, all_columns, is_path, patient_key
from insonate.data.table import read_table, typed, writer_of
from insonate.errors import InsonateError, ManifestError, nearest
from insonate.files import atomic_write, inside

__all__ = ["COLUMNS", "SPLITS", "Manifest", "Row", "patient_key", "writer_of"]

MAX_BYTES = 4 << 30


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
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(
                path, f"cannot be read ({reason})", "Check the path of the manifest"
            ) from None
        if stat.S_ISDIR(status.st_mode):
            raise ManifestError(path, "is a folder", "Give the .parquet or .csv file in it")
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise ManifestError(path, "is no regular file of at most 4 GiB", "Give a .parquet or .csv file")
        return cls._of(read_table(path), path.parent, str(path), check_files=check_files)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], root: Path | str, *, check_files: bool = True
    ) -> Manifest:
        """Check `rows` (paths relative to `root`) and make a manifest of them.

        Raises:
            ManifestError: a row or column cannot be used.
        """
        own = typed([dict(row) for row in rows], "manifest")
        return cls._of(own, Path(root), "manifest", check_files=check_files)

    @classmethod
    def _of(cls, rows: list[Row], root: Path, source: str, *, check_files: bool) -> Manifest:
        root = root.resolve()
        found = checked_rows(rows, root, source, check_files=check_files)
        return cls(rows=found.rows, root=root, source=source, notes=found.notes)

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
        return atomic_write(path, writer(self._moved_to(path), all_columns(self.rows)))

    def _moved_to(self, path: Path) -> list[Row]:
        old, new = self.root.resolve(), path.parent.resolve()
        if old == new:
            return self.rows
        moved = []
        for row in self.rows:
            row = dict(row)
            for column in filter(is_path, row):
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
