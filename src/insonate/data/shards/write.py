"""Pack a manifest into shards: items in worker processes, each shard put in place whole, with its index.

A second run into the same folder keeps the shards whose rows, files and options are unchanged. A process
that is killed leaves whole shards and nothing else; an item that cannot be read costs itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from insonate.data.columns import Row, is_path
from insonate.data.engines import Engine, runner
from insonate.data.limits import limits
from insonate.data.manifest import Manifest
from insonate.data.scan import STAMP
from insonate.data.shards.index import Index, Member, index_path, read_index, write_members
from insonate.data.shards.pack import Job, Packed, PackOptions, pack, plain_row
from insonate.data.shards.private import LEFT_OUT, Deidentify, Private
from insonate.data.shards.read import MEMBER
from insonate.data.templates import check_templates
from insonate.errors import InsonateError, ManifestError
from insonate.files import atomic_write_all, lock, sweep
from insonate.progress import Track, untracked

SECONDS = 120.0
"""that an item may take, however many frames it has"""
FORM = 1
"""of what is written: another one makes all shards anew"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What was packed."""

    manifest: Manifest
    """of the shards, as written"""
    shards: int
    kept: int
    """shards that were there already"""
    errors: list[tuple[str, str]]
    """items that are left out, with the reason"""
    notes: tuple[str, ...] = ()
    """what was odd in blanking"""
    private: Path | None = None
    """of a run without identity"""


@dataclass(slots=True)
class _Group:
    """The rows of one shard."""

    tar: Path
    made_from: str
    jobs: list[Job]
    places: dict[str, Member] = field(default_factory=dict)
    tar_bytes: int = 0
    rows: list[Row] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    private: Private | None = None


def shard(  # noqa: PLR0913 four are those of every job on an archive
    manifest: Manifest,
    out: Path | str,
    options: PackOptions | None = None,
    *,
    deidentify: Deidentify | None = None,
    templates: Path | str | None = None,
    items: int = 512,
    workers: int | None = None,
    engine: Engine = "processes",
    track: Track = untracked,
) -> ShardResult:
    """Pack the media of a manifest into `out/shard-*.tar`, with `out/manifest.parquet` for training.

    Args:
        manifest: what to pack, in this order.
        out: a folder of its own; shards in it that are current are kept.
        options: how media are stored.
        deidentify: pack what `insonate.data.deidentify` would make of each file, in the order of the
            pseudonyms; `None` packs the files as they are, with the names and labels of their rows.
        templates: file of outlines by scanner, for `crop="sector"` and `deidentify`; made where there is
            none, and added to.
        items: of the manifest in one shard.
        workers: processes that read and encode; one a core unless given.
        engine: where items are read and encoded.
        track: shows the progress.

    Raises:
        ManifestError: no item can be read, or the rows are of shards already.
        InsonateError: `out` cannot be written, or another process is writing to it; `templates` is no file of
            templates; or the private folder will not do.
        RunError: the engine cannot be started.
    """
    run = runner(engine)
    out, options = Path(out), options or PackOptions()
    if any(row.get(MEMBER) for row in manifest.rows):
        raise ManifestError(manifest.source, "is of shards already", "Give the manifest of the media")
    _check_place(out)
    templates = Path(templates).absolute() if templates is not None else None
    if templates is not None:
        check_templates(templates)
    private = None
    if deidentify is not None:
        private = Private.opened(manifest, out, deidentify)
        manifest = private.ordered(manifest)
    with lock(out / ".lock"):
        sweep(out)
        groups = _groups(manifest, out, options, items, templates, private)
        old = {group.tar: found for group in groups if (found := _current(group)) is not None}
        new = [group for group in groups if group.tar not in old]
        jobs = [job for group in new for job in group.jobs]
        packed = run(pack, jobs, workers, seconds=SECONDS)
        stream = _in_order(jobs, track(packed, total=len(jobs), what="shards"))
        for group in new:
            _write(group, stream)
        made = {group.tar: _index(group) for group in new}
        indices = [old.get(group.tar) or made[group.tar] for group in groups]
        _remove_others(out, {group.tar for group in groups})
        errors = [error for index in indices for error in index.errors]
        rows = [row for index in indices for row in index.rows]  # null is a missing coordinate, as in CSV
        if not rows:
            raise ManifestError(manifest.source, f"no item can be packed: {errors[0]}", "Check the media")
        result = Manifest.from_rows(rows, out)
        result.write(out / "manifest.parquet")
        notes = private.finish(out, [group.tar for group in groups]) if private else ()
    return ShardResult(
        manifest=result, shards=len(groups), kept=len(old), errors=errors, notes=notes,
        private=private.folder if private else None,
    )  # fmt: skip


def _groups(
    manifest: Manifest,
    out: Path,
    options: PackOptions,
    items: int,
    templates: Path | None,
    private: Private | None,
) -> list[_Group]:
    bounds = asdict(limits())
    groups = []
    for number, start in enumerate(range(0, len(manifest), items)):
        jobs = [
            Job(
                root=manifest.root,
                row=row,
                member=f"s{at:08d}",
                options=options,
                bounds=bounds,
                templates=templates,
                blanking=private.blanking if private else None,
            )
            for at, row in enumerate(manifest.rows[start : start + items], start)
        ]
        digest = _digest(manifest, jobs, options)
        groups.append(
            _Group(
                tar=out / f"shard-{number:05d}.tar",
                made_from=private.keyed(digest) if private else digest,
                jobs=jobs,
                private=private,
            )
        )
    return groups


def _digest(manifest: Manifest, jobs: list[Job], options: PackOptions) -> str:
    """Of all that a shard depends on; the files by their size and time of change."""
    keep = jobs[0].blanking.keep if jobs[0].blanking else None
    hashed = hashlib.sha256(json.dumps([FORM, asdict(options), keep]).encode())
    for job in jobs:
        stamps = []
        for column in (c for c in job.row if is_path(c) and job.row[c]):
            try:
                status = manifest.file(job.row, column).stat()
                stamps.append((status.st_size, status.st_mtime_ns))
            except OSError:
                stamps.append((0, 0))
        hashed.update(json.dumps([job.member, job.row, stamps], default=str).encode() + b"\n")
    return hashed.hexdigest()


def _current(group: _Group) -> Index | None:
    """The index of the shard that is there, if it is what this run would make."""
    try:
        index = read_index(group.tar)
        whole = group.tar.stat().st_size == index.tar_bytes
    except (InsonateError, OSError):
        return None
    noted = group.private is None or group.private.has(group.tar, group.made_from)
    return index if whole and noted and index.made_from == group.made_from else None


def _in_order(jobs: list[Job], results: Iterator[tuple[Job, Any]]) -> Iterator[tuple[Job, Any]]:
    """Results in the order of the jobs; those that are early wait."""
    early: dict[str, Any] = {}
    for job in jobs:
        while job.member not in early:
            done, result = next(results)
            early[done.member] = result
        yield job, early.pop(job.member)


def _write(group: _Group, stream: Iterator[tuple[Job, Packed | InsonateError]]) -> None:
    """One shard and its index: the index is put in place last, and says that the tar is whole."""
    told: list[Row] = []

    def members() -> Iterator[tuple[str, bytes]]:
        for job, result in itertools.islice(stream, len(group.jobs)):
            if isinstance(result, InsonateError):
                _leave_out(group, job, result, told)
                continue
            if group.private and result.blanked:
                told.append(group.private.done(job.member, job.row["path"], group.tar, result.blanked))
            group.rows.append(_shard_row(group, job, result))
            yield from result.contents

    def fill(file: BinaryIO) -> None:
        group.places, group.tar_bytes = write_members(file, members())

    def fill_index(file: BinaryIO) -> None:
        file.write(_index(group).text().encode())

    atomic_write_all({group.tar: fill, index_path(group.tar): fill_index})
    if group.private:
        group.private.write(group.tar, group.made_from, told)


def _leave_out(group: _Group, job: Job, error: InsonateError, told: list[Row]) -> None:
    reason = f"{error.what}. {error.mend}"
    if group.private is None:
        group.errors.append((job.row["path"], reason))
        return
    group.errors.append((job.member, LEFT_OUT))
    told.append({"member": job.member, "path": job.row["path"], "reason": reason})


def _shard_row(group: _Group, job: Job, packed: Packed) -> Row:
    """The row of the shards' manifest: paths name the tar."""
    row = job.row if group.private is None else dict.fromkeys(["path", *group.private.blanking.keep])
    sides = {c: group.tar.name for c in row if is_path(c) and job.row[c]}
    columns = [c for c in row if c not in STAMP]  # those are the original's
    return dict.fromkeys(columns, None) | packed.row | sides


def _index(group: _Group) -> Index:
    return Index(
        tar_bytes=group.tar_bytes,
        made_from=group.made_from,
        members=group.places,
        rows=[plain_row(row) for row in group.rows],
        errors=group.errors,
    )


def _check_place(out: Path) -> None:
    """Refuse a folder whose manifest is not one of shards: it would be lost.

    Raises:
        ManifestError: it is such a folder.
    """
    there = out / "manifest.parquet"
    if there.exists() and not any(row.get(MEMBER) for row in Manifest.read(there, check_files=False).rows):
        raise ManifestError(there, "is a manifest of other media", "Give the shards a folder of their own")


def _remove_others(out: Path, tars: set[Path]) -> None:
    """Shards of an earlier, longer manifest."""
    for tar in out.glob("shard-*.tar"):
        if tar not in tars:
            index_path(tar).unlink(missing_ok=True)
            tar.unlink()
