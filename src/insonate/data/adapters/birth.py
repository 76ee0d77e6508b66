"""Masks of birth and cervix: PSFHS, FH-PS-AOP, JNU-IFM and FUGC, as their challenges hand them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from insonate.data import media
from insonate.data.adapters.gather import files_below, gather, located, media_row
from insonate.data.adapters.tables import need_columns, publish, read_table
from insonate.data.manifest import Manifest, Row
from insonate.data.media import write_png
from insonate.data.split import split_by_patient
from insonate.errors import ManifestError

CLASSES = 3
FUGC_PARTS = {"train": "train", "val": "val", "test": "test"}
LEVELS = {7: 1, 8: 2}
"""of JNU-IFM's masks → ours"""
SEEN = {"3": "none", "4": "symphysis", "5": "head", "6": "symphysis and head"}
"""JNU-IFM's labels of frames"""
MEND = "Copy the data set again"


def psfhs(root: Path, out: Path) -> Manifest:
    """PSFHS, FH-PS-AOP: transperineal pictures with masks of the pubic symphysis and the fetal head.

    Columns: `mask_path` (0 background, 1 symphysis, 2 head), `view` birth canal. The angle of progression
    follows from the masks (`measure.intrapartum`). The source's pictures are volumes of three equal or colour
    planes; here they are PNG. It names no patients: each picture counts as one, though frames of one woman
    stand side by side. Split: by these, seed 0.

    Args:
        root: holds image_mha/ and label_mha/ with files of the same names.
        out: a new folder.

    Raises:
        ManifestError: a mask is missing, or a file is not that of this data set.
    """
    root = located(root, "image_mha")
    names = sorted(files_below(root / "image_mha", (".mha",)))
    if not names:
        raise ManifestError(root / "image_mha", "holds no .mha file", "Unpack the whole set")
    rows: list[Row] = []
    pictures: dict[str, Callable[[], np.ndarray]] = {}
    for name in names:
        stem = Path(name).stem
        image, label = root / "image_mha" / name, root / "label_mha" / name
        if not label.is_file():
            raise ManifestError(label, "is missing", MEND)
        info = media.probe(label)
        shown, mask = f"images/{stem}.png", f"masks/{stem}.png"
        pictures |= {shown: partial(_planes, image), mask: partial(_mask, label)}
        rows.append({
            "path": shown, "kind": "image", "patient_id": stem, "view": "birth canal", "site": "PSFHS",
            "frames": 1, "height": info.height, "width": info.width, "mask_path": mask,
        })  # fmt: skip

    def fill(folder: Path) -> None:
        for name, make in pictures.items():
            write_png(folder / name, make())

    split = split_by_patient(Manifest.from_rows(rows, root, check_files=False))
    return publish(out, split.rows, fill)


def jnu_ifm(root: Path, out: Path) -> Manifest:
    """JNU-IFM: frames of transperineal videos with masks of the pubic symphysis and the fetal head.

    Columns: `mask_path` (0 background, 1 symphysis, 2 head; the source's levels are 7 and 8), missing for the
    few frames without one, and `label`, which of both is seen. A video counts as a patient: which of the 51
    women its 78 videos are of is not told. Split: by these, seed 0.

    Args:
        root: holds a folder a video, with image/, mask/ and framelabel.csv, or a folder of such.
        out: a new folder.

    Raises:
        ManifestError: no video is there, or a file of one is not that of this data set.
    """
    videos = sorted(path.parent for path in root.rglob("image") if path.is_dir())
    if not videos:
        raise ManifestError(root, "holds no folder of a video with image/", "Unpack the whole set")
    rows: list[Row] = []
    made: dict[str, Callable[[], np.ndarray]] = {}
    for video in videos:
        seen = _seen(video / "framelabel.csv")
        for name in files_below(video / "image", (".png",)):
            stem = Path(name).stem
            path = (video / "image" / name).relative_to(root).as_posix()
            row = media_row(root, path, video.name, series_id=video.name, view="birth canal", site="JNU-IFM")
            mask = video / "mask" / f"{stem}_mask.png"
            row |= {"label": seen.get(stem.rpartition("_")[2].lstrip("0") or "0"), "mask_path": None}
            if mask.is_file():
                row["mask_path"] = f"masks/{video.name}/{stem}.png"
                made[row["mask_path"]] = partial(_relevelled, mask)
            rows.append(row)
    return gather(root, out, rows, made=made, split=True)


def _seen(path: Path) -> dict[str, str]:
    """Frame number → what its video's table says is seen; empty where there is none.

    Raises:
        ManifestError: it has other columns or labels.
    """
    if not path.is_file():
        return {}
    table = read_table(path)
    need_columns(table, ["frame_id", "frame_label"], path)
    odd = next((cell["frame_label"] for cell in table if cell["frame_label"].strip() not in SEEN), None)
    if odd is not None:
        raise ManifestError(path, f"holds the label {odd[:20]!r}, not {', '.join(SEEN)}", MEND)
    return {cell["frame_id"].strip().lstrip("0") or "0": SEEN[cell["frame_label"].strip()] for cell in table}


def _relevelled(path: Path) -> np.ndarray:
    """The mask with our numbers, H W.

    Raises:
        ManifestError: it has other levels than 0, 7 and 8.
    """
    mask = media.read_frames(path, [0], grey=True)[0]
    odd = set(np.unique(mask).tolist()) - {0, *LEVELS}
    if odd:
        raise ManifestError(path, f"holds the level {min(odd)}, not 0, 7 and 8", MEND)
    return np.select([mask == level for level in LEVELS], list(LEVELS.values()), 0).astype(np.uint8)


def fugc(root: Path, out: Path) -> Manifest:
    """FUGC 2025: transvaginal pictures of the cervix with masks of its two lips.

    Columns: `mask_path` (0 background, 1 and 2 the lips), missing for pictures without a label. Split: the
    source's. It names no patients: each picture counts as one.

    Args:
        root: holds train/labeled_data, train/unlabeled_data, val, test; those that are there are taken.
        out: a new folder.

    Raises:
        ManifestError: no picture is there, a label has no picture, or a labelled picture no label.
    """
    root = located(root, "train")
    rows: list[Row] = []
    for part, split in FUGC_PARTS.items():
        for images in sorted((root / part).rglob("images")) if (root / part).is_dir() else ():
            rows += _fugc_rows(root, images, split)
    if not rows:
        raise ManifestError(root, "holds no folder of images", "Give the folder with train/, val/ and test/")
    return gather(root, out, rows)


def _fugc_rows(root: Path, images: Path, split: str) -> list[Row]:
    """Pictures of one folder with their masks.

    Raises:
        ManifestError: a mask has no picture, or a picture has no mask where there are masks.
    """
    labels = images.parent / "labels"
    rows = []
    for name in files_below(images, (".png",)):
        path = (images / name).relative_to(root).as_posix()
        mask = labels / name
        if labels.is_dir() and not mask.is_file():
            raise ManifestError(mask, "is missing", MEND)
        row = media_row(root, path, f"{split} {Path(name).stem}", view="cervix", site="FUGC", split=split)
        row["mask_path"] = mask.relative_to(root).as_posix() if mask.is_file() else None
        rows.append(row)
    stray = sorted({*files_below(labels, (".png",))} - {*files_below(images, (".png",))})
    if stray:
        raise ManifestError(labels / stray[0], "has no picture", MEND)
    return rows


def _planes(path: Path) -> np.ndarray:
    """The picture that a volume of one or three planes holds: H W, or H W 3.

    Raises:
        ManifestError: it has another number of planes.
    """
    planes = media.read_frames(path)
    if planes.ndim == 4:
        return np.asarray(planes[0])
    if len(planes) not in {1, 3}:
        raise ManifestError(path, f"holds {len(planes)} planes, not 3", MEND)
    return np.asarray(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1))


def _mask(path: Path) -> np.ndarray:
    """The levels of a mask file, H W.

    Raises:
        ManifestError: it has others than 0, 1 and 2.
    """
    mask = media.read_frames(path, [0])[0]
    if mask.ndim != 2 or mask.max() >= CLASSES:
        raise ManifestError(path, f"holds the level {mask.max()}", MEND)
    return np.asarray(mask)
