"""De-identify an archive in worker processes: keyed names, new headers, all pixels blank but the echoes.

Two folders come of it. OUT holds media, `manifest.parquet` and `audit.csv`, and nothing of the originals, not
their names either. The private one (OUT.private) holds the key, `done.jsonl` (which original became which
file: also the state from which a run that was cut off goes on), `errors.jsonl` and pictures before and after.

Nothing is passed on as bytes: every medium is decoded, blanked and written anew, so that comments, private
elements and padding have no way through.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insonate.data import media
from insonate.data.dicom_profile import cleaned_dicom, known_vendor
from insonate.data.engines import Engine, runner
from insonate.data.limits import limited, limits
from insonate.data.manifest import Manifest, Row
from insonate.data.media.info import MediaInfo
from insonate.data.overlays import Box, Mask, find_text
from insonate.data.pseudonyms import Pseudonyms, read_key
from insonate.data.review import thumbnail, write_sheets
from insonate.data.scan import Unread, media_names
from insonate.data.sector import Sector, find_sector
from insonate.data.templates import Templates, check_templates
from insonate.errors import InsonateError
from insonate.files import append, atomic_write, inside, lock, told, writable
from insonate.progress import Track, untracked

SECONDS = 120.0
"""that a file may take: all frames are decoded, blanked and coded again"""
TIMED = frozenset({"m-mode", "spectral", "trace", "ecg"})
"""regions that stay beside the picture of tissue"""
NO_ECHOES = "none"
"""shape in the audit of a file in which no area of echoes was found: its whole frame is blanked"""
AUDIT = ("path", "read_as", "shape", "fit", "kept_share", "text_boxes", "note")


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
    private = Path(private) if private is not None else out.with_name(out.name + ".private")
    _check_places(folder, out, private)
    templates = Path(templates).absolute() if templates is not None else None
    if templates is not None:
        check_templates(templates)
    with told(private):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        manifest=manifest, errors=errors, private=task.private, kept=kept, notes=tuple(_notes(made))
    )


def _finish(task: _Task, done: Mapping[str, _Cleaned], errors: list[Unread]) -> None:
    errors.sort(key=lambda unread: unread.path)
    lines = [json.dumps({"path": unread.path, "reason": unread.reason}) + "\n" for unread in errors]
    atomic_write(task.private / "errors.jsonl", "".join(lines))
    if done:
        audit = sorted((cleaned.audit for cleaned in done.values()), key=lambda row: row["path"])
        atomic_write(task.out / "audit.csv", _table(audit))
        write_sheets(task.private, audit)


def _notes(made: Iterable[_Cleaned]) -> Iterable[str]:
    audits = [cleaned.audit for cleaned in made]
    if empty := sum(audit["shape"] == NO_ECHOES for audit in audits):
        yield f"{empty} files show no area of echoes and were blanked entirely: look at their pictures"
    if unsure := sum(audit["shape"] == "other" for audit in audits):
        yield f"{unsure} files have an outline that is no sector and no rectangle: look at their pictures"
    if texts := sum(audit["text_boxes"] > 0 for audit in audits):
        yield f"{texts} files had writing within the echoes, which was blanked: look whether more is left"


def _table(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, AUDIT, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_places(folder: Path, out: Path, private: Path) -> None:
    """Refuse folders that lie within each other.

    Raises:
        InsonateError: they do, or the first is no folder.
    """
    if not folder.is_dir():
        raise InsonateError(folder, "is no folder", "Give the folder that holds the media")
    places = {
        "the originals": folder.resolve(),
        "the output": out.resolve(),
        "the private folder": private.resolve(),
    }
    for name, place in places.items():
        for other, within in places.items():
            if name != other and within.is_relative_to(place):
                what = f"{other} would lie in the folder of {name}"
                raise InsonateError(within, what, "Choose folders beside each other")
    writable(out)
    writable(private)


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
    names = Pseudonyms(task.key)
    with limited(**task.bounds), media.MediaFile(path) as file:
        info, frames = file.info, file.read()
        frames = frames if frames.flags.writeable else frames.copy()
    sectors = _sectors(frames, info, Templates.of(task.templates, info) if task.templates else None)
    before = thumbnail(frames)
    keep = _kept(sectors, info)
    written = find_text(frames)
    texts = [box for box in written if keep[box[1] : box[3], box[0] : box[2]].any()]
    for left, top, right, bottom in texts:
        keep[top:bottom, left:right] = False
    frames[:, ~keep] = 0
    patient = names.patient(info.patient_id or name)
    target = Path("media") / patient / names.file(name)
    output, note = _write(task, target, name, path, info, frames, patient)
    atomic_write(task.private / "pictures" / f"{target.name}.png", _pair(before, thumbnail(frames)))
    worst = min(sectors, key=lambda sector: sector.fit, default=None)
    audit: Row = {
        "path": output.as_posix(), "read_as": info.kind,
        "shape": worst.shape if worst else NO_ECHOES, "fit": round(worst.fit, 3) if worst else 0.0,
        "kept_share": round(float(keep.mean()), 3), "text_boxes": len(texts), "note": note,
    }  # fmt: skip
    return _Cleaned(row=_row(names, name, info, output, patient), audit=audit)


def _sectors(frames: np.ndarray, info: MediaInfo, templates: Templates | None) -> list[Sector]:
    """Of each calibrated picture of tissue; else of the whole frame."""
    calibrated: dict[str, list[Box]] = {region.name: [] for region in info.regions}
    for region in info.regions:
        if region.across is not None:  # else it does not fit the frame
            calibrated[region.name].append(region.box)
    boxes = dict.fromkeys(calibrated.get("2d") or calibrated.get("colour") or [])
    found = [find_sector(frames, box, templates=templates) for box in boxes]
    if boxes:
        return [
            sector for sector in found if sector is not None
        ]  # the rest of the frame is what the scanner itself holds for no picture
    whole = find_sector(frames, templates=templates)
    return [] if whole is None else [whole]


def _kept(sectors: list[Sector], info: MediaInfo) -> Mask:
    keep = np.zeros((info.height, info.width), bool)
    for sector in sectors:
        keep |= sector.mask
    for region in info.regions:
        if region.name in TIMED and region.across is not None:
            left, top, right, bottom = region.box
            keep[top:bottom, left:right] = True
    return keep


def _write(
    task: _Task, target: Path, name: str, path: Path, info: MediaInfo, frames: np.ndarray, patient: str
) -> tuple[Path, str]:
    """Write the frames in the form that fits; the file, relative to OUT, and what was lost."""
    if info.kind == "dicom":
        written = target.with_suffix(".dcm")
        data = cleaned_dicom(path, name, frames, Pseudonyms(task.key), patient)
        atomic_write(task.out / written, data)
        return written, ""
    if len(frames) == 1:
        written = target.with_suffix(".png")
        media.write_png(task.out / written, frames[0])
        return written, ""
    if info.fps is not None:
        written = target.with_suffix(".mp4")
        height, width = (side // 2 * 2 for side in frames.shape[1:3])
        media.write_video(task.out / written, frames[:, :height, :width], info.fps)
        return written, "coded again as H.264"
    written = target.with_suffix(".tif")
    atomic_write(task.out / written, _pages(frames))
    return written, "poses, if there were any, are left out" if info.kind == "volume" else ""


def _pages(frames: np.ndarray) -> bytes:
    content = io.BytesIO()
    first, *others = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    first.save(content, "TIFF", save_all=True, append_images=others, compression="tiff_deflate")
    return content.getvalue()


def _pair(before: Image.Image, after: Image.Image) -> bytes:
    picture = Image.new("RGB", (before.width + after.width, before.height))
    picture.paste(before, (0, 0))
    picture.paste(after, (before.width, 0))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _row(names: Pseudonyms, name: str, info: MediaInfo, written: Path, patient: str) -> Row:
    kinds = {".dcm": "dicom", ".png": "image", ".mp4": "video", ".tif": "image"}
    height, width = info.height, info.width
    if written.suffix == ".mp4":
        height, width = height // 2 * 2, width // 2 * 2
    return {
        "path": written.as_posix(),
        "kind": kinds[written.suffix],
        "patient_id": patient,
        "study_id": names.uid(info.study_id or f"StudyInstanceUID of {name}"),
        "series_id": names.uid(info.series_id or f"SeriesInstanceUID of {name}"),
        "vendor": known_vendor(info.vendor),
        "frames": info.frames,
        "fps": info.fps,
        "height": height,
        "width": width,
        "spacing_row_mm": info.spacing.row_mm if info.spacing else None,
        "spacing_col_mm": info.spacing.col_mm if info.spacing else None,
    }
