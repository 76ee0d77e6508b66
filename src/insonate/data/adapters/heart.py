"""CAMUS in its published layout: NIfTI folders, two views, sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from insonate.data import media
from insonate.data.adapters.chambers import four_chamber_points
from insonate.data.adapters.gather import gather, located, media_row
from insonate.data.adapters.points import point_columns
from insonate.data.adapters.tables import finite
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError

VENTRICLE, ATRIUM = 1, 3
NO_POINTS: Row = {"points_set": None, "keypoints": None}
VIEWS, PHASES = ("2CH", "4CH"), ("ED", "ES")
SUBGROUPS = {"training": "train", "validation": "val", "testing": "test"}


def camus(root: Path, out: Path) -> Manifest:
    """CAMUS: two- and four-chamber echo of 500 patients, end-diastole and end-systole with masks, as NIfTI.

    Columns: `mask_path` (0 background, 1 left ventricle, 2 myocardium, 3 left atrium), `phase`, `points_set`
    and `keypoints` of the four-chamber view (A4C, from the masks; right chambers are missing), and of the
    patient `ef` (biplane), `image_quality`, `sex`, `age_years`. Split: the official lists where
    `database_split` is there, else by patient.

    Args:
        root: holds the folders patient0001, … or one that does.
        out: a new folder.

    Raises:
        ManifestError: no patient is there, or a file of one is missing.
    """
    top = root
    folders = sorted(folder for folder in root.rglob("patient[0-9]*") if folder.is_dir())
    if not folders:
        raise ManifestError(root, "holds no folder patient0001", "Unpack the whole data set")
    root = folders[0].parent
    splits = _official(top)
    rows: list[Row] = []
    for folder in folders:
        if folder.parent != root:
            raise ManifestError(folder, f"does not lie in {root}", "Keep the patients in one folder")
        rows += [row | {"split": splits.get(folder.name, "")} for row in _patient(root, folder.name)]
    unlisted = splits and sum(not row["split"] for row in rows)
    if unlisted:
        raise ManifestError(top, "database_split does not list every patient", "Remove it, or complete it")
    return gather(root, out, rows, split=not splits)


def _patient(root: Path, patient: str) -> Iterator[Row]:
    """Rows of one patient, a view and a phase each.

    Raises:
        ManifestError: a picture or its mask is missing.
    """
    for view in VIEWS:
        if not (root / patient / f"{patient}_{view}_ED.nii.gz").is_file():
            continue
        info = _info(root / patient / f"Info_{view}.cfg")
        for phase in PHASES:
            stem = f"{patient}/{patient}_{view}_{phase}"
            if not (root / f"{stem}.nii.gz").is_file() or not (root / f"{stem}_gt.nii.gz").is_file():
                raise ManifestError(root / f"{stem}.nii.gz", "or its mask is missing", "Unpack the whole set")
            row = media_row(
                root, f"{stem}.nii.gz", patient, study_id=patient, site="CAMUS", view=f"A{view[:2]}"
            )
            points = _points(root / f"{stem}_gt.nii.gz") if view == "4CH" else NO_POINTS
            yield row | {"mask_path": f"{stem}_gt.nii.gz", "phase": phase} | points | info


def _points(path: Path) -> Row:
    """The columns of the points that a mask tells."""
    mask = media.read_frames(path, [0])[0]
    found = four_chamber_points(mask == VENTRICLE, mask == ATRIUM)
    return point_columns("A4C", found) if found else NO_POINTS


def _official(root: Path) -> dict[str, str]:
    """The official split, patient → split; empty where its lists are not there.

    Raises:
        ManifestError: one of the lists cannot be read.
    """
    try:
        folder = located(root, "database_split") / "database_split"
    except ManifestError:
        return {}
    found: dict[str, str] = {}
    for name, split in SUBGROUPS.items():
        path = folder / f"subgroup_{name}.txt"
        try:
            found |= dict.fromkeys(path.read_text("utf-8").split(), split)
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(path, f"cannot be read ({error})", "Copy the lists again") from None
    return found


def _info(path: Path) -> Row:
    """What `Info_4CH.cfg` tells, a line each: ED: 1, EF: 54, ImageQuality: Good, Sex: F, Age: 71."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "ef": finite(told.get("EF", told.get("LVef")), str(path), "EF"),
        "image_quality": told.get("ImageQuality"),
        "sex": told.get("Sex"),
        "age_years": finite(told.get("Age"), str(path), "Age"),
    }
