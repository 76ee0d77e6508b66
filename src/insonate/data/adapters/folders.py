"""Folders in common shapes as manifests: a folder a class, images with masks, images with points."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from insonate.data import media
from insonate.data.adapters.tables import finite, published, read_table
from insonate.data.manifest import Manifest, Row
from insonate.data.scan import STAMP, scan
from insonate.errors import ManifestError


def image_folder(root: Path | str, out: Path | str | None = None) -> Manifest:
    """`root/CLASS/…media`: column `label` is the first folder's name.

    A file counts as its own patient, unless it is a DICOM that names one.

    Args:
        root: holds one folder a class.
        out: a new folder for copies of the media and `manifest.parquet`; none leaves all in place.

    Raises:
        ManifestError: no media, or media outside the class folders, or some that cannot be read.
    """
    root = Path(root)
    rows = _scanned(root)
    for row in rows:
        name, slash, _ = row["path"].partition("/")
        if not slash:
            raise ManifestError(
                root, f"{name!r} lies in no class folder", "Put each medium in its class folder"
            )
        row["label"] = name
    return published(rows, root, out)


def image_mask_folder(images: Path | str, masks: Path | str, out: Path | str | None = None) -> Manifest:
    """Images and masks of the same name (a mask may add `_mask`, `_seg`, `_gt` or `_Annotation`).

    Column `mask_path` is the mask; an image without one has none. A file counts as its own patient.

    Args:
        images: folder of images.
        masks: folder of masks, H W class numbers, of the images' sizes.
        out: a new folder for copies of the media and `manifest.parquet`; none leaves all in place.

    Raises:
        ManifestError: no image has a mask, a name fits two, or an image cannot be read.
    """
    images, masks = Path(images).resolve(), Path(masks).resolve()
    if not masks.is_dir():
        raise ManifestError(masks, "is no folder", "Give the folder that holds the masks")
    root = Path(os.path.commonpath([images, masks]))
    found: dict[str, Path] = {}
    for path in sorted(p for p in masks.rglob("*") if p.is_file() and media.is_media(p)):
        stem = path.relative_to(masks).with_name(re.sub(r"(?i)[_-](mask|seg|gt|annotation)$", "", path.stem))
        if str(stem) in found:
            raise ManifestError(
                path, f"and {found[str(stem)].name} are masks of one image", "Keep one of them"
            )
        found[str(stem)] = path
    rows = _scanned(images)
    for row in rows:
        mask = found.get(str(Path(row["path"]).with_suffix("")))
        row["path"] = (images / row["path"]).relative_to(root).as_posix()
        row["mask_path"] = mask.relative_to(root).as_posix() if mask else None
    if not any(row["mask_path"] for row in rows):
        raise ManifestError(masks, f"no mask has the name of an image in {images}", "Name them alike")
    if images == masks or masks in images.parents:
        raise ManifestError(masks, "is also where the images are", "Keep images and masks in two folders")
    return published(rows, root, out)


def keypoint_csv(table: Path | str, images: Path | str, out: Path | str | None = None) -> Manifest:
    """A table with one row an image and columns `NAME_x`, `NAME_y`: column `keypoints`, in the table's order.

    The first column that is called path, file, image_path, image_name, image or filename names the image;
    patient_id, subject or patient, and split, view, site, vendor, spacing_row_mm, spacing_col_mm and
    mm_per_px are used where they are there. Empty cells are missing points.

    Args:
        table: CSV, UTF-8.
        images: folder that the names are relative to.
        out: a new folder for copies of the media and `manifest.parquet`; none leaves all in place.

    Raises:
        ManifestError: no such columns, a cell that is no number, or an image that is not there.
    """
    table, images = Path(table), Path(images)
    cells = read_table(table)
    header = list(cells[0])
    file_column = next(
        (c for c in header if c in {"path", "file", "image_path", "image_name", "image", "filename"}), None
    )
    names = [c[:-2] for c in header if c.endswith("_x") and f"{c[:-2]}_y" in header]
    if file_column is None or not names:
        raise ManifestError(
            table, f"has the columns {', '.join(header[:8])}", "Name them file, NAME_x, NAME_y, …"
        )
    patient_column = next((c for c in ("patient_id", "subject", "patient") if c in header), None)
    rows: list[Row] = []
    for number, cell in enumerate(cells, 1):
        where = f"{table}, row {number}"
        name = cell[file_column].replace("\\", "/")
        spacing = finite(cell.get("mm_per_px"), where, "mm_per_px")
        rows.append(
            {
                "path": name,
                "patient_id": cell[patient_column] if patient_column else name,
                **{c: cell.get(c, "") for c in ("split", "view", "site", "vendor")},
                "spacing_row_mm": finite(cell.get("spacing_row_mm"), where, "spacing_row_mm") or spacing,
                "spacing_col_mm": finite(cell.get("spacing_col_mm"), where, "spacing_col_mm") or spacing,
                "keypoints": [
                    math.nan if (v := finite(cell[f"{n}_{axis}"], where, f"{n}_{axis}")) is None else v
                    for n in names
                    for axis in "xy"
                ],
            }
        )
    return published(rows, images, out, note=f"keypoints: {', '.join(names)}")


def _scanned(root: Path) -> list[Row]:
    result = scan(root)
    if result.errors:
        first = result.errors[0]
        raise ManifestError(
            root / first.path,
            f"cannot be read: {first.reason} ({len(result.errors)} such files)",
            "Remove them",
        )
    return [{c: v for c, v in row.items() if c not in STAMP} for row in result.manifest.rows]
