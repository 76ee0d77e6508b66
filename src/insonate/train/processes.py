"""Who started this process: torchrun and SLURM start all of a run's processes, else Fabric does.

Fabric finds out by itself; this says in one line where what was started does not fit the settings.
"""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from insonate.errors import RunError
from insonate.train.settings import Settings


def check_started(settings: Settings) -> None:
    """Compare what torchrun or SLURM started with `devices` and `nodes`.

    Raises:
        RunError: the numbers differ, or several nodes are asked for and nothing says which one this is.
    """
    devices, nodes = settings.devices, settings.nodes
    for name, number in _expected(devices, nodes).items():
        found = os.environ.get(name, "not set")
        if found != str(number):
            raise RunError(
                "optim.devices and optim.nodes",
                f"are {devices} and {nodes}, but {name} is {found}",
                f"Set them to what was started, or start {devices} processes on each of {nodes} nodes "
                "(torchrun --nproc-per-node, srun --ntasks-per-node)",
            )


def _expected(devices: int, nodes: int) -> dict[str, int]:
    """Environment variables as the starter sets them for these numbers."""
    if TorchElasticEnvironment.detect():
        return {"LOCAL_WORLD_SIZE": devices, "WORLD_SIZE": devices * nodes}
    if SLURMEnvironment.detect():
        several = {"SLURM_NTASKS_PER_NODE": devices, "SLURM_NNODES": nodes} if devices * nodes > 1 else {}
        return {"SLURM_NTASKS": devices * nodes, **several}
    if nodes > 1 and "NODE_RANK" not in os.environ:
        return {"NODE_RANK": 0}
    return {}
