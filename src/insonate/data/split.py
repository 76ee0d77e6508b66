"""Split by patient: which split a patient is in depends on (seed, patient) alone, not on the other rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from insonate.data.manifest import SPLITS, Manifest, patient_key
from insonate.data.pseudonyms import Pseudonyms
from insonate.errors import ManifestError

DEFAULT = {"train": 0.7, "val": 0.15, "test": 0.15}


def split_by_patient(
    manifest: Manifest,
    fractions: Mapping[str, float] = DEFAULT,
    seed: int = 0,
    *,
    names: Pseudonyms | None = None,
) -> Manifest:
    """Assign every patient to a split by a hash; adding rows or patients moves no other patient.

    Args:
        manifest: the rows; their present splits are replaced.
        fractions: expected part of the patients for each of train, val, test; they sum to 1.
        seed: another one gives another assignment.
        names: of a de-identified copy: the originals are split as that copy is.

    Raises:
        ManifestError: the fractions are no such numbers.
    """
    unknown = sorted(set(fractions) - set(SPLITS))
    if unknown or any(f < 0 for f in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ManifestError("fractions", dict(fractions), "Give parts of train, val and test that sum to 1")
    patients = [names.patient(p) if names else p for p in manifest.column("patient_id")]
    rows = [
        {**row, "split": _split_of(patient, fractions, seed)}
        for row, patient in zip(manifest.rows, patients, strict=True)
    ]
    return manifest.with_rows(rows)


def _split_of(patient_id: str, fractions: Mapping[str, float], seed: int) -> str:
    place = patient_place(patient_id, seed)
    for name in SPLITS:
        place -= fractions.get(name, 0.0)
        if place < 0:
            return name
    return max(fractions, key=lambda name: fractions[name])  # rounding of the sum


def patient_place(patient_id: str, seed: int) -> float:
    """A uniform number in [0, 1) of a patient: those below p are a random part p of all patients."""
    digest = hashlib.blake2b(
        f"{seed}\0{patient_key(patient_id)}".encode("utf-8", "surrogatepass"), digest_size=8
    )
    return (int.from_bytes(digest.digest(), "big") >> 11) / (1 << 53)
