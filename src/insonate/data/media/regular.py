"""Opening regular files and nothing else: a pipe or device would wait or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from insonate.data.limits import check
from insonate.errors import MediaError, one_line


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading.

    Raises:
        MediaError: it is something else, empty, too large, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise MediaError(path, f"cannot be opened: {reason}", "Check the path") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(path, "is no regular file", "Give a file, not a folder, pipe or device")
        if status.st_size == 0:
            raise MediaError(path, "is empty", "Copy it again")
        check(path, "file_bytes", status.st_size)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
