"""A scan of many small files in two worker processes, against a loop that opens and decodes each in turn.

Run: python benchmarks/bench_scan.py --size real. A third each are JPEG, one-frame DICOM (256 px) and PNG
(128 px), 10,000 files in folders of 100 (toy: 600). The scan checks each file, decodes it and makes the
manifest; the start of the worker processes is part of its time. The loop does what a script would: Pillow or
pydicom, name and size. Also printed: the CPU time of a file in a worker. Goal: 1,000 files a second, 2 cores.
"""

from __future__ import annotations

import argparse
import atexit
import io
import shutil
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from compare import Sides, main
from PIL import Image
from pydicom import dcmread
from scipy.ndimage import gaussian_filter

from insonate.data.limits import limits
from insonate.data.media import write_dicom
from insonate.data.scan import _look, media_names, scan

SIZES = {"toy": 600, "real": 10_000}
PICTURES, IN_FOLDER, WORKERS = 16, 100, 2


def fill(folder: Path, count: int, seed: int) -> None:
    """Copies of a few pictures of speckle."""
    rng = np.random.default_rng(seed)
    contents: list[tuple[str, bytes]] = []
    for number in range(PICTURES):
        speckle = np.abs(gaussian_filter(rng.normal(size=(256, 256)), (1, 2.5)))
        picture = np.clip(speckle / speckle.max() * 400, 0, 255).astype(np.uint8)  # H W
        for ending, shown, form in ((".jpg", picture, "JPEG"), (".png", picture[:128, :128], "PNG")):
            content = io.BytesIO()
            Image.fromarray(shown).save(content, form, quality=90)
            contents.append((ending, content.getvalue()))
        ids = dict.fromkeys(("patient_id", "study_id", "series_id", "vendor", "item_id"), str(number))
        written = folder / "one.dcm"
        write_dicom(written, picture[None], spacing=None, frame_time_ms=None, **ids)
        contents.append((".dcm", written.read_bytes()))
        written.unlink()
    for number in range(count):
        ending, data = contents[number % len(contents)]
        path = folder / f"{number // IN_FOLDER:04}" / f"{number:06}{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def plain_loop(folder: Path) -> list[tuple[str, int, int]]:
    """Name, height and width of each file, decoded."""
    found = []
    for path in sorted(folder.rglob("*.*")):
        if path.suffix == ".dcm":
            height, width = dcmread(path).pixel_array.shape
        else:
            with Image.open(path) as image:
                height, width = np.asarray(image).shape
        found.append((path.relative_to(folder).as_posix(), height, width))
    return found


def cpu_ms(folder: Path) -> float:
    """CPU time of a file in a worker, taken here."""
    names = list(media_names(folder, []))[:300]
    look = partial(_look, folder, True, asdict(limits()))  # noqa: FBT003  as the scan does
    for name in names[:50]:
        look(name)
    start = time.process_time()
    for name in names:
        look(name)
    return 1000 * (time.process_time() - start) / len(names)


def build(options: argparse.Namespace) -> Sides:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    fill(folder, SIZES[options.size], options.seed)
    print(f"scan {options.size}: {cpu_ms(folder):.2f} ms of CPU a file in a worker")

    def ours() -> list[tuple[str, int, int]]:
        rows = scan(folder, workers=WORKERS).manifest.rows
        return [(row["path"], row["height"], row["width"]) for row in rows]

    return Sides(
        ours=ours,
        reference=lambda: plain_loop(folder),
        difference=lambda: 0.0 if ours() == plain_loop(folder) else 1.0,
        tolerance=0.0,
        items=SIZES[options.size],
        about="a loop in one process: Pillow, pydicom.dcmread(...).pixel_array",
        in_workers=True,
    )


if __name__ == "__main__":
    main("scan", build)
