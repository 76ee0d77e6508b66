"""Runs of the toy for processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from toys import ToyLoader, ToyTask

from insonate.train.checkpoint import read_checkpoint
from insonate.train.fit import fit
from insonate.train.settings import Settings

TOLD = Settings(epochs=4, lr=0.02, log_every=1, save_every=2, clip=1.0, precision="fp32")


def run_told(folder: Path, batches: Connection | None = None) -> None:
    """A run with dropout that tells of each batch."""
    loader = ToyLoader()
    if batches is not None:
        loader.before_batch = lambda epoch, step: batches.send((epoch, step))
    fit(ToyTask(), loader, TOLD, folder)


STARTERS = {
    "fabric": {"LOCAL_RANK": "{rank}", "NODE_RANK": "0"},
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "1", "RANK": "{rank}", "LOCAL_RANK": "{rank}", "GROUP_RANK": "0",
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    },
    "slurm": {
        "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1", "SLURM_PROCID": "{rank}", "SLURM_LOCALID": "{rank}", "SLURM_NODEID": "0",
    },
    "slurm, two nodes": {
        "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2", "SLURM_PROCID": "{rank}", "SLURM_LOCALID": "0", "SLURM_NODEID": "{rank}",
    },
}  # fmt: skip
"""environment of a rank by who started it"""


def run_rank(
    folder: Path, rank: int, port: int, settings: Settings, stop: tuple[int, int] | None, starter: str
) -> None:
    """One of two ranks; rank 0 gets a signal at the (epoch, step) `stop`."""
    os.environ.update({name: value.format(rank=rank) for name, value in STARTERS[starter].items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    loader = ToyLoader(batch=4)

    def ask(epoch: int, step: int) -> None:
        if rank == 0 and (epoch, step) == stop:  # the other rank must learn of it
            os.kill(os.getpid(), signal.SIGTERM)

    loader.before_batch = ask
    task = ToyTask(dropout=0)
    result = fit(task, loader, settings, folder, evaluate=lambda: {"score": 1.0})
    assert result.rank == rank
    assert result.interrupted == (stop is not None)
    if settings.strategy == "fsdp2":
        check_sharded(task, rank, read_checkpoint(result.newest).model)


def check_sharded(task: ToyTask, rank: int, saved: dict[str, Tensor]) -> None:
    """Each parameter is a DTensor; this rank of two holds its half of the rows, as they were saved."""
    for name, parameter in task.named_parameters():
        assert isinstance(parameter, DTensor), name
        assert parameter.placements == (Shard(0),), name
        rows = saved[name].chunk(2)
        mine = rows[rank] if rank < len(rows) else saved[name][:0]  # the head has one row: rank 0 holds it
        assert torch.equal(parameter.to_local(), mine), name


def two_ranks(
    context: ForkServerContext, folder: Path, settings: Settings, stop: tuple[int, int] | None = None,
    starter: str = "fabric",
) -> None:  # fmt: skip
    """Run both ranks to their end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks: list[BaseProcess] = [
        context.Process(target=run_rank, args=(folder, rank, port, settings, stop, starter))
        for rank in (0, 1)
    ]
    deadline = time.monotonic() + 120
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(max(1.0, deadline - time.monotonic()))
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]


def run_on_terminal(folder: Path, terminal: str) -> None:
    """A run whose standard error is the named terminal."""
    os.dup2(os.open(terminal, os.O_WRONLY), 2)
    run_told(folder)


def run_deaf(folder: Path) -> None:
    """A run that hangs in its first batch and gets two signals."""
    loader = ToyLoader()

    def hang(epoch: int, step: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    loader.before_batch = hang
    fit(ToyTask(), loader, TOLD, folder)
