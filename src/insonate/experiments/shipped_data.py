"""Pictures that the packaged nine-task model learns from: the phantom, and real heads of an open licence.

Run: python -m insonate.experiments.shipped_data DATA OUT [--patients 1800] [--images 2] [--workers 2]
DATA holds hc18_landmarks (and camus_4ch, which is tested on only). Leaves, one column `keypoints` with
`points_set` in all of them, and the same held-out rows where both hold heads:

    OUT/manifest.parquet   phantom and HC18: what the packaged model is trained on
    OUT/real.parquet       HC18 alone: the same recipe without the phantom
    OUT/camus.parquet      CAMUS, all of it in the split test, where DATA holds it

Licences: HC18's pictures and drawn ellipses are CC BY 4.0; its points are derived from the ellipses here, and
the landmarks and the split beside it, of another licence, are dropped. CAMUS is CC BY-NC-SA 4.0: nothing is
trained on it. Every picture is stretched to the input of a model, so phantoms, which are square, are cut to
the shapes of screens. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from insonate.data import Manifest, split_by_patient
from insonate.data.adapters import ADAPTERS
from insonate.data.adapters.chambers import four_chamber_points
from insonate.data.adapters.points import ellipse_ends, point_columns
from insonate.data.manifest import Row
from insonate.data.media import read_frames
from insonate.data.media.writing import write_png
from insonate.data.split import patient_place
from insonate.errors import InsonateError
from insonate.experiments.told import errors_told
from insonate.files import atomic_write, publish_dir
from insonate.phantom import generate

KIND = "biometry"
HEADS, ECHO = "hc18_landmarks", "camus_4ch"
LICENCES = {"phantom": "Apache-2.0", HEADS: "CC BY 4.0", ECHO: "CC BY-NC-SA 4.0"}
SPLIT = {"train": 0.65, "val": 0.1, "test": 0.25}
"""of HC18's subjects, by a hash"""
UNCUT, LOWEST = 0.3, 0.6
"""share of the phantoms that stay square; height over width of the flattest of the others"""
FREE = 0.04
"""of the width, kept above and below the points of a phantom that is cut"""
VENTRICLE, ATRIUM = 1, 3
KEPT = (
    "path", "kind", "patient_id", "view", "site", "vendor", "frames", "height", "width", "spacing_row_mm",
    "spacing_col_mm", "split", "points_set", "keypoints", "hc_mm", "phase", "synthetic", "licence",
)  # fmt: skip


def shipped_data(
    data: Path, out: Path, *, patients: int, images: int = 2, size: int = 256, seed: int = 0, workers: int = 1
) -> Path:
    """Make all of it and return the path of the training manifest.

    Args:
        data: folder with the real data sets.
        out: a new folder, or one where the same was begun.
        patients: phantoms, the nine tasks in turn.
        images: of each phantom.
        size: height and width that phantoms are rendered at, in pixels.
        seed: of the phantom.
        workers: processes that render.

    Raises:
        InsonateError: HC18 is not there, or `out` holds something else.
    """
    if not (data / HEADS).is_dir() and not (out / "hc18").is_dir():
        raise InsonateError(data, f"holds no folder {HEADS!r}", "Give the folder of the real data sets")
    generate(
        out / "rendered", kind=KIND, patients=patients, images_per_patient=images, size=size, seed=seed,
        workers=workers,
    )  # fmt: skip
    made = _once(out / "phantom", lambda folder: _cut_phantoms(out / "rendered", folder))
    heads = _once(out / "hc18", lambda folder: _real(data, HEADS, folder, head_row, split=SPLIT))
    Manifest.from_rows(heads, out).write(out / "real.parquet")
    if (data / ECHO).is_dir():
        echo = _once(out / "camus", lambda folder: _real(data, ECHO, folder, echo_row, split={"test": 1.0}))
        Manifest.from_rows(echo, out).write(out / "camus.parquet")
    return Manifest.from_rows([*made, *heads], out).write(out / "manifest.parquet")


def _once(folder: Path, make: Callable[[Path], list[Row]]) -> list[Row]:
    """Rows of a folder that is made whole or not at all, their paths from the folder above it."""
    if not folder.exists():
        with publish_dir(folder) as root:
            Manifest.from_rows(make(root), root).write(root / "manifest.parquet")
    rows = Manifest.read(folder / "manifest.parquet").rows
    return [{**row, "path": f"{folder.name}/{row['path']}"} for row in rows]


def _cut_phantoms(rendered: Path, folder: Path) -> list[Row]:
    rows = []
    for row in Manifest.read(rendered / "manifest.parquet").rows:
        if not row.get("points_set") or row["keypoints"] is None:
            continue  # a heart whose plane shows none of its task's points
        image, points = read_frames(rendered / row["path"])[0], _points(row)
        top, height = window(points, image.shape, patient_place(row["path"], 1))
        cut = {**row, "height": height, "keypoints": (points - (0, top)).ravel().tolist()}
        write_png(folder / row["path"], image[top : top + height])
        rows.append(_kept(cut | {"synthetic": True, "licence": LICENCES["phantom"]}))
    return rows


def window(points_xy: np.ndarray, hw: tuple[int, ...], draw: float) -> tuple[int, int]:
    """Top and height, in pixels, of the part of a square picture that is kept, about its points.

    Args:
        points_xy: K 2, some of them NaN.
        hw: height and width.
        draw: uniform in [0, 1): which shape.
    """
    height, width = hw[:2]
    if draw < UNCUT or np.isnan(points_xy).all():
        return 0, height
    low, high = float(np.nanmin(points_xy[:, 1])), float(np.nanmax(points_xy[:, 1]))
    wanted = width * (LOWEST + (1 - LOWEST) * (draw - UNCUT) / (1 - UNCUT))
    kept = min(height, round(max(wanted, high - low + 1 + 2 * FREE * width)))
    top = round((low + high) / 2 + 0.5 - kept / 2)
    return min(max(top, 0), height - kept), kept


def _real(
    data: Path, name: str, folder: Path, points: Callable[[np.ndarray], Row], *, split: dict[str, float]
) -> list[Row]:
    """Pictures of an adapter's set with points of its masks; those without any are left out."""
    source = folder / "source"
    given = ADAPTERS[name](data / name, source)
    rows = []
    for row in split_by_patient(given, split).rows:
        found = points(read_frames(source / row["mask_path"])[0])
        if found:
            atomic_write(folder / row["path"], (source / row["path"]).read_bytes())
            rows.append(_kept({**row, **found, "synthetic": False, "licence": LICENCES[name]}))
    shutil.rmtree(source)
    return rows


def head_row(mask: np.ndarray) -> Row:
    """The columns of HC's points, from a filled ellipse H W that may run off the picture."""
    filled = mask > 0
    line = filled & ~ndimage.binary_erosion(filled, border_value=1)
    line[[0, -1]] = line[:, [0, -1]] = False  # where the picture cuts it, there is no outline
    ends = ellipse_ends(line)
    return point_columns("HC", ends) if ends else {}


def echo_row(mask: np.ndarray) -> Row:
    """The columns of A4C's points of ventricle and atrium, from a mask H W of CAMUS."""
    found = four_chamber_points(mask == VENTRICLE, mask == ATRIUM)
    return point_columns("A4C", found) if found else {}


def _kept(row: Row) -> Row:
    return {name: row.get(name) for name in KEPT}


def _points(row: Row) -> np.ndarray:
    values: Sequence[float | None] = row["keypoints"]
    return np.array([np.nan if value is None else value for value in values], dtype=float).reshape(-1, 2)


def main() -> None:
    """Command line.

    Raises:
        SystemExit: with 2, when a data set is missing or a step failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=1800)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with errors_told():
        path = shipped_data(
            given.data, given.out, patients=given.patients, images=given.images, size=given.size,
            seed=given.seed, workers=given.workers,
        )  # fmt: skip
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
