"""`fit`: train anything `Trainable` on Lightning Fabric, and resume by the same call.

A step is one optimiser step over `accumulate` batches. All randomness comes from the batches' seeds, so a
run that was interrupted at any moment and started again ends in the same bits as one that was not (on a GPU:
as far as its kernels are deterministic).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from insonate.data.loader import worker_death_told
from insonate.data.sample import Batch
from insonate.errors import RunError, nearest
from insonate.models.trainable import Trainable
from insonate.train.launch import Hidden, Root, launch, may_fuse, memory_mb, only_run, sync_batch_norm
from insonate.train.log import Log
from insonate.train.optim import build_optimizer, inner_layers, set_rates
from insonate.train.saving import Saving
from insonate.train.schedules import Schedule
from insonate.train.settings import Settings
from insonate.train.signals import StopFlag
from insonate.train.watch import Watch

Evaluate = Callable[[], dict[str, float]]
SEED_MASK = 2**64 - 1


class RankSampler(Protocol):
    """The part of a loader that knows which slice of the global batch is this process's."""

    rank: int
    world: int


class StepLoader(Protocol):
    """What `fit` needs of a loader; `insonate.data.Loader` is one."""

    @property
    def sampler(self) -> RankSampler:
        """`fit` sets its rank and world when it starts several processes."""

    def __len__(self) -> int:
        """Batches of an epoch on each rank."""

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `start_step` on: a pure function of its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """How a call of `fit` ended."""

    steps: int
    """optimiser steps done since the run's first call"""
    epochs: int
    """epochs done"""
    interrupted: bool
    """a signal ended it early; the same call goes on from there"""
    last: dict[str, float]
    """newest values of the loss, its parts and the validation"""
    best: Path | None
    """checkpoint with the best `monitor`"""
    newest: Path
    """checkpoint of the state at the end"""
    rank: int = 0
    """of this process; what follows a run on several devices is for rank 0 alone"""


def fit(
    trainable: Trainable,
    loader: StepLoader,
    settings: Settings,
    run_dir: Path,
    *,
    evaluate: Evaluate | None = None,
    notes: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
    begin: Callable[[], None] | None = None,
) -> FitResult:
    """Train until `settings.epochs` are done, from the newest whole checkpoint in `run_dir` if there is one.

    Args:
        trainable: an nn.Module; trained in place (with "fsdp2" it stays sharded afterwards: load
            `newest` into a new one). Torch's global generator is seeded anew in each step.
        loader: see `StepLoader`.
        settings: length, rates, precision, devices.
        run_dir: metrics.jsonl, tensorboard/, checkpoints/step-XXXXXXXX/, run.lock.
        evaluate: called on all ranks after each epoch; its values choose the best checkpoint.
        notes: lines about the data that the log shows first.
        data: what is trained on: name for people → digest; a run is not resumed on other data.
        begin: called on the first rank as soon as the folder is this run's alone, before anything changes.

    Returns:
        The result; `interrupted` after SIGTERM or SIGINT, when all is saved.

    Raises:
        RunError: the folder is in use or of another run; the loss is not finite; memory ran out.
        InsonateError: the disk is full; the checkpoint before is unharmed.
    """
    run_dir = Path(run_dir)
    if settings.monitor is not None and evaluate is None:
        raise RunError(
            "optim.monitor", "nothing is validated in this run", "Leave it out, or give validation data"
        )
    fabric = launch(settings, trainable)
    with only_run(fabric, run_dir, begin), StopFlag() as stop:
        run = _Run(fabric, trainable, loader, settings, run_dir, evaluate=evaluate, stop=stop, data=data)
        run.notes = [*notes, *run.notes]
        try:
            with worker_death_told():  # torch may raise it anywhere, from a signal handler
                return run.train()
        except torch.OutOfMemoryError as error:
            raise RunError(
                run_dir,
                f"the device has too little memory ({error})",
                "Lower data.batch and raise optim.accumulate",
            ) from error


@dataclass(slots=True)
class _Meter:
    """What was done since the last row."""

    items: int = 0
    steps: int = 0
    waited_s: float = 0.0
    start_s: float = field(default_factory=time.monotonic)


class _Run:
    """State of one call of `fit`."""

    def __init__(
        self,
        fabric: Fabric,
        trainable: Trainable,
        loader: StepLoader,
        settings: Settings,
        run_dir: Path,
        *,
        evaluate: Evaluate | None,
        stop: StopFlag,
        data: Mapping[str, str] | None,
    ) -> None:
        assert isinstance(trainable, nn.Module)
        self.fabric, self.settings, self.run_dir = fabric, settings, run_dir
        self.trainable, self.evaluate, self.stop = trainable, evaluate, stop
        self.loader = _of_rank(loader, fabric)
        self.per_epoch = len(self.loader) // settings.accumulate
        if self.per_epoch == 0:
            raise RunError(
                "data.batch",
                f"an epoch has {len(self.loader)} batches: not one step",
                "Lower batch or accumulate",
            )
        self.schedule = Schedule(settings=settings, steps_per_epoch=self.per_epoch)
        self.total = settings.epochs * self.per_epoch
        if settings.compile:
            for layer in inner_layers(trainable):
                layer.compile()
        unsynced = sync_batch_norm(trainable, world=fabric.world_size, device=fabric.device)
        self.module = fabric.setup_module(Root(trainable))
        fused = may_fuse(fabric.strategy.precision)
        self.inner_optimizer = build_optimizer(trainable, settings, fused=fused)
        self.optimizer: Any = fabric.setup_optimizers(self.inner_optimizer)
        self.saving = Saving(
            fabric, trainable, self.inner_optimizer, settings, run_dir,
            steps_per_epoch=self.per_epoch, data=data or {},
        )  # fmt: skip
        self.place, self.notes = self.saving.resume()
        self.rates: dict[str, float] = {}
        self.watch = Watch(trainable.floors)
        if unsynced:
            self.notes.append(unsynced)
        self.log = Log(
            run_dir, step=self.place.step, closed_epochs=self.place.closed_epochs, total=self.total,
            shown=fabric.is_global_zero,
        )  # fmt: skip

    def train(self) -> FitResult:
        """Steps and ends of epochs until all are done or a signal came."""
        self.trainable.train()
        interrupted = False
        with self.log:
            for note in self.notes:
                self.log.note(note)
            while not interrupted:
                if self.place.step == (self.place.closed_epochs + 1) * self.per_epoch:
                    self._close_epoch()
                if self.place.step >= self.total:
                    break
                interrupted = self._train_epoch()
            if interrupted:
                self.saving.save(self.place, self.log, required=True)
                self.log.note(
                    f"interrupted after step {self.place.step}; the same command goes on from there"
                )
        place, path = self.place, self.saving.checkpoints.path
        return FitResult(
            steps=place.step,
            epochs=place.closed_epochs,
            interrupted=interrupted,
            last=place.last,
            best=path(place.best["step"]) if place.best else None,
            newest=path(place.step),
            rank=self.fabric.global_rank,
        )

    def _train_epoch(self) -> bool:
        """The rest of the epoch; True if a signal ended it."""
        epoch, done = divmod(self.place.step, self.per_epoch)
        batches = iter(self.loader.epoch(epoch, done * self.settings.accumulate))
        meter = _Meter()
        for _ in range(done, self.per_epoch):
            losses, stopped = self._train_step(batches, meter)
            if self.place.step % self.settings.log_every == 0 or self.place.step in {1, self.total}:
                self._log_step(epoch, losses, meter)
                meter = _Meter()
            if stopped:
                return True
            every = self.settings.save_every
            if every and self.place.step % every == 0 and self.place.step % self.per_epoch:
                self.saving.save(self.place, self.log, required=False)
        return False

    def _train_step(self, batches: Iterator[Batch], meter: _Meter) -> tuple[dict[str, Tensor], bool]:
        """One optimiser step; its mean losses, and whether any rank got a signal."""
        number, accumulate = self.place.step + 1, self.settings.accumulate
        lr, weight_decay = self.schedule.lr(number), self.schedule.weight_decay(number)
        set_rates(self.inner_optimizer, lr=lr, weight_decay=weight_decay)
        sums: dict[str, Tensor] = {}
        item_ids: list[str] = []
        for index in range(accumulate):
            batch = self._next(batches, meter)
            item_ids += [meta.item_id for meta in batch["meta"]]
            torch.manual_seed((batch["step_seed"] + self.fabric.global_rank) & SEED_MASK)
            with self.fabric.no_backward_sync(self.module, enabled=index < accumulate - 1):
                losses = self.module(Hidden(batch))
                self.fabric.backward(losses.total / accumulate)
            for name, value in {"loss": losses.total, **losses.parts}.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float() / accumulate
        stopped = self._agree(sums["loss"], item_ids)
        if self.settings.clip is not None:
            self.fabric.clip_gradients(
                self.module, self.optimizer, max_norm=self.settings.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.rates = self.trainable.after_step(self.schedule.progress(number))
        self.place.step = number
        meter.steps += 1
        return sums, stopped or (self.fabric.world_size == 1 and self.stop.asked)

    def _next(self, batches: Iterator[Batch], meter: _Meter) -> Batch:
        start_s = time.monotonic()
        batch = next(batches, None)
        meter.waited_s += time.monotonic() - start_s
        if batch is None:
            raise RunError(
                "loader", f"an epoch has fewer than its {len(self.loader)} batches", "Report this fault"
            )
        meter.items += len(batch["meta"])
        moved: Any = {
            key: value.to(self.fabric.device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        return moved

    def _agree(self, loss: Tensor, item_ids: list[str]) -> bool:
        """Whether any rank got a signal; all ranks answer alike.

        Raises:
            RunError: the loss of any rank is not finite.
        """
        value = loss.item()
        own_bad = bad = not math.isfinite(value)
        stopped = self.stop.asked
        if self.fabric.world_size > 1:
            flags = torch.tensor([float(bad), float(stopped)], device=self.fabric.device)
            worst: Any = self.fabric.all_reduce(flags, reduce_op="max")
            bad, stopped = (bool(flag) for flag in worst.tolist())
        if bad:
            what = (
                f"the loss is {value} on the items {', '.join(item_ids)}"
                if own_bad
                else "the loss is not finite on another device"
            )
            raise RunError(
                f"{self.run_dir} step {self.place.step + 1}",
                what,
                "Look at these items, or lower optim.lr or set optim.clip",
            )
        return stopped

    def _log_step(self, epoch: int, losses: dict[str, Tensor], meter: _Meter) -> None:
        values = {name: float(self._mean(value)) for name, value in losses.items()}
        self.place.last = {**self.place.last, **values}
        seconds = max(1e-9, time.monotonic() - meter.start_s)
        row = {
            "step": self.place.step,
            "epoch": epoch,
            **values,
            "lr": self.schedule.lr(self.place.step),
            "weight_decay": self.schedule.weight_decay(self.place.step),
            **self.rates,
            "items_per_s": meter.items * self.fabric.world_size / seconds,
            "data_wait_percent": 100 * meter.waited_s / seconds,
            "memory_mb": memory_mb(self.fabric.device),
        }
        self.log.train(row, seconds_left=(self.total - self.place.step) * seconds / meter.steps)
        for line in self.watch.look(self.place.step, values):
            self.log.note(line)

    def _mean(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        mean: Any = self.fabric.all_reduce(value, reduce_op="mean")
        return mean

    def _close_epoch(self) -> None:
        """Validate, choose the best, save."""
        best_before = self.place.best
        if self.evaluate is not None:
            values = {name: float(value) for name, value in self.evaluate().items()}
            values = self.fabric.broadcast(values)
            self.trainable.train()
            self.place.last = {**self.place.last, **values}
            self.log.eval({"step": self.place.step, "epoch": self.place.closed_epochs, **values})
            self._choose(values)
        self.place.closed_epochs += 1
        if not self.saving.save(self.place, self.log, required=self.place.step == self.total):
            self.place.best = best_before

    def _choose(self, values: dict[str, float]) -> None:
        monitor = self.settings.monitor
        if monitor is None:
            return
        if monitor not in values:
            raise RunError("optim.monitor", f"the validation gives no {monitor!r}", nearest(monitor, values))
        value, sign = values[monitor], 1 if self.settings.mode == "max" else -1
        if math.isfinite(value) and (
            self.place.best is None or sign * value > sign * self.place.best["value"]
        ):
            self.place.best = {"step": self.place.step, "value": value, "monitor": monitor}


def _of_rank(loader: StepLoader, fabric: Fabric) -> StepLoader:
    if fabric.world_size > 1:
        loader.sampler.rank, loader.sampler.world = fabric.global_rank, fabric.world_size
    return loader
