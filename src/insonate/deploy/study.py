"""What the media of one study tell together: age and weight of a fetus of its head, abdomen and femur."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from insonate.deploy.predict import FileResult
from insonate.measure.derived import fetus
from insonate.measure.quantity import Quantity

PARTS = {"HC": "hc_mm", "FA": "ac_mm", "fetal_femur": "fl_mm"}
"""point set → the size that it gives of a fetus"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Media that belong together, and what follows from all of them."""

    media: tuple[Path, ...]
    quantities: dict[str, Quantity] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: no identifier of the patient but the names of the files."""
        told = {name: one.to_dict() for name, one in self.quantities.items()}
        return {"media": [str(path) for path in self.media], "measurements": told}


def studies_of(results: Iterable[FileResult], ga_weeks: float | None = None) -> list[Study]:
    """The studies of which at least two different sizes of a fetus were measured in mm.

    Media belong together where their headers name the same patient and study, and where they name none, if
    they lie in the same folder. Of several pictures of a part the surest one counts.

    Args:
        results: of `predict_media`.
        ga_weeks: gestational age that is known otherwise: gives centiles.
    """
    groups: dict[tuple[str, ...], dict[str, FileResult]] = {}
    for result in results:
        if PARTS.get(result.task) not in result.quantities:
            continue
        parts = groups.setdefault(_key(result), {})
        if result.task not in parts or _sureness(result) > _sureness(parts[result.task]):
            parts[result.task] = result
    found = []
    for parts in groups.values():
        if len(parts) < 2:
            continue
        sizes = {PARTS[task]: one.quantities[PARTS[task]] for task, one in parts.items()}
        made = sizes | fetus(sizes, ga_weeks)
        known = {name: one for name, one in made.items() if np.isfinite(one.value)}
        found.append(Study(media=tuple(one.media for one in parts.values()), quantities=known))
    return found


def _key(result: FileResult) -> tuple[str, ...]:
    meta = result.predictions[0].meta
    if meta.patient_id or meta.study_id:
        return (meta.patient_id, meta.study_id)
    return ("", "", str(result.media.parent))


def _sureness(result: FileResult) -> float:
    return max(float(np.mean(prediction.confidence)) for prediction in result.predictions)
