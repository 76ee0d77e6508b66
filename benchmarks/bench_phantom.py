"""The phantom: frames a second a core with all labels, the error of discs on true masks, and two sheets.

Run: python benchmarks/bench_phantom.py [--sheet docs/phantom_hearts.jpg] [--scenes docs/phantom_scenes.jpg].
Prints one JSON object a line. With one BLAS thread (OMP_NUM_THREADS=1).
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
from insonate.phantom import (
    ROLES,
    VENDORS,
    VIEWS,
    Anatomy,
    Chambers,
    Machine,
    Order,
    Painted,
    Plane,
    staged,
    stream,
)  # fmt: skip
from insonate.phantom.heart import volume
from insonate.phantom.heart.section import Section
from insonate.phantom.vendors import SECTOR

FRAMES = 20
PHASES = {"PSAX-MV": 0.55, "A5C": 0.2}
TILE, SMALL = 300, 240
SHOWN = (
    ("head", "ga_weeks", "16 weeks"), ("head", "ga_weeks", "33 weeks"), ("abdomen", "ga_weeks", "28 weeks"),
    ("femur", "ga_weeks", "30 weeks"), ("cervix", "cl_mm", "36 mm"), ("cervix", "cl_mm", "20 mm"),
    ("pelvis", "aop_deg", "95 degrees"), ("pelvis", "aop_deg", "140 degrees"), ("cava", "ivc_mm", "22 mm"),
    ("cava", "ivc_mm", "6 mm"), ("breast", "lesion_class", "benign"), ("breast", "lesion_class", "malignant"),
    ("thyroid", "lesion_class", "benign"), ("thyroid", "lesion_class", "malignant"),
    ("liver", "lesion_class", "benign"), ("liver", "lesion_class", "malignant"),
    ("lung", "lung_class", "a_lines"), ("lung", "lung_class", "b_lines"),
    ("lung", "lung_class", "consolidation"), ("lung", "lung_class", "effusion"),
)  # fmt: skip
"""scene, column, and what of it is looked for among the patients"""


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


def scene_speed(name: str, size: int) -> dict[str, float]:
    """Frames with labels of a clip a second of CPU time, best of five runs; and the seconds of one still."""
    scene, machine = staged(Order(scene=name, seed=3, patient=0, item=0, size=size))
    cache, best, still = scene.static(machine.grid), float("inf"), float("inf")
    for _ in range(5):
        start, labels = time.process_time(), []
        for number in range(FRAMES):
            maps = scene.frame(cache, (number + 1) / scene.fps)
            machine.clip([maps], first=number)
            labels.append(machine.screen.labels(maps.label))
        best = min(best, time.process_time() - start)
        start = time.process_time()
        made, own = staged(Order(scene=name, seed=3, patient=0, item=0, size=size))
        own.clip([made.frame(made.static(own.grid), 0.0)])
        still = min(still, time.process_time() - start)
    return {"frames_per_s_core": round(FRAMES / best, 1), "stills_per_s_core": round(1 / still, 1)}


def found(name: str, column: str, wanted: str) -> tuple[Painted, Machine]:
    """The first of 60 patients with the wanted class, or the one that comes nearest to the number."""
    scenes = [staged(Order(scene=name, seed=3, patient=p, item=0, size=SMALL)) for p in range(60)]
    values = [scene.truth(0.0).columns[column] for scene, _ in scenes]
    if wanted in values:
        return scenes[values.index(wanted)]
    number = float(wanted.split()[0])
    return scenes[int(np.argmin([abs(value - number) for value in values]))]


def scene_sheet(path: Path) -> None:
    """Scenes other than hearts, as stills."""
    whole = Image.new("L", (5 * SMALL, 4 * SMALL))
    draw = ImageDraw.Draw(whole)
    for number, (name, column, wanted) in enumerate(SHOWN):
        scene, machine = found(name, column, wanted)
        still = scene.frame(scene.static(machine.grid), 0.0)
        machine.auto_gain(still, quantile=scene.gain[0], level=scene.gain[1])
        x, y = number % 5 * SMALL, number // 5 * SMALL
        whole.paste(Image.fromarray(machine.clip([still])[0]), (x, y))
        draw.text((x + 4, y + 2), f"{name}: {wanted} (synthetic)", fill=255)
    whole.save(path, quality=72)


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
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--patients", type=int, default=30)
    arguments = parser.parse_args()
    for size in (256, 112):
        print(json.dumps({"scene": "heart A4C", "size": size, "frames_per_s_core": round(speed(size), 1)}))
        for name in ROLES:
            print(json.dumps({"scene": name, "size": size} | scene_speed(name, size)))
    if arguments.scenes:
        scene_sheet(arguments.scenes)
    errors = np.array([disc_error(patient) for patient in range(arguments.patients)])
    found = {"patients": len(errors), "mean": errors.mean(), "sd": errors.std(), "largest": abs(errors).max()}
    print(json.dumps({"ef_discs_minus_true": {k: round(float(v), 2) for k, v in found.items()}}))
    if arguments.sheet:
        sheet(arguments.sheet)


if __name__ == "__main__":
    main()
