"""The columns of a manifest: their names and types, and what a row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TEXT = ("path", "kind", "patient_id", "study_id", "series_id", "view", "site", "vendor", "split")
WHOLE = ("frames", "height", "width", "frame")
REAL = ("fps", "spacing_row_mm", "spacing_col_mm")
COLUMNS = (
    "path", "kind", "patient_id", "study_id", "series_id", "view", "site", "vendor", "frames", "fps",
    "height", "width", "spacing_row_mm", "spacing_col_mm", "split",
)  # fmt: skip
"""columns of every manifest; `frame` (the labelled one of a loop) and the label columns may follow"""

KINDS = ("image", "video", "dicom", "volume")
SPLITS = ("train", "val", "test")

Row = dict[str, Any]


NO_POINTS = ("_poses", "_from_probe", "_motion", "_frames", "_s", "_mm")
"""ends of the names of list columns that hold no points: poses, wall motion, times, lengths"""


def is_points(column: str, value: object) -> bool:
    """Whether a column's value are points x0, y0, x1, y1, … in pixels: lists are, but for `NO_POINTS`."""
    return isinstance(value, list) and not column.endswith(NO_POINTS)


def is_path(column: str) -> bool:
    """Whether a column holds file paths."""
    return column == "path" or column.endswith("_path")


def all_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of every manifest, then those that any row has besides."""
    return list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))


def patient_key(patient_id: str) -> str:
    """The form in which patient ids are compared: case and outer spaces do not make another patient."""
    return " ".join(patient_id.split()).casefold()
