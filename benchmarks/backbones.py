"""Every published encoder with random weights on this CPU: CPU milliseconds, parameters, GFLOPs, peak memory.

Run: python benchmarks/backbones.py [--most 30000] writes docs/results/backbones.md. Each measurement runs in
a process of its own, so that its peak memory is its own; those of more than `--most` GFLOPs are left out.
Single inputs come first, cheap ones before; what is measured is kept in benchmarks/results/backbones.json: a
run that was stopped goes on, `--again` measures anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from insonate.files import atomic_write
from insonate.models import build_backbone
from insonate.recipes.catalogue import read_published

HERE = Path(__file__).parent
KEPT = HERE / "results" / "backbones.json"
PAGE = HERE.parent / "docs" / "results" / "backbones.md"
BATCHES = (1, 8)
GFLOPS = 90.0
"""of a core in a second, for estimates"""
FORWARDS = ((400, 4), (5_000, 2))
"""GFLOPs up to which so many forwards are run; above, one"""
HEAD = """# Published encoders on a CPU

Random weights, fp32, {machine}; CPU time while other work ran
on the machine: the least of three forwards after a first one; above 400 GFLOPs of one after it, above 5000 of
the only one. GFLOPs: all products, two each; GMACs: layers alone. Peak memory is the largest resident size
(`ru_maxrss`) of a process of its own while it builds the encoder and runs all forwards: Python and torch
(SonoNet's row is little more), the weights, what a forward holds, and from a second forward on a second copy
of each weight of at most 2²² numbers in oneDNN's order (`models/dense.py`): so a ViT-L that was run once, on
eight clips, shows less than one that was run twice, on one.
–: not run; the largest has {largest} GFLOPs, about {minutes} minutes on one core. Made by
`python benchmarks/backbones.py`.

| encoder | input | params M | GFLOPs | GMACs | ms, batch 1 | MiB | ms, batch 8 | MiB |
|---|---|---|---|---|---|---|---|---|
"""


def measure(name: str, batch: int, threads: int) -> dict[str, float]:
    """Least CPU milliseconds of the forwards after the first, and the peak memory of this process in MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    entry = read_published()[name]
    backbone = build_backbone(entry["options"]).eval()
    spec = backbone.spec
    frames = [spec.frames] if spec.frames > 1 else []
    x = torch.randn(batch, *frames, spec.channels, *spec.input_size)
    count = next((n for most, n in FORWARDS if batch * entry["gflops"] <= most), 1)
    times = []
    with torch.inference_mode():
        for _ in range(count):
            start = time.process_time()
            backbone(x)
            times.append(1000 * (time.process_time() - start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": min(times[1:] or times), "mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=float, default=30_000.0, help="GFLOPs of the largest forward that is run"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure anew what was measured before")
    parser.add_argument("--one", nargs=2, default=None, help="name and batch: measure that, print JSON")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.threads)))
        return
    machine = f"{platform.machine()}, {options.threads} thread(s), torch {torch.__version__}"
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() and not options.again else {}
    cells = kept.get("cells", {}) if kept.get("machine") == machine else {}
    published = read_published()
    todo = [(batch, batch * entry["gflops"], name) for name, entry in published.items() for batch in BATCHES]
    for batch, gflops, name in sorted(todo):
        key = f"{name} × {batch}"
        if gflops > options.most or key in cells:
            continue
        cells[key] = fresh(name, batch, options.threads)
        print(f"{key}: {cells[key]['ms']:.0f} ms, {cells[key]['mib']:.0f} MiB", flush=True)
        atomic_write(
            KEPT, json.dumps({"machine": machine, "cells": cells}, indent=1, ensure_ascii=False) + "\n"
        )
    rows = [row(name, entry, cells) for name, entry in published.items()]
    left = [gflops for batch, gflops, name in todo if f"{name} × {batch}" not in cells]
    largest = max(left, default=0.0)
    head = HEAD.format(machine=machine, largest=f"{largest:.0f}", minutes=f"{largest / GFLOPS / 60:.0f}")
    atomic_write(PAGE, head + "\n".join([*rows, ""]))


def row(name: str, entry: dict[str, Any], cells: dict[str, dict[str, float]]) -> str:
    """A row of the table; dashes where the forward would be too long."""
    found = [name, "×".join(map(str, entry["input"])), f"{entry['params'] / 1e6:.1f}"]
    found += [f"{entry['gflops']:.1f}", f"{entry['gmacs']:.1f}"]
    for batch in BATCHES:
        cell = cells.get(f"{name} × {batch}")
        found += ["–", "–"] if cell is None else [f"{cell['ms']:.0f}", f"{cell['mib']:.0f}"]
    return "| " + " | ".join(found) + " |"


def fresh(name: str, batch: int, threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--one", name, str(batch)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
