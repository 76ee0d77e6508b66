"""Processes and devices of a run: Fabric, who holds the run folder, and the module that Fabric wraps."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from insonate import files
from insonate.data.sample import Batch
from insonate.errors import InsonateError, RunError
from insonate.models.precision import fast_precision
from insonate.models.trainable import Losses, Trainable
from insonate.train.optim import inner_layers
from insonate.train.processes import check_started
from insonate.train.settings import Settings

LOCK = "run.lock"
"""file of a run folder that its one process holds"""


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
    if asked == "fp16" and not torch.cuda.is_available():
        raise RunError("optim.precision", "fp16 needs a GPU and there is none", "Set it to bf16 or fp32")
    if asked == "auto":
        asked = fast_precision().precision
    return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[asked]


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
def only_run(fabric: Fabric, run_dir: Path, begin: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the run's lock on the first rank, which also calls `begin`; all ranks refuse together."""
    with contextlib.ExitStack() as stack:
        refusal: InsonateError | None = None
        try:
            if fabric.is_global_zero:
                stack.enter_context(files.lock(run_dir / LOCK))
                (begin or _nothing)()
        except InsonateError as error:
            refusal = error
        refusal = fabric.broadcast(refusal)
        if refusal is not None:
            raise refusal
        yield


def _nothing() -> None:
    """What begins where nobody gave anything."""


class Hidden:
    """A batch that Fabric passes on as it is: its walk over inputs refuses frozen dataclasses (`Meta`)."""

    __slots__ = ("batch",)

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class Root(nn.Module):
    """The module that Fabric wraps, so that the trainable keeps its own parameter names."""

    def __init__(self, trainable: nn.Module) -> None:
        super().__init__()
        self.trainable = trainable

    def forward(self, hidden: Hidden) -> Losses:
        """The trainable's own."""
        return self.trainable(hidden.batch)


def sync_batch_norm(trainable: nn.Module, *, world: int, device: torch.device) -> str | None:
    """Let BatchNorm see the batch of all ranks, as one process with that batch does; in place.

    Returns:
        A note for people where that cannot be: torch's SyncBatchNorm needs a GPU.
    """
    found = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in trainable.modules())
    if world == 1 or not found:
        return None
    if device.type != "cuda":
        return (
            f"without GPUs each of the {world} processes normalises its own batch (BatchNorm), and the "
            "running means are those of the first: results differ from one process with the whole batch"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(trainable)  # type: ignore[no-untyped-call]
    return None


def may_fuse(precision: object) -> bool:
    """Fabric unscales fp16 gradients before clipping, which the fused optimiser does not allow."""
    return getattr(precision, "precision", None) != "16-mixed"


def memory_mb(device: torch.device) -> float:
    """Highest memory use so far, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
