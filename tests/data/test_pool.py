"""The pool: every item comes back, with its result or its reason, whatever happens in the workers."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time

import numpy as np
import pytest

from insonate.data import pool
from insonate.errors import InsonateError, MediaError

SIGNALS = {"kill": signal.SIGKILL, "segfault": signal.SIGSEGV, "stop": signal.SIGSTOP}


def behave(item):
    if item in SIGNALS:
        os.kill(os.getpid(), SIGNALS[item])
    match item:
        case "hang":
            time.sleep(60)
        case "slow":
            time.sleep(0.3)
        case "refuse":
            raise MediaError("file", "is damaged", "Copy it again")
        case "fault":
            raise KeyError("name of a patient")
        case "memory":
            return len(bytearray(300 << 20))
        case "large":
            return np.zeros(3_000_000, np.uint8)
        case "modules":
            return sorted(sys.modules)
        case "process":
            return os.getpid()
    return item * 2


def run(items, **options):
    return list(pool.run(behave, items, **{"workers": 2, "seconds": 5.0, **options}))


def test_each_item_comes_back_once_with_its_result():
    found = run(range(200))
    assert sorted(found) == [(item, 2 * item) for item in range(200)]
    assert run([]) == []


def test_a_killed_worker_costs_its_item_alone():
    found = dict(run([1, "kill", 2, "segfault", 3, "kill", 4], workers=1))
    assert [found[item] for item in (1, 2, 3, 4)] == [2, 4, 6, 8]
    for item in ("kill", "segfault"):
        assert isinstance(found[item], InsonateError)
        assert "memory ran out" in str(found[item])


@pytest.mark.parametrize("item", ["hang", "stop"])
def test_an_item_that_takes_too_long_is_given_up(item):
    start = time.monotonic()
    found = dict(run([item, *range(20)], seconds=0.5))
    assert "longer than 0.5 s" in str(found.pop(item))
    assert len(found) == 20
    assert time.monotonic() - start < 5


def test_refusals_pass_as_they_are_and_faults_tell_no_values():
    found = dict(run(["refuse", "fault", 1]))
    assert type(found["refuse"]) is MediaError
    assert found["refuse"].where == "file"
    assert "KeyError at test_pool.py" in str(found["fault"])
    assert "patient" not in str(found["fault"])
    assert found[1] == 2


def test_a_worker_may_take_so_much_memory_and_no_more():
    if not os.path.exists("/proc/self/statm"):  # noqa: PTH110
        pytest.skip("the limit is for Linux")
    assert "more memory than one item may have" in str(run(["memory"], memory_bytes=100 << 20)[0][1])
    assert run(["memory"])[0][1] == 300 << 20


def test_workers_are_light_and_are_kept():
    assert "torch" not in run(["modules"])[0][1]
    assert len({pid for _, pid in run(["process"] * 30)}) <= 2


def test_few_more_are_taken_than_the_workers_have_done():
    taken = []
    endless = (taken.append(i) or i for i in itertools.count())
    results = pool.run(behave, endless, workers=2)
    first = list(itertools.islice(results, 500))
    results.close()
    assert len(first) == 500
    assert len(taken) <= 501 + 2 * pool.MOST_AHEAD


def test_slow_or_large_items_are_not_sent_ahead():
    for item in ("slow", b" " * pool.AHEAD_BYTES):
        taken = []
        results = pool.run(behave, (taken.append(i) or item for i in range(12)), workers=2)
        for done in range(1, 4):
            next(results)
            assert len(taken) <= done + 3
        results.close()


def test_items_sent_ahead_of_a_fatal_one_are_done_by_others():
    items = [*range(300), "kill", *range(300, 600), "hang", *range(600, 900)]
    found = run(items, seconds=1.0, workers=1)
    assert sorted(item for item, _ in found if isinstance(item, int)) == list(range(900))
    assert all(result == 2 * item for item, result in found if isinstance(item, int))
    told = {item: str(result) for item, result in found if isinstance(item, str)}
    assert "crashed" in told["kill"]
    assert "longer than 1 s" in told["hang"]


def test_a_slow_taker_loses_no_worker():
    pids = set()
    for number, (_, pid) in enumerate(pool.run(behave, ["process"] * 40, workers=1, seconds=0.5)):
        pids.add(pid)
        if number in {5, 20}:
            time.sleep(0.8)
    assert len(pids) == 1


def test_nothing_is_left_behind_when_the_results_are_dropped():
    results = pool.run(behave, ["process", "process", "hang", "hang"], workers=2)
    pids = [next(results)[1], next(results)[1]]
    results.close()
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(alive, pids))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_large_results_come_whole():
    assert all(len(result) == 3_000_000 for _, result in run(["large"] * 5))


def test_processes_that_cannot_start_are_told(monkeypatch):
    monkeypatch.setattr(pool, "NURSERY", "raise SystemExit(3)")
    with pytest.raises(InsonateError, match="cannot be started"):
        run([1])
