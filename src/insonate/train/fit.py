"""`fit`: train anything `Trainable` on Lightning Fabric, and resume by the same call.

A step is one optimiser step over `accumulate` batches. All randomness comes from the batches' seeds, so a
run that was interrupted at any moment and started again ends in the same bits as one that was not (on a GPU:
as far as its kernels are deterministic).
"""

from __future__ import annotations

import contextlib
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from insonate import files
from insonate.data.loader import worker_death_told
from insonate.data.sample import Batch
from insonate.errors import InsonateError, RunError, nearest
from insonate.models.trainable import Losses, Trainable
from insonate.train.checkpoint import (
    Checkpoints,
    Snapshot,
    load_model,
    load_optimizer,
    model_tensors,
    optimizer_tensors,
)
from insonate.train.log import Log
from insonate.train.optim import build_optimizer, inner_layers, set_rates
from insonate.train.processes import check_started
from insonate.train.schedules import Schedule
from insonate.train.settings import Settings
from insonate.train.signals import StopFlag

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
    with _only_run(fabric, run_dir), StopFlag() as stop:
        run = _Run(fabric, trainable, loader, settings, run_dir, evaluate=evaluate, stop=stop)
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


def launch(settings: Settings, trainable: Trainable) -> Fabric:
    """Fabric with its processes: those that torchrun or SLURM started, else it starts them itself.

    Each runs the same script from its beginning.

    Raises:
        RunError: fp16 without a GPU, or other processes were started than the settings say.
    """
    check_started(settings)
    fabric = Fabric(
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=_strategy(settings, trainable),
        precision=_precision(settings.precision),
    )
    fabric.launch()
    return fabric


def _precision(asked: str) -> Any:
    gpu = torch.cuda.is_available()
    if asked == "16" and not gpu:
        raise RunError("optim.precision", "16 needs a GPU and there is none", 'Set it to "bf16" or "32"')
    if asked == "auto":
        asked = (
            "32" if not gpu else "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"
        )
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[asked]


def _strategy(settings: Settings, trainable: Trainable) -> Strategy | str:
    world = settings.devices * settings.nodes
    if settings.strategy == "fsdp2":

        def shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
            for layer in inner_layers(trainable):
                fully_shard(layer, mesh=mesh["data_parallel"])
            fully_shard(module, mesh=mesh["data_parallel"])
            return module

        return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1)
    if settings.strategy == "ddp" or world > 1:
        # a task need not use all of its backbone: a dense one leaves out the final norm
        return DDPStrategy(find_unused_parameters=True)
    return "auto"


@contextlib.contextmanager
def _only_run(fabric: Fabric, run_dir: Path) -> Iterator[None]:
    """Hold the run's lock on the first rank; all ranks refuse together."""
    with contextlib.ExitStack() as stack:
        refusal: InsonateError | None = None
        if fabric.is_global_zero:
            try:
                stack.enter_context(files.lock(run_dir / "run.lock"))
            except InsonateError as error:
                refusal = error
        refusal = fabric.broadcast(refusal)
        if refusal is not None:
            raise refusal
        yield


class _Hidden:
    """A batch that Fabric passes on as it is: its walk over inputs refuses frozen dataclasses (`Meta`)."""

    __slots__ = ("batch",)

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class _Root(nn.Module):
    """The module that Fabric wraps, so that the trainable keeps its own parameter names."""

    def __init__(self, trainable: nn.Module) -> None:
        super().__init__()
        self.trainable = trainable

    def forward(self, hidden: _Hidden) -> Losses:
        return self.trainable(hidden.batch)


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
        self.module = fabric.setup_module(_Root(trainable))
        fused = _may_fuse(fabric.strategy.precision)
        self.inner_optimizer = build_optimizer(trainable, settings, fused=fused)
        self.optimizer: Any = fabric.setup_optimizers(self.inner_optimizer)
        self.checkpoints = Checkpoints(run_dir / "checkpoints", keep=settings.keep)
        self.step, self.closed_epochs, self.failed_saves = 0, 0, 0
        self.best: dict[str, Any] | None = None
        self.last: dict[str, float] = {}
        self.notes: list[str] = []
        self._resume()
        self.log = Log(run_dir, step=self.step, total=self.total, shown=fabric.is_global_zero)

    def train(self) -> FitResult:
        """Steps and ends of epochs until all are done or a signal came."""
        self.trainable.train()
        interrupted = False
        with self.log:
            for note in self.notes:
                self.log.note(note)
            while not interrupted:
                if self.step == (self.closed_epochs + 1) * self.per_epoch:
                    self._close_epoch()
                if self.step >= self.total:
                    break
                interrupted = self._train_epoch()
            if interrupted:
                self._save(required=True)
                self.log.note(f"interrupted after step {self.step}; the same command goes on from there")
        best = self.checkpoints.path(self.best["step"]) if self.best else None
        return FitResult(
            steps=self.step, epochs=self.closed_epochs, interrupted=interrupted, last=self.last, best=best,
            newest=self.checkpoints.path(self.step), rank=self.fabric.global_rank,
        )  # fmt: skip

    def _train_epoch(self) -> bool:
        """The rest of the epoch; True if a signal ended it."""
        epoch, done = divmod(self.step, self.per_epoch)
        batches = iter(self.loader.epoch(epoch, done * self.settings.accumulate))
        meter = _Meter()
        for _ in range(done, self.per_epoch):
            losses, stopped = self._train_step(batches, meter)
            if self.step % self.settings.log_every == 0 or self.step in {1, self.total}:
                self._log_step(epoch, losses, meter)
                meter = _Meter()
            if stopped:
                return True
            every = self.settings.save_every
            if every and self.step % every == 0 and self.step % self.per_epoch:
                self._save(required=False)
        return False

    def _train_step(self, batches: Iterator[Batch], meter: _Meter) -> tuple[dict[str, Tensor], bool]:
        """One optimiser step; its mean losses, and whether any rank got a signal."""
        number, accumulate = self.step + 1, self.settings.accumulate
        lr, weight_decay = self.schedule.lr(number), self.schedule.weight_decay(number)
        set_rates(self.inner_optimizer, lr=lr, weight_decay=weight_decay)
        sums: dict[str, Tensor] = {}
        item_ids: list[str] = []
        for index in range(accumulate):
            batch = self._next(batches, meter)
            item_ids += [meta.item_id for meta in batch["meta"]]
            torch.manual_seed((batch["step_seed"] + self.fabric.global_rank) & SEED_MASK)
            with self.fabric.no_backward_sync(self.module, enabled=index < accumulate - 1):
                losses = self.module(_Hidden(batch))
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
        self.trainable.after_step(self.schedule.progress(number))
        self.step = number
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
                f"{self.run_dir} step {self.step + 1}",
                what,
                "Look at these items, or lower optim.lr or set optim.clip",
            )
        return stopped

    def _log_step(self, epoch: int, losses: dict[str, Tensor], meter: _Meter) -> None:
        values = {name: float(self._mean(value)) for name, value in losses.items()}
        self.last = {**self.last, **values}
        seconds = max(1e-9, time.monotonic() - meter.start_s)
        row = {
            "step": self.step,
            "epoch": epoch,
            **values,
            "lr": self.schedule.lr(self.step),
            "weight_decay": self.schedule.weight_decay(self.step),
            "items_per_s": meter.items * self.fabric.world_size / seconds,
            "data_wait_percent": 100 * meter.waited_s / seconds,
            "memory_mb": _memory_mb(self.fabric.device),
        }
        self.log.train(row, seconds_left=(self.total - self.step) * seconds / meter.steps)

    def _mean(self, value: Tensor) -> Tensor:
        """Over all ranks."""
        mean: Any = self.fabric.all_reduce(value, reduce_op="mean")
        return mean

    def _close_epoch(self) -> None:
        """Validate, choose the best, save."""
        best_before = self.best
        if self.evaluate is not None:
            values = {name: float(value) for name, value in self.evaluate().items()}
            values = self.fabric.broadcast(values)
            self.trainable.train()
            self.last = {**self.last, **values}
            self.log.eval({"step": self.step, "epoch": self.closed_epochs, **values})
            self._choose(values)
        self.closed_epochs += 1
        if not self._save(required=self.step == self.total):
            self.best = best_before

    def _choose(self, values: dict[str, float]) -> None:
        monitor = self.settings.monitor
        if monitor is None:
            return
        if monitor not in values:
            raise RunError("optim.monitor", f"the validation gives no {monitor!r}", nearest(monitor, values))
        value, sign = values[monitor], 1 if self.settings.mode == "max" else -1
        if math.isfinite(value) and (self.best is None or sign * value > sign * self.best["value"]):
            self.best = {"step": self.step, "value": value, "monitor": monitor}

    def _save(self, *, required: bool) -> bool:
        """Save a checkpoint; the first failure in a row is only told, unless the save is `required`.

        Raises:
            InsonateError: it failed.
            RunError: a weight is not finite, which no resume could mend.
        """
        snapshot = Snapshot(
            model_tensors(self.trainable),
            optimizer_tensors(self.trainable, self.inner_optimizer),
            self._state(),
        )
        for name, tensor in snapshot.model.items():  # equal on all ranks, so all raise
            if not bool(tensor.isfinite().all()):
                raise RunError(
                    f"{self.run_dir} step {self.step}",
                    f"{name} is not finite, although the losses were",
                    "Lower optim.lr or set optim.clip, in a new run folder",
                )
        failure: InsonateError | None = None
        if self.fabric.is_global_zero:
            try:
                self.log.flush()
                self.checkpoints.save(snapshot)
            except InsonateError as error:
                failure = error
        failure = self.fabric.broadcast(failure)
        if failure is None:
            self.failed_saves = 0
            return True
        self.failed_saves += 1
        if required or self.failed_saves > 1:
            raise failure
        self.log.note(f"the checkpoint of step {self.step} was not saved: {failure}")
        return False

    def _state(self) -> dict[str, Any]:
        return {
            "format": 1,
            "step": self.step,
            "steps_per_epoch": self.per_epoch,
            "closed_epochs": self.closed_epochs,
            "best": self.best,
            "last": {name: value for name, value in self.last.items() if math.isfinite(value)},
            "scaler": self.fabric.strategy.precision.state_dict(),
            "settings": self.settings.model_dump(mode="json"),
        }

    def _resume(self) -> None:
        snapshot = self.checkpoints.newest(self.notes.append)
        if snapshot is None:
            return
        state, where = snapshot.state, self.checkpoints.path(snapshot.state["step"])
        if state["steps_per_epoch"] != self.per_epoch:
            raise RunError(
                self.run_dir,
                f"was started with {state['steps_per_epoch']} steps an epoch, and now has {self.per_epoch}",
                "Keep data, batch and accumulate as they were, or choose another run folder",
            )
        load_model(self.trainable, snapshot.model, where=where)
        load_optimizer(self.trainable, self.inner_optimizer, snapshot.optimizer)
        if state["scaler"]:
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
        self.step, self.closed_epochs = state["step"], state["closed_epochs"]
        self.best, self.last = state["best"], state["last"]
        now = self.settings.model_dump(mode="json")
        changed = sorted(name for name, value in now.items() if state["settings"].get(name) != value)
        self.notes.append(f"resumed after step {self.step} of {self.total}")
        if changed:
            self.notes.append(f"settings that differ from the run so far: {', '.join(changed)}")


def _of_rank(loader: StepLoader, fabric: Fabric) -> StepLoader:
    if fabric.world_size > 1:
        loader.sampler.rank, loader.sampler.world = fabric.global_rank, fabric.world_size
    return loader


def _may_fuse(precision: object) -> bool:
    """Fabric unscales fp16 gradients before clipping, which the fused optimiser does not allow."""
    return getattr(precision, "precision", None) != "16-mixed"


def _memory_mb(device: torch.device) -> float:
    """Highest memory use so far, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
