"""`insonate train`: signals, and what a user gets wrong, in one line with exit code 2."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import TRAIN, in_process, picture_folder
from faults import FaultDisk, standing_in
from safetensors.torch import save_file

from insonate import files
from insonate.data import ManifestDataset
from insonate.models import build_backbone
from insonate.train.log import read_rows

COMMAND = ("train", "tiny.yaml", "optim.epochs=3", "optim.log_every=1", "--out")
TORCHES = ("torch", "torchvision", "timm", "lightning_fabric", "safetensors")


@pytest.fixture
def folder(tmp_path) -> Path:
    picture_folder(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TRAIN)
    return tmp_path


def only_line(capsys) -> str:
    """The one line on standard error; nothing is on standard output."""
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.strip().splitlines()
    assert len(lines) == 1, told.err
    return lines[0]


def left_by(run: Path) -> tuple[bytes, bytes, list]:
    """What a finished run holds that training decides."""
    newest = max((run / "checkpoints").glob("step-*"))
    return (
        (run / "model/model.safetensors").read_bytes(),
        (newest / "optimizer.safetensors").read_bytes(),
        [(row["step"], row["loss"]) for row in read_rows(run / "metrics.jsonl") if row["event"] == "train"],
    )


def test_a_signal_saves_and_exits_with_0_and_the_same_command_ends_in_the_same_bits(
    folder, monkeypatch, capsys
):
    assert in_process(monkeypatch, folder, *COMMAND, "unbroken") == 0
    whole = left_by(folder / "unbroken")
    assert [step for step, _ in whole[2]] == list(range(1, 25))
    read, reads = ManifestDataset.__getitem__, iter(())

    def at_the_fortieth(self, key):
        if next(reads, None) == 40:  # in step 10 of 24, amid the second epoch
            os.kill(os.getpid(), number)
        return read(self, key)

    monkeypatch.setattr(ManifestDataset, "__getitem__", at_the_fortieth)
    for number in (signal.SIGINT, signal.SIGTERM):
        reads, name = iter(range(1, 41)), f"run-{number}"
        assert in_process(monkeypatch, folder, *COMMAND, name) == 0
        assert "the same command goes on" in capsys.readouterr().err
        assert (folder / name / "checkpoints/step-00000010").is_dir()
        assert not (folder / name / "model").exists()
        assert in_process(monkeypatch, folder, *COMMAND, name) == 0
        assert "resumed after step 10 of 24" in capsys.readouterr().err
        assert left_by(folder / name) == whole


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_itself_ends_it_cleanly(folder, number):
    command = [sys.executable, "-m", "insonate", "train", "tiny.yaml", "optim.epochs=100000", "--out", "run"]
    child = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list((folder / "run/checkpoints").glob("step-*")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(number)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 0, told
    assert "the same command goes on" in told
    assert "Traceback" not in told


MISFITS = {
    "an unknown key": (["optim.lrr=1"], ["optim.lrr", "Did you mean lr"]),
    "an unknown option": (["task.clases=[a, b]"], ["task.clases", "Did you mean classes"]),
    "an unknown name": (["backbone.name=vitt"], ["backbone.name", "Did you mean vit"]),
    "a value out of range": (["optim.epochs=0"], ["optim.epochs", "greater than or equal to 1"]),
    "a value of another type": (["data.batch=many"], ["data.batch"]),
    "a missing key": (["task.column=null"], ["task.column", "needs this key"]),
    "two methods": (["objective.name=ijepa"], ["exactly one of objective and task"]),
}


def test_a_recipe_that_does_not_fit_exits_with_2_without_torch(folder):
    """Torch cannot be imported there at all."""
    code = f"""
import contextlib, io, json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TORCHES!r}:
            raise AssertionError("imports " + name)
sys.meta_path.insert(0, Refuse())
from insonate.cli import main
shown = {{}}
for name, overrides in json.load(sys.stdin).items():
    sys.argv = ["insonate", "train", "tiny.yaml", *overrides, "--out", "run"]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            main()
        except SystemExit as left:
            shown[name] = left.code, told.getvalue()
print(json.dumps(shown))
"""
    given = json.dumps({name: overrides for name, (overrides, _) in MISFITS.items()})
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert set(shown) == set(MISFITS)
    for name, (_, words) in MISFITS.items():
        exit_code, told = shown[name]
        assert exit_code == 2, name
        assert len(told.strip().splitlines()) == 1, told
        assert all(word in told for word in words), told
    assert not (folder / "run").exists()


def test_weights_of_another_architecture_exit_with_2_and_name_file_and_tensors(folder, monkeypatch, capsys):
    other = build_backbone(
        {"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 8, "input_size": [32, 32]}
    )
    save_file(other.state_dict(), folder / "wide.safetensors")
    arguments = ["train", "tiny.yaml", "backbone.weights=wide.safetensors", "--out", "run"]
    assert in_process(monkeypatch, folder, *arguments) == 2
    line = only_line(capsys)
    assert line.startswith("wide.safetensors")
    assert "blocks.1.attn.proj.bias" in line
    assert "24 float32 for 16 float32" in line
    assert not (folder / "run").exists()


def test_a_read_only_folder_exits_with_2_and_says_so(folder, monkeypatch, capsys):
    open_file, run = os.open, folder / "run"
    run.mkdir()

    def closed(path, *arguments, **options):  # also for root, who may write everywhere
        if Path(os.fspath(path)).absolute().is_relative_to(run):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_file(path, *arguments, **options)

    monkeypatch.setattr(files.os, "open", closed)
    assert in_process(monkeypatch, folder, "train", "tiny.yaml", "--out", "run") == 2
    line = only_line(capsys)
    assert "run/run.lock: Read-only file system. Choose a folder that you may write to" in line
    assert not any(run.iterdir())


def test_a_full_disk_exits_with_2_and_the_same_command_goes_on_where_it_was(folder, monkeypatch, capsys):
    with standing_in(FaultDisk()) as disk:
        assert in_process(monkeypatch, folder, *COMMAND, "unbroken") == 0
    whole, calls = left_by(folder / "unbroken"), len(disk.calls)
    model_from = next(i for i, (_, name) in enumerate(disk.calls, 1) if name.endswith("config.json"))
    for name, call in {"first": 1, "amid": model_from // 2, "at the model": model_from + 3}.items():
        assert call < calls
        capsys.readouterr()
        with standing_in(FaultDisk(call, lasting=True)):
            assert in_process(monkeypatch, folder, *COMMAND, name) == 2
        told = capsys.readouterr().err
        assert "the disk is full. Free some space and run the same command again" in told.splitlines()[-1]
        assert "Traceback" not in told
        with standing_in(FaultDisk()):
            assert in_process(monkeypatch, folder, *COMMAND, name) == 0
        assert left_by(folder / name) == whole


def test_a_second_run_in_the_folder_exits_with_2_and_changes_nothing(folder, monkeypatch, capsys):
    with files.lock(folder / "run/run.lock"):
        assert in_process(monkeypatch, folder, "train", "tiny.yaml", "--out", "run") == 2
    assert "run: another process is using this folder. Wait for it" in only_line(capsys)
    assert [path.name for path in (folder / "run").iterdir()] == ["run.lock"]


def test_a_manifest_that_may_not_be_read_exits_with_2_and_names_it(folder, monkeypatch, capsys):
    read = Path.read_bytes

    def closed(self):  # also for root, who may read everything
        if self.name == "manifest.csv":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", closed)
    assert in_process(monkeypatch, folder, "train", "tiny.yaml", "--out", "run") == 2
    line = only_line(capsys)
    assert (
        line == "data/manifest.csv: cannot be read (Permission denied). Check the path and what you may read."
    )
    assert not (folder / "run").exists()
