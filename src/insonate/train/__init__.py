"""The one training loop: it knows a `Trainable` and a loader, no method and no task.

- settings: options of a run (no torch)
- fit: `fit.fit`, the loop on Lightning Fabric; the same call resumes an interrupted run
- launch: processes and devices, and who holds the run folder
- saving: what of a run becomes a checkpoint, and how it goes on from one
- optim: parameter groups and AdamW
- schedules: learning rate and weight decay of a step
- checkpoint: folders `step-XXXXXXXX`, whole or absent; `load_weights`
- log: metrics.jsonl, TensorBoard, progress on standard error
- watch: a collapse that the loss does not show
- processes: who started this one: torchrun, SLURM or Fabric
- signals: SIGTERM and SIGINT as a flag

Imports models, weights, data and below; the only package that imports lightning_fabric. `import
insonate.train` loads no torch: `FitResult` and `load_weights` are looked up when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from insonate.train.settings import Settings

if TYPE_CHECKING:
    from insonate.train.checkpoint import load_weights
    from insonate.train.fit import FitResult

__all__ = ["FitResult", "Settings", "load_weights"]

_HOMES = {"FitResult": "insonate.train.fit", "load_weights": "insonate.train.checkpoint"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
