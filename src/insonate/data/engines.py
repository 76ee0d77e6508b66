"""Where work on many items runs: light processes on this machine, or Ray Data on a cluster.

Both run the same function on each item and give the same pairs. On a cluster each Ray task takes a block of
items through a pool of its own with one worker, so that a file that crashes, hangs or eats memory costs
itself there too and is not tried again, while the block of a killed task or a lost node is done anew by Ray.
Folders must be reached under the same paths on every node, and insonate be installed there.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from insonate.data import pool
from insonate.errors import RunError

if TYPE_CHECKING:
    import pyarrow as pa

Engine = Literal["processes", "ray"]
MOST_IN_BLOCK = 64
"""items of one Ray task: what is done anew when it is killed"""
BLOCKS_PER_CORE = 4
"""at least, where there are items enough, so that cores end at about the same time"""


class Runner(Protocol):
    """As `pool.run`."""

    def __call__(
        self,
        function: Callable[[Any], Any],
        items: Iterable[Any],
        workers: int | None = None,
        *,
        seconds: float,
        memory_bytes: int = pool.MEMORY_BYTES,
    ) -> Iterator[tuple[Any, Any]]:
        """Each item with its result or its error, as they are done."""


def runner(engine: Engine) -> Runner:
    """What runs work on this engine.

    Raises:
        RunError: it is Ray, which is not installed.
    """
    if engine == "processes":
        return pool.run
    if importlib.util.find_spec("ray") is None:
        mend = "Install it with `pip install 'insonate[ray]'`, or leave --engine out"
        raise RunError("--engine ray", "the package ray is not installed", mend)
    return ray_run


def ray_run(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int | None = None,
    *,
    seconds: float,
    memory_bytes: int = pool.MEMORY_BYTES,
) -> Iterator[tuple[Any, Any]]:
    """As `pool.run`, on the cluster that this process is joined to or RAY_ADDRESS names, else a local one.

    Args:
        function: of a module (or a `partial` of one) whose import is light.
        items: all are listed first; they, the function and the results are pickled.
        workers: Ray tasks at a time, of one core each; as many as the cluster has cores unless given.
        seconds: after which an item is given up.
        memory_bytes: that an item may ask for.

    Raises:
        RunError: Ray cannot be started, or gives the work up.
    """
    waiting = list(items)
    if not waiting:
        return
    import ray.data
    from ray.exceptions import RayError

    try:
        tables = _blocks(waiting, _joined_cores())
        work = {"function": pickle.dumps(function), "seconds": seconds, "memory_bytes": memory_bytes}
        done = ray.data.from_arrow(tables).map_batches(
            _outcomes,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs=work,
            num_cpus=1,
            concurrency=workers,
        )
        for row in done.iter_rows():
            yield pickle.loads(row["outcome"])  # noqa: S301  our own tasks'
    except (RayError, ConnectionError) as error:
        line = str(error).strip().splitlines()[-1][:300]
        mend = "See `ray status`, then run the same command again: what is done stays"
        raise RunError("--engine ray", f"the cluster gave the work up: {line}", mend) from error


def _joined_cores() -> int:
    """Cores of the cluster, which is joined or started."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    import ray.data

    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours is shown
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _blocks(items: list[Any], cores: int) -> list[pa.Table]:
    size = max(1, min(MOST_IN_BLOCK, math.ceil(len(items) / (BLOCKS_PER_CORE * cores))))
    return [_table("item", items[at : at + size]) for at in range(0, len(items), size)]


def _table(column: str, values: list[Any]) -> pa.Table:
    import pyarrow as pa  # here: the light workers import this module

    pickled = [pickle.dumps(value) for value in values]
    return pa.table({column: pa.array(pickled, pa.large_binary())})


def _outcomes(block: pa.Table, function: bytes, seconds: float, memory_bytes: int) -> Iterator[pa.Table]:
    """The items of a block with what came of them. Runs in a Ray task.

    Raises:
        InsonateError: worker processes cannot be started there.
    """
    items = [pickle.loads(item) for item in block["item"].to_pylist()]  # noqa: S301  our driver's
    work = pickle.loads(function)  # noqa: S301  our driver's
    for outcome in pool.run(work, items, 1, seconds=seconds, memory_bytes=memory_bytes):
        yield _table("outcome", [outcome])
