"""The phantom's machines, whose sectors are known, against what is found in their pictures.

Run: python tests/data/sector_truth.py --patients 4
It prints, a machine a line, the least overlap of the outline with the truth and the largest errors of the
sector's apex, angles and depth; then overlap and time with remembered outlines (templates).
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from insonate.data.media.info import MediaInfo
from insonate.data.outlines import Fan
from insonate.data.sector import Sector, find_sector
from insonate.data.templates import Templates
from insonate.phantom import VENDORS, Breast, Fetus, Head, Lesion, Machine, lattice, stream

SIZE = 224
"""px of a picture"""


def phantom(name: str, patient: int = 0) -> tuple[np.ndarray, Machine]:
    """A still of a machine (1 H W), and the machine, which knows where its echoes are."""
    vendor, rng = VENDORS[name], stream(5, patient, "acquisition")
    if vendor.shape == "linear":
        lesion = Lesion.draw("benign", stream(5, patient, "anatomy"))
        scene = Breast(lesion, lattice(5, 0.12), rng, width_mm=vendor.width_mm, f_mhz=vendor.f_mhz)
        texture = lattice(5, 0.12)
    else:
        scene = Head(Fetus.draw(stream(5, patient, "anatomy")), lattice(5, 0.3), rng)
        texture = lattice(5, 0.3)
    machine = Machine(vendor, scene.depth_mm, size=SIZE, rng=rng, texture=texture)
    moment = scene.frame(scene.static(machine.grid), 0.0)
    machine.auto_gain(moment, quantile=scene.gain[0], level=scene.gain[1])
    return machine.clip([moment]), machine


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def errors(fan: Fan, machine: Machine) -> tuple[float, float, float]:
    """Of the apex in px, of the worse angle in degrees, of the depth as a share of it."""
    vendor, screen = machine.grid.vendor, machine.screen
    apex = screen.to_px(0.0, -vendor.radius_mm)
    half = vendor.half_angle_deg
    depth_px = (machine.grid.r_mm[-1] - machine.grid.r_mm[0]) / screen.mm_per_px
    return (
        math.dist(fan.apex_xy, apex),
        max(abs(math.degrees(fan.right_rad) - half), abs(math.degrees(fan.left_rad) + half)),
        abs(fan.depth_px / depth_px - 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=4)
    patients = range(parser.parse_args().patients)
    stills = {name: [phantom(name, patient) for patient in patients] for name in VENDORS}
    overlaps, seconds = [], time.process_time()
    for name, pictures in stills.items():
        found = [find_sector(frames) for frames, _ in pictures]
        own = [
            overlap(s.mask, machine.screen.inside) for s, (_, machine) in zip(found, pictures, strict=True)
        ]
        worst = [max(part) for part in zip(*(
            errors(s.fan, machine) for s, (_, machine) in zip(found, pictures, strict=True) if s.fan
        ), strict=True)]  # fmt: skip
        told = "apex {:.1f} px, angle {:.1f}°, depth {:.1%}".format(*worst) if worst else "rectangle"
        tell(f"{name:12} overlap {min(own):.3f}  {told}")
        overlaps += own
    seconds = time.process_time() - seconds
    tell(f"{len(overlaps)} stills: overlap {np.mean(overlaps):.3f}, at least {min(overlaps):.3f}")
    tell(f"{seconds / len(overlaps):.2f} s of CPU a still")
    tell_templates(stills)


def tell_templates(stills: dict[str, list[tuple[np.ndarray, Machine]]]) -> None:
    """The other patients of each machine, with the outline that its first patient has taught."""
    overlaps, times = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, ((first, _), *others) in stills.items():
            info = MediaInfo(path=Path(name), kind="image", frames=1, height=SIZE, width=SIZE, vendor=name)
            known = Templates.of(Path(folder) / "templates.jsonl", info)
            find_sector(first, templates=known)
            for frames, machine in others if known.known((SIZE, SIZE)) else ():
                found, seconds = zip(*(timed(frames, templates) for templates in (known, None)), strict=True)
                overlaps.append(overlap(found[0].mask, machine.screen.inside))
                times.append(seconds)
    taught, alone = np.sum(times, axis=0)
    tell(
        f"templates, {len(overlaps)} stills: overlap at least {min(overlaps):.3f}, "
        f"{taught / alone:.2f} of the time"
    )


def timed(frames: np.ndarray, templates: Templates | None) -> tuple[Sector, float]:
    """The sector and the seconds of CPU that it took."""
    start = time.process_time()
    return find_sector(frames, templates=templates), time.process_time() - start


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
