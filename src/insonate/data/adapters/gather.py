"""What adapters of data sets share: the facts of a data set, rows with the facts of their media, masks made.

Shapes: H W pixels. Pixel coordinates are (x, y), (0, 0) the centre of the top-left pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from insonate.data import media
from insonate.data.adapters.tables import copy_files, publish
from insonate.data.manifest import Manifest, Row, patient_key
from insonate.data.media import write_png
from insonate.data.scan import media_names
from insonate.data.split import patient_place, split_by_patient
from insonate.errors import ManifestError
from insonate.files import inside

VAL_PART = 0.15
MOST_ENTRIES = 2_000_000
Pictures = Mapping[str, Callable[[], np.ndarray]]
"""name in the new folder → the mask, H W, made when it is written"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A data set: where it comes from, what one may do with it, and how its folder becomes a manifest."""

    make: Callable[[Path, Path], Manifest]
    """(folder as it is handed out, new folder) → manifest; its docstring tells the columns"""
    licence: str = ""
    citation: str = ""
    where: str = ""
    """where to get it"""
    size: str = ""
    """of the download"""
    items: int | None = None
    """media of the whole set"""

    @property
    def about(self) -> str:
        """First line of the docstring."""
        return (self.make.__doc__ or "").strip().partition("\n")[0]

    def __call__(self, root: Path | str, out: Path | str) -> Manifest:
        """The manifest, with a note where the folder does not hold the whole set.

        Raises:
            ManifestError: the folder is not that of this data set.
        """
        root = Path(root)
        if not root.is_dir():
            raise ManifestError(root, "is no folder", "Give the folder that the data set was unpacked into")
        manifest = self.make(root, Path(out))
        found = len({row["path"] for row in manifest.rows})
        if self.items is None or found == self.items:
            return manifest
        note = f"{found} media, the whole data set has {self.items}: is the download complete?"
        return replace(manifest, notes=(*manifest.notes, note))


def located(root: Path, name: str) -> Path:
    """The folder at or below `root` that holds `name`: archives often unpack into folders of their own.

    Raises:
        ManifestError: none does, three levels deep.
    """
    level = [root]
    for _ in range(4):
        for folder in level:
            if (folder / name).exists():
                return folder
        level = sorted(sub for folder in level for sub in folder.iterdir() if sub.is_dir())
    raise ManifestError(root, f"holds no {name!r}", "Give the folder of this data set as it was handed out")


def files_below(root: Path, endings: Sequence[str]) -> Iterator[str]:
    """Names of all files with these endings relative to `root`, in order; hidden ones are passed over.

    Raises:
        ManifestError: there are more than two millions.
    """
    for count, name in enumerate(media_names(root, []), 1):
        if count > MOST_ENTRIES:
            raise ManifestError(
                root, f"holds more than {MOST_ENTRIES} files", "Give the data set's own folder"
            )
        if name.lower().endswith(tuple(endings)):
            yield name


def media_row(root: Path, name: str, patient_id: str, **columns: Any) -> Row:
    """A row with the facts of a medium; `columns` count where they are given.

    Raises:
        MediaError: it cannot be read.
    """
    info = media.probe(inside(root, name))
    return {"path": name, "patient_id": patient_id} | info.columns() | columns


def there(root: Path, names: Sequence[str], source: object) -> tuple[set[str], tuple[str, ...]]:
    """Which of the files that a table names are there, and a note on those that are not.

    Raises:
        ManifestError: none is.
    """
    found = {name for name in names if inside(root, name).is_file()}
    missing = [name for name in names if name not in found]
    if not found:
        what = (
            f"names {len(names)} files and none is there, such as {names[0][:80]!r}" if names else "is empty"
        )
        raise ManifestError(source, what, f"Unpack the media into {root}")
    if not missing:
        return found, ()
    return found, (f"{len(missing)} of {len(names)} files are missing, such as {missing[0][:80]!r}",)


def gather(
    root: Path,
    out: Path,
    rows: Sequence[Row],
    *,
    made: Pictures | None = None,
    notes: Sequence[str] = (),
    split: bool = False,
) -> Manifest:
    """A new folder with copies of the media, the masks that were made, and `manifest.parquet`.

    Args:
        root: folder that the paths of the rows are relative to.
        out: the new folder.
        rows: media and masks; those in `made` are not looked for in `root`.
        made: masks that the source does not hold in this form.
        notes: for people.
        split: make a split by patient, seed 0; else the rows hold the source's own.

    Raises:
        ManifestError: a row cannot be used, or a file is not there.
        InsonateError: `out` is there already.
    """
    made = made or {}
    kept = [{c: None if v in made else v for c, v in _hashable(row)} for row in rows]
    sources = Manifest.from_rows(kept, root)
    whole = Manifest.from_rows(rows, root, check_files=False)
    if split:
        whole = split_by_patient(whole)

    def fill(folder: Path) -> None:
        copy_files(sources, folder)
        for name, picture in made.items():
            write_png(folder / name, picture())

    manifest = publish(out, whole.rows, fill)
    return replace(manifest, notes=(*manifest.notes, *notes))


def _hashable(row: Row) -> list[tuple[str, Any]]:
    return [(c, v) for c, v in row.items() if not isinstance(v, list)]


def train_or_val(patient_id: str) -> str:
    """Where a patient of the source's training part belongs: 15 % of them validate."""
    return "val" if patient_place(patient_id, 0) < VAL_PART else "train"


def one_split_a_patient(rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """Rows whose patients are each in the first split that names them, and a note where that moved any."""
    first: dict[str, str] = {}
    new = [{**row, "split": first.setdefault(patient_key(row["patient_id"]), row["split"])} for row in rows]
    moved = sum(a["split"] != b["split"] for a, b in zip(rows, new, strict=True))
    note = f"{moved} items moved to the split of their patient: the source has patients in two splits"
    return new, (note,) if moved else ()


def polygon(points_xy: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """The inside of a closed outline: H W, 0 and 1.

    Args:
        points_xy: K 2.
        hw: height and width.
    """
    image = Image.new("L", (hw[1], hw[0]))
    ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in points_xy], fill=1, outline=1)
    return np.asarray(image)


def filled(outline: np.ndarray, where: object) -> np.ndarray:
    """An outline of one region and what it encloses, alone or with the border of the picture: H W, 0 and 1.

    Args:
        outline: H W, above 0 on the line; a filled region comes back as it is.
        where: what errors call it.

    Raises:
        ManifestError: it encloses nothing.
    """
    line = outline > 0
    if not line.any():
        return line.astype(np.uint8)
    holes = ndimage.binary_fill_holes(line)
    if holes.sum() > 2 * line.sum() or ndimage.binary_erosion(line, iterations=4).any():
        return np.asarray(holes, np.uint8)
    # it runs off the picture: of the areas that it parts, its middle lies in the one inside
    areas, _ = ndimage.label(~line)
    middle = np.argwhere(line).mean(0)
    free = np.argwhere(~line)
    nearest = free[((free - middle) ** 2).sum(1).argmin()]
    inside_area = areas == areas[tuple(nearest)]
    if inside_area.sum() > 0.95 * (~line).sum():
        raise ManifestError(where, "holds an outline that is not closed", "Copy the data set again")
    return np.asarray(line | inside_area, np.uint8)


def any_of(masks: Sequence[Path]) -> np.ndarray:
    """Several masks of one picture as one: H W, 0 and 1.

    Raises:
        ManifestError: they differ in size.
        MediaError: one cannot be read.
    """
    pictures = [media.read_frames(path, [0], grey=True)[0] > 0 for path in masks]
    odd = next(
        (p for p, picture in zip(masks, pictures, strict=True) if picture.shape != pictures[0].shape), None
    )
    if odd is not None:
        raise ManifestError(odd, "is not of the size of the image's other mask", "Copy the data set again")
    return np.logical_or.reduce(pictures).astype(np.uint8)
