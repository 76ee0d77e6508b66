"""FU_Biometry 2026 (MICCAI): the nine tasks, as the organisers hand them out. For registered users only.

Each task has a folder with `labeled/`, a table there and the pictures beside it. What is odd about them is in
the table of traps in `docs/data.md`. Pictures without labels (`unlabeled/`) are for `data scan`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from insonate.data.adapters.gather import gather, media_row
from insonate.data.adapters.points import Point, base_name, by_base_name, point, point_columns, table_of
from insonate.data.adapters.tables import finite
from insonate.data.fairsplit import frame_blocks
from insonate.data.manifest import Manifest, Row
from insonate.data.pointsets import POINT_SETS
from insonate.errors import ManifestError

FOLDERS = {name.casefold(): name for name in POINT_SETS} | {"psak": "PSAX", "femur": "fetal_femur"}
"""name of a folder in lower case → point set; the source misspells PSAX"""
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
NAMED = ("PLAX", "PSAX", "A4C", "IVC")
"""sets whose columns have names; those of the others are numbered"""
BETTER = {"FA_train.csv": "FA_train_new.csv"}
"""a table that another one corrects"""
AXES = {"_long_": "_上下_", "_trans_": "_左右_"}
CLIP = re.compile(r"((?:DCM|PNG)_IM_\d+(?:_s\d+|-\d+)?)")
MIRRORED = """
    00757_1of1 00863_1of2 00863_2of2 01025_1of1 01035_2of4 01035_4of4 01130_2of4 01221_2of2 01246_1of2
    01248_1of1 01249_1of1 01301_1of2 01301_2of2 01304_2of2 01475_1of1 01476_1of1 01477_1of2 01478_1of1
    01480_1of1 01481_1of1 01605_2of2 01606_2of2 01607_1of2 01608_1of1 01609_1of1
"""
"""femurs whose picture is the mirror image of the one that was labelled"""
FEMUR = re.compile(r"Patient(\d+)_Plane5_(\d+)_of_(\d+)\.")
ANGLE_SLACK_DEG = 1.0


def fu_biometry(root: Path, out: Path) -> Manifest:
    """FU_Biometry 2026: nine tasks of ultrasound biometry with 2 to 22 points each.

    Columns: `points_set`, `keypoints` (a missing point is NaN), `view`. A patient is what file names tell:
    the clip (heart, vein), the head's number, the patient of FETAL_PLANES_DB; pictures of birth canals are
    cut into stretches of 40 that count as one each, with 2 left out at each border; FA and FUGC pictures
    count as one each. 25 mirrored femurs are left out. Split: by patient, seed 0.

    Args:
        root: holds a folder for each task, or some of them.
        out: a new folder.

    Raises:
        ManifestError: no task is there, or a table or its pictures are not those of this data set.
    """
    folders = _tasks(root)
    rows: list[Row] = []
    notes: list[str] = []
    for name, folder in folders.items():
        found, told = _task(root, name, folder)
        rows += found
        notes += [f"{name}: {text}" for text in told]
    absent = [name for name in POINT_SETS if name not in folders]
    notes += [f"there is no folder for {', '.join(absent)}"] if absent else []
    return gather(root, out, rows, notes=notes, split=True)


def _tasks(root: Path) -> dict[str, Path]:
    """Point set → its folder.

    Raises:
        ManifestError: there is none.
    """
    level, found = [root], {}
    for _ in range(3):
        found = {FOLDERS[f.name.casefold()]: f for f in level if f.name.casefold() in FOLDERS}
        if found:
            return {name: found[name] for name in POINT_SETS if name in found}
        level = sorted(sub for folder in level for sub in folder.iterdir() if sub.is_dir())
    raise ManifestError(root, "holds no folder of a task, such as HC", "Give the folder with the nine tasks")


def _task(root: Path, name: str, folder: Path) -> tuple[list[Row], list[str]]:
    path = _table(folder)
    table = table_of(path)
    pictures = by_base_name(root, path.parent, ENDINGS)
    if not pictures:
        packed = next((p.name for p in sorted(path.parent.glob("*.zip"))), None)
        mend = f"Unpack {packed} there" if packed else "Unpack the pictures there"
        raise ManifestError(path.parent, "holds no pictures", mend)
    notes, rows, seen = Counter[str](), [], set[str]()
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        base = base_name(cell.get("image_path") or cell.get("file_path") or "")
        if not base:
            raise ManifestError(where, "has no image_path", "Is this the table of this data set?")
        reason = _left_out(name, base, pictures, seen)
        seen.add(base)
        if reason:
            notes[reason] += 1
            continue
        points = _points(name, cell, where)
        rows.append(_row(root, name, pictures[base], cell, where) | point_columns(name, points))
        notes["rows whose AOP column is not the angle of their points"] += _odd_angle(cell, points, where)
    if name == "AOP":
        rows, cut = _stretches(rows)
        notes["pictures left out between stretches of one recording"] += cut
    return rows, [f"{count} {text}" for text, count in notes.items() if count]


def _table(folder: Path) -> Path:
    """The table of a task, the corrected one where there are two.

    Raises:
        ManifestError: there is none, or there are several.
    """
    place = folder / "labeled" if (folder / "labeled").is_dir() else folder
    found = {path.name: path for path in sorted(place.glob("*.csv"))}
    for worse, better in BETTER.items():
        if better in found:
            found.pop(worse, None)
    if len(found) != 1:
        what = "holds no table" if not found else f"holds {len(found)} tables: {', '.join(found)}"
        raise ManifestError(place, what, "Keep one CSV file of this task there")
    return next(iter(found.values()))


def _left_out(name: str, base: str, pictures: Mapping[str, str], seen: set[str]) -> str:
    if base in seen:
        return "rows of a picture that an earlier one labels"
    if base not in pictures:
        return "pictures are missing"
    femur = FEMUR.match(base)
    mirrored = name == "fetal_femur" and femur and f"{femur[1]}_{femur[2]}of{femur[3]}" in MIRRORED.split()
    return "mirrored pictures left out" if mirrored else ""


def _points(name: str, cell: Mapping[str, str], where: str) -> dict[str, Point]:
    """Point of the set → where it is.

    Raises:
        ManifestError: a column is missing, or holds no point.
    """
    columns = {own: _column(name, own, k) for k, own in enumerate(POINT_SETS[name].names, 1)}
    absent = next((column for column in columns.values() if column not in cell), None)
    if absent is not None:
        raise ManifestError(where, f"there is no column {absent!r}", "Is this the table of this task?")
    return {own: point(cell[column], where, column) for own, column in columns.items()}


def _column(name: str, own: str, k: int) -> str:
    if name not in NAMED:
        return f"point_{k}_xy"
    for ours, theirs in AXES.items():
        own = own.replace(ours, theirs)
    return f"{own}_xy"


def _row(root: Path, name: str, path: str, cell: Mapping[str, str], where: str) -> Row:
    """Facts of a picture.

    Raises:
        ManifestError: it is not of the size that the table tells.
    """
    row = media_row(root, path, _patient(name, base_name(path)), view=name, site="FU_Biometry")
    told = tuple(finite(cell.get(column), where, column) for column in ("height", "width"))
    if None not in told and told != (row["height"], row["width"]):
        size = f"{row['height']} × {row['width']}"
        raise ManifestError(where, f"tells another size than the picture's {size}", "Unpack the set again")
    return row


def _patient(name: str, base: str) -> str:
    """Who or what a picture is of, as far as its name tells."""
    stem = base.rpartition(".")[0]
    if name == "HC":
        return f"HC18 {stem.partition('_')[0]}"
    if name == "fetal_femur":
        return stem.partition("_")[0]
    clip = CLIP.match(stem)
    return f"{name} {clip[1] if clip else stem}"


def _stretches(rows: list[Row]) -> tuple[list[Row], int]:
    """Rows of one long recording with a stretch of it as the patient, and how many are left out."""
    numbers = [int((re.findall(r"\d+", Path(row["path"]).stem) or ["0"])[-1]) for row in rows]
    groups = frame_blocks(numbers)
    kept = [row | {"patient_id": f"AOP {g}"} for row, g in zip(rows, groups, strict=True) if g is not None]
    return kept, len(rows) - len(kept)


def _odd_angle(cell: Mapping[str, str], points: Mapping[str, Point], where: str) -> bool:
    told = finite(cell.get("AOP"), where, "AOP")
    if told is None or "head_tangent" not in points:
        return False
    lower, upper, tangent = (
        np.array(points[name]) for name in ("symphysis_inferior", "symphysis_superior", "head_tangent")
    )
    first, second = upper - lower, tangent - lower
    angle = np.degrees(np.arctan2(abs(first[0] * second[1] - first[1] * second[0]), first @ second))
    return bool(abs(angle - told) > ANGLE_SLACK_DEG)
