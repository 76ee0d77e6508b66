"""The private folder of de-identification: what leads back to the originals, apart from what is handed on."""

from __future__ import annotations

from pathlib import Path

from insonate.errors import InsonateError
from insonate.files import told, writable


def private_folder(folder: Path, out: Path, private: Path | str | None) -> Path:
    """The folder, made for its owner alone where there is none; beside `out` unless given.

    Raises:
        InsonateError: `folder` is none, one of the three lies within another, or one cannot be written.
    """
    private = Path(private) if private is not None else out.with_name(out.name + ".private")
    if not folder.is_dir():
        raise InsonateError(folder, "is no folder", "Give the folder that holds the media")
    places = {
        "the originals": folder.resolve(),
        "the output": out.resolve(),
        "the private folder": private.resolve(),
    }
    for name, place in places.items():
        for other, within in places.items():
            if name != other and within.is_relative_to(place):
                what = f"{other} would lie in the folder of {name}"
                raise InsonateError(within, what, "Choose folders beside each other")
    writable(out)
    writable(private)
    with told(private):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
    return private
