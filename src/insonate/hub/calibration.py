"""What the confidence of a model's points is worth, beside weights that have no place for it.

The card's folder of SONICHU holds it in `config.json`, field `calibration`: point set → `chances` (33 values
at even steps of the raw confidence) and `points`, how many held-out points it was learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from insonate.errors import ModelError
from insonate.tasks.base import Task
from insonate.tasks.biometry import Biometry
from insonate.tasks.certainty import PLACES, Certainty

FIELD = "calibration"


def told(task: Biometry) -> dict[str, Any]:
    """The field: of each set whose certainty was fitted."""
    found = {name: cast(Certainty, one) for name, one in task.certainty.items()}
    return {
        name: {"chances": one.chances.tolist(), "points": one.fitted_on}
        for name, one in found.items() if one.fitted_on
    }  # fmt: skip


def restore(task: Task | None, content: Mapping[str, Any], where: Path) -> None:
    """Put what a `config.json` tells into a task of point sets; sets that it does not tell of stay.

    Raises:
        ModelError: the field is no such thing.
    """  # noqa: DOC501 the others are caught
    told_sets = content.get(FIELD)
    if not told_sets or not isinstance(task, Biometry):
        return
    try:
        for name, one in told_sets.items():
            chances = torch.tensor(one["chances"], dtype=torch.float32)
            rising = bool((chances.diff() >= 0).all()) and chances[0] >= 0 and chances[-1] <= 1
            if chances.shape != (PLACES,) or not rising:
                raise ValueError(name)
            own = cast(Certainty, task.certainty[name])
            own.chances.copy_(chances)
            own.points.fill_(int(one["points"]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        what = f"field {FIELD}: no rising chances of its point sets ({type(error).__name__})"
        raise ModelError(where, what, "Download or write the folder again") from None
