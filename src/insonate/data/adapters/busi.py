"""BUSI: breast ultrasound with lesion masks, in its published layout."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from insonate.data import media
from insonate.data.adapters.gather import any_of, files_below, gather, located, media_row
from insonate.data.likeness import groups, likeness, near_pairs
from insonate.data.manifest import Manifest, Row
from insonate.errors import ManifestError

CLASSES = ("benign", "malignant", "normal")
NAME = re.compile(r"(?P<image>.+ \(\d+\))(?P<mask>_mask(_\d+)?)?\.png", re.ASCII)


def busi(root: Path, out: Path) -> Manifest:
    """BUSI: breast, with the class of the lesion (benign, malignant, normal) and its mask.

    Columns: `label`, `mask_path` (0 and 1, all masks of a picture in one; empty where the breast is normal).
    The source names no patients and holds pictures twice, some under two classes: what is nearly the same
    counts as one patient. Split: by these, seed 0. Text and calipers are burned in.

    Args:
        root: holds benign/, malignant/ and normal/.
        out: a new folder.

    Raises:
        ManifestError: a folder is missing, or a picture has no mask.
    """
    root = located(root, CLASSES[0])
    rows: list[Row] = []
    made = {}
    kept = []
    for label in CLASSES:
        if not (root / label).is_dir():
            raise ManifestError(root, f"holds no folder {label!r}", "Unpack the whole data set")
        masks: dict[str, list[Path]] = defaultdict(list)
        images = []
        for name in files_below(root / label, [".png"]):
            match = NAME.fullmatch(name)
            if match is None:
                raise ManifestError(
                    root / label / name, "has another name than this set's files", "Remove it"
                )
            if match["mask"]:
                masks[match["image"]].append(root / label / name)
            else:
                images.append(match["image"])
        for image in images:
            name = f"{label}/{image}.png"
            if image not in masks:
                raise ManifestError(root / name, "has no mask", "Unpack the whole data set")
            mask = f"masks/{name}"
            made[mask] = partial(any_of, masks[image])
            rows.append(media_row(root, name, "", view="breast", site="BUSI", label=label, mask_path=mask))
            kept.append(likeness(media.read_frames(root / name, [0], grey=True)[0]))
    seen = [i for i, picture in enumerate(kept) if picture is not None]
    pairs = [(seen[a], seen[b]) for a, b in near_pairs([picture for picture in kept if picture is not None])]
    for row, first in zip(rows, groups(len(rows), pairs), strict=True):
        row["patient_id"] = Path(rows[first]["path"]).stem
    both = sum(rows[a]["label"] != rows[b]["label"] for a, b in pairs)
    notes = (
        [f"{len(pairs)} pairs of pictures are nearly the same: each counts as one patient"] if pairs else []
    )
    notes += [f"{both} of these pairs have two labels"] if both else []
    return gather(root, out, rows, made=made, notes=notes, split=True)
