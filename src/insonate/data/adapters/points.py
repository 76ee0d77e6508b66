"""What adapters of point-labelled sets share: cells with points, the columns `keypoints` and `points_set`.

Points are told in pixels of the original, in the internal order of `pointorders`. Shapes: K points of a set.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from insonate.data.adapters.gather import files_below
from insonate.data.adapters.tables import read_table
from insonate.data.manifest import Row
from insonate.data.pointorders import to_internal
from insonate.data.pointsets import POINT_SETS
from insonate.errors import ManifestError

ENCODINGS = ("utf-8-sig", "gb18030", "latin-1")
"""of tables with Chinese headers; tried in this order"""
LONGEST_CELL = 200
MISSING = (math.nan, math.nan)
Point = tuple[float, float]


def point_columns(points_set: str, points: Mapping[str, Point]) -> Row:
    """The two columns of a labelled row: points by their name in the set, others are missing.

    A name that the set does not have is a mistake of the adapter.
    """
    names = POINT_SETS[points_set].names
    assert set(points) <= set(names), f"{points_set} has no {set(points) - set(names)}"
    given = np.array([points.get(name, MISSING) for name in names])  # K 2
    return {"keypoints": to_internal(given, points_set).ravel().tolist(), "points_set": points_set}


def point(text: str | None, where: str, column: str) -> Point:
    """The point in a cell `[x, y]`; NaN where it is empty, or (0, 0), by which the source means the same.

    Raises:
        ManifestError: it holds anything else.
    """
    text = (text or "").strip()
    if not text or text.lower() == "nan":
        return MISSING
    try:
        value = json.loads(text) if len(text) <= LONGEST_CELL else None
    except ValueError:
        value = _literal(text)
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    ):
        raise ManifestError(
            f"{where}, column {column!r}", f"{text[:40]!r} is no point", "Correct or empty it"
        )
    x, y = (float(n) for n in numbers)
    return MISSING if x == y == 0 else (x, y)


def _literal(text: str) -> object:
    """Some tables hold Python's form of a list, such as one with brackets that are round."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def ellipse_ends(outline: np.ndarray) -> dict[str, Point] | None:
    """The ends of both axes of the ellipse through a drawn line (H W, above 0 on it), as points of HC.

    A line that runs off the picture is no hindrance. None where the line is no ellipse. Source: Fitzgibbon et
    al. 1999 (IEEE TPAMI 21:476) in the stable form of Halír & Flusser 1998.
    """
    y, x = (v.astype(np.float64) for v in np.nonzero(outline))
    if len(x) < 6:
        return None
    middle, scale = np.array([x.mean(), y.mean()]), max(float(np.hypot(x.std(), y.std())), 1e-9)
    x, y = (x - middle[0]) / scale, (y - middle[1]) / scale
    square, rest = np.stack([x * x, x * y, y * y], axis=1), np.stack([x, y, np.ones_like(x)], axis=1)
    try:
        transfer = -np.linalg.solve(rest.T @ rest, rest.T @ square)
        reduced = square.T @ square + square.T @ rest @ transfer
        _, vectors = np.linalg.eig(np.array([reduced[2] / 2, -reduced[1], reduced[0] / 2]))
    except np.linalg.LinAlgError:
        return None
    conic = next((v for v in np.real(vectors).T if 4 * v[0] * v[2] - v[1] ** 2 > 0), None)
    if conic is None:
        return None
    a, b, c = conic
    d, e, f = transfer @ conic
    form = np.array([[a, b / 2], [b / 2, c]])
    centre = -np.linalg.solve(2 * form, [d, e])
    level = centre @ form @ centre - f
    values, axes = np.linalg.eigh(form / level)  # the smaller value is of the longer axis
    if (values <= 0).any():
        return None
    long, short = (axes[:, i] / np.sqrt(values[i]) for i in (0, 1))
    ends = [scale * (centre + sign * half) + middle for half in (short, long) for sign in (-1, 1)]
    names = ("bpd_upper", "bpd_lower", "ofd_right", "ofd_left")
    return {name: (float(end[0]), float(end[1])) for name, end in zip(names, ends, strict=True)}


def table_of(path: Path) -> list[dict[str, str]]:
    """Rows of a table in UTF-8 or GB18030, as the source mixes them.

    Raises:
        ManifestError: see `read_table`.
    """
    return read_table(path, encodings=ENCODINGS)


def base_name(text: str) -> str:
    """The file name in a path with slashes of either kind."""
    return text.strip().replace("\\", "/").rpartition("/")[2]


def by_base_name(root: Path, folder: Path, endings: Sequence[str]) -> dict[str, str]:
    """Base name → path below `root`, of the pictures below `folder`.

    Raises:
        ManifestError: two of them have the same base name.
    """
    found: dict[str, str] = {}
    for name in files_below(folder, endings):
        base = base_name(name)
        if base in found:
            raise ManifestError(folder, f"holds {base[:80]!r} twice", "Unpack the data set into one place")
        found[base] = (folder / name).relative_to(root).as_posix()
    return found
