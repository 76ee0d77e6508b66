"""Scan a folder of media into a manifest. What cannot be read is listed with its reason; the scan goes on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from insonate.data import media
from insonate.data.manifest import Manifest, Row
from insonate.errors import InsonateError, ManifestError
from insonate.files import inside

MEDIA_ENDINGS = frozenset(
    [
        ".dcm",
        ".dicom",
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".webp",
        ".mp4",
        ".avi",
        ".mov",
        ".mkv",
        ".webm",
        ".m4v",
        ".mpg",
        ".wmv",
    ]
)
"""a file of such a name that is no medium is an error; of another name, it is passed over"""


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
        ManifestError: `directory` is no folder, or holds no medium that can be read.
    """
    unnamed = sum(row["patient_id"] == row["path"] for row in manifest.rows)
    if unnamed:
        note = f"{unnamed} files name no patient, each counts as one: correct patient_id before the split"
        manifest = replace(manifest, notes=(*manifest.notes, note))
    directory = Path(directory)
    if not directory.is_dir():
        raise ManifestError(directory, "is no folder", "Give the folder that holds the media")
    rows: list[Row] = []
    errors: list[Unread] = []
    for name in _names(directory):
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
    if out is not None:
        manifest.write(out)
    return ScanResult(manifest=manifest, errors=errors)


def _names(directory: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            if not file.startswith("."):
                yield (Path(folder) / file).relative_to(directory).as_posix()


def _row(directory: Path, name: str, *, decode: bool) -> Row | None:
    path = directory / name
    named_so = path.suffix.lower() in MEDIA_ENDINGS
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
        if not named_so:
            return None
        raise ManifestError(name, "holds no known image, video or DICOM", "Copy it again or remove it")
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
