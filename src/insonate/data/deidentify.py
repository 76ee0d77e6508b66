"""De-identify an archive in worker processes: keyed names, new headers, all pixels blank but the echoes.

Two folders come of it. OUT holds media, `manifest.parquet` and `audit.csv`, and nothing of the originals, not
their names either. The private one (OUT.private) holds the key, `done.jsonl` (which original became which
file: also the state from which a run that was cut off goes on), `errors.jsonl` and pictures before and after.

Nothing is passed on as bytes: every medium is decoded, blanked and written anew, so that comments, private
elements and padding have no way through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from insonate.data import media
from insonate.data.blanking import audit_notes, audit_table, blanked
from insonate.data.engines import Engine, runner
from insonate.data.limits import limited, limits
from insonate.data.manifest import Manifest, Row
from insonate.data.private import private_folder
from insonate.data.pseudonyms import Pseudonyms, read_key
from insonate.data.review import PICTURES, write_sheets
from insonate.data.scan import Unread, media_names
from insonate.data.templates import check_templates
from insonate.errors import InsonateError
from insonate.files import append, atomic_write, inside, lock, told
from insonate.progress import Track, untracked

SECONDS = 120.0
"""that a file may take: all frames are decoded, blanked and coded again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentified:
    """What a run made."""

    manifest: Manifest
    errors: list[Unread]
    """originals that were left out; their paths may name people"""
    private: Path
    kept: int = 0
    """files that an earlier run had made already"""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a worker needs to know."""

    folder: Path
    out: Path
    private: Path
    key: bytes
    bounds: Mapping[str, int]
    templates: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cleaned:
    row: Row
    audit: Row


def deidentify(
    folder: Path | str,
    out: Path | str,
    *,
    private: Path | str | None = None,
    key: Path | str | None = None,
    templates: Path | str | None = None,
    workers: int | None = None,
    engine: Engine = "processes",
    track: Track = untracked,
) -> Deidentified:
    """Write an archive without identity.

    The same key gives the same pseudonyms, so a second run, or another part of the archive, fits the first.
    Files that an earlier run has made are passed over if their originals are unchanged.

    Args:
        folder: the originals; searched to any depth, hidden ones are passed over.
        out: where the clean archive goes; outside `folder`.
        private: for what leads back to the originals; beside `out` unless given. Never hand it on.
        key: file of the secret key; in `private` unless given. Made where there is none.
        templates: file of outlines by scanner; made where there is none, and added to.
        workers: processes; one a core unless given.
        engine: where the files are cleaned.
        track: shows the progress.

    Raises:
        InsonateError: `folder` holds no medium that could be cleaned, the folders lie within each other, or
            `private` belongs to a run with another key; or `templates` is no file of templates.
        RunError: the engine cannot be started.
    """
    run = partial(runner(engine), workers=workers, seconds=SECONDS)
    folder, out = Path(folder), Path(out)
    templates = Path(templates).absolute() if templates is not None else None
    if templates is not None:
        check_templates(templates)
    private = private_folder(folder, out, private)
    with lock(private / "lock"):
        secret = read_key(Path(key) if key is not None else private / "key")
        task = _Task(
            folder=folder, out=out, private=private, key=secret, bounds=asdict(limits()), templates=templates
        )
        return _run(task, run, track)


def _run(task: _Task, run: Callable[..., Any], track: Track) -> Deidentified:
    errors: list[Unread] = []
    names = list(media_names(task.folder, errors))
    journal = _Journal(task)
    done = journal.unchanged(names)
    kept = len(done)
    new = [name for name in names if name not in done]
    work = run(partial(_clean, task), new)
    for name, cleaned in track(work, total=len(new), what="de-identification"):
        if isinstance(cleaned, InsonateError):
            errors.append(Unread(path=name, reason=f"{cleaned.what}. {cleaned.mend}"))
        elif cleaned is not None:
            journal.add(name, cleaned)
            done[name] = cleaned
    _finish(task, done, errors)
    made = [done[name] for name in sorted(done)]
    if not made:
        first = f"; {len(errors)} files were left out, see {task.private / 'errors.jsonl'}" if errors else ""
        mend = "Give a folder of images, videos or DICOM"
        raise InsonateError(task.folder, f"holds no medium that could be de-identified{first}", mend)
    manifest = Manifest.from_rows(sorted((c.row for c in made), key=lambda row: row["path"]), task.out)
    manifest.write(task.out / "manifest.parquet")
    return Deidentified(
        manifest=manifest, errors=errors, private=task.private, kept=kept,
        notes=tuple(audit_notes([cleaned.audit for cleaned in made])),
    )  # fmt: skip


def _finish(task: _Task, done: Mapping[str, _Cleaned], errors: list[Unread]) -> None:
    errors.sort(key=lambda unread: unread.path)
    lines = [json.dumps({"path": unread.path, "reason": unread.reason}) + "\n" for unread in errors]
    atomic_write(task.private / "errors.jsonl", "".join(lines))
    if done:
        audit = sorted((cleaned.audit for cleaned in done.values()), key=lambda row: row["path"])
        atomic_write(task.out / "audit.csv", audit_table(audit))
        write_sheets(task.private, audit)


class _Journal:
    """`done.jsonl`: a line for each file that was made."""

    def __init__(self, task: _Task) -> None:
        self._task, self._path = task, task.private / "done.jsonl"
        self._fingerprint = Pseudonyms(task.key).fingerprint

    def unchanged(self, names: list[str]) -> dict[str, _Cleaned]:
        """What earlier runs made of files that are still the same.

        Raises:
            InsonateError: they had another key.
        """
        found: dict[str, _Cleaned] = {}
        if not self._path.exists():
            return found
        wanted = set(names)
        with told(self._path), self._path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                entry = self._entry(line)
                if entry is None or entry["path"] not in wanted:
                    continue
                same = entry["stamp"] == _stamp(self._task.folder / entry["path"])
                if same and (self._task.out / entry["row"]["path"]).is_file():
                    found[entry["path"]] = _Cleaned(row=entry["row"], audit=entry["audit"])
        return found

    def add(self, name: str, cleaned: _Cleaned) -> None:
        """Note a file that is made."""
        entry = {
            "path": name, "stamp": _stamp(self._task.folder / name), "key": self._fingerprint,
            "row": cleaned.row, "audit": cleaned.audit,
        }  # fmt: skip
        append(self._path, (json.dumps(entry) + "\n").encode())

    def _entry(self, line: str) -> Any:
        try:
            entry = json.loads(line)
        except ValueError:  # cut by a kill
            return None
        if entry["key"] != self._fingerprint:
            what = "belongs to a run with another key"
            raise InsonateError(self._path, what, "Give that key, or another output folder")
        return entry


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns // 1000]


# -------------------------------------------------------------------------------------------- in a worker


def _clean(task: _Task, name: str) -> _Cleaned | None:
    """Write one file anew; None where it is no medium.

    Raises:
        InsonateError: it cannot be written.
        MediaError: it cannot be read.
    """
    path = inside(task.folder, name)
    if not media.is_media(path):
        return None
    with limited(**task.bounds):
        made = blanked(path, name, Pseudonyms(task.key), templates=task.templates)
    written = task.out / made.row["path"]
    atomic_write(written, made.data)
    atomic_write(task.private / PICTURES / f"{written.stem}.png", made.picture)
    return _Cleaned(row=made.row, audit=made.audit)
