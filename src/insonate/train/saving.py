"""Saving a run and going on from what was saved: what of it becomes a checkpoint, on all ranks together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from insonate.errors import InsonateError, RunError
from insonate.train.checkpoint import (
    Checkpoints,
    Snapshot,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
)
from insonate.train.log import Log
from insonate.train.settings import Settings

FORMAT = 2
"""of state.json"""


@dataclass(slots=True)
class Place:
    """How far a run has come."""

    step: int = 0
    """optimiser steps done"""
    closed_epochs: int = 0
    """epochs that were validated"""
    best: dict[str, Any] | None = None
    """step, value and name of the best `monitor`"""
    last: dict[str, float] = field(default_factory=dict)
    """newest values of the loss, its parts and the validation"""


class Saving:
    """Saves and restores what one run trains.

    `data` says what it trains on: name for people → digest; a run does not go on with another.
    """

    def __init__(
        self,
        fabric: Fabric,
        trainable: nn.Module,
        optimizer: Optimizer,
        settings: Settings,
        run_dir: Path,
        *,
        steps_per_epoch: int,
        data: Mapping[str, str],
    ) -> None:
        self.fabric, self.trainable, self.optimizer, self.settings = fabric, trainable, optimizer, settings
        self.run_dir, self.steps_per_epoch, self.data = run_dir, steps_per_epoch, dict(data)
        self.checkpoints = Checkpoints(run_dir / "checkpoints", keep=settings.keep)
        self._failed = 0

    def save(self, place: Place, log: Log, *, required: bool) -> bool:
        """Save a checkpoint; the first failure in a row is only told, unless the save is `required`.

        Raises:
            InsonateError: it failed.
            RunError: a weight is not finite, which no resume could mend.
        """
        snapshot = Snapshot(
            model_tensors(self.trainable),
            optimizer_tensors(self.trainable, self.optimizer),
            self._state(place),
        )
        for name, tensor in snapshot.model.items():  # equal on all ranks, so all raise
            if not bool(tensor.isfinite().all()):
                raise RunError(
                    f"{self.run_dir} step {place.step}",
                    f"{name} is not finite, although the losses were",
                    "Lower optim.lr or set optim.clip, in a new run folder",
                )
        failure: InsonateError | None = None
        if self.fabric.is_global_zero:
            try:
                log.flush()
                self.checkpoints.save(snapshot)
            except InsonateError as error:
                failure = error
        failure = self.fabric.broadcast(failure)
        if failure is None:
            self._failed = 0
            return True
        self._failed += 1
        if required or self._failed > 1:
            raise failure
        log.note(f"the checkpoint of step {place.step} was not saved: {failure}")
        return False

    def _state(self, place: Place) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "step": place.step,
            "steps_per_epoch": self.steps_per_epoch,
            "data": self.data,
            "closed_epochs": place.closed_epochs,
            "best": place.best,
            "last": {name: value for name, value in place.last.items() if math.isfinite(value)},
            "scaler": self.fabric.strategy.precision.state_dict(),
            "settings": self.settings.model_dump(mode="json"),
        }

    def _refuse_another(self, state: dict[str, Any]) -> None:
        """Refuse to go on with what was trained in another way or on other data.

        Raises:
            RunError: says what differs.
        """
        if state.get("format") != FORMAT:
            raise RunError(
                self.run_dir,
                f"its checkpoint has format {state.get('format')}, this version writes {FORMAT}",
                "Go on with the version that began it, or choose another run folder",
            )
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise RunError(
                self.run_dir,
                f"was started with {state['steps_per_epoch']} steps an epoch, and now has "
                f"{self.steps_per_epoch}",
                "Keep data, batch and accumulate as they were, or choose another run folder",
            )
        names = sorted(state["data"].keys() | self.data.keys())
        changed = [name for name in names if state["data"].get(name) != self.data.get(name)]
        if changed:
            raise RunError(
                self.run_dir,
                f"{' and '.join(changed)} changed since the run began",
                "Put the manifest back as it was, or choose another run folder",
            )

    def resume(self) -> tuple[Place, list[str]]:
        """Load the newest whole checkpoint: where the run stands, and what to tell people of it.

        Raises:
            RunError: the folder is of another run or of other data, or each checkpoint is damaged.
            WeightsError: the tensors do not fit.
        """
        notes: list[str] = []
        snapshot = self.checkpoints.newest(notes.append)
        if snapshot is None:
            return Place(), notes
        state, where = snapshot.state, self.checkpoints.path(snapshot.state["step"])
        self._refuse_another(state)
        load_model(self.trainable, snapshot.model, where=where)
        load_optimizer(self.trainable, self.optimizer, snapshot.optimizer)
        if state["scaler"]:
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        now = self.settings.model_dump(mode="json")
        changed = sorted(name for name, value in now.items() if state["settings"].get(name) != value)
        notes.append(f"resumed after step {state['step']} of {self.settings.epochs * self.steps_per_epoch}")
        if changed:
            notes.append(f"settings that differ from the run so far: {', '.join(changed)}")
        return Place(state["step"], state["closed_epochs"], state["best"], state["last"]), notes
