"""Checkpoints of a run: folders `step-XXXXXXXX`, each whole or absent.

A folder holds model.safetensors and optimizer.safetensors (tensors by parameter name), state.json (the
scalars) and, written last, sha256.json. It is filled under a temporary name and renamed, so a kill or a
full disk leaves the one before unharmed. No generator states: all randomness is a function of seeds.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from insonate import files
from insonate.errors import RunError, WeightsError

MODEL, OPTIMIZER, STATE, SUMS = "model.safetensors", "optimizer.safetensors", "state.json", "sha256.json"
_NAME = re.compile(r"step-(\d{8,})")


class Snapshot(NamedTuple):
    """Content of one checkpoint, on the CPU."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    """`parameter name.state name` → tensor"""
    state: dict[str, Any]
    """JSON-ready scalars; `step` is the number of optimiser steps done"""


class Checkpoints:
    """The folder of one run's checkpoints; its user holds the run's lock."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after `step` steps."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps that have a folder, damaged or not, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(m[1]) for p in self.folder.iterdir() if (m := _NAME.fullmatch(p.name)))

    def save(self, snapshot: Snapshot) -> Path:
        """Publish a checkpoint, then remove what is neither among the newest `keep` nor `state["best"]`.

        Raises:
            InsonateError: the disk is full or cannot be written; what was there before is unharmed.
        """
        path = self.path(snapshot.state["step"])
        if not (path.exists() and fault(path) is None):
            _remove(path)
            self.sweep()
            write_checkpoint(path, snapshot)
        best = snapshot.state.get("best") or {}
        kept = {*[s for s in self.steps() if s <= snapshot.state["step"]][-self.keep :], best.get("step")}
        for step in self.steps():
            if step not in kept:
                _remove(self.path(step))
        return path

    def newest(self, warn: Callable[[str], None]) -> Snapshot | None:
        """The newest whole checkpoint, or None; `warn` is told of each damaged one that was passed over.

        Raises:
            RunError: there are checkpoints but each is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self.path(step)
            damage = fault(path)
            if damage is None:
                return read_checkpoint(path)
            warn(f"{path.name} is damaged ({damage}) and passed over")
        if steps:
            raise RunError(
                self.folder, "every checkpoint is damaged", "Choose another run folder to start anew"
            )
        return None

    def sweep(self) -> None:
        """Remove what a killed save has left behind."""
        if self.folder.is_dir():
            for left in self.folder.glob(f"{files.TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Publish `snapshot` at `path`, which does not exist yet."""
    with files.publish_dir(path) as folder:
        sums = {}
        for name, content in _contents(snapshot):
            sums[name] = hashlib.sha256(content).hexdigest()
            files.atomic_write(folder / name, content)
        files.atomic_write(folder / SUMS, json.dumps(sums, indent=1))


def read_checkpoint(path: Path) -> Snapshot:
    """The checkpoint at `path`.

    Raises:
        RunError: it is damaged.
    """
    if (damage := fault(path)) is not None:
        raise RunError(path, f"the checkpoint is damaged ({damage})", "Use an older one")
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        return Snapshot(load_file(path / MODEL), load_file(path / OPTIMIZER), state)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(path, f"the checkpoint cannot be read ({error})", "Use an older one") from error


def load_weights(checkpoint_dir: Path | str, trainable: nn.Module) -> None:
    """Put the weights of a checkpoint folder into `trainable`.

    Raises:
        RunError: the checkpoint is damaged.
        WeightsError: the tensors do not fit; names the first three.
    """
    path = Path(checkpoint_dir)
    load_model(trainable, read_checkpoint(path).model, where=path)


def fault(path: Path) -> str | None:
    """What is wrong with the checkpoint folder `path`, or None."""
    try:
        sums = json.loads((path / SUMS).read_text(encoding="utf-8"))
        if not isinstance(sums, dict) or set(sums) != {MODEL, OPTIMIZER, STATE}:
            return f"{SUMS} does not list its files"
        changed = [name for name, digest in sums.items() if _digest(path / name) != digest]
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return str(error)
    return f"{changed[0]} has changed" if changed else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, whole and on the CPU; every rank must call it."""
    return {name: whole(tensor) for name, tensor in module.state_dict().items()}


def optimizer_tensors(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `parameter name.state name`, whole and on the CPU; every rank must call it."""
    return {
        f"{name}.{key}": whole(value)
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


@torch.no_grad()
def load_model(module: nn.Module, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Copy `tensors` into the module's parameters and buffers, sharded or not.

    Raises:
        WeightsError: names or shapes differ; nothing has been copied.
    """
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in tensors]
    wrong += [f"{name} is not in the model" for name in tensors if name not in own]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if wrong:
        raise WeightsError(where, "; ".join(wrong[:3]), "Build the model with the run's own recipe")
    for name, tensor in own.items():
        tensor.copy_(_like(tensors[name], tensor))


def load_optimizer(module: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the state of `optimizer_tensors` back into a fresh optimiser."""
    parameters = dict(module.named_parameters())
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters[name]
        if tensor.shape == parameter.shape and tensor.ndim:
            value = _like(tensor.to(parameter.device), parameter)
        else:  # step counts: on the device, as the fused optimiser wants them
            value = tensor.to(parameter.device)
        optimizer.state[parameter][key] = value


def whole(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU, gathered from all ranks if it is sharded."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().to("cpu", copy=True).contiguous()


def _like(tensor: Tensor, model: Tensor) -> Tensor:
    if isinstance(model, DTensor):
        return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
    return tensor


def _contents(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    yield MODEL, save(snapshot.model)
    yield OPTIMIZER, save(snapshot.optimizer)
    yield STATE, json.dumps(snapshot.state, indent=1).encode()


def _remove(path: Path) -> None:
    """Remove a checkpoint: out of sight in one step first, so that no part of it is ever taken for it.

    Raises:
        InsonateError: it cannot be moved.
    """
    if not path.exists():
        return
    hidden = path.with_name(f"{files.TEMPORARY}old-{path.name}")
    shutil.rmtree(hidden, ignore_errors=True)
    with files.told(path):
        files.disk.replace(path, hidden)
    shutil.rmtree(hidden, ignore_errors=True)
