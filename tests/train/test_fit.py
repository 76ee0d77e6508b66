"""The loop: it learns, resumes bit by bit, stops at signals and says what is wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from toys import ToyLoader, ToyTask

from insonate import files
from insonate.data import Loader
from insonate.data.sample import Meta
from insonate.errors import InsonateError, RunError
from insonate.train.checkpoint import load_weights
from insonate.train.fit import FitResult, fit
from insonate.train.launch import may_fuse
from insonate.train.log import read_rows
from insonate.train.settings import Settings

SETTINGS = Settings(
    epochs=3,
    lr=0.02,
    warmup_epochs=0.5,
    weight_decay=(0.01, 0.1),
    layer_decay=0.9,
    clip=1.0,
    log_every=1,
    save_every=4,
    precision="fp32",
)


def run(
    folder: Path, settings: Settings = SETTINGS, loader: ToyLoader | None = None
) -> tuple[ToyTask, FitResult]:
    task = ToyTask()
    return task, fit(task, loader or ToyLoader(), settings, folder)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def signal_at(epoch: int, step: int, number: int = signal.SIGTERM) -> ToyLoader:
    loader = ToyLoader()
    loader.before_batch = lambda e, s: os.kill(os.getpid(), number) if (e, s) == (epoch, step) else None
    return loader


def losses(folder: Path) -> list[tuple[int, float]]:
    return [
        (row["step"], row["loss"]) for row in read_rows(folder / "metrics.jsonl") if row["event"] == "train"
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ToyTask]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(folder)[0]


def test_loss_falls_and_every_step_has_a_row(unbroken):
    curve = losses(unbroken[0])
    assert [step for step, _ in curve] == list(range(1, 19))
    assert sum(loss for _, loss in curve[-4:]) < 0.5 * sum(loss for _, loss in curve[:4])


def test_what_follows_the_schedule_is_logged(unbroken):
    rows = [row for row in read_rows(unbroken[0] / "metrics.jsonl") if row["event"] == "train"]
    assert [row["weight"] for row in rows] == pytest.approx([0.1 * (1 - step / 18) for step in range(18)])


def test_a_value_that_stays_below_its_floor_is_told_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("insonate.train.watch.PATIENCE", 4)
    task = ToyTask()
    task.floors = {"bias": 100.0, "loss": 0.0}
    fit(task, ToyLoader(), SETTINGS, tmp_path)
    told = [line for line in capsys.readouterr().err.splitlines() if "below" in line]
    assert len(told) == 1
    assert "bias has been below 100 since step 1" in told[0]


def test_tensorboard_events_are_written(unbroken):
    assert list((unbroken[0] / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize(("epoch", "step"), [(0, 0), (0, 5), (1, 2), (2, 5)])
def test_interrupted_run_resumes_bit_equal(tmp_path, unbroken, epoch, step):
    _, result = run(tmp_path, loader=signal_at(epoch, step))
    assert result.interrupted
    assert result.steps == epoch * 6 + step + 1
    loader = ToyLoader()
    task, result = run(tmp_path, loader=loader)
    assert not result.interrupted
    assert (result.steps, result.epochs) == (18, 3)
    assert (0, 0) not in loader.started
    assert same(task, unbroken[1])
    assert losses(tmp_path) == losses(unbroken[0])


def test_sigint_is_taken_too_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    assert run(tmp_path, loader=signal_at(0, 1, signal.SIGINT))[1].interrupted
    assert signal.getsignal(signal.SIGINT) is before


def test_finished_run_is_not_trained_again(unbroken):
    loader = ToyLoader()
    task, result = run(unbroken[0], loader=loader)
    assert loader.started == []
    assert result.steps == 18
    assert result.last["loss"] == losses(unbroken[0])[-1][1]
    assert same(task, unbroken[1])


def test_accumulated_batches_equal_one_larger_batch(tmp_path):
    plain = Settings(epochs=2, lr=0.01, log_every=1, precision="fp32")
    large, small = ToyTask(dropout=0), ToyTask(dropout=0)
    fit(large, ToyLoader(batch=8), plain, tmp_path / "large")
    fit(small, ToyLoader(batch=4), plain.model_copy(update={"accumulate": 2}), tmp_path / "small")
    for name, tensor in large.state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_bf16_trains(tmp_path):
    _, result = run(tmp_path, Settings(epochs=1, precision="bf16", log_every=1))
    assert result.steps == 6


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Burst(ToyTask):
        """Its loss is finite, its gradient is not."""

        def forward(self, batch):
            losses = super().forward(batch)
            return losses._replace(total=losses.total + (0 * self.head.bias).sqrt().sum())

    with pytest.raises(RunError, match=r"head\.bias is not finite"):
        fit(Burst(), ToyLoader(items=4), Settings(epochs=1), tmp_path)
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_notes_about_the_data_are_told(tmp_path, capsys):
    fit(ToyTask(), ToyLoader(), Settings(epochs=1), tmp_path, notes=["7 items have no label"])
    assert "7 items have no label\n" in capsys.readouterr().err


def test_fp16_gets_no_fused_optimiser_also_where_it_was_chosen_for_an_old_gpu():
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert not may_fuse(MixedPrecision("16-mixed", "cpu", scaler))
    assert may_fuse(MixedPrecision("bf16-mixed", "cpu"))


def test_nan_loss_names_the_items(tmp_path):
    with pytest.raises(RunError, match=r"item-5\b"):
        run(tmp_path, loader=ToyLoader(poison="item-5"))


def test_fp16_without_gpu_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RunError, match="16 needs a GPU"):
        run(tmp_path, Settings(precision="fp16"))


def test_second_run_in_the_folder_is_refused(tmp_path):
    with files.lock(tmp_path / "run.lock"), pytest.raises(RunError, match="another process"):
        run(tmp_path)


def test_a_refused_run_changes_nothing(tmp_path):
    def begin() -> None:
        raise AssertionError("the folder is another's")

    with files.lock(tmp_path / "run.lock"), pytest.raises(RunError, match="another process"):
        fit(ToyTask(), ToyLoader(), SETTINGS, tmp_path, begin=begin)
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_other_data_is_not_gone_on_with(tmp_path):
    fit(ToyTask(), ToyLoader(), Settings(epochs=1), tmp_path, data={"the rows": "a", "the labels": "b"})
    with pytest.raises(RunError, match=r"the rows changed since the run began.*Put the manifest back"):
        fit(ToyTask(), ToyLoader(), Settings(epochs=1), tmp_path, data={"the rows": "c", "the labels": "b"})
    fit(ToyTask(), ToyLoader(), Settings(epochs=1), tmp_path, data={"the rows": "a", "the labels": "b"})


def test_a_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    run(tmp_path, Settings(epochs=1))
    monkeypatch.setattr("insonate.train.saving.FORMAT", 99)
    with pytest.raises(RunError, match="format 2, this version writes 99"):
        run(tmp_path, Settings(epochs=1))


def test_validation_that_was_not_saved_is_logged_once(tmp_path):
    """Stopped at the end of an epoch, then killed between its validation and the save."""

    def rows() -> list[int]:
        return [row["epoch"] for row in read_rows(tmp_path / "metrics.jsonl") if row["event"] == "eval"]

    scored = {"evaluate": lambda: {"dice": 0.5}}
    settings = Settings(epochs=2, lr=0.01)
    assert fit(ToyTask(), signal_at(0, 5), settings, tmp_path, **scored).interrupted
    assert rows() == []
    for _ in range(2):  # each stops in the first step of epoch 1, whose checkpoint is then lost
        assert fit(ToyTask(), signal_at(1, 0), settings, tmp_path, **scored).interrupted
        shutil.rmtree(tmp_path / "checkpoints" / "step-00000007")
        assert rows() == [0]
    fit(ToyTask(), ToyLoader(), settings, tmp_path, **scored)
    assert rows() == [0, 1]


def test_other_batch_in_the_same_folder_is_refused(tmp_path):
    run(tmp_path, Settings(epochs=1))
    with pytest.raises(RunError, match="6 steps an epoch, and now has 3"):
        run(tmp_path, Settings(epochs=1), ToyLoader(batch=8))


def test_too_few_items_for_a_step_are_told(tmp_path):
    with pytest.raises(RunError, match="not one step"):
        run(tmp_path, Settings(accumulate=7))


def test_all_frozen_is_told(tmp_path):
    task = ToyTask().requires_grad_(False)
    with pytest.raises(RunError, match="frozen"):
        fit(task, ToyLoader(), SETTINGS, tmp_path)


def test_best_and_newest_checkpoints_are_kept(tmp_path):
    scores = iter([0.3, 0.9, 0.2, float("nan"), 0.4])
    settings = Settings(epochs=5, keep=2, monitor="dice", mode="max", lr=0.01)
    task = ToyTask()
    result = fit(task, ToyLoader(), settings, tmp_path, evaluate=lambda: {"dice": next(scores)})
    assert result.best == tmp_path / "checkpoints" / "step-00000012"
    assert result.last["dice"] == 0.4
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000012", "step-00000024", "step-00000030"]
    best = ToyTask(seed=1)
    load_weights(result.best, best)
    assert not same(best, task)


def test_unknown_monitor_names_the_known(tmp_path):
    settings = Settings(epochs=1, monitor="dise", mode="max")
    with pytest.raises(RunError, match="dice"):
        fit(ToyTask(), ToyLoader(), settings, tmp_path, evaluate=lambda: {"dice": 1.0})


def test_monitor_without_validation_is_refused(tmp_path):
    with pytest.raises(RunError, match="monitor"):
        run(tmp_path, Settings(monitor="dice", mode="max"))


def test_cut_line_and_rows_after_the_checkpoint_are_dropped(tmp_path, unbroken):
    run(tmp_path, loader=signal_at(1, 1))
    metrics = tmp_path / "metrics.jsonl"
    row = {"event": "train", "step": 9, "epoch": 1, "loss": 77.0}
    with metrics.open("a") as file:
        file.write(json.dumps(row) + "\n" + '{"event": "train", "st')
    run(tmp_path)
    assert losses(tmp_path) == losses(unbroken[0])


def test_damaged_newest_checkpoint_is_passed_over(tmp_path, unbroken, capsys):
    run(tmp_path, loader=signal_at(1, 4))
    damaged = tmp_path / "checkpoints" / "step-00000011" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    task, _ = run(tmp_path)
    assert "step-00000011 is damaged (model.safetensors has changed)" in capsys.readouterr().err
    assert same(task, unbroken[1])
    assert losses(tmp_path) == losses(unbroken[0])


class FullDisk(files.Disk):
    """Refuses checkpoint files while `full`."""

    full = False

    def write(self, file, data):
        if self.full and "safetensors" in Path(file.name).name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(file, data)


def test_one_failed_save_is_told_and_the_second_stops(tmp_path, monkeypatch, capsys, unbroken):
    disk = FullDisk()
    monkeypatch.setattr(files, "disk", disk)
    loader = ToyLoader()

    def fill(epoch, step):
        disk.full = epoch >= 1

    loader.before_batch = fill
    with pytest.raises(InsonateError, match="the disk is full"):
        run(tmp_path, loader=loader)
    assert "step 8 was not saved" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
    disk.full = False
    task, _ = run(tmp_path)
    assert same(task, unbroken[1])


class Shades:
    """A dataset of 24 noisy grey squares for the real loader."""

    def __len__(self) -> int:
        return 24

    def item_id(self, index: int) -> str:
        return f"item-{index}"

    def __getitem__(self, key):
        generator = torch.Generator().manual_seed(key.item_seed)
        value = 1.0 - 2 * (key.index % 2)
        return {
            "image": value + 0.3 * torch.randn(1, 4, 4, generator=generator),
            "meta": Meta(item_id=self.item_id(key.index), original_hw=(4, 4)),
            "item_seed": key.item_seed,
            "value": value,
        }


@pytest.mark.parametrize("workers", [0, 1])
def test_real_loader_resumes_bit_equal_within_an_epoch(tmp_path, workers):
    settings = Settings(epochs=2, lr=0.02, log_every=1, accumulate=2)
    whole, halves = ToyTask(), ToyTask()
    fit(whole, Loader(Shades(), 3, seed=5), settings, tmp_path / "whole")

    loader = Loader(Shades(), 3, seed=5, workers=workers)
    after_step = halves.after_step
    halves.after_step = lambda progress: os.kill(os.getpid(), signal.SIGTERM) or after_step(progress)
    assert fit(halves, loader, settings, tmp_path / "halves").steps == 1
    again = ToyTask()
    fit(again, Loader(Shades(), 3, seed=5, workers=workers), settings, tmp_path / "halves")
    assert same(again, whole)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
