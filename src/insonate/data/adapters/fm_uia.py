"""FM_UIA 2026 (ISBI): 27 tasks in one folder: masks, classes, boxes and points. For registered users only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from insonate.data.adapters.gather import files_below, gather, located, media_row
from insonate.data.adapters.points import MISSING, Point, point, point_columns, table_of
from insonate.data.adapters.tables import finite, need_columns
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError
from insonate.files import inside

SETS = {"FUGC": "FUGC", "fetal_femur": "fetal_femur", "IUGC": "AOP"}
"""task of points → point set; IUGC has the ends of the symphysis and the tangent point"""
BOX = ("x_min", "y_min", "x_max", "y_max")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")


def fm_uia(root: Path, out: Path) -> Manifest:
    """FM_UIA 2026: 27 tasks of ultrasound (12 masks, 9 classes, 3 boxes, 3 sets of points) as one manifest.

    Columns: `task`, and by its kind `mask_path`, `label` (the class's number), `box` (left, top, right,
    bottom in px), or `points_set` and `keypoints`. Of IUGC's three points the end of the symphysis that lies
    nearer to the tangent point is the lower one. The source names no patients: each picture counts as one, in
    all the tasks that it serves. Split: by these, seed 0.

    Args:
        root: holds csv_files/, whose paths are relative to it.
        out: a new folder.

    Raises:
        ManifestError: a table or a picture is not that of this data set.
    """
    root = located(root, "csv_files")
    rows: list[Row] = []
    missing, named = Counter[str](), set[str]()
    for path in sorted((root / "csv_files").glob("*.csv")):
        table = table_of(path)
        need_columns(table, ["image_path", "task_name", "task_id"], path)
        for i, cell in enumerate(table, 1):
            where, task = f"{path}, row {i}", cell["task_id"].strip()
            name = _relative(root, cell["image_path"], where)
            named.add(name)
            if not (root / name).is_file():
                missing[task] += 1
                continue
            row = media_row(root, name, name, view=task, site="FM_UIA", task=task)
            rows.append(row | _label(root, task, cell, where))
    if not rows:
        raise ManifestError(root, "holds no picture that a table names", "Unpack the whole set")
    notes = [f"{task}: {count} pictures are missing" for task, count in missing.items()]
    if stray := _stray(root, named):
        notes.append(f"{len(stray)} pictures are in no table, such as {stray[0][:80]!r}: is one missing?")
    return gather(root, out, rows, notes=notes, split=True)


def _stray(root: Path, named: set[str]) -> list[str]:
    """Pictures in the folders of the named ones that no table names."""
    folders = {name.partition("/")[0] for name in named if "/" in name}
    found = {f"{folder}/{name}" for folder in folders for name in files_below(root / folder, ENDINGS)}
    return sorted(found - named)


def _label(root: Path, task: str, cell: Mapping[str, str], where: str) -> Row:
    """The columns of a row's label.

    Raises:
        ManifestError: there is no such kind of task, or its cells do not hold it.
    """
    kind = cell["task_name"].strip().lower()  # "Regression" has a capital letter, the others have none
    if kind == "segmentation":
        text = (cell.get("mask_path") or "").strip()
        return {"mask_path": _relative(root, text, where) if text else None}
    if kind == "classification":
        number = finite(cell.get("mask"), where, "mask")  # by which the source means the class
        return {"label": None if number is None else str(int(number))}
    if kind == "detection":
        box = [finite(cell.get(column), where, column) for column in BOX]
        return {"box": None if None in box else box}
    if kind == "regression" and task in SETS:
        return point_columns(SETS[task], _points(task, cell, where))
    raise ManifestError(where, f"{kind[:20]!r} of {task[:20]!r} is no task of this set", "Is this its table?")


def _points(task: str, cell: Mapping[str, str], where: str) -> dict[str, Point]:
    count = 3 if task == "IUGC" else 2
    given = [point(cell.get(f"point_{k}_xy"), where, f"point_{k}_xy") for k in range(1, count + 1)]
    if task == "FUGC":
        return {"canal_left": given[0], "canal_right": given[1]}
    if task == "fetal_femur":
        return {"femur_left": given[0], "femur_right": given[1]}
    if MISSING in given:
        return {"head_tangent": given[2]}
    ends, tangent = np.array(given[:2]), np.array(given[2])
    nearer = int(np.argmin(np.linalg.norm(ends - tangent, axis=-1)))
    return {
        "symphysis_inferior": given[nearer],
        "symphysis_superior": given[1 - nearer],
        "head_tangent": given[2],
    }


def _relative(root: Path, text: str, where: str) -> str:
    """A path of the source, which is relative to csv_files/, relative to `root`.

    Raises:
        ManifestError: it is empty or leads outside.
    """
    clean = text.strip().replace("\\", "/")
    if not clean:
        raise ManifestError(where, "has no image_path", "Is this the table of this data set?")
    return inside(root, Path("csv_files") / clean).relative_to(root.resolve()).as_posix()
