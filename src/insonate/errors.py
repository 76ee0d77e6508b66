"""The one family of errors: where it is, what is wrong, how to mend it.

Everything that a user can cause raises one of these; `cli.main` prints it as one line and exits with 2.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

MAX_LENGTH, MOST_NAMES = 600, 16


class InsonateError(Exception):
    """Bad input or a fault of the surroundings, told in one line.

    Args:
        where: the file, and the field or frame in it.
        what: what is wrong, with the value that offended.
        mend: what the user can do about it.
    """

    def __init__(self, where: object, what: object, mend: object) -> None:
        self.where, self.what, self.mend = one_line(where), one_line(what), one_line(mend)
        super().__init__(self.where, self.what, self.mend)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.mend}{'' if self.mend.endswith('?') else '.'}"

    def __reduce__(self) -> tuple[type[InsonateError], tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.mend)


class MediaError(InsonateError):
    """A media file that cannot be read as asked."""


class ManifestError(InsonateError):
    """A manifest, or a row or column of one, that cannot be used."""


class RecipeError(InsonateError):
    """A recipe that does not fit its schema."""


class WeightsError(InsonateError):
    """Weights that are damaged, unsafe, or of another model."""


class ModelError(InsonateError):
    """A model folder, or a model used for what it was not made for."""


class RunError(InsonateError):
    """A run folder or a training run that cannot go on."""


def escaped(text: str) -> str:
    """`text` with what would move a cursor, hide or reorder text shown as codes; line ends are blanks."""
    return "".join(
        c if unicodedata.category(c)[0] != "C" else " " if c in "\n\r\t" else f"\\u{ord(c):04x}" for c in text
    )


def one_line(text: object) -> str:
    """`text` as one printable line: control and bidirectional characters escaped, cut at 600 characters."""
    cleaned = " ".join(escaped(str(text)).split()).rstrip(".")
    return cleaned if len(cleaned) <= MAX_LENGTH else cleaned[: MAX_LENGTH - 1] + "…"


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names that look most like `name`, for the mend of an "unknown name" error."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if close:
        return f"Did you mean {', '.join(close)}?"
    return f"Known: {', '.join(names[:MOST_NAMES])}{', …' if len(names) > MOST_NAMES else ''}"


def choose(name: str, known: Iterable[str], most: int = MOST_NAMES) -> str:
    """The mend of an "unknown name" error among a few: all of them in their order; among many the nearest."""
    names = list(known)
    return f"Known: {', '.join(names)}" if len(names) <= most else nearest(name, names)
