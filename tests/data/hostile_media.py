"""Damaged and hostile media, each read in a process of its own: what came out, in what time and memory.

Run in the suite on 1,000 cases, by `make soak` on 100,000:

    python tests/data/hostile_media.py TOOLS DATA WORK [--count 1000] [--first 0] [--seeds 1] [--random-only]

Prints one JSON object a seed; exits with 1 where a case went wrong. No torch: forks are fast.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from insonate.data.media import MediaFile, is_media
from insonate.errors import InsonateError

SECONDS = 20
"""of the processor, for one file"""
WAITING_S = 120
"""by the clock: only a file that waits for something takes so long, however busy the machine is"""
GROWTH_BYTES = 2 * 2**30
PHI = "ZZPHIZZ"
WHOLE_BYTES = 2**29
"""clips of more are read by their first and last frame only"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Read damaged and hostile media, each in its own process")
    parser.add_argument("tools", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed to go on from")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", default="media,dicom")
    parser.add_argument("--random-only", action="store_true")
    options = parser.parse_args()
    preload()
    wrong = 0
    for seed in range(options.first, options.first + options.seeds):
        out = options.work / f"seed{seed}" / "hostile"
        make(options, seed, out)
        result = check(out)
        print(json.dumps({"seed": seed} | result), flush=True)  # noqa: T201 a program of its own
        wrong += len(result["wrong"])
        if not result["wrong"]:
            shutil.rmtree(out.parent)
    return int(wrong > 0)


def preload() -> None:
    """What a reader imports on first use costs each child nothing then."""
    for name in ("imagecodecs", "pydicom.pixels.utils", "openjpeg", "rle", "jpeg_ls"):
        if importlib.util.find_spec(name.split(".")[0]) is not None:
            importlib.import_module(name)


def make(options: argparse.Namespace, seed: int, out: Path) -> None:
    command = [sys.executable, options.tools / "hostile.py", options.data, out, "--kinds", options.kinds]
    more = ["--random-only"] if options.random_only else ["--small"]
    numbers = ["--count", str(options.count), "--seed", str(seed)]
    subprocess.run([*command, *numbers, *more], check=True, stdout=subprocess.DEVNULL)


def check(out: Path) -> dict[str, object]:
    """Read every case of the index."""
    before = listing(out.parent)
    wrong, met = [], Counter[str]()
    slowest, largest = ("", 0.0), ("", 0)
    for case in cases(out):
        answer, growth, seconds = attempt(out / case["file"])
        slowest = max(slowest, (case["file"], seconds), key=lambda pair: pair[1])
        largest = max(largest, (case["file"], growth), key=lambda pair: pair[1])
        met[answer.split()[0]] += 1
        fault = fault_of(case, answer, growth)
        if fault:
            wrong.append({"file": case["file"], "done": case["done"], "fault": fault, "answer": answer[:300]})
    if listing(out.parent) != before:
        wrong.append({"file": "", "done": "", "fault": "files were created or changed", "answer": ""})
    slow, large = (slowest[0], round(slowest[1], 2)), (largest[0], largest[1] // 2**20)
    return {"met": met, "slowest_s": slow, "largest_mib": large, "wrong": wrong}


def cases(out: Path) -> Iterator[dict[str, str]]:
    with (out / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.DictReader(file)


def listing(folder: Path) -> list[tuple[str, int]]:
    found = []
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place) / name
            found.append((str(path), path.lstat().st_mtime_ns))
    return sorted(found)


def fault_of(case: dict[str, str], answer: str, growth: int) -> str:
    """What is wrong with this answer, or nothing."""
    kind, _, message = answer.partition(" ")
    if kind == "BUG":
        return message
    if case["expected"] not in {kind, "either"}:
        return f"expected {case['expected']}"
    if growth > GROWTH_BYTES:
        return f"took {growth >> 20} MiB"
    if kind == "error" and ("\n" in message or PHI in message.replace(case["file"], "")):
        return "the message is no line, or names the patient"
    if case["check"] == "spacing-unknown" and "calibrated" in message:
        return "spacing is known"
    return ""


def attempt(path: Path) -> tuple[str, int, float]:
    """The answer of a child that reads this file, the bytes that it grew by, and its seconds of CPU."""
    reading, writing = os.pipe()
    start = rss_bytes()
    if (child := os.fork()) == 0:
        os.close(reading)
        inherited = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = virtual_bytes() + GROWTH_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, inherited))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends it even within a decoder
        signal.alarm(WAITING_S)
        os.write(writing, answer_of(path).encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(writing)
    _, status, usage = os.wait4(child, 0)
    answer = os.read(reading, 4096).decode("utf-8", "replace")
    os.close(reading)
    growth = usage.ru_maxrss * 1024 - start
    seconds = usage.ru_utime + usage.ru_stime
    return answer or f"BUG ended by {signal.Signals(os.WTERMSIG(status)).name}", max(0, growth), seconds


def answer_of(path: Path) -> str:
    try:
        is_media(path)
        with MediaFile(path) as file:
            info = file.info
            last = file.read([info.frames - 1])
            file.read([0], grey=True)
            file.tracks()
            if info.times_s is not None:
                file.read(times_s=[info.times_s[-1]])
            if info.frames * info.height * info.width * 3 <= WHOLE_BYTES:
                assert len(file.read()) == info.frames
            assert last.shape[1:3] == (info.height, info.width)
            return "ok calibrated" if info.spacing or any(r.spacing for r in info.regions) else "ok"
    except InsonateError as error:
        return f"error {error}"
    except BaseException as error:  # noqa: BLE001 anything else is what we look for
        return f"BUG {error!r}"


def virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
