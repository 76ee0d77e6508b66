"""A file of points that teachers saw: for each picture as it is and for its mirror, in its own pixels.

A Parquet file, a row an item, with the key of the teachers in its metadata: it is never read for others.
Shapes: M teachers, K points.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insonate.errors import InsonateError
from insonate.files import atomic_write

KEY = b"insonate.teachers"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenPoints:
    """What all teachers said of one item."""

    points_xy: np.ndarray
    """2 M K 2, fp32: view (as it is, mirrored), teacher, point, x y in pixels of the original"""
    hw: tuple[int, int]
    """of the original"""


def read_points(path: Path, key: str) -> dict[str, SeenPoints]:
    """Item → points, of a file that teachers of this key made; empty where there is no file.

    Raises:
        InsonateError: the file is damaged, or other teachers made it.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not path.exists():
        return {}
    try:
        table = parquet.read_table(path)
        found = (table.schema.metadata or {}).get(KEY, b"").decode()
        columns = [table[name].to_pylist() for name in ("item", "points", "shape", "height", "width")]
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InsonateError(
            path, f"is no file of teachers' points ({error})", "Choose another file"
        ) from None
    if found != key:
        raise InsonateError(path, "holds what other teachers said", "Choose another file for these teachers")
    return {
        item: SeenPoints(points_xy=np.asarray(points, np.float32).reshape(shape), hw=(height, width))
        for item, points, shape, height, width in zip(*columns, strict=True)
    }


def write_points(path: Path, key: str, items: Mapping[str, SeenPoints]) -> Path:
    """Write the file, whole or not at all."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "item": list(items),
            "points": pa.array([one.points_xy.ravel() for one in items.values()], pa.list_(pa.float32())),
            "shape": [list(one.points_xy.shape) for one in items.values()],
            "height": [one.hw[0] for one in items.values()],
            "width": [one.hw[1] for one in items.values()],
        }
    )
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata({KEY: key}), buffer)
    return atomic_write(path, buffer.getvalue())
