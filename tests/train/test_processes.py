"""The loop in processes of its own: killed at random moments, and on two ranks."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import torch
from run_toy import run_told, two_ranks
from toys import ToyLoader, ToyTask

from insonate.errors import RunError
from insonate.train.checkpoint import read_checkpoint
from insonate.train.fit import fit
from insonate.train.log import read_rows
from insonate.train.processes import check_started
from insonate.train.settings import Settings

KILLS = 20
PLAIN = Settings(
    epochs=2, lr=0.02, log_every=1, clip=1.0, weight_decay=0.1, layer_decay=0.8, precision="fp32"
)


def losses(folder: Path) -> list[tuple[int, float]]:
    return [
        (row["step"], row["loss"]) for row in read_rows(folder / "metrics.jsonl") if row["event"] == "train"
    ]


def end_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    read = read_checkpoint(folder / "checkpoints" / f"step-{step:08d}")
    return {**read.model, **read.optimizer}


def test_kills_at_random_moments_leave_no_trace(tmp_path, forked):
    """20 × kill -9, after a random number of batches and some milliseconds; then the run is finished."""
    run_told(tmp_path / "unbroken")
    unbroken = end_of(tmp_path / "unbroken", 24)
    generator = random.Random(0)
    kills, runs, done = 0, 0, False
    while kills < KILLS or not done:
        folder = tmp_path / f"run-{runs}"
        theirs, ours = forked.Pipe(duplex=False)
        child = forked.Process(target=run_told, args=(folder, ours))
        child.start()
        ours.close()
        if kills < KILLS:
            wait_for_batches(theirs, generator.randrange(1, 6))
            time.sleep(generator.uniform(0, 0.02))
            child.kill()
        child.join()
        kills += child.exitcode != 0
        done = child.exitcode == 0
        if not done:
            continue
        assert losses(folder) == losses(tmp_path / "unbroken")
        resumed = end_of(folder, 24)
        assert resumed.keys() == unbroken.keys()
        assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())
        runs += 1


def wait_for_batches(pipe, count: int) -> None:
    try:
        for _ in range(count):
            pipe.recv()
    except EOFError:  # the run has ended before
        pass


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    fit(ToyTask(dropout=0), ToyLoader(batch=8), PLAIN, folder)
    return folder


def test_two_ranks_learn_as_one_with_twice_the_batch(tmp_path, forked, one_process):
    two_ranks(forked, tmp_path, PLAIN.model_copy(update={"devices": 2}))
    assert losses(tmp_path) == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in losses(one_process)]
    for name, tensor in end_of(one_process, 6).items():
        torch.testing.assert_close(end_of(tmp_path, 6)[name], tensor, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("starter", "change"),
    [
        ("torchrun", {"devices": 2}),
        ("slurm", {"devices": 2}),
        ("slurm, two nodes", {"devices": 1, "nodes": 2}),
        ("slurm, two nodes", {"devices": 1, "nodes": 2, "strategy": "fsdp2"}),
    ],
)
def test_ranks_that_another_program_started_find_each_other(tmp_path, forked, one_process, starter, change):
    two_ranks(forked, tmp_path, PLAIN.model_copy(update=change), starter=starter)
    assert losses(tmp_path) == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in losses(one_process)]


@pytest.mark.parametrize(
    ("environment", "change", "words"),
    [
        (
            {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"},
            {},
            "LOCAL_WORLD_SIZE is 2",
        ),
        (
            {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"},
            {"devices": 2},
            "are 2 and 1, but WORLD_SIZE is 4",
        ),
        ({"SLURM_NTASKS": "1"}, {"devices": 2}, "SLURM_NTASKS is 1"),
        ({"SLURM_NTASKS": "2"}, {"devices": 2}, "SLURM_NTASKS_PER_NODE is not set"),
        ({"SLURM_NTASKS": "2"}, {}, "SLURM_NTASKS is 2"),
        ({}, {"nodes": 2}, "NODE_RANK is not set"),
    ],
)
def test_other_processes_than_the_settings_say_are_one_clear_line(monkeypatch, environment, change, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match=words) as caught:
        check_started(PLAIN.model_copy(update=change))
    assert "srun --ntasks-per-node" in str(caught.value)


def test_one_task_of_slurm_is_no_distributed_run(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    check_started(PLAIN)
    monkeypatch.setenv("SLURM_NTASKS", "2")  # a shell on a node: Fabric starts the processes itself
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    check_started(PLAIN.model_copy(update={"devices": 2}))


def test_sharded_run_is_interrupted_and_resumed_as_one_process(tmp_path, forked, one_process):
    settings = PLAIN.model_copy(update={"devices": 2, "strategy": "fsdp2"})
    two_ranks(forked, tmp_path, settings, stop=(1, 0))
    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3, 4]
    two_ranks(forked, tmp_path, settings)
    assert losses(tmp_path) == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in losses(one_process)]
    for name, tensor in end_of(one_process, 6).items():
        torch.testing.assert_close(end_of(tmp_path, 6)[name], tensor, rtol=1e-3, atol=1e-6)
