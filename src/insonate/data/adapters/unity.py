"""Unity Imaging: adult echo frames whose points and curves experts placed; parasternal and apical views.

Source: Howard et al. 2021 (Circ Cardiovasc Imaging 14:e011951); https://data.unityimaging.net.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insonate.data.adapters.gather import gather, located, media_row, train_or_val
from insonate.data.adapters.points import MISSING, Point, point_columns
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError
from insonate.files import inside

MOST_BYTES = 512 << 20
LABELS = ("labels-all.json", "labels-train.json", "labels-tune.json")
PLAX = {
    "LV_p1": "lv-ivs-bottom", "LV_p2": "lv-pw-top", "IVS_p1": "lv-ivs-top", "IVS_p2": "lv-ivs-bottom",
    "LVPW_p1": "lv-pw-top", "LVPW_p2": "lv-pw-bottom", "RV_p1": "rv-top-inner", "RV_p2": "rv-bottom-inner",
    "LVOT_p1": "lvot-top-inner", "LVOT_p2": "lvot-bottom-inner", "LA_p1": "la-top-inner",
    "LA_p2": "la-bottom-inner", "VAO_p1": "ao-valve-top-inner", "VAO_p2": "ao-valve-bottom-inner",
    "STJ_p1": "ao-stj-top-inner", "STJ_p2": "ao-stj-bottom-inner", "AAO_p1": "ao-asc-top-inner",
    "AAO_p2": "ao-asc-bottom-inner",
}  # fmt: skip
"""point of the set → label; RVOT and AV are not labelled"""
A4C = {"LV_long_p1": ("lv-apex-endo",), "RV_long_p1": ("rv-apex-endo",), "LA_long_p2": ("la-roof",),
       "RA_long_p2": ("ra-roof",)}  # fmt: skip
ANNULI = {
    ("LV_long_p2", "LA_long_p1"): (
        ("mv-ant-hinge", "mv-post-hinge"), ("mv-ant-wall-hinge", "mv-inf-wall-hinge"),
    ),
    ("RV_long_p2", "RA_long_p1"): (("tv-sep-hinge", "tv-ant-hinge"),),
}  # fmt: skip
"""points in the middle of a valve → pairs of its hinges, as older and newer files call them"""


def unity_imaging(root: Path, out: Path) -> Manifest:
    """Unity Imaging: echo frames with points of parasternal long axes (PLAX) and four chambers (A4C).

    Columns: `points_set` (PLAX or A4C), `keypoints` (a label that is `off` is missing), `frame_in_source`. A
    patient is a clip, the 64 hexadecimal digits of file names. Frames whose labels belong to neither set are
    left out. Split: the source's tune frames and 15 % of the other development clips are val, external ones
    (02-…) test.

    Args:
        root: holds labels/ and png-cache/.
        out: a new folder.

    Raises:
        ManifestError: a label file or its pictures are not those of this data set.
    """
    root = located(root, "labels")
    files = [root / "labels" / name for name in LABELS if (root / "labels" / name).is_file()]
    if not files:
        raise ManifestError(root / "labels", f"holds none of {', '.join(LABELS)}", "Unpack the whole set")
    tuned = set(_read(files[-1])) if files[-1].name == "labels-tune.json" else set()
    labels: dict[str, Mapping[str, Any]] = {}
    for path in files:
        labels |= _read(path)
    rows: list[Row] = []
    notes = Counter[str]()
    held = {_clip(name) for name in tuned}
    for name, told in sorted(labels.items()):
        columns = _points(told, f"{root / 'labels'}, {name[:80]!r}")
        if columns is None:
            notes["frames without points of PLAX or A4C"] += 1
            continue
        place = _place(name)
        if not inside(root, place).is_file():
            notes["pictures are missing"] += 1
            continue
        clip = _clip(name)
        row = media_row(root, place, f"Unity {clip}", view=columns["points_set"], site="Unity")
        row["split"] = "test" if name.startswith("02-") else "val" if clip in held else train_or_val(clip)
        rows.append(row | {"frame_in_source": int(name.rpartition("-")[2].partition(".")[0])} | columns)
    if not rows:
        raise ManifestError(root, "holds no picture with points of PLAX or A4C", "Unpack png-cache/ there")
    return gather(root, out, rows, notes=[f"{count} {text}" for text, count in notes.items()])


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    """File name → its labels, from either layout of the file.

    Raises:
        ManifestError: it cannot be read, or is of another layout.
    """
    mend = "Copy the data set again"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ManifestError(path, f"is larger than {MOST_BYTES >> 20} MiB", mend)
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(path, f"is no readable JSON ({type(error).__name__})", mend) from None
    parts = content if isinstance(content, list) else [content]
    found: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        for name, one in part.items() if isinstance(part, dict) else ():
            if not isinstance(one, dict) or not isinstance(one.get("labels"), dict) or not _is_name(name):
                raise ManifestError(path, f"{name[:80]!r} is no labelled frame", mend)
            found[name] = one["labels"]
    if not found:
        raise ManifestError(path, "holds no labelled frames", mend)
    return found


def _is_name(name: str) -> bool:
    site, _, rest = name.partition("-")
    code, _, frame = rest.partition("-")
    hexadecimal = len(code) == 64 and all(c in "0123456789abcdef" for c in code)
    return site in {"01", "02"} and hexadecimal and frame.endswith(".png") and frame[:-4].isdigit()


def _place(name: str) -> str:
    """Where the source keeps a frame: by the first four digits of its code."""
    site, code, _ = name.split("-")
    return f"png-cache/{site}/{code[:2]}/{code[2:4]}/{name}"


def _clip(name: str) -> str:
    return name.rpartition("-")[0]


def _points(labels: Mapping[str, Any], where: str) -> Row | None:
    """The columns of a frame; None where it has points of neither set.

    Raises:
        ManifestError: a label holds no point.
    """
    plax = {name: _point(labels, label, where) for name, label in PLAX.items()}
    a4c = {
        name: next((p for p in (_point(labels, one, where) for one in told) if p != MISSING), MISSING)
        for name, told in A4C.items()
    }
    for names, pairs in ANNULI.items():
        middle = _middle(labels, pairs, where)
        a4c |= dict.fromkeys(names, middle)
    counts = {"PLAX": _known(plax), "A4C": _known(a4c)}
    best = max(counts, key=counts.__getitem__)
    if not counts[best]:
        return None
    return point_columns(best, plax if best == "PLAX" else a4c)


def _middle(labels: Mapping[str, Any], pairs: tuple[tuple[str, str], ...], where: str) -> Point:
    for first, second in pairs:
        ends = _point(labels, first, where), _point(labels, second, where)
        if not any(math.isnan(end[0]) for end in ends):
            return ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)
    return MISSING


def _known(points: Mapping[str, Point]) -> int:
    return sum(not math.isnan(x) for x, _ in points.values())


def _point(labels: Mapping[str, Any], name: str, where: str) -> Point:
    """A label of type point; missing where it is off, blurred without numbers, or not there.

    Raises:
        ManifestError: it is a point without numbers.
    """
    label = labels.get(name)
    if not isinstance(label, dict) or label.get("type") in {"off", "curve", None}:
        return MISSING
    texts = [str(label.get(axis, "")).strip() for axis in "xy"]
    if not all(texts):
        return MISSING
    try:
        x, y = (float(text) for text in texts)
    except ValueError:
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ManifestError(where, f"label {name!r} is no point", "Copy the data set again")
    return (x, y)
