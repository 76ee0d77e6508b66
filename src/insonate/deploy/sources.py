"""The media that a command is asked for: files, and all media below folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from insonate.data.media import is_media
from insonate.errors import InsonateError

MOST_FILES = 100_000


def media_below(paths: Iterable[Path | str], *, but: Path) -> list[Path]:
    """Files as they are given, and of each folder all media in it and below, in order of their names.

    Hidden files and folders are passed over, and the folder `but` of the results. A file that is given by
    name is taken whatever it is: that it cannot be read is told when it is its turn.

    Raises:
        InsonateError: a folder holds no medium, or more than 100,000 files.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = [file for file in _files(path, but.resolve()) if is_media(file)]
        if not inside:
            raise InsonateError(path, "holds no media", "Give files, or a folder with images, clips or DICOM")
        found += inside
    return list(dict.fromkeys(found))


def _files(folder: Path, but: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        kept = (
            name for name in folders if not name.startswith(".") and (Path(place) / name).resolve() != but
        )
        folders[:] = sorted(kept)
        count += len(names)
        if count > MOST_FILES:
            raise InsonateError(folder, f"holds more than {MOST_FILES} files", "Give a smaller folder")
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))
