"""What a run tells."""

from __future__ import annotations

import math
import os
import pty
import re
import select
import signal
import subprocess
import sys

import pytest
from run_toy import run_deaf, run_on_terminal, run_told
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from insonate.train.log import Log, clock, read_rows

ROW = {"epoch": 0, "lr": 0.1, "items_per_s": 1.0, "memory_mb": 1.0, "data_wait_percent": 0.0}


def test_plain_lines_on_standard_error(tmp_path, capsys):
    run_told(tmp_path)
    told = capsys.readouterr()
    assert told.out == ""
    line = told.err.splitlines()[-1]
    assert line.startswith("step 24/24  loss ")
    for part in ("lr ", " items/s", " MB", "data wait ", " left"):
        assert part in line


def test_terminal_gets_a_bar(tmp_path, forked, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    child = forked.Process(target=run_on_terminal, args=(tmp_path, os.ttyname(slave)))
    child.start()
    shown = b""
    while b"24/24" not in shown and select.select([master], [], [], 20)[0]:
        shown += os.read(master, 4096)
    os.close(slave)
    child.join(20)
    assert child.exitcode == 0
    for part in (rb"loss \d", rb"lr \d", rb"\d items/s", rb"\d MB", rb"data wait \d+ %", rb"\d:\d\d:\d\d"):
        assert re.search(part, shown), part
    assert b"\x1b[" in shown


def test_second_signal_ends_the_process_at_once(tmp_path, forked):
    child = forked.Process(target=run_deaf, args=(tmp_path,))
    child.start()
    child.join(20)
    assert child.exitcode == 128 + signal.SIGTERM


def test_values_that_are_no_numbers_are_null(tmp_path):
    with Log(tmp_path, step=0, closed_epochs=0, total=1) as log:
        log.train({"step": 1, "loss": math.nan, **ROW}, seconds_left=math.inf)
    assert read_rows(tmp_path / "metrics.jsonl")[0]["loss"] is None


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path):
    for first, last in ((1, 6), (4, 8)):
        with Log(tmp_path, step=first - 1, closed_epochs=0, total=8) as log:
            for step in range(first, last + 1):
                log.train({"step": step, "loss": float(first), **ROW}, seconds_left=1.0)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(e.step, e.value) for e in events] == [(n, 1.0 if n < 4 else 4.0) for n in range(1, 9)]
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == list(range(1, 9))


def test_run_goes_on_when_tensorboard_cannot_write(tmp_path, capsys):
    with Log(tmp_path, step=0, closed_epochs=0, total=2) as log:

        def full(*_: object) -> None:
            raise OSError("No space left on device")

        log._board.add_scalar = full
        for step in (1, 2):
            log.train({"step": step, "loss": 0.5, **ROW}, seconds_left=1.0)
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 2
    assert capsys.readouterr().err.count("TensorBoard's file cannot be written") == 1


@pytest.mark.parametrize(("seconds", "text"), [(3723.4, "1:02:03"), (59.6, "0:01:00"), (math.inf, "?")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_package_is_imported_without_torch():
    code = "import sys; from insonate.train import Settings; Settings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
