"""Every published encoder with random weights on this CPU: CPU milliseconds, parameters, GFLOPs, peak memory.

Run: python benchmarks/backbones.py [--most 400] writes docs/results/backbones.md. Each measurement runs in a
process of its own, so that its peak memory is its own; those of more than `--most` GFLOPs are left out.
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

import torch

from insonate.files import atomic_write
from insonate.models import build_backbone
from insonate.recipes.catalogue import read_published

PAGE = Path(__file__).parents[1] / "docs" / "results" / "backbones.md"
BATCHES = (1, 8)
HEAD = """# Published encoders on a CPU

Random weights, fp32, {machine}; least CPU time of three forwards, while
other work ran on the machine. Peak memory is that of the whole process with Python and torch. GFLOPs: all
products, two for each; GMACs: layers alone. –: more than {most} GFLOPs, not run here.
Made by `python benchmarks/backbones.py`.

| encoder | input | params M | GFLOPs | GMACs | ms, batch 1 | MiB | ms, batch 8 | MiB |
|---|---|---|---|---|---|---|---|---|
"""


def measure(name: str, batch: int, threads: int) -> dict[str, float]:
    """Least CPU milliseconds of three forwards after one, and the peak memory of this process in MiB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    backbone = build_backbone(read_published()[name]["options"]).eval()
    spec = backbone.spec
    frames = [spec.frames] if spec.frames > 1 else []
    x = torch.randn(batch, *frames, spec.channels, *spec.input_size)
    times = []
    with torch.inference_mode():
        for _ in range(4):
            start = time.process_time()
            backbone(x)
            times.append(1000 * (time.process_time() - start))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": min(times[1:]), "mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=float, default=400.0, help="GFLOPs of the largest forward that is run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, default=None, help="name and batch: measure that, print JSON")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.threads)))
        return
    rows = []
    for name, entry in read_published().items():
        cells = [name, "×".join(map(str, entry["input"])), f"{entry['params'] / 1e6:.1f}"]
        cells += [f"{entry['gflops']:.1f}", f"{entry['gmacs']:.1f}"]
        for batch in BATCHES:
            cells += cell(name, batch, entry["gflops"], options)
        rows.append("| " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    atomic_write(PAGE, page(rows, options))


def cell(name: str, batch: int, gflops: float, options: argparse.Namespace) -> list[str]:
    """Milliseconds and MiB, or dashes where the forward would be too long."""
    if batch * gflops > options.most:
        return ["–", "–"]
    command = [sys.executable, __file__, "--threads", str(options.threads), "--one", name, str(batch)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [f"{found['ms']:.0f}", f"{found['mib']:.0f}"]


def page(rows: list[str], options: argparse.Namespace) -> str:
    """The table with what it was measured on."""
    machine = f"{platform.machine()}, {options.threads} thread(s), torch {torch.__version__}"
    return HEAD.format(machine=machine, most=f"{options.most:g}") + "\n".join([*rows, ""])


if __name__ == "__main__":
    main()
