"""Scan, de-identify and shard on a local Ray cluster of two workers, one of which is killed amid each job.

Run by the suite in a process of its own: python tests/data/ray_cluster.py ARCHIVE WORK. Prints one JSON
object: for each job its items, its errors and the workers that were alive at its end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray.cluster_utils import Cluster

from insonate.data.deidentify import deidentify
from insonate.data.manifest import Manifest
from insonate.data.scan import scan
from insonate.data.shards import shard

STORE_BYTES = 100 << 20


def main() -> None:
    archive, work = map(Path, sys.argv[1:])
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    nodes: list[Any] = []

    def track(items: Iterable[Any], **_: object) -> Iterator[Any]:
        """Kill a worker, without a farewell, when the first result is there."""
        for number, item in enumerate(items):
            if number == 0:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
            yield item

    jobs: dict[str, Callable[[], Any]] = {
        "scan": lambda: scan(archive, archive / "m.parquet", engine="ray", track=track),
        "deidentify": lambda: deidentify(archive, work / "clean", engine="ray", track=track),
        "shard": lambda: shard(
            Manifest.read(work / "clean" / "manifest.parquet"), work / "shards", engine="ray", track=track
        ),
    }
    told = {}
    for name, job in jobs.items():
        while len(nodes) < 2:
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))
        cluster.wait_for_nodes()
        result = job()
        told[name] = [len(result.manifest), [str(error) for error in result.errors], len(nodes)]
    print(json.dumps(told))  # noqa: T201 a program of its own
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
