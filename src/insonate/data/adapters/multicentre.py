"""The multi-centre fetal biometry set: heads, abdomens and femurs of three sources, with ends of lines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from insonate.data.adapters.gather import gather, located, media_row, one_split_a_patient, train_or_val
from insonate.data.adapters.points import Point, base_name, by_base_name, point_columns
from insonate.data.adapters.tables import finite, need_columns, read_table
from insonate.data.manifest import Manifest, Row
from insonate.data.spacing import spacing_or_none
from insonate.errors import ManifestError

SOURCES = ("FP", "HC18", "UCL")
"""MULTICENTRE holds the same pictures again"""
ANATOMIES = {
    "Head": ("HC", {"bpd": ("bpd_upper", "bpd_lower"), "ofd": ("ofd_right", "ofd_left")}),
    "Abdomen": (
        "FA",
        {"apad": ("vertical_upper", "vertical_lower"), "tad": ("horizontal_right", "horizontal_left")},
    ),
    "Femur": ("fetal_femur", {"fl": ("femur_left", "femur_right")}),
}
"""folder → point set, and line of the table → points of the set, put in order by where they lie"""
ENDINGS = (".png", ".jpg", ".jpeg")


def multicentre_biometry(root: Path, out: Path) -> Manifest:
    """Multi-centre fetal biometry: 4,513 heads, abdomens and femurs with the end points of diameters.

    Columns: `points_set` (HC, FA, fetal_femur), `keypoints`, `view`. mm per pixel stand in `px_to_mm_rate`,
    and are missing for many pictures of UCL. A patient is the subject of its source; those of HC18 and FP are
    in other sets too (HC18, FETAL_PLANES_DB). Split: test is the source's; 15 % of its training subjects
    become val. In FA the vertical line is the anterior-posterior diameter only where the section lies so.

    Args:
        root: holds images/ and annotations/, or data/ with both.
        out: a new folder.

    Raises:
        ManifestError: a table or its pictures are not those of this data set.
    """
    root = located(root, "annotations")
    rows: list[Row] = []
    notes: list[str] = []
    for source in SOURCES:
        for anatomy in ANATOMIES:
            path = root / "annotations" / source / f"{anatomy}.csv"
            if path.is_file():
                found, told = _part(root, source, anatomy, path)
                rows += found
                notes += [f"{source} {anatomy}: {count} {text}" for text, count in told.items()]
    if not rows:
        raise ManifestError(root, "holds no table such as annotations/FP/Head.csv", "Unpack the whole set")
    rows, moved = one_split_a_patient(rows)
    return gather(root, out, rows, notes=(*notes, *moved))


def _part(root: Path, source: str, anatomy: str, path: Path) -> tuple[list[Row], Counter[str]]:
    points_set, lines = ANATOMIES[anatomy]
    table = read_table(path)
    columns = [f"{line}_{end}_{axis}" for line in lines for end in (1, 2) for axis in "xy"]
    need_columns(table, ["image_name", "px_to_mm_rate", "Split", *columns], path)
    pictures = by_base_name(root, root / "images" / source / anatomy, ENDINGS)
    rows, notes = [], Counter[str]()
    for i, cell in enumerate(table, 1):
        where, base = f"{path}, row {i}", base_name(cell["image_name"])
        if base not in pictures:
            notes["pictures are missing"] += 1
            continue
        row = media_row(root, pictures[base], _subject(source, base, cell), view=anatomy.lower(), site=source)
        rate = finite(cell["px_to_mm_rate"], where, "px_to_mm_rate")
        spacing = spacing_or_none(rate, rate)  # mm per pixel, though its name says the reverse
        notes["pictures without a spacing"] += spacing is None
        row |= {
            "spacing_row_mm": spacing.row_mm if spacing else None,
            "spacing_col_mm": spacing.col_mm if spacing else None,
            "split": "test" if cell["Split"].strip().lower() == "test" else train_or_val(row["patient_id"]),
        }
        points = {
            name: _end(cell, line, end, where)
            for line, names in lines.items()
            for end, name in enumerate(names, 1)
        }
        rows.append(row | point_columns(points_set, points))
    return rows, +notes


def _end(cell: Mapping[str, str], line: str, end: int, where: str) -> Point:
    """One end of a line; missing where a number is empty or negative."""
    x, y = (finite(cell[f"{line}_{end}_{axis}"], where, f"{line}_{end}_{axis}") for axis in "xy")
    return (math.nan, math.nan) if x is None or y is None or min(x, y) < 0 else (x, y)


def _subject(source: str, base: str, cell: Mapping[str, str]) -> str:
    """The subject as its own source calls it: the table's, else what the file name starts with."""
    told = (cell.get("SubjectID") or "").strip()
    return f"{source} {told or base.rpartition('.')[0].partition('_')[0]}"
