"""One medium without identity: decoded, blanked but for its echoes, coded anew, with pseudonyms in its row.

Nothing is passed on as bytes, so that comments, private elements and padding have no way through.

Shapes: T frames, H W pixels, 3 = RGB.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from insonate.data.dicom_profile import cleaned_dicom, known_vendor
from insonate.data.manifest import Row
from insonate.data.media import MediaFile, MediaInfo
from insonate.data.media.writing import png_bytes, video_bytes
from insonate.data.overlays import Box, Mask, find_text
from insonate.data.pseudonyms import Pseudonyms
from insonate.data.review import pair, thumbnail
from insonate.data.sector import Sector, find_sector
from insonate.data.templates import Templates

TIMED = frozenset({"m-mode", "spectral", "trace", "ecg"})
"""regions that stay beside the picture of tissue"""
NO_ECHOES = "none"
"""shape in the audit of a file in which no area of echoes was found: its whole frame is blanked"""
AUDIT = ("path", "read_as", "shape", "fit", "kept_share", "text_boxes", "note")
KINDS = {".dcm": "dicom", ".png": "image", ".mp4": "video", ".tif": "image"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blanked:
    """A medium as it may be handed on, and what was done to it."""

    data: bytes = field(repr=False)
    """of the new file"""
    row: Row
    """of a manifest: pseudonyms, sizes, times, calibration; `path` is `media/PATIENT/FILE` in pseudonyms"""
    audit: Row
    """outline, share of the frame that is kept, writing found: the columns of `AUDIT`"""
    picture: bytes = field(repr=False)
    """PNG, before beside after: shows the original"""


def blanked(
    path: Path, name: str, names: Pseudonyms, *, patient_id: str = "", templates: Path | None = None
) -> Blanked:
    """Read one medium and make it anew without identity.

    Args:
        path: the original.
        name: its path within the archive, which stands for ids that it lacks.
        names: pseudonyms.
        patient_id: whose it is, where that is known better than the file tells.
        templates: file of outlines by scanner.

    Raises:
        MediaError: it cannot be read.
        InsonateError: `templates` is another file, or cannot be written.
    """
    with MediaFile(path) as file:
        info, frames = file.info, file.read()
        frames = frames if frames.flags.writeable else frames.copy()
    sectors = _sectors(frames, info, Templates.of(templates, info) if templates else None)
    before = thumbnail(frames)
    keep = _kept(sectors, info)
    texts = [box for box in find_text(frames, _flow(info)) if keep[box[1] : box[3], box[0] : box[2]].any()]
    for left, top, right, bottom in texts:
        keep[top:bottom, left:right] = False
    frames[:, ~keep] = 0
    patient = names.patient(patient_id or info.patient_id or name)
    data, suffix, note = _coded(frames, info, path, name, names, patient)
    target = Path("media") / patient / f"{names.file(name)}{suffix}"
    worst = min(sectors, key=lambda sector: sector.fit, default=None)
    audit: Row = {
        "path": target.as_posix(), "read_as": info.kind,
        "shape": worst.shape if worst else NO_ECHOES, "fit": round(worst.fit, 3) if worst else 0.0,
        "kept_share": round(float(keep.mean()), 3), "text_boxes": len(texts), "note": note,
    }  # fmt: skip
    row = _row(names, name, info, target, patient)
    return Blanked(data=data, row=row, audit=audit, picture=pair(before, thumbnail(frames)))


def audit_table(rows: Iterable[Row]) -> str:
    """The audits as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, AUDIT, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def audit_notes(audits: Sequence[Row]) -> Iterator[str]:
    """What people should look at."""
    if empty := sum(audit["shape"] == NO_ECHOES for audit in audits):
        yield f"{empty} files show no area of echoes and were blanked entirely: look at their pictures"
    if unsure := sum(audit["shape"] == "other" for audit in audits):
        yield f"{unsure} files have an outline that is no sector and no rectangle: look at their pictures"
    if texts := sum(audit["text_boxes"] > 0 for audit in audits):
        yield f"{texts} files had writing within the echoes, which was blanked: look whether more is left"


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


def _flow(info: MediaInfo) -> list[Box]:
    """Where the file says that Doppler colour is."""
    return [region.box for region in info.regions if region.name == "colour" and region.across is not None]


def _kept(sectors: list[Sector], info: MediaInfo) -> Mask:
    keep = np.zeros((info.height, info.width), bool)
    for sector in sectors:
        keep |= sector.mask
    for region in info.regions:
        if region.name in TIMED and region.across is not None:
            left, top, right, bottom = region.box
            keep[top:bottom, left:right] = True
    return keep


def _coded(
    frames: np.ndarray, info: MediaInfo, path: Path, name: str, names: Pseudonyms, patient: str
) -> tuple[bytes, str, str]:
    """The frames in the form that fits: bytes, ending of the file, what was lost."""
    if info.kind == "dicom":
        return cleaned_dicom(path, name, frames, names, patient), ".dcm", ""
    if len(frames) == 1:
        return png_bytes(path, frames[0]), ".png", ""
    if info.fps is not None:
        height, width = (side // 2 * 2 for side in frames.shape[1:3])
        return video_bytes(path, frames[:, :height, :width], info.fps), ".mp4", "coded again as H.264"
    note = "poses, if there were any, are left out" if info.kind == "volume" else ""
    return _pages(frames), ".tif", note


def _pages(frames: np.ndarray) -> bytes:
    content = io.BytesIO()
    first, *others = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    first.save(content, "TIFF", save_all=True, append_images=others, compression="tiff_deflate")
    return content.getvalue()


def _row(names: Pseudonyms, name: str, info: MediaInfo, target: Path, patient: str) -> Row:
    row = {
        "path": target.as_posix(),
        "patient_id": patient,
        "study_id": names.uid(info.study_id or f"StudyInstanceUID of {name}"),
        "series_id": names.uid(info.series_id or f"SeriesInstanceUID of {name}"),
        "vendor": known_vendor(info.vendor),
        **info.columns(),
        "kind": KINDS[target.suffix],
    }
    if target.suffix == ".mp4":
        row |= {"height": info.height // 2 * 2, "width": info.width // 2 * 2}
    return row
