"""Public data sets as they lie in the project's shared data folder: HC18 landmarks, CAMUS, POCUS lung.

Mind their licences (`LICENCES.md` beside the data): none of their files may be passed on with a model.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from insonate.data import media
from insonate.data.adapters.points import point_columns
from insonate.data.adapters.tables import need_columns, number, plain_name, publish, read_table, unpack
from insonate.data.manifest import Manifest, Row
from insonate.data.split import patient_place, split_by_patient

VAL_PART = 0.15


def hc18_landmarks(root: Path | str, out: Path | str) -> Manifest:
    """HC18 fetal heads with four landmarks, 400 images of 321 subjects at half size.

    Columns: `keypoints_hc` in the order of the point set HC (BPD upper, lower, OFD right, left: the source's
    order is not the same in all its parts), the same as `keypoints` with `points_set`, `hc_mm`, `mask_path`
    (filled head ellipse: 0, 255). Split: the source's Train and Test; 15 % of the Train subjects become val.
    Sources: van den Heuvel et al. 2018 (doi 10.1371/journal.pone.0200412); landmarks doi 10.5522/04/30819911.

    Args:
        root: holds landmarks.csv and hc18_half.zip.
        out: a new folder for the images, masks and `manifest.parquet`.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = Path(root)
    path = root / "landmarks.csv"
    table = read_table(path)
    points = [f"{n}_{i}_{axis}" for n in ("bpd", "ofd") for i in (1, 2) for axis in "xy"]
    need_columns(
        table, ["file", "subject", "mcfb_split", "width", "height", "mm_per_px", "hc_mm", *points], path
    )
    rows = [_hc18_row(cell, f"{path}, row {i}") for i, cell in enumerate(table, 1)]
    members = [row[column] for row in rows for column in ("path", "mask_path")]
    return publish(out, rows, lambda folder: unpack(root / "hc18_half.zip", members, folder))


def _hc18_row(cell: dict[str, str], where: str) -> Row:
    name = plain_name(cell["file"], where)
    values = {k: number(cell[k], where, k) for k in cell if k.startswith(("bpd_", "ofd_"))}
    bpd, ofd = ([(values[f"{n}_{i}_x"], values[f"{n}_{i}_y"]) for i in (1, 2)] for n in ("bpd", "ofd"))
    ordered = [*sorted(bpd, key=lambda p: p[1]), *sorted(ofd, reverse=True)]
    spacing_mm = number(cell["mm_per_px"], where, "mm_per_px")
    is_train = cell["mcfb_split"] == "Train"
    return {
        "path": f"images/{name}",
        "patient_id": cell["subject"],
        "view": "fetal head",
        "site": "HC18",
        "frames": 1,
        "height": number(cell["height"], where, "height"),
        "width": number(cell["width"], where, "width"),
        "spacing_row_mm": spacing_mm,
        "spacing_col_mm": spacing_mm,
        "split": ("val" if patient_place(cell["subject"], 0) < VAL_PART else "train") if is_train else "test",
        "keypoints_hc": [v for point in ordered for v in point],
        "keypoints": [v for point in ordered for v in point],
        "points_set": "HC",
        "hc_mm": number(cell["hc_mm"], where, "hc_mm"),
        "mask_path": f"masks/{name}",
    }


def camus_4ch(root: Path | str, out: Path | str) -> Manifest:
    """CAMUS apical four-chamber echo, end-diastole and end-systole of 300 patients at 256 px.

    Columns: `mask_path` (0 background, 1 left ventricle, 2 myocardium, 3 left atrium), `phase` (ED, ES),
    `keypoints_lv` (apex, left and right end of the mitral annulus, derived from the masks),
    `lv_area_cm2`, `lv_vol_ml_singleplane` and `ef_singleplane_derived` (from the masks too: not the official,
    biplane values). Split: the official one. Source: Leclerc et al. 2019 (doi 10.1109/TMI.2019.2900516).

    Args:
        root: holds metadata.csv, landmarks_derived_256.csv and camus4ch_256.zip.
        out: a new folder for the images, masks and `manifest.parquet`.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = Path(root)
    path, marks_path = root / "metadata.csv", root / "landmarks_derived_256.csv"
    table, marks = read_table(path), read_table(marks_path)
    values = ("lv_area_cm2", "lv_vol_ml_singleplane", "ef_singleplane_derived")
    need_columns(table, ["file", "patient", "phase", "official_split", "mm_per_px_256", *values], path)
    axes = [f"{n}_{axis}" for n in ("apex", "ma_left", "ma_right") for axis in "xy"]
    need_columns(marks, ["file", *axes], marks_path)
    points = {
        m["file"]: [number(m[c], f"{marks_path}, row {i}", c) for c in axes] for i, m in enumerate(marks, 1)
    }
    rows: list[Row] = []
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        name = plain_name(cell["file"], where)
        spacing_mm = number(cell["mm_per_px_256"], where, "mm_per_px_256")
        rows.append(
            {
                "path": f"images/{name}",
                "patient_id": cell["patient"],
                "study_id": cell["patient"],
                "view": "A4C",
                "site": "CAMUS",
                "frames": 1,
                "height": 256,
                "width": 256,
                "spacing_row_mm": spacing_mm,
                "spacing_col_mm": spacing_mm,
                "split": cell["official_split"],
                "mask_path": f"masks/{name}",
                "phase": cell["phase"],
                "keypoints_lv": points.get(name),
                **_long_axes(points.get(name)),
                **{c: number(cell[c], where, c) for c in values},
            }
        )
    members = [row[column] for row in rows for column in ("path", "mask_path")]
    return publish(out, rows, lambda folder: unpack(root / "camus4ch_256.zip", members, folder))


def _long_axes(marks: list[float] | None) -> Row:
    """Apex and both ends of the annulus as points of A4C: the ventricle's long axis, the atrium's start."""
    if marks is None:
        return {"points_set": None, "keypoints": None}
    apex, left, right = (marks[0], marks[1]), marks[2:4], marks[4:6]
    valve = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
    return point_columns("A4C", {"LV_long_p1": apex, "LV_long_p2": valve, "LA_long_p1": valve})


def pocus_lung_videos(root: Path | str, out: Path | str) -> Manifest:
    """POCUS lung clips: COVID-19, bacterial or viral pneumonia, regular.

    Columns: `label`, `probe`, `licence` (a clip each). The patient is `source_group`, since the source's
    patient ids part clips of one scan. Label and source are confounded: fit for tests of leakage and of the
    tools, not as a benchmark. Split: by patient, seed 0. Source: Born et al. 2021 (doi 10.3390/app11020672).

    Args:
        root: holds videos.csv and the MP4 files.
        out: a new folder for copies of the clips and `manifest.parquet`.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    root = Path(root)
    path = root / "videos.csv"
    table = read_table(path)
    need_columns(table, ["file", "label", "probe", "source_group", "licence"], path)
    rows: list[Row] = []
    for i, cell in enumerate(table, 1):
        name = plain_name(cell["file"], f"{path}, row {i}")
        info = media.probe(root / name)
        rows.append(
            {
                "path": f"videos/{name}",
                "kind": "video",
                "patient_id": cell["source_group"],
                "view": "lung",
                "site": "POCUS",
                "frames": info.frames,
                "fps": info.fps,
                "height": info.height,
                "width": info.width,
                **{c: cell[c] for c in ("label", "probe", "licence")},
            }
        )

    def fill(folder: Path) -> None:
        (folder / "videos").mkdir()
        for row in rows:
            shutil.copyfile(root / Path(row["path"]).name, folder / row["path"])

    split = split_by_patient(Manifest.from_rows(rows, root, check_files=False))
    return publish(out, split.rows, fill)
