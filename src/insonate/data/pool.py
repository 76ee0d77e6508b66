"""Light worker processes for work on strangers' files: what crashes, hangs or eats memory there ends there.

Scan, de-identification and sharding run one function over many items here. A decoder's crash cannot be caught
and its hang cannot be broken within a process, so each item runs in another one, which imports no torch:

    this process ── asks ──> nursery: a fresh interpreter that has imported the function, and only forks
         └──── items and results ────> workers, forked by the nursery in some milliseconds

A worker that is killed or too slow costs its item, which comes back with the reason; another one is forked.
Workers are sent small items ahead, a quarter of a second of work: on a busy machine each wait for an answer
is a wait for a turn. Those that a lost worker has not begun go to others.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from insonate.errors import InsonateError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS = 20.0
"""that an item may take"""
MEMORY_BYTES = 4 << 30
"""that a worker may ask for beyond what it starts with"""
ATTEMPTS = 3
"""to start the nursery, which only a lack of memory or of processes can end"""
AHEAD_S, MOST_AHEAD = 0.25, 32
"""of work, and items, that a worker has at once"""
AHEAD_BYTES = 1 << 14
"""of pickled items that a busy worker may have waiting: so few that sending them never waits for it"""
NURSERY = "import sys; from insonate.data import pool; pool.nursery(int(sys.argv[1]))"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def run(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    *,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[tuple[Item, Result | InsonateError]]:
    """Each item with what `function` makes of it, or with the error that it came to, as they are done.

    Few items a worker are under way, so memory is bounded by what the results take.

    Args:
        function: of a module (or a `partial` of one) whose import is light; it, the items and the results
            are pickled.
        items: taken one by one, as workers are free.
        workers: processes; one a core unless given.
        seconds: after which an item is given up and its worker killed.
        memory_bytes: an item that asks for more than this beyond a worker's start is given up (on Linux).

    Raises:
        RunError: processes cannot be started at all.
    """
    source = iter(items)
    with _Crew(function, seconds, memory_bytes) as crew:
        for _ in range(workers or num_cores()):
            if not crew.fill(None, source):
                break
        while crew.busy:
            for worker in crew.next_ready():
                item, result = crew.finish(worker)
                crew.fill(None if worker.lost else worker, source)
                yield item, result


# ------------------------------------------------------------------------------------------ in the parent


class _Parcel(NamedTuple):
    item: Any
    data: bytes
    """the item, pickled"""


@dataclass(slots=True)
class _Worker:
    pid: int
    connection: Connection
    parcels: deque[_Parcel] = field(default_factory=deque)
    """what it was sent and has not answered; it works on the first"""
    since: float = 0.0
    """when it began with that, or somewhat later"""
    lost: bool = False

    def has_room(self, data: bytes) -> bool:
        """Whether these bytes may be sent to it now, whatever it is doing."""
        return not self.parcels or len(data) + sum(len(p.data) for p in self.parcels) <= AHEAD_BYTES


class _Crew:
    """The nursery and its workers, as this process sees them."""

    def __init__(self, function: Callable[[Any], Any], seconds: float, memory_bytes: int) -> None:
        self._task = pickle.dumps((sys.path, pickle.dumps(function), seconds, memory_bytes))
        self._seconds = seconds
        self._control: socket.socket | None = None
        self._nursery: subprocess.Popen[bytes] | None = None
        self._again: deque[_Parcel] = deque()
        """taken from the source, and to be sent first"""
        self._pace_s = AHEAD_S
        """that an item takes of late"""
        self.busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.busy.values():
            _kill(worker.pid)
            worker.connection.close()
        self._close_nursery()

    def fill(self, worker: _Worker | None, source: Iterator[Any]) -> bool:
        """Send a worker, or a new one, as many items as it should have; False where there are none for it."""
        most = min(MOST_AHEAD, max(1.0, AHEAD_S / max(self._pace_s, 1e-6)))
        while worker is None or len(worker.parcels) < most:
            if not self._again:
                try:
                    item = next(source)
                except StopIteration:
                    break
                self._again.append(_Parcel(item, pickle.dumps(item)))
            if worker is not None and not worker.has_room(self._again[0].data):
                break
            worker = worker or self.hire()
            try:
                worker.connection.send_bytes(self._again[0].data)
            except OSError:  # it is dead
                if worker.parcels:  # which `finish` will find
                    break
                worker = None
                continue
            if not worker.parcels:
                worker.since = time.monotonic()
                self.busy[worker.connection] = worker
            worker.parcels.append(self._again.popleft())
        return worker is not None and bool(worker.parcels)

    def next_ready(self) -> list[_Worker]:
        """Workers that have answered, died or taken too long; at least one."""
        while True:
            now = time.monotonic()
            late = [worker for worker in self.busy.values() if worker.since + self._seconds <= now]
            first = min(worker.since for worker in self.busy.values()) + self._seconds
            ready = wait(list(self.busy), timeout=max(0.0, first - now))
            if ready or late:
                answered = [self.busy[connection] for connection in ready]  # type: ignore[index]
                return answered + [worker for worker in late if worker not in answered]

    def finish(self, worker: _Worker) -> tuple[Any, Any]:
        """The worker's item and what came of it; the worker is lost afterwards, or works on the next."""
        item = worker.parcels.popleft().item
        try:
            if not worker.connection.poll():
                what, mend = f"took longer than {self._seconds:g} s", "Check the file; it was given up"
                return item, self._lose(worker, InsonateError(item, what, mend))
            result = worker.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            what = "ended the process that read it: a decoder crashed, or memory ran out"
            return item, self._lose(
                worker, InsonateError(item, what, "Check the file, or run with fewer workers")
            )
        now = time.monotonic()
        self._pace_s += 0.1 * (now - worker.since - self._pace_s)
        worker.since = now
        if not worker.parcels:
            del self.busy[worker.connection]
        return item, result

    def _lose(self, worker: _Worker, error: InsonateError) -> InsonateError:
        """End the worker; what it has not begun is done again."""
        _kill(worker.pid)
        del self.busy[worker.connection]
        worker.connection.close()
        self._again.extendleft(reversed(worker.parcels))
        worker.parcels.clear()
        worker.lost = True
        return error

    def hire(self) -> _Worker:
        """A new worker.

        Raises:
            RunError: none can be had.
        """
        for _ in range(ATTEMPTS):
            if self._control is None:
                self._open_nursery()
            assert self._control is not None
            with contextlib.suppress(OSError):
                self._control.sendall(b"+")
                pid, descriptors, _, _ = socket.recv_fds(self._control, 16, 1)
                if pid and descriptors:
                    return _Worker(pid=int(pid), connection=Connection(descriptors[0]))
            self._close_nursery()
        mend = "See the lines above, and whether memory or the number of processes is exhausted"
        raise RunError("worker processes", "cannot be started", mend)

    def _open_nursery(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._nursery = subprocess.Popen(
                    [sys.executable, "-c", NURSERY, str(theirs.fileno())],
                    env=os.environ | ONE_THREAD, pass_fds=[theirs.fileno()], start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                )  # fmt: skip
            except OSError as error:
                ours.close()
                mend = "Free memory or processes, and run the same command again"
                raise RunError("worker processes", f"cannot be started ({error})", mend) from error
        self._control = ours
        with contextlib.suppress(OSError):
            ours.sendall(len(self._task).to_bytes(8, "big") + self._task)

    def _close_nursery(self) -> None:
        if self._control is not None:
            self._control.close()  # at which the nursery and every idle worker end
            self._control = None
        if self._nursery is not None:
            self._nursery.wait()
            self._nursery = None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# --------------------------------------------------------------------------------------- in the processes


def nursery(descriptor: int) -> None:
    """Import the function, then fork a worker for each byte that comes, until the other end is closed.

    A worker is told by its process id, with its connection attached.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no child is waited for
    with socket.socket(fileno=descriptor) as control:
        path, pickled, seconds, memory_bytes = pickle.loads(_exactly(control, _size(control)))  # noqa: S301  our parent's own
        sys.path[:] = path
        function = pickle.loads(pickled)  # noqa: S301  imports its module
        gc.freeze()  # forked pages stay shared
        while control.recv(1):
            ours, theirs = socket.socketpair()
            if pid := os.fork():
                socket.send_fds(control, [str(pid).encode()], [theirs.fileno()])
                ours.close()
                theirs.close()
                continue
            theirs.close()
            control.close()
            _work(function, Connection(ours.detach()), seconds, memory_bytes)


def _size(control: socket.socket) -> int:
    return int.from_bytes(_exactly(control, 8), "big")


def _exactly(control: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = control.recv(count - len(data))
        if not part:
            raise SystemExit(0)  # the parent went away
        data += part
    return data


def _work(function: Callable[[Any], Any], connection: Connection, seconds: float, memory_bytes: int) -> None:
    """Answer items until the parent goes away; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _limit_memory(memory_bytes)
        while True:
            item = connection.recv()
            signal.alarm(math.ceil(seconds) + 5)  # ends us, even in a hang, should the parent be gone
            outcome = _outcome(function, item)
            signal.alarm(0)
            connection.send_bytes(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0
    finally:
        os._exit(code)


def _outcome(function: Callable[[Any], Any], item: Any) -> bytes:
    """The pickled result, or the pickled error."""
    try:
        return pickle.dumps(function(item))
    except InsonateError as error:
        return pickle.dumps(error)
    except MemoryError:
        what = "asked for more memory than one item may have"
        return pickle.dumps(InsonateError(item, what, "Check the file; it was given up"))
    except Exception as error:  # noqa: BLE001  a fault of ours: told with its place, and the others go on
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"stopped on {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        return pickle.dumps(InsonateError(item, what, "This is a fault of insonate: report it"))


def _limit_memory(memory_bytes: int) -> None:
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return
    size = int(statm.read_text("ascii").split()[0]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = size + memory_bytes
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )
