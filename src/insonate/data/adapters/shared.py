"""Small public sets as they lie in the project's shared data folder, besides those of `public`.

Mind their licences (`LICENCES.md` beside the data).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from insonate.data import media
from insonate.data.adapters.gather import files_below, gather, media_row, there, train_or_val
from insonate.data.adapters.tables import (
    finite,
    need_columns,
    number,
    plain_name,
    publish,
    read_table,
    unpack,
)
from insonate.data.manifest import Manifest, Row
from insonate.data.scan import STAMP, scan
from insonate.data.split import split_by_patient
from insonate.errors import ManifestError

HIP_CLASSES = 3


def tongue_keypoints(root: Path, out: Path) -> Manifest:
    """Midsagittal tongue: 404 frames with 14 points drawn by hand, missing where they are not seen.

    Column: `keypoints_tongue`, in the order of the table. A speaker is a patient, but the test frames are of
    speakers that the source does not tell apart: they count as one. Split: the source's; 15 % of the training
    speakers are val. Source: Wrench and Balch-Tomes 2022 (doi 10.3390/s22031133).

    Args:
        root: holds keypoints.csv and tongue_kp.zip.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    path = root / "keypoints.csv"
    table = read_table(path)
    need_columns(table, ["file", "source", "split", "width", "height"], path)
    names = [c[:-2] for c in table[0] if c.endswith("_x") and f"{c[:-2]}_y" in table[0]]
    rows: list[Row] = []
    for i, cell in enumerate(table, 1):
        where = f"{path}, row {i}"
        points = [finite(cell[f"{n}_{axis}"], where, f"{n}_{axis}") for n in names for axis in "xy"]
        rows.append(
            {
                "path": f"images/{plain_name(cell['file'], where)}",
                "patient_id": cell["source"],
                "view": "tongue",
                "site": "tongue",
                "frames": 1,
                "height": number(cell["height"], where, "height"),
                "width": number(cell["width"], where, "width"),
                "split": "test" if cell["split"] == "test" else train_or_val(cell["source"]),
                "keypoints_tongue": [np.nan if v is None else v for v in points],
            }
        )
    return _unpacked(root / "tongue_kp.zip", rows, out, f"keypoints_tongue: {', '.join(names)}")


def muscle_cc0(root: Path, out: Path) -> Manifest:
    """Calf muscle: 163 unlabelled pictures in runs, free of any condition (CC0).

    A subject of a data set is a patient. Split: by patient, seed 0. Source: van der Zee and Kuo (TimTrack).

    Args:
        root: holds muscle_gray.zip.
        out: a new folder.

    Raises:
        ManifestError: the archive is missing or is not that of this data set.
    """
    archive = root / "muscle_gray.zip"
    with TemporaryDirectory() as folder:
        unpack(archive, ["index.csv"], Path(folder))
        table = read_table(Path(folder) / "index.csv")
    need_columns(table, ["file", "dataset", "group", "width", "height"], archive)
    rows = [
        {
            "path": f"images/{plain_name(cell['file'], f'{archive}, row {i}')}",
            "patient_id": f"{cell['dataset']} {cell['group']}",
            "view": "muscle",
            "site": "TimTrack",
            "frames": 1,
            "height": number(cell["height"], f"{archive}, row {i}", "height"),
            "width": number(cell["width"], f"{archive}, row {i}", "width"),
        }
        for i, cell in enumerate(table, 1)
    ]
    return _unpacked(archive, rows, out, "", split=True)


def hip_radoss(root: Path, out: Path) -> Manifest:
    """Infant hips: 16 frames of three DICOM files with masks that a model made, not a person.

    A row a frame: `frame`, `mask_path` (0 background, 1 to 3). Split: by patient, seed 0.

    Args:
        root: holds NUMBER.dcm and NUMBER.nii.gz.
        out: a new folder.

    Raises:
        ManifestError: a mask is missing, or does not fit its file.
    """
    rows: list[Row] = []
    made = {}
    for name in files_below(root, [".dcm"]):
        volume = root / f"{Path(name).stem}.nii.gz"
        if not volume.is_file():
            raise ManifestError(volume, "is missing", "Copy the data set again")
        row = media_row(root, name, Path(name).stem, view="hip", site="RadOSS")
        info = media.probe(volume)
        if (info.frames, info.height, info.width) != (row["frames"], row["height"], row["width"]):
            raise ManifestError(volume, f"is not of the size of {name}", "Copy the data set again")
        for frame in range(row["frames"]):
            mask = f"masks/{Path(name).stem}-{frame:02d}.png"
            made[mask] = partial(_slice, volume, frame)
            rows.append(row | {"frame": frame, "mask_path": mask})
    if not rows:
        raise ManifestError(root, "holds no DICOM file", "Give the folder of this data set")
    return gather(root, out, rows, made=made, split=True)


def dicom_us(root: Path, out: Path) -> Manifest:
    """Ultrasound DICOM in ten transfer syntaxes from open-source projects: to test readers, no labels.

    A file is a patient: many name the same mock patient. What this machine cannot decode is left out.

    Args:
        root: holds dicom_index.csv and the DICOM files.
        out: a new folder.

    Raises:
        ManifestError: no file can be read.
    """
    path = root / "dicom_index.csv"
    table = read_table(path)
    need_columns(table, ["file", "ts_name", "manufacturer"], path)
    names = [plain_name(cell["file"], f"{path}, row {i}") for i, cell in enumerate(table, 1)]
    found, notes = there(root, names, path)
    result = scan(root)
    scanned = {row["path"]: {c: v for c, v in row.items() if c not in STAMP} for row in result.manifest.rows}
    rows = [
        scanned[name] | {"patient_id": name, "site": name.partition("_")[0], "syntax": cell["ts_name"]}
        for cell, name in zip(table, names, strict=True)
        if name in scanned
    ]
    unread = [error.path for error in result.errors if error.path in found]
    notes += (f"{len(unread)} files cannot be decoded here, such as {unread[0]!r}",) if unread else ()
    return gather(root, out, rows, notes=notes, split=True)


def echo_clips(root: Path, out: Path) -> Manifest:
    """Echo clips and animations of several open-source projects, with a view estimated by eye.

    Columns: `label` (heart, other), `licence` (a clip each); the source project is the patient, since its
    clips may be of one. Split: by these, seed 0. DICOM files that the table also names are in dicom_us.

    Args:
        root: holds clips.csv, mp4/ and gif_verbatim/.
        out: a new folder.

    Raises:
        ManifestError: a file is missing or is not that of this data set.
    """
    path = root / "clips.csv"
    table = read_table(path)
    need_columns(table, ["file", "view_estimate", "source", "licence"], path)
    own = [cell for cell in table if not cell["file"].startswith("../")]
    found, notes = there(root, [cell["file"] for cell in own], path)
    rows = [
        media_row(root, cell["file"], cell["source"].partition("@")[0], view=cell["view_estimate"])
        | {"site": "echo clips", "licence": cell["licence"]}
        | {"label": "other" if "NOT-ECHO" in cell["file"] else "heart"}
        for cell in own
        if cell["file"] in found
    ]
    return gather(root, out, rows, notes=notes, split=True)


def sononet16(root: Path, out: Path) -> Manifest:
    """Thirteen fetal standard planes, one picture each, as examples of SonoNet's classes.

    Column: `label`, the plane. All are of the split test.

    Args:
        root: holds 3VV.png, 4CH.png, …
        out: a new folder.

    Raises:
        ManifestError: no picture is there.
    """
    names = list(files_below(root, [".png"]))
    rows = [
        media_row(root, n, Path(n).stem, site="SonoNet", view="fetal plane", label=Path(n).stem, split="test")
        for n in names
    ]
    return gather(root, out, rows)


def raw_and_phantom(root: Path, out: Path) -> Manifest:
    """Pictures and clips of point-of-care probes on phantoms and eyes, unlabelled; raw data is left out.

    The probe, which file names start with, is `vendor`; a file is a patient. Split: by these, seed 0.

    Args:
        root: holds the files of Clarius and ITKPOCUS.
        out: a new folder.

    Raises:
        ManifestError: no medium is there.
    """
    names = files_below(root, (".png", ".jpg", ".mp4"))
    rows = [
        media_row(root, n, n, vendor=n.partition("-")[0].partition("_")[0], site="POCUS phantoms")
        for n in names
    ]
    return gather(root, out, rows, split=True)


def tracked_freehand(root: Path, out: Path) -> Manifest:
    """Tracked sweeps of spine phantom, wires and bone: sequences with poses, which `read_tracks` gives.

    Column: `poses`, the number of pictures that the tracker saw. A sequence is a patient; no split.

    Args:
        root: holds the MetaImage files of PLUS.
        out: a new folder.

    Raises:
        ManifestError: no tracked sequence is there.
    """
    rows = []
    for name in files_below(root, [".mha"]):
        tracks = media.read_tracks(root / name)
        if tracks:
            seen = int(np.logical_and.reduce([track.valid for track in tracks]).sum())
            rows.append(media_row(root, name, name, view=name.partition(".")[0], site="PLUS", poses=seen))
    if not rows:
        raise ManifestError(root, "holds no tracked sequence", "Give the folder of this data set")
    return gather(root, out, rows)


def _unpacked(archive: Path, rows: list[Row], out: Path, note: str, *, split: bool = False) -> Manifest:
    if split:
        rows = split_by_patient(Manifest.from_rows(rows, out, check_files=False)).rows
    manifest = publish(out, rows, lambda folder: unpack(archive, [row["path"] for row in rows], folder))
    return replace(manifest, notes=(*manifest.notes, note)) if note else manifest


def _slice(volume: Path, frame: int) -> np.ndarray:
    mask = media.read_frames(volume, [frame])[0]
    if mask.max() > HIP_CLASSES:
        raise ManifestError(volume, f"holds the class {mask.max()}", "Copy the data set again")
    return np.asarray(mask)
