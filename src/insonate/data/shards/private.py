"""Shards without identity: who is who, what was blanked and what was left out, for their owner alone.

The private folder holds the key, a file for each shard (`shard-00000.jsonl`: which original each member is
of), `errors.jsonl` and pictures before and after. The shards' folder gets `audit.csv` and pseudonyms only.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insonate.data.blanking import Blanked, audit_notes, audit_table
from insonate.data.columns import COLUMNS, Row
from insonate.data.manifest import Manifest
from insonate.data.private import private_folder
from insonate.data.pseudonyms import Pseudonyms, read_key
from insonate.data.review import PICTURES, write_sheets
from insonate.data.shards.pack import STAYING, Blanking
from insonate.errors import ManifestError, nearest
from insonate.files import atomic_write, told

LEFT_OUT = "was left out: see errors.jsonl in the private folder"
"""in place of a reason, which may name people"""
OPEN = ("view", "site")
"""columns of every manifest that may be kept if asked for; pseudonyms or facts replace the others"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentify:
    """How shards are written without identity."""

    private: Path | str | None = None
    """folder for what leads back to the originals; beside that of the shards unless given"""
    key: Path | str | None = None
    """file of the secret key, made where there is none; in the private folder unless given"""
    keep: Sequence[str] = ()
    """label columns that stay as they are"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """The private folder of one run."""

    folder: Path
    blanking: Blanking

    @classmethod
    def opened(cls, manifest: Manifest, out: Path, asked: Deidentify) -> Private:
        """The folder, checked and made.

        Raises:
            InsonateError: folders lie within each other, or the key file holds none.
            ManifestError: a column to keep is not there, or may not be kept.
        """
        for column in asked.keep:
            if column not in manifest.rows[0]:
                raise ManifestError(
                    manifest.source, f"has no column {column!r}", nearest(column, manifest.rows[0])
                )
            if column in COLUMNS and column not in (*OPEN, *STAYING):
                raise ManifestError(manifest.source, f"column {column!r} may not be kept", "Leave it out")
        folder = private_folder(manifest.root, out, asked.private)
        key = read_key(Path(asked.key) if asked.key is not None else folder / "key")
        return cls(folder=folder, blanking=Blanking(key=key, keep=tuple(asked.keep)))

    def ordered(self, manifest: Manifest) -> Manifest:
        """The rows by their pseudonyms: the order of the originals' names would tell of them."""
        names = Pseudonyms(self.blanking.key)

        def place(row: Row) -> tuple[str, str, int]:
            frame = row.get("frame")
            return names.patient(row["patient_id"]), names.file(row["path"]), -1 if frame is None else frame

        return manifest.with_rows(sorted(manifest.rows, key=place))

    def keyed(self, digest: str) -> str:
        """A digest of rows, under the key: without it, names could be guessed and compared."""
        return hmac.new(self.blanking.key, digest.encode(), "sha256").hexdigest()

    def has(self, tar: Path, made_from: str) -> bool:
        """Whether the notes of this very shard are there."""
        lines = self._notes(tar)
        return bool(lines) and lines[0].get("made_from") == made_from

    def write(self, tar: Path, made_from: str, entries: Sequence[Row]) -> None:
        """The notes of a shard."""
        lines = [json.dumps(entry) + "\n" for entry in ({"made_from": made_from}, *entries)]
        atomic_write(self._place(tar), "".join(lines))

    def done(self, member: str, path: str, tar: Path, made: Blanked) -> Row:
        """The note of an item that is packed; its picture is written."""
        atomic_write(self.folder / PICTURES / f"{member}.png", made.picture)
        return {"member": member, "path": path, "audit": made.audit | {"path": f"{tar.name}/{member}"}}

    def finish(self, out: Path, tars: Sequence[Path]) -> tuple[str, ...]:
        """Write the audit, the errors and the sheets of all shards; what people should look at."""
        entries = [entry for tar in tars for entry in self._notes(tar)[1:]]
        audit = [entry["audit"] for entry in entries if "audit" in entry]
        errors = [json.dumps(entry) + "\n" for entry in entries if "reason" in entry]
        atomic_write(out / "audit.csv", audit_table(audit))
        atomic_write(self.folder / "errors.jsonl", "".join(errors))
        write_sheets(self.folder, audit)
        return tuple(audit_notes(audit))

    def _place(self, tar: Path) -> Path:
        return self.folder / f"{tar.stem}.jsonl"

    def _notes(self, tar: Path) -> list[dict[str, Any]]:
        """Lines of a shard's notes; none where they cannot be read."""
        path = self._place(tar)
        if not path.exists():
            return []
        try:
            with told(path):
                return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except ValueError:
            return []
