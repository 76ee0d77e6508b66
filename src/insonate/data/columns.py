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


def is_path(column: str) -> bool:
    """Whether a column holds file paths."""
    return column == "path" or column.endswith("_path")


def all_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of every manifest, then those that any row has besides."""
    return list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))


def patient_key(patient_id: str) -> str:
    """The form in which patient ids are compared: case and outer spaces do not make another patient."""
    return " ".join(patient_id.split()).casefold()
