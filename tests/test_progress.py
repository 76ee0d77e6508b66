"""Progress: a bar where a person looks, plain lines where none does, nothing on standard output."""

from __future__ import annotations

import io
import sys

import pytest

from insonate import progress


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_what_is_quick_shows_nothing_and_what_takes_long_a_line_now_and_then(clock, capsys):
    for item in progress.tracked(range(30), total=30, what="scan of x"):
        clock[0] += 1.0
        if item == 0:
            assert capsys.readouterr().err == ""
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "scan of x: 2 of 30, 28 s left", "scan of x: 12 of 30, 18 s left", "scan of x: 22 of 30, 8 s left",
    ]  # fmt: skip
    assert shown.out == ""


def test_without_a_known_total_the_count_is_told(clock, capsys):
    for _ in progress.tracked(iter("abc"), total=None, what="frames"):
        clock[0] += 1.5
    assert capsys.readouterr().err == "frames: 2\n"


def test_a_terminal_gets_a_bar_on_standard_error(monkeypatch, capsys):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    for item in progress.tracked(range(3), total=3, what="[red]odd[/red]"):
        sys.stdout.write(f"{item}\n")
    assert capsys.readouterr().out == "0\n1\n2\n"  # a result is not drawn into the bar
    assert "[red]odd" in screen.getvalue()


def test_untracked_passes_items_on(capsys):
    assert list(progress.untracked([1, 2], total=2, what="x")) == [1, 2]
    assert capsys.readouterr() == ("", "")
