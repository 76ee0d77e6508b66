"""The sidecar of a shard: name, offset, size and checksum of each member, so that any is one read away.

The tar itself stays plain: other tools read it from end to end and need no index.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from insonate.errors import MediaError

MAX_BYTES = 1 << 28
"""of an index: some millions of members"""
MEND = "The shard is damaged: copy it again, or remove it and run `insonate data shard` once more"


class Member(NamedTuple):
    """Where one file lies in the tar."""

    offset: int
    size: int
    crc: int
    """CRC-32 of the content"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What the sidecar of a shard tells."""

    tar_bytes: int
    made_from: str
    """digest of the rows, files and options that the shard was made from"""
    members: Mapping[str, Member]
    rows: Sequence[dict[str, Any]]
    """of the manifest of the shards"""
    errors: Sequence[tuple[str, str]]
    """items that could not be packed, with the reason"""

    def text(self) -> str:
        """As the sidecar holds it."""
        content = {
            "tar_bytes": self.tar_bytes,
            "made_from": self.made_from,
            "members": [[name, *member] for name, member in self.members.items()],
            "rows": list(self.rows),
            "errors": [list(error) for error in self.errors],
        }
        return json.dumps(content, separators=(",", ":")) + "\n"


def index_path(tar: Path) -> Path:
    """The sidecar of a tar."""
    return tar.with_suffix(".index")


def read_index(tar: Path) -> Index:
    """The sidecar of `tar`, checked against itself; the tar is not read.

    Raises:
        MediaError: it is missing, damaged, or names places outside the tar.
    """
    path = index_path(tar)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise MediaError(path, f"is larger than {MAX_BYTES >> 20} MiB", MEND)
        content = json.loads(text)
        members = {name: Member(*map(_natural, place)) for name, *place in content["members"]}
        index = Index(
            tar_bytes=_natural(content["tar_bytes"]),
            made_from=str(content["made_from"]),
            members=members,
            rows=[dict(row) for row in content["rows"]],
            errors=[(str(name), str(reason)) for name, reason in content["errors"]],
        )
    except OSError as error:
        raise MediaError(path, f"cannot be opened: {error.strerror}", MEND) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MediaError(path, "is no index of a shard", MEND) from None
    if any(member.offset + member.size > index.tar_bytes for member in members.values()):
        raise MediaError(path, "names places behind the end of its tar", MEND)
    return index


def _natural(value: Any) -> int:
    """The value, if it is a whole number from 0.

    Raises:
        ValueError: it is none.
    """
    if type(value) is not int or value < 0:
        raise ValueError(value)
    return value


def write_members(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> tuple[dict[str, Member], int]:
    """Write a tar of (name, content) without dates or owners, so that equal input gives equal bytes.

    Returns:
        The places of the members, and the bytes written.
    """
    places: dict[str, Member] = {}
    at = 0
    for name, content in members:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        head = info.tobuf(tarfile.USTAR_FORMAT)
        filled = -len(content) % tarfile.BLOCKSIZE
        file.write(head + content + b"\0" * filled)
        places[name] = Member(at + len(head), len(content), crc32(content))
        at += len(head) + len(content) + filled
    file.write(b"\0" * (2 * tarfile.BLOCKSIZE))
    return places, at + 2 * tarfile.BLOCKSIZE
