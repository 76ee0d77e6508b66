"""The phantom: frames a second a core with all labels, the error of discs on true masks, and a sheet.

Run: python benchmarks/bench_phantom.py [--sheet docs/phantom_hearts.jpg]. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from insonate.data.spacing import Spacing
from insonate.measure.discs import plane_of_mask, volume_two_planes
from insonate.phantom import VENDORS, VIEWS, Anatomy, Chambers, Machine, Plane, stream
from insonate.phantom.heart import volume
from insonate.phantom.heart.section import Section
from insonate.phantom.vendors import SECTOR

FRAMES = 20
PHASES = {"PSAX-MV": 0.55, "A5C": 0.2}
TILE = 300


def plane_and_machine(patient: int, view: str, vendor: str, size: int) -> tuple[Plane, Machine]:
    rng, texture = stream(1, patient, view), volume(0)
    anatomy = Anatomy.draw(stream(1, patient, "anatomy"), pathology="normal")
    plane = Plane(Chambers(anatomy), texture, rng, view=view, start=PHASES.get(view, 0.0))
    setting = VENDORS[vendor].jittered(rng).thinned(size)
    return plane, Machine(setting, plane.depth_mm, size=size, rng=rng, texture=texture)


def speed(size: int) -> float:
    """Frames with labels a second of CPU time: the best of five runs."""
    plane, machine = plane_and_machine(0, "A4C", "Northlight", size)
    cache, best = plane.static(machine.grid), float("inf")
    for _ in range(5):
        start = time.process_time()
        maps = [plane.frame(cache, number / 30) for number in range(FRAMES)]
        machine.clip(maps)
        for one in maps:
            machine.screen.labels(one.label)
        best = min(best, time.process_time() - start)
    return FRAMES / best


def disc_error(patient: int) -> float:
    """Biplane discs on the true masks of the exact A4C and A2C, minus the true ejection fraction."""
    anatomy = Anatomy.draw(stream(1, patient, "anatomy"))
    chambers, step_mm, volumes = Chambers(anatomy), 0.5, []
    planes = [Plane(chambers, volume(0), stream(1, patient, view), view=view) for view in ("A4C", "A2C")]
    for phase in (0.0, chambers.beat.end_systole):
        cuts = []
        for plane in planes:
            cut = Section(plane, chambers.beat.moment(phase), 0.0)
            x, z = np.meshgrid(np.arange(-70, 70, step_mm), np.arange(5, 220, step_mm))
            hinges = (np.array(cut.hinges(cut.lay.mitral, cut.lay.mitral_mm)) - [-70, 5]) / step_mm
            cuts.append(plane_of_mask(cut.at(x, z).lv < 0, hinges, Spacing(row_mm=step_mm, col_mm=step_mm)))
        volumes.append(volume_two_planes(*cuts).value)
    return 100 * (1 - volumes[1] / volumes[0]) - anatomy.ef_pct


def sheet(path: Path, first: int = 50) -> None:
    """Ten views of ten patients on six machines."""
    whole = Image.new("L", (5 * TILE, 2 * TILE))
    draw = ImageDraw.Draw(whole)
    for number, view in enumerate(VIEWS):
        vendor = SECTOR[number % len(SECTOR)]
        plane, machine = plane_and_machine(first + number, view, vendor, TILE)
        cache = plane.static(machine.grid)
        machine.auto_gain(plane.frame(cache, 0.0), quantile=plane.gain[0], level=plane.gain[1])
        frame = machine.clip(plane.frame(cache, t_s) for t_s in (0.0, 0.02, 0.04))[-1]
        x, y = number % 5 * TILE, number // 5 * TILE
        whole.paste(Image.fromarray(frame), (x, y))
        draw.text((x + 4, y + 2), f"{view} {vendor} (synthetic)", fill=255)
    whole.save(path, quality=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--patients", type=int, default=30)
    arguments = parser.parse_args()
    for size in (256, 112):
        print(json.dumps({"scene": "heart A4C", "size": size, "frames_per_s_core": round(speed(size), 1)}))
    errors = np.array([disc_error(patient) for patient in range(arguments.patients)])
    found = {"patients": len(errors), "mean": errors.mean(), "sd": errors.std(), "largest": abs(errors).max()}
    print(json.dumps({"ef_discs_minus_true": {k: round(float(v), 2) for k, v in found.items()}}))
    if arguments.sheet:
        sheet(arguments.sheet)


if __name__ == "__main__":
    main()
