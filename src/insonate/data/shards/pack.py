"""What one item of a manifest becomes in a shard: grey JPEG frames, masks, its row. Runs in worker processes.

Without identity it is what `deidentify` would make of the item's file, packed: one path for both.

Shapes: T frames, H W pixels, 3 = RGB. Pixel coordinates: (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from insonate.data.blanking import Blanked, blanked
from insonate.data.columns import COLUMNS, TEXT, Row, is_path, is_points
from insonate.data.dicom_profile import known_vendor
from insonate.data.limits import limited
from insonate.data.media import MediaFile
from insonate.data.pseudonyms import Pseudonyms
from insonate.data.scan import STAMP
from insonate.data.sector import Sector, find_sector
from insonate.data.shards.read import MEMBER, frame_name, side_name
from insonate.data.spacing import Spacing, spacing_or_none
from insonate.data.templates import Templates
from insonate.errors import ManifestError
from insonate.files import inside

STAYING = ("frames", "fps", "spacing_row_mm", "spacing_col_mm", "frame", "split")
"""columns of a row that stay without identity; others must be asked for"""
CHUNK = 16
"""frames held at a time in their original size"""
BESIDE = 0.05
"""of the longer side: as far beside the sector may a point lie, such as the end of a head that is cut"""
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How media are stored."""

    size_px: int | None = 256
    """longest side after resizing; smaller media are not enlarged, `None` keeps all as they are"""
    quality: int = 92
    """of the JPEG, 1 to 95"""
    colour: bool = False
    """keep colour; else the luma is stored"""
    crop: Literal["none", "sector"] = "none"
    """`sector`: to the insonified region, black outside it; where none is found, to the pictures of tissue
    that a DICOM's regions name, else not at all"""
    loops: bool = False
    """keep all frames of a loop where a row labels one of them; else that one alone is kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blanking:
    """How items lose their identity."""

    key: bytes = field(repr=False)
    """of the pseudonyms"""
    keep: tuple[str, ...] = ()
    """label columns that stay as they are: whoever names one vouches for what it holds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One item to pack."""

    root: Path
    """folder that the paths of the row are relative to"""
    row: Row
    member: str
    """its name in the shard"""
    options: PackOptions
    bounds: Mapping[str, int]
    """limits in force"""
    templates: Path | None = None
    """file of outlines by scanner"""
    blanking: Blanking | None = None
    """`None`: with what identity there is"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An item as it goes into a shard."""

    row: Row
    """without `path` and the other paths: those name the tar"""
    contents: list[tuple[str, bytes]] = field(repr=False)
    """names in the tar, and what is written"""
    blanked: Blanked | None = field(default=None, repr=False)
    """what was blanked, without its bytes"""


def pack(job: Job) -> Packed:
    """Read, crop, resize and encode one item; its row is brought to the new pixels.

    Points, spacing, size and number of frames follow. Of a row that labels one frame, that frame alone is
    kept unless the options keep loops.

    Raises:
        MediaError: the medium cannot be read.
        ManifestError: its mask or its points do not fit it.
    """
    path = inside(job.root, job.row["path"])
    with limited(**job.bounds):
        if job.blanking is None:
            with MediaFile(path) as file:
                return _packed(job, job.row, file)
        names, name = Pseudonyms(job.blanking.key), job.row["path"]
        made = blanked(path, name, names, patient_id=job.row["patient_id"], templates=job.templates)
        row = _row_without_identity(job.row, made.row, names, job.blanking.keep)
        with MediaFile(Path(made.row["path"]), io.BytesIO(made.data)) as file:
            return replace(_packed(job, row, file), blanked=replace(made, data=b""))


def _row_without_identity(row: Row, made: Row, names: Pseudonyms, keep: tuple[str, ...]) -> Row:
    """The row of the blanked file, with what else of the item's own may stay."""
    stays = {c: row[c] for c in STAYING if row.get(c) not in {None, ""}}
    ids = {c: names.uid(row[c]) for c in ("study_id", "series_id") if row[c]}
    vendor = known_vendor(row["vendor"]) or made["vendor"]
    blank = {c: "" if c in TEXT else None for c in COLUMNS}
    return blank | made | stays | ids | {c: row[c] for c in keep} | {"vendor": vendor}


def _packed(job: Job, row: Row, file: MediaFile) -> Packed:
    """The item that `file` holds, under this row."""
    info = file.info
    whole = job.options.loops or row.get("frame") is None
    chosen = range(info.frames) if whole else [int(row["frame"])]
    box, sector = _kept(file, job, row)
    size = _size(box, job.options.size_px)
    contents = []
    for at in range(0, len(chosen), CHUNK):
        frames = file.read(chosen[at : at + CHUNK], grey=not job.options.colour)
        frames = frames if sector is None else sector.masked(frames)
        for number, frame in enumerate(frames, at):
            data = _jpeg(_resized(frame, box, size), job.options.quality)
            contents.append((frame_name(job.member, number), data))
    spacing = spacing_or_none(row["spacing_row_mm"], row["spacing_col_mm"]) or info.spacing
    if info.frame_spacings:  # of one frame it is known, of a clip it is not one number
        spacing = info.frame_spacings[chosen[0]] if len(chosen) == 1 else None
    contents += _sides(job, row, (info.height, info.width), box, size)
    new = {c: _moved(v, box, size, row) if is_points(c, v) else v for c, v in row.items()}
    new |= _facts(box, size, spacing, len(chosen))
    new["fps"] = (row["fps"] or info.fps) if len(chosen) > 1 else None
    new = {c: v for c, v in new.items() if not is_path(c) and c not in STAMP} | {MEMBER: job.member}
    if "frame" in row and not whole:
        new["frame"] = None if row["frame"] is None else 0
    contents.append((f"{job.member}.json", json.dumps(plain_row(new), sort_keys=True).encode()))
    return Packed(row=new, contents=contents)


def _kept(file: MediaFile, job: Job, row: Row) -> tuple[Box, Sector | None]:
    """Left, top, right, bottom of what is kept, and the sector that it is cropped to.

    That is the whole frame where points lie beside the sector, as in the other half of a split screen.
    """
    frame = whole = (0, 0, file.info.width, file.info.height)
    if job.options.crop == "none":
        return frame, None
    boxes = [r.box for r in file.info.regions if r.name in {"2d", "colour"}]
    if boxes:
        left, top, right, bottom = zip(*boxes, strict=True)
        whole = min(left), min(top), max(right), max(bottom)
    looked_at = np.unique(np.linspace(0, file.info.frames - 1, CHUNK).astype(int))
    templates = Templates.of(job.templates, file.info) if job.templates else None
    sector = find_sector(file.read(looked_at.tolist(), grey=True), whole, templates=templates)
    box = whole if sector is None else sector.box
    return (box, sector) if _holds(box, frame, row) else (frame, None)


def _holds(box: Box, frame: Box, row: Row) -> bool:
    """Whether all points of the row that lie in the frame lie in the box too, or hardly beside it."""
    slack = BESIDE * max(frame)
    for points in (value for column, value in row.items() if is_points(column, value)):
        for x, y in zip(points[::2], points[1::2], strict=False):
            within = frame[0] <= x < frame[2] and frame[1] <= y < frame[3]
            near = box[0] - slack <= x < box[2] + slack and box[1] - slack <= y < box[3] + slack
            if within and not near:
                return False
    return True


def _size(box: Box, size_px: int | None) -> tuple[int, int]:
    """Width and height after resizing."""
    width, height = box[2] - box[0], box[3] - box[1]
    if size_px is None or max(width, height) <= size_px:
        return width, height
    scale = size_px / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(frame: np.ndarray, box: Box, size: tuple[int, int]) -> Image.Image:
    left, top, right, bottom = box
    image = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)  # antialiased


def _jpeg(image: Image.Image, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality, subsampling=0)
    return content.getvalue()


def _sides(
    job: Job, row: Row, hw: tuple[int, int], box: Box, size: tuple[int, int]
) -> Iterator[tuple[str, bytes]]:
    """Masks and other pictures of the row, cut and scaled as the medium, without mixing their values.

    Raises:
        ManifestError: one is not of the medium's size.
    """
    for column in (c for c in row if c != "path" and is_path(c) and row[c]):
        with MediaFile(inside(job.root, row[column])) as file:
            picture = np.asarray(file.read([0])[0])
        if job.blanking is not None and tuple(side // 2 * 2 for side in picture.shape[:2]) == hw:
            picture = picture[: hw[0], : hw[1]]  # as a video of odd size, which is coded anew
        if picture.shape[:2] != hw:
            what = f"is {picture.shape[0]}×{picture.shape[1]} px, its image {hw[0]}×{hw[1]}"
            raise ManifestError(row[column], what, "Make them the same size")
        left, top, right, bottom = box
        image = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
        content = io.BytesIO()
        image.resize(size, Image.Resampling.NEAREST).save(content, "PNG")
        yield side_name(job.member, column), content.getvalue()


def _moved(points: list[float], box: Box, size: tuple[int, int], row: Row) -> list[float]:
    """Points x0, y0, x1, y1, … in the new pixels.

    Raises:
        ManifestError: a coordinate has no partner.
    """
    if len(points) % 2:
        what = f"holds a list of {len(points)} numbers"
        raise ManifestError(row["path"], what, "Lists are points: write [x0, y0, x1, y1]")
    scale = np.array([size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1])])
    xy = np.asarray(points, np.float64).reshape(-1, 2)  # K 2
    return [float(v) for v in ((xy - box[:2] + 0.5) * scale - 0.5).ravel()]


def _facts(box: Box, size: tuple[int, int], spacing: Spacing | None, frames: int) -> Row:
    width, height = size
    return {
        "kind": "video" if frames > 1 else "image",
        "frames": frames,
        "height": height,
        "width": width,
        "spacing_row_mm": spacing.row_mm * (box[3] - box[1]) / height if spacing else None,
        "spacing_col_mm": spacing.col_mm * (box[2] - box[0]) / width if spacing else None,
    }


def plain_row(row: Row) -> dict[str, Any]:
    """The row for JSON: missing coordinates are null."""
    return {
        c: [None if isnan(v) else v for v in value] if isinstance(value, list) else value
        for c, value in row.items()
    }
