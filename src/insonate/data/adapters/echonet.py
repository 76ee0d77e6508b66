"""EchoNet: Dynamic, Pediatric and LVH, as Stanford hands them out. Their licences forbid to pass them on.

Shapes: K points.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from insonate.data.adapters.gather import gather, located, media_row, one_split_a_patient, polygon, there
from insonate.data.adapters.points import Point, point_columns
from insonate.data.adapters.tables import finite, need_columns, number, plain_name, read_table
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError

SPLITS = {"TRAIN": "train", "VAL": "val", "TEST": "test"}
FOLDS = {**dict.fromkeys("01234567", "train"), "8": "val", "9": "test"}
LVH_CALCS = {
    "IVSd": "ivsd", "LVIDd": "lvidd", "LVPWd": "lvpwd", "IVSs": "ivss", "LVIDs": "lvids", "LVPWs": "lvpws",
}  # fmt: skip
LVH_LINES = {"ivs": "IVS", "lvid": "LV", "lvpw": "LVPW"}
"""start of our names of calcs → line of PLAX"""
Outlines = dict[str, dict[int, np.ndarray]]
"""file → frame → K 2"""


def echonet_dynamic(root: Path, out: Path) -> Manifest:
    """EchoNet-Dynamic: apical four-chamber clips with ejection fraction and traced left ventricles.

    A row a clip (`ef`, `esv_ml`, `edv_ml`), and a row a traced frame (`frame`, `mask_path`: 1 = left
    ventricle, `phase`: ED for the larger of two). Split: the official one. Each clip is of another patient.

    Args:
        root: holds FileList.csv, VolumeTracings.csv and Videos/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "FileList.csv")
    path = root / "FileList.csv"
    table = read_table(path)
    need_columns(table, ["FileName", "EF", "ESV", "EDV", "Split"], path)
    outlines = _chords(root / "VolumeTracings.csv")
    rows: list[Row] = []
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        if cell["Split"].upper() not in SPLITS:
            raise ManifestError(where, f"{cell['Split'][:20]!r} is no split", "Is this the file of this set?")
        rows.append(
            {
                "name": f"Videos/{_avi(cell['FileName'], where)}",
                "patient_id": Path(cell["FileName"]).stem,
                "split": SPLITS[cell["Split"].upper()],
                "ef": number(cell["EF"], where, "EF"),
                "esv_ml": number(cell["ESV"], where, "ESV"),
                "edv_ml": number(cell["EDV"], where, "EDV"),
            }
        )
    return _clips(root, out, rows, outlines, path, "A4C")


def echonet_pediatric(root: Path, out: Path) -> Manifest:
    """EchoNet-Pediatric: four-chamber and short-axis clips of children, ejection fraction, traced ventricles.

    Columns as for EchoNet-Dynamic, with `age_years`, `sex`, `weight_kg`, `height_cm`. Split: the source's
    ten folds, 0 to 7 train, 8 val, 9 test; a patient in several keeps the first.

    Args:
        root: holds A4C/ and PSAX/, each with FileList.csv, VolumeTracings.csv and Videos/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "A4C")
    rows: list[Row] = []
    outlines: Outlines = {}
    for view in (view for view in ("A4C", "PSAX") if (root / view).is_dir()):
        path = root / view / "FileList.csv"
        table = read_table(path)
        need_columns(table, ["FileName", "EF", "Sex", "Age", "Weight", "Height", "Split"], path)
        points = _points(root / view / "VolumeTracings.csv")
        outlines |= {f"{view}/Videos/{name}": frames for name, frames in points.items()}
        for i, cell in enumerate(table, 1):
            where = f"{path}, row {i}"
            fold = str(int(number(cell["Split"], where, "Split")))
            if fold not in FOLDS:
                raise ManifestError(
                    where, f"{fold!r} is no fold from 0 to 9", "Is this the file of this set?"
                )
            name = _avi(cell["FileName"], where)
            rows.append(
                {
                    "name": f"{view}/Videos/{name}",
                    "patient_id": name.split("-")[0].removesuffix(".avi"),
                    "view": view,
                    "split": FOLDS[fold],
                    "ef": finite(cell["EF"], where, "EF"),
                    "sex": cell["Sex"].strip() or None,
                    "age_years": finite(cell["Age"], where, "Age"),
                    "weight_kg": finite(cell["Weight"], where, "Weight"),
                    "height_cm": finite(cell["Height"], where, "Height"),
                }
            )
    return _clips(root, out, rows, outlines, root, "")


def echonet_lvh(root: Path, out: Path) -> Manifest:
    """EchoNet-LVH: parasternal long-axis clips with walls and ventricle measured at single frames.

    A row a measured frame: `keypoints_ivsd`, `keypoints_lvidd`, `keypoints_lvpwd`, `keypoints_lvids` (the
    upper end of each line first: the source's order varies) and `ivsd_cm`, … where they were measured there;
    the same as `points_set` (PLAX) and `keypoints`, whose other lines are missing.
    mm per pixel come from the lines: their length in cm is told too. Split: the official one.

    Args:
        root: holds MeasurementsList.csv and the folders Batch1, Batch2, …
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = located(root, "MeasurementsList.csv")
    path = root / "MeasurementsList.csv"
    table = read_table(path)
    need_columns(
        table, ["HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "split"], path
    )
    folders = {p.name: p.parent.name for p in sorted(root.glob("Batch*/*.avi"))}
    frames: dict[tuple[str, int], Row] = {}
    scales: dict[str, list[float]] = defaultdict(list)
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        if cell["Calc"] not in LVH_CALCS or cell["split"] not in SPLITS.values():
            what = f"{cell['Calc'][:20]!r}, {cell['split'][:20]!r} is no measurement and split of this set"
            raise ManifestError(where, what, "Is this the file of this set?")
        name = _avi(cell["HashedFileName"], where)
        name = f"{folders.get(name, 'Batch1')}/{name}"
        ends = [
            (number(cell[f"X{k}"], where, f"X{k}"), number(cell[f"Y{k}"], where, f"Y{k}")) for k in (1, 2)
        ]
        value_cm = number(cell["CalcValue"], where, "CalcValue")
        length_px = math.dist(*ends)
        if length_px > 0 and value_cm > 0:
            scales[name].append(10 * value_cm / length_px)
        at = (name, int(number(cell["Frame"], where, "Frame")))
        key = LVH_CALCS[cell["Calc"]]
        row = frames.setdefault(at, {"split": cell["split"], "frame": at[1]})
        row[f"{key}_cm"] = value_cm
        row[f"keypoints_{key}"] = [v for point in sorted(ends, key=lambda p: p[1]) for v in point]
    found, notes = there(root, list(dict.fromkeys(name for name, _ in frames)), path)
    facts = {name: media_row(root, name, Path(name).stem, view="PLAX", site="EchoNet-LVH") for name in found}
    rows = []
    for (name, frame), row in frames.items():
        if name not in found or frame >= facts[name]["frames"]:
            continue
        scale_mm = float(np.median(scales[name])) if scales[name] else None
        row |= point_columns("PLAX", _plax(row))
        rows.append(facts[name] | {"spacing_row_mm": scale_mm, "spacing_col_mm": scale_mm} | row)
    return gather(root, out, rows, notes=notes)


def _clips(root: Path, out: Path, clips: list[Row], outlines: Outlines, source: Path, view: str) -> Manifest:
    """Rows of clips, then of their traced frames with masks made of the outlines."""
    found, notes = there(root, [clip["name"] for clip in clips], source)
    rows, made, cut = [], {}, 0
    for clip in clips:
        name = clip.pop("name")
        if name not in found:
            continue
        row = media_row(root, name, **({"view": view, "site": "EchoNet"} | clip))
        rows.append(row)
        traced = outlines.get(name) or outlines.get(Path(name).name) or {}
        cut += sum(frame >= row["frames"] for frame in traced)
        traced = {frame: points for frame, points in traced.items() if frame < row["frames"]}
        hw = (row["height"], row["width"])
        areas = {frame: int(polygon(points, hw).sum()) for frame, points in traced.items()}
        for frame, points in sorted(traced.items()):
            mask = f"masks/{Path(name).stem}-{frame:04d}.png"
            mask = f"{row['view']}/{mask}" if not view else mask
            made[mask] = partial(polygon, points, hw)
            largest = areas[frame] == max(areas.values())
            phase = None if len(areas) != 2 else "ED" if largest else "ES"
            kept = {c: v for c, v in row.items() if c not in {"ef", "esv_ml", "edv_ml"}}
            rows.append(kept | {"frame": frame, "mask_path": mask, "phase": phase})
    if cut:
        notes = (*notes, f"{cut} tracings name frames that their clips do not have: left out")
    rows, moved = one_split_a_patient(rows)
    return gather(root, out, rows, made=made, notes=(*notes, *moved))


def _plax(row: Row) -> dict[str, Point]:
    """The lines of a frame as points of PLAX."""
    points: dict[str, Point] = {}
    for key in LVH_CALCS.values():
        ends = row.get(f"keypoints_{key}")
        if ends is not None:
            line = LVH_LINES[key[:-1]]  # the last letter tells diastole from systole
            points |= {f"{line}_p1": (ends[0], ends[1]), f"{line}_p2": (ends[2], ends[3])}
    return points


def _avi(name: str, where: str) -> str:
    name = plain_name(name.strip(), where)
    return name if name.lower().endswith(".avi") else f"{name}.avi"


def _chords(path: Path) -> Outlines:
    """Outlines from the long axis and the chords across it: down one end of the chords, up the other.

    Source: the layout of EchoNet-Dynamic's VolumeTracings.csv, whose first line of a frame is the axis.
    """
    table = read_table(path)
    need_columns(table, ["FileName", "X1", "Y1", "X2", "Y2", "Frame"], path)
    lines: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        at = (_avi(cell["FileName"], where), int(number(cell["Frame"], where, "Frame")))
        lines[at].append([number(cell[c], where, c) for c in ("X1", "Y1", "X2", "Y2")])
    outlines: Outlines = defaultdict(dict)
    for (name, frame), chords in lines.items():
        ends = np.asarray(chords[1:]).reshape(-1, 4)  # without the long axis
        if len(ends) >= 2:
            outlines[name][frame] = np.concatenate([ends[:, :2], ends[::-1, 2:]])  # K 2
    return outlines


def _points(path: Path) -> Outlines:
    """Outlines from a point a line; the frame of a phase that was not traced is a text, and left out."""
    table = read_table(path)
    need_columns(table, ["FileName", "X", "Y", "Frame"], path)
    points: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        if not cell["Frame"].strip().isdigit():
            continue
        at = (_avi(cell["FileName"], where), int(cell["Frame"]))
        points[at].append((number(cell["X"], where, "X"), number(cell["Y"], where, "Y")))
    outlines: Outlines = defaultdict(dict)
    for (name, frame), outline in points.items():
        if len(outline) >= 3:
            outlines[name][frame] = np.asarray(outline)  # K 2
    return outlines
