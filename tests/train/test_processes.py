"""The loop in processes of its own: killed at random moments, and on two ranks."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import torch
from run_toy import run_told, two_ranks
from toys import ToyLoader, ToyTask

from insonate.train.checkpoint import read_checkpoint
from insonate.train.fit import fit
from insonate.train.log import read_rows
from insonate.train.settings import Settings

KILLS = 20
PLAIN = Settings(epochs=2, lr=0.02, log_every=1, clip=1.0, weight_decay=0.1, layer_decay=0.8)


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


def test_sharded_run_is_interrupted_and_resumed_as_one_process(tmp_path, forked, one_process):
    settings = PLAIN.model_copy(update={"devices": 2, "strategy": "fsdp2"})
    two_ranks(forked, tmp_path, settings, stop=(1, 0))
    assert [step for step, _ in losses(tmp_path)] == [1, 2, 3, 4]
    two_ranks(forked, tmp_path, settings)
    assert losses(tmp_path) == [(step, pytest.approx(loss, rel=1e-4)) for step, loss in losses(one_process)]
    for name, tensor in end_of(one_process, 6).items():
        torch.testing.assert_close(end_of(tmp_path, 6)[name], tensor, rtol=1e-3, atol=1e-6)
