"""Scan a folder of media into a manifest. What cannot be read is listed with its reason; the scan goes on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from insonate.data import media
from insonate.data.manifest import Manifest, Row, writer_of
from insonate.errors import InsonateError, ManifestError
from insonate.files import inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A file that the scan could not use."""

    path: str
    """relative to the scanned folder"""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What a scan found."""

    manifest: Manifest
    errors: list[Unread]


def scan(directory: Path | str, out: Path | str | None = None, *, decode: bool = True) -> ScanResult:
    """Make a manifest of all media under a folder, by content and not by name.

    A file without a patient id of its own counts as its own patient; correct `patient_id` before splitting
    where several files are of one patient.

    Args:
        directory: searched to any depth; hidden files and folders are passed over, links to places outside
            it are errors.
        out: where to write the manifest (`.parquet` or `.csv`): in `directory` or a folder above it.
        decode: also decode the first frame of each medium, some milliseconds a file, so that what is damaged
            behind its header is found now and not in training.

    Raises:
        ManifestError: `directory` is no folder or holds no medium that can be read, or `out` will not do.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ManifestError(directory, "is no folder", "Give the folder that holds the media")
    if out is not None:
        _check_place(Path(out), directory)  # before a scan of hours
    rows: list[Row] = []
    errors: list[Unread] = []
    for name in _names(directory, errors):
        try:
            row = _row(directory, name, decode=decode)
        except InsonateError as error:
            errors.append(Unread(path=name, reason=f"{error.what}. {error.mend}"))
            continue
        if row is not None:
            rows.append(row)
    if not rows:
        first = (
            f"; {len(errors)} cannot be read, the first {errors[0].path!r}: {errors[0].reason}"
            if errors
            else ""
        )
        raise ManifestError(
            directory, f"holds no readable media{first}", "Give a folder of images, videos or DICOM"
        )
    manifest = Manifest.from_rows(rows, directory)
    unnamed = sum(row["patient_id"] == row["path"] for row in manifest.rows)
    if unnamed:
        note = f"{unnamed} files name no patient, each counts as one: correct patient_id before the split"
        manifest = replace(manifest, notes=(*manifest.notes, note))
    if out is not None:
        manifest.write(out)
    return ScanResult(manifest=manifest, errors=errors)


def _check_place(out: Path, directory: Path) -> None:
    writer_of(out)
    if not directory.resolve().is_relative_to(out.parent.resolve()):
        raise ManifestError(out, f"does not lie in {directory} or above it", "Paths start at the manifest")


def _names(directory: Path, errors: list[Unread]) -> Iterator[str]:
    def closed(error: OSError) -> None:
        path = os.path.relpath(error.filename or directory, directory)
        errors.append(Unread(path=path, reason=f"cannot be opened ({error.strerror}). Check the folder"))

    for folder, folders, files in os.walk(directory, onerror=closed):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if not file.startswith("."):
                yield (Path(folder) / file).relative_to(directory).as_posix()


def _row(directory: Path, name: str, *, decode: bool) -> Row | None:
    path = directory / name
    try:
        name.encode()
        inside(directory, name)
        regular = stat.S_ISREG(path.stat().st_mode)
    except UnicodeEncodeError:
        raise ManifestError(name, "has a name that is not UTF-8", "Rename it") from None
    except OSError as error:
        raise ManifestError(name, f"cannot be opened ({error.strerror})", "Check the file") from None
    if not regular:
        raise ManifestError(name, "is no regular file", "Remove it")
    if not media.is_media(path):
        return None
    info = media.probe(path)
    if decode:
        media.read_frames(path, [0])
    return {
        "path": name,
        "kind": info.kind,
        "patient_id": info.patient_id or name,
        "study_id": info.study_id,
        "series_id": info.series_id,
        "vendor": info.vendor,
        "frames": info.frames,
        "fps": info.fps,
        "height": info.height,
        "width": info.width,
        "spacing_row_mm": info.spacing.row_mm if info.spacing else None,
        "spacing_col_mm": info.spacing.col_mm if info.spacing else None,
    }
