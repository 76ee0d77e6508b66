"""Keyed names: the same key gives the same pseudonym for a patient, study, file or UID, in every run.

A pseudonym is an HMAC-SHA-256 of what it stands for. Without the key it cannot be recomputed from a list of
likely names, which is why a plain hash would not do. The key is as secret as the names.

Source: RFC 2104; DICOM PS3.5 B.2 (UIDs 2.25. of a UUID).
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from pathlib import Path

from insonate.data.columns import patient_key
from insonate.data.media.info import clean
from insonate.errors import InsonateError
from insonate.files import atomic_write, told

KEY_BYTES = 32


class Pseudonyms:
    """Names under one key.

    Args:
        key: 32 secret bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and nothing of what they stand for."""
        return self._digest("key", "")[:16]

    def patient(self, patient_id: str) -> str:
        """Of a patient id, compared as the split compares it: without case and spare blanks."""
        return f"P-{self._digest('patient', patient_key(clean(patient_id)))[:16]}"

    def uid(self, uid: str) -> str:
        """A DICOM UID for another one: version 8 of a UUID."""
        raw = bytearray(bytes.fromhex(self._digest("uid", uid.strip(" \0"))[:32]))
        raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(raw)).int}"

    def file(self, path: str) -> str:
        """Of a relative path."""
        return self._digest("file", path)[:24]

    def _digest(self, purpose: str, text: str) -> str:
        message = f"insonate/1|{purpose}|{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, "sha256").hexdigest()


def read_key(path: Path) -> bytes:
    """The key in a file (64 hexadecimal digits); made, for its owner alone, where there is none.

    Raises:
        InsonateError: the file holds no key, or cannot be read or written.
    """
    if not path.exists():
        key = secrets.token_bytes(KEY_BYTES)
        atomic_write(path, key.hex() + "\n")
        with told(path):
            path.chmod(0o600)
        return key
    with told(path):
        text = path.read_bytes()[:200].strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        mend = "Give the file that an earlier run has made, or a new name"
        raise InsonateError(path, f"holds no key of {2 * KEY_BYTES} hexadecimal digits", mend)
    return key
