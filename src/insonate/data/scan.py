"""Scan a folder of media into a manifest, in worker processes. What cannot be read is listed with its reason.

A second scan into the same manifest reads only what is new or has another size or time of change (columns
`file_bytes` and `modified_us`), and keeps what people added: labels, splits, corrected patient ids. What a
scan that is cut off has read lies beside the manifest (`.NAME.partial`), and the next one goes on from there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from insonate.data import media, pool
from insonate.data.engines import Engine, runner
from insonate.data.journal import Journal, journal_of
from insonate.data.limits import limited, limits
from insonate.data.manifest import Manifest, Row, writer_of
from insonate.errors import InsonateError, ManifestError
from insonate.files import inside, writable
from insonate.progress import Track, untracked

STAMP = ("file_bytes", "modified_us")
"""columns by which a file is known to be unchanged"""
MEMORY_BYTES = 2 << 30
"""that the reader of a file may ask for: its header and its first frame"""


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
    kept: int = 0
    """files that were not read: unchanged since the earlier manifest, or since a scan that was cut off"""


def scan(
    directory: Path | str,
    out: Path | str | None = None,
    *,
    decode: bool = True,
    workers: int | None = None,
    seconds: float = pool.SECONDS,
    memory_bytes: int = MEMORY_BYTES,
    engine: Engine = "processes",
    track: Track = untracked,
) -> ScanResult:
    """Make a manifest of all media under a folder, by content and not by name.

    A file without a patient id of its own counts as its own patient; correct `patient_id` before splitting
    where several files are of one patient.

    Args:
        directory: searched to any depth; hidden files and folders are passed over, links to places outside
            it are errors.
        out: where to write the manifest (`.parquet` or `.csv`): in `directory` or a folder above it. One that
            is there is brought up to date.
        decode: also decode the first frame of each medium, some milliseconds a file, so that what is damaged
            behind its header is found now and not in training.
        workers: processes that read; one a core unless given.
        seconds: after which a file is given up.
        memory_bytes: a file that asks for more is given up.
        engine: where the files are read.
        track: shows the progress.

    Raises:
        ManifestError: `directory` is no folder or holds no medium that can be read, or `out` will not do.
        RunError: the engine cannot be started.
    """
    run = runner(engine)
    directory = Path(directory)
    if not directory.is_dir():
        raise ManifestError(directory, "is no folder", "Give the folder that holds the media")
    earlier: dict[str, list[Row]] = {}
    if out is not None:
        _check_place(Path(out), directory)  # before a scan of hours
        earlier = _earlier(Path(out), directory)
    task = _Task(directory=directory, decode=decode, bounds=asdict(limits()), earlier=earlier)
    read = partial(run, workers=workers, seconds=seconds, memory_bytes=memory_bytes)
    if out is None:
        return _run(task, read, track, None)
    out = Path(out)
    kind = {"decode": decode, "limits": task.bounds, "folder": os.path.relpath(directory, out.parent)}
    with journal_of(out, kind) as journal:
        result = _run(task, read, track, journal)
        result.manifest.write(out)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    directory: Path
    decode: bool
    bounds: Mapping[str, int]
    earlier: Mapping[str, list[Row]]
    """rows of the manifest that is there, by path"""


def _run(task: _Task, run: Callable[..., Any], track: Track, journal: Journal | None) -> ScanResult:
    directory, earlier = task.directory, task.earlier
    errors: list[Unread] = []
    names = list(media_names(directory, errors))
    rows = {name: list(earlier[name]) for name in names if _unchanged(directory / name, earlier.get(name))}
    as_before = set(rows)
    for name, row in (journal.rows(names) if journal else {}).items():
        if name not in rows and _unchanged(directory / name, [row]):
            rows[name] = [_merged(old, row) for old in earlier.get(name, [{}])]
    kept = len(rows)
    new = [name for name in names if name not in rows]
    read = run(partial(_look, directory, task.decode, task.bounds), new)
    for name, found in track(read, total=len(new), what=f"scan of {directory.resolve().name}"):
        if isinstance(found, InsonateError):
            errors.append(Unread(path=name, reason=f"{found.what}. {found.mend}"))
        elif found is not None:
            rows[name] = [_merged(old, found) for old in earlier.get(name, [{}])]
            if journal:
                journal.add(found)
    errors.sort(key=lambda unread: unread.path)
    manifest = _manifest(directory, [row for name in names for row in rows.get(name, [])], errors)
    changed = len((rows.keys() & earlier.keys()) - as_before)
    manifest = replace(manifest, notes=(*manifest.notes, *_notes(manifest, changed, earlier.keys() - names)))
    return ScanResult(manifest=manifest, errors=errors, kept=kept)


def _manifest(directory: Path, rows: list[Row], errors: list[Unread]) -> Manifest:
    if rows:
        return Manifest.from_rows(rows, directory)
    first = (
        f"; {len(errors)} cannot be read, the first {errors[0].path!r}: {errors[0].reason}" if errors else ""
    )
    raise ManifestError(
        directory, f"holds no readable media{first}", "Give a folder of images, videos or DICOM"
    )


def _notes(manifest: Manifest, changed: int, gone: set[str]) -> Iterator[str]:
    unnamed = len({row["path"] for row in manifest.rows if row["patient_id"] == row["path"]})
    if unnamed:
        yield f"{unnamed} files name no patient, each counts as one: correct patient_id before the split"
    if changed:
        yield f"{changed} files have changed since the earlier manifest: check that their labels hold"
    if gone:
        yield f"{len(gone)} files of the earlier manifest are left out: they are gone, as {min(gone)!r}"


def _earlier(out: Path, directory: Path) -> dict[str, list[Row]]:
    """The rows of the manifest that is there, by their path under `directory`.

    Raises:
        ManifestError: what is there is no manifest, or one of other folders too.
    """
    if not out.exists():
        return {}
    try:
        manifest = Manifest.read(out, check_files=False)
    except ManifestError as error:
        mend = f"Mend it, remove it or choose another name. {error.mend}"
        raise ManifestError(
            error.where, f"is there already and cannot be brought up to date: {error.what}", mend
        ) from None
    top = directory.resolve().relative_to(out.parent.resolve()).as_posix()
    start = "" if top == "." else f"{top}/"
    rows: dict[str, list[Row]] = {}
    for row in manifest.rows:
        if not row["path"].startswith(start):
            what = f"is there already, with media outside {directory}, such as {row['path'][:80]!r}"
            raise ManifestError(out, what, "Choose another name, or scan the folder above both")
        moved = {c: v.removeprefix(start) if v and c.endswith("path") else v for c, v in row.items()}
        rows.setdefault(moved["path"], []).append(moved)
    return rows


def _unchanged(path: Path, earlier: list[Row] | None) -> bool:
    if not earlier:
        return False
    try:
        stamp = _stamp(path.stat())
    except OSError:
        return False
    return all(row.get(column) == value for row in earlier for column, value in stamp.items())


def _stamp(status: os.stat_result) -> Row:
    return dict(zip(STAMP, (status.st_size, status.st_mtime_ns // 1000), strict=True))


def _merged(old: Row, new: Row) -> Row:
    """What the file tells, and of the earlier row what it does not, with the view that people gave it."""
    told = {column: value for column, value in new.items() if value not in {None, ""}}
    patient = new["patient_id"] or old.get("patient_id") or new["path"]
    return (
        dict.fromkeys(new, None)
        | {c: v for c, v in old.items() if c not in new}
        | told
        | {"patient_id": patient, "view": old.get("view") or new["view"]}
    )


def _check_place(out: Path, directory: Path) -> None:
    writer_of(out)
    if not directory.resolve().is_relative_to(out.parent.resolve()):
        mend = "Write it there: the paths in it start at its own folder"
        raise ManifestError(out, f"does not lie in {directory} or above it", mend)
    writable(out.parent)


def media_names(directory: Path, errors: list[Unread]) -> Iterator[str]:
    """Paths of all files under a folder but hidden ones, in order, from any depth.

    Folders that are closed, and links to folders, go to `errors`: a link may lead back to where it lies.
    """
    waiting = [directory]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            what = f"cannot be opened ({error.strerror}). Check the folder"
            errors.append(Unread(path=os.path.relpath(folder, directory), reason=what))
            continue
        folders = []
        for entry in found:
            path = Path(entry.path)
            if not _is_folder(entry):
                yield path.relative_to(directory).as_posix()
            elif entry.is_symlink():
                what = "is a link to a folder, which is not followed. Scan that folder itself"
                errors.append(Unread(path=os.path.relpath(path, directory), reason=what))
            else:
                folders.append(path)
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _look(directory: Path, decode: bool, bounds: Mapping[str, int], name: str) -> Row | None:  # noqa: FBT001  a partial
    """The facts of one file; None where it is no medium. Runs in a worker.

    Raises:
        ManifestError: its name or place cannot be used.
        MediaError: it cannot be read.
    """
    path = directory / name
    try:
        name.encode()
        inside(directory, name)
        status = path.stat()
    except UnicodeEncodeError:
        raise ManifestError(name, "has a name that is not UTF-8", "Rename it") from None
    except OSError as error:
        raise ManifestError(name, f"cannot be opened ({error.strerror})", "Check the file") from None
    if not stat.S_ISREG(status.st_mode):
        raise ManifestError(name, "is no regular file", "Remove it")
    if not media.is_media(path):
        return None
    with limited(**bounds), media.MediaFile(path) as file:
        info = file.info
        if decode:
            file.read([0])
    ids = {
        "path": name,
        "patient_id": info.patient_id,
        "study_id": info.study_id,
        "series_id": info.series_id,
        "view": info.view,
        "vendor": info.vendor,
    }
    return ids | info.columns() | _stamp(status)
