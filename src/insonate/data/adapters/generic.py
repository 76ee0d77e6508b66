"""Tables of anyone's own: one row a video, or one row a study with a column a view."""

from __future__ import annotations

from pathlib import Path

from insonate.data.adapters.gather import gather, media_row, there
from insonate.data.adapters.tables import read_table
from insonate.data.columns import COLUMNS, SPLITS
from insonate.data.manifest import Manifest, Row
from insonate.data.media.sniff import SUFFIXES
from insonate.data.table import typed
from insonate.errors import ManifestError

FILE_COLUMNS = ("file", "path", "video", "filename", "file_name", "video_path", "image", "image_path")
PATIENT_COLUMNS = ("patient_id", "patient", "subject", "subject_id")
STUDY_COLUMNS = ("study_id", "study", "exam", "exam_id")
MEASURED = ("kind", "frames", "height", "width")
"""columns that the medium tells, whatever a table says"""


def video_csv(root: Path, out: Path) -> Manifest:
    """`root/videos.csv`, one row a clip or picture: a column `file`, and labels of any name.

    The file may also be called path, video or filename. `patient_id` (or patient, subject), `study_id`,
    `view`, `site`, `vendor`, `split`, `fps` and mm per pixel are used where they are there; every other
    column stays as a label. A row without a patient is one of its own.

    Args:
        root: holds videos.csv and what it names.
        out: a new folder.

    Raises:
        ManifestError: no such column, or a file is missing.
    """
    path = root / "videos.csv"
    table = read_table(path)
    column = next((c for c in FILE_COLUMNS if c in table[0]), None)
    if column is None:
        raise ManifestError(
            path, f"has the columns {', '.join(list(table[0])[:8])}", "Call that of the files file"
        )
    names = [cell[column].replace("\\", "/") for cell in table]
    _all_there(root, names, path)
    rows = [_row(root, name, cell, {column}) for name, cell in zip(names, table, strict=True)]
    return _gathered(root, out, rows, path)


def study_csv(root: Path, out: Path) -> Manifest:
    """`root/studies.csv`, one row a study: a column a view, with files in it, and labels of any name.

    A column is a view where every cell that is filled names a medium by its ending. Each file becomes a row
    with the column's name as `view` and the study's labels; an empty cell is a view that was not taken.
    `study_id` (or study, exam), `patient_id` (or patient, subject) and `split` are used where they are there.

    Args:
        root: holds studies.csv and what it names.
        out: a new folder.

    Raises:
        ManifestError: no column names media, or a file is missing.
    """
    path = root / "studies.csv"
    table = read_table(path)
    views = [column for column in table[0] if _is_view([cell[column] for cell in table])]
    if not views:
        raise ManifestError(
            path, "has no column that names media only", "Give a column a view, with file names"
        )
    _all_there(root, [_name(cell[v]) for cell in table for v in views if cell[v].strip()], path)
    rows = []
    for i, cell in enumerate(table, 1):
        study = next((cell[c] for c in STUDY_COLUMNS if cell.get(c)), f"study {i}")
        patient = next((cell[c] for c in PATIENT_COLUMNS if cell.get(c)), study)
        for view in (v for v in views if cell[v].strip()):
            row = _row(root, _name(cell[view]), cell, {*views})
            rows.append(row | {"view": view, "study_id": study, "patient_id": patient})
    return _gathered(root, out, rows, path)


def _is_view(cells: list[str]) -> bool:
    filled = [cell.strip().lower() for cell in cells if cell.strip()]
    return bool(filled) and all(cell.endswith(SUFFIXES) for cell in filled)


def _name(cell: str) -> str:
    return cell.strip().replace("\\", "/")


def _all_there(root: Path, names: list[str], path: Path) -> None:
    _, notes = there(root, names, path)
    if notes:
        raise ManifestError(path, notes[0], "Correct the names, or remove those rows")


def _row(root: Path, name: str, cell: dict[str, str], left_out: set[str]) -> Row:
    named = {*left_out, *PATIENT_COLUMNS, *STUDY_COLUMNS, *MEASURED}
    patient = next((cell[c] for c in PATIENT_COLUMNS if cell.get(c)), name)
    study = next((cell[c] for c in STUDY_COLUMNS if cell.get(c)), "")
    row = media_row(root, name, patient, study_id=study)
    labels = {c: v for c, v in cell.items() if c not in named and not (c in COLUMNS and not v.strip())}
    return row | labels


def _gathered(root: Path, out: Path, rows: list[Row], path: Path) -> Manifest:
    rows = typed(rows, path)
    splits = {row.get("split") or "" for row in rows}
    if splits & set(SPLITS) and "" in splits:
        raise ManifestError(path, "column 'split' is empty in some rows", "Fill it everywhere, or nowhere")
    return gather(root, out, rows, split=splits == {""})
