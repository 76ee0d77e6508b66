"""Compare our code with a reference: equality first, then A B A B, then the median of the pairs' ratios.

A benchmark is a file `bench_NAME.py` that builds two `Sides` and calls `main`. Run one with
`python benchmarks/bench_NAME.py [--size toy|real] [--threads N] [--device cuda] [--compile] [--json OUT]`.
It fails when the sides are not equal, or when the ratio is under its floor in `floors.json` (0.8 of the ratio
that was reached). Times drift with the neighbours on a machine: only ratios count.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ceiling import gemm_ceiling, kernel_seconds, operations

from insonate.files import atomic_write

HERE = Path(__file__).parent


class Absent(Exception):
    """The reference of a row is not installed: the row is left out, saying so."""


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a comparison, with equal work in one call of each."""

    ours: Callable[[], object]
    reference: Callable[[], object]
    difference: Callable[[], float]
    """largest difference of their results, called once before the timing"""
    tolerance: float
    items: int
    """images in one call"""
    about: str
    """what the reference is"""
    bound_by_products: bool = False
    """also tell the limit that the machine's matrix products set to the ratio"""
    in_workers: bool = False
    """ours works in other processes: the time on the clock counts, not that of this process"""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time of the reference over ours, over the pairs."""

    median: float
    low: float
    high: float


def ratio_of(pairs: list[tuple[float, float]]) -> Ratio:
    """Of pairs (ours, reference) in seconds."""
    ratios = [reference / ours for ours, reference in pairs]
    return Ratio(median=statistics.median(ratios), low=min(ratios), high=max(ratios))


def timed(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Wall seconds and process seconds of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, process = time.perf_counter(), time.process_time()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - process


def compare(name: str, sides: Sides, options: argparse.Namespace) -> dict[str, Any]:
    """Results of a benchmark, ready for JSON.

    Raises:
        SystemExit: the sides differ.
    """
    difference = sides.difference()
    if not difference <= sides.tolerance:
        raise SystemExit(f"{name}: the sides differ by {difference:.3g}, allowed is {sides.tolerance:.3g}")
    for run in (sides.ours, sides.reference):
        run()
    wall, process, ours_s = [], [], []
    for _ in range(options.pairs):
        ours, reference = timed(sides.ours, options.device), timed(sides.reference, options.device)
        wall.append((ours[0], reference[0]))
        process.append((ours[1], reference[1]))
        ours_s.append(ours[0])
    return {
        "name": name,
        "size": options.size,
        "reference": sides.about,
        "difference": difference,
        "pairs": options.pairs,
        "ratio_wall": asdict(ratio_of(wall)),
        "ratio_process": None if on_clock(sides, options) else asdict(ratio_of(process)),
        "ours_ms": 1000 * statistics.median(ours_s),
        "ours_items_per_s": sides.items / statistics.median(ours_s),
        "ours_items_per_cpu_s": sides.items / statistics.median(ours for ours, _ in process),
        "compiled": options.compile,
        "seed": options.seed,
        "machine": machine(options),
        "limit": limit(sides, wall, process, options.device),
    }


def on_clock(sides: Sides, options: argparse.Namespace) -> bool:
    """Whether the ratio is of time on the clock, not of this process."""
    return options.device != "cpu" or sides.in_workers


def limit(
    sides: Sides, wall: list[tuple[float, float]], process: list[tuple[float, float]], device: str
) -> dict[str, float] | None:
    """Operations, share of the machine's ceiling, and the ratio if ours ran at it and did no more.

    `ratio_kernels`, on a CPU: the ratio if all that ours does between its kernels took no time; the profiler
    counts wall seconds, so it means something on a quiet machine only.
    """
    if not sides.bound_by_products:
        return None
    ceiling = gemm_ceiling(device)
    ours, reference = operations(sides.ours), operations(sides.reference)
    pairs = process if device == "cpu" else wall
    ours_s, reference_s = (statistics.median(one) for one in zip(*pairs, strict=True))
    reference_wall_s = statistics.median(reference for _, reference in wall)
    return {
        "ceiling_gflops": ceiling / 1e9, "ours_gflop": ours / 1e9, "reference_gflop": reference / 1e9,
        "ours_share": ours / ours_s / ceiling, "reference_share": reference / reference_s / ceiling,
        "ratio": reference_s * ceiling / ours,
        "ratio_kernels": reference_wall_s / kernel_seconds(sides.ours) if device == "cpu" else float("nan"),
    }  # fmt: skip


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers were measured on."""
    commit = subprocess.run(
        ["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main(name: str, build: Callable[[argparse.Namespace], Sides]) -> None:
    """Command line of a benchmark; exits with 1 under the floor."""
    main_rows(name, {name: build})


def main_rows(name: str, rows: dict[str, Callable[[argparse.Namespace], Sides]]) -> None:
    """Command line of a benchmark of several rows, each with a floor of its own."""
    parser = argparse.ArgumentParser(description=f"Benchmark {name}, see benchmarks/compare.py")
    parser.add_argument("--size", choices=["toy", "real"], default="toy")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile our side, block by block")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="file for the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    results = []
    for row, build in rows.items():
        try:
            sides = build(options)
        except Absent as missing:
            print(f"{row} {options.size}: skipped, {missing}")
            continue
        results.append(judged(row, sides, options))
    if options.json is not None:
        written = results[0] if len(results) == 1 else {"name": name, "rows": results}
        atomic_write(options.json, json.dumps(written, indent=1) + "\n")
    sys.exit(int(any(result["under_floor"] for result in results)))


def judged(name: str, sides: Sides, options: argparse.Namespace) -> dict[str, Any]:
    """The comparison, printed, with its floor."""
    result = compare(name, sides, options)
    key = f"{name}:{options.size}:{options.device}" + ":compiled" * options.compile
    floor = json.loads((HERE / "floors.json").read_text()).get(key)
    ratio = result["ratio_process"] or result["ratio_wall"]
    rate = f"{result['ours_items_per_s']:.0f} items a second"
    if result["ratio_process"]:
        rate += f", {result['ours_items_per_cpu_s']:.0f} a CPU second"
    print(
        f"{name} {options.size}: {ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}], "
        f"{rate}, difference {result['difference']:.1e}, floor {floor}"
    )
    if bound := result["limit"]:
        print(
            f"{name} {options.size}: {bound['ours_gflop']:.0f} and {bound['reference_gflop']:.0f} GFLOP, "
            f"{bound['ours_share']:.0%} and {bound['reference_share']:.0%} of {bound['ceiling_gflops']:.0f} "
            f"GFLOP/s; bounds of the ratio: {bound['ratio']:.2f}x at the ceiling, "
            f"{bound['ratio_kernels']:.2f}x with free work between the kernels"
        )
    return result | {"floor": floor, "under_floor": floor is not None and ratio["median"] < floor}
