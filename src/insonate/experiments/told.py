"""How experiments that are run by `python -m` end when something cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from insonate.errors import InsonateError


@contextmanager
def errors_told() -> Iterator[None]:
    """Tell an error in one line.

    Raises:
        SystemExit: with 2, in place of the error.
    """
    try:
        yield
    except InsonateError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
