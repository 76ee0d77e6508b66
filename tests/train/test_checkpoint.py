"""Checkpoints: whole or absent, whatever fails; damaged ones are seen."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faults import FaultDisk, standing_in
from toys import ToyTask

from insonate import files
from insonate.errors import InsonateError, RunError, WeightsError
from insonate.train.checkpoint import Checkpoints, Snapshot, load_weights, read_checkpoint


@pytest.fixture(autouse=True)
def _quick_disk() -> Iterator[None]:
    with standing_in(FaultDisk()):
        yield


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        {"weight": torch.full((3, 2), float(step))},
        {"weight.exp_avg": torch.ones(3, 2) * step},
        {"step": step},
    )


def is_whole(read: Snapshot) -> bool:
    return torch.equal(read.model["weight"], snapshot(read.state["step"]).model["weight"])


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_failing_call_of_a_save_leaves_old_or_new(tmp_path, error, lasting):
    for call in range(1, 100):
        checkpoints = Checkpoints(tmp_path / str(call), keep=1)
        checkpoints.save(snapshot(1))
        failed = False
        with standing_in(FaultDisk(call, error=error, lasting=lasting)) as disk:
            try:
                checkpoints.save(snapshot(2))
            except InsonateError:
                failed = True
        newest = checkpoints.newest(pytest.fail)
        assert newest is not None
        assert is_whole(newest)
        assert failed or newest.state["step"] == 2
        checkpoints.save(snapshot(3))
        assert checkpoints.steps() == [3]
        if not disk.failed:
            break
    assert call > 20


def save_and_die(folder: Path, call: int) -> None:
    files.disk = FaultDisk(call, die=True)
    Checkpoints(folder, keep=1).save(snapshot(2))


def test_kill_at_each_call_of_a_save_leaves_old_or_new(tmp_path, forked):
    for call in range(1, 100):
        checkpoints = Checkpoints(tmp_path / str(call), keep=1)
        checkpoints.save(snapshot(1))
        child = forked.Process(target=save_and_die, args=(checkpoints.folder, call))
        child.start()
        child.join()
        newest = checkpoints.newest(pytest.fail)
        assert newest is not None
        assert is_whole(newest)
        checkpoints.save(snapshot(3))
        assert [p.name for p in checkpoints.folder.iterdir()] == ["step-00000003"]  # nothing is left behind
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    assert call > 20


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "sha256.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_damaged_newest_is_passed_over_with_a_word(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(snapshot(1))
    path = checkpoints.save(snapshot(2)) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes({"cut": content[: len(content) // 2], "flip": content, "remove": b""}[damage])
    if damage == "remove":
        path.unlink()
    told: list[str] = []
    newest = checkpoints.newest(told.append)
    assert newest is not None
    assert newest.state["step"] == 1
    assert "step-00000002 is damaged" in told[0]
    checkpoints.save(snapshot(2))
    assert checkpoints.newest(pytest.fail).state["step"] == 2


def test_all_damaged_is_an_error_not_a_new_start(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    (checkpoints.save(snapshot(1)) / "state.json").unlink()
    with pytest.raises(RunError, match="every checkpoint is damaged"):
        checkpoints.newest(lambda _: None)
    assert Checkpoints(tmp_path / "none", keep=1).newest(pytest.fail) is None


def test_tensors_come_back_bit_by_bit(tmp_path):
    tensors = {
        "a": torch.randn(3, 4).T,
        "b": torch.tensor(3),
        "c": torch.randn(2).bfloat16(),
        "d": torch.tensor([True]),
        "e": torch.empty(0, 3),
    }
    state = {"step": 7, "last": {"loss": 0.1 + 0.2}}
    path = Checkpoints(tmp_path, keep=1).save(
        Snapshot({k: t.contiguous() for k, t in tensors.items()}, {}, state)
    )
    read = read_checkpoint(path)
    assert read.state == state
    assert all(torch.equal(read.model[name], tensor) for name, tensor in tensors.items())
    assert all(read.model[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_weights_of_another_model_name_the_first_three(tmp_path):
    path = Checkpoints(tmp_path, keep=1).save(snapshot(1))
    with pytest.raises(WeightsError, match=r"backbone.position is missing; .*; .* is missing\."):
        load_weights(path, ToyTask())
