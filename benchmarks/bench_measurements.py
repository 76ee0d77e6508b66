"""The formulas and the leak of a random split on real labels: the tables of docs/measurements.md.

Run: python benchmarks/bench_measurements.py ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from insonate.data.fairsplit import chosen_groups, leak, random_split_like_card
from insonate.data.spacing import Spacing
from insonate.evaluate import bland_altman, icc
from insonate.measure.discs import plane_of_mask, volume_one_plane
from insonate.measure.ellipse import square_diameters
from insonate.measure.points import MEASURED, measure
from insonate.measure.ventricle import ejection_fraction

SEEDS = range(42, 142)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def heads(folder: Path) -> None:
    rows = table(folder / "landmarks.csv")
    found, moved = [], []
    for row in rows:
        points = [
            [float(row[f"{end}_{axis}"]) for axis in "xy"] for end in ("bpd_1", "bpd_2", "ofd_1", "ofd_2")
        ]
        spacing = square(row["mm_per_px"])
        found.append(measure(MEASURED["HC"], np.array(points), spacing)["hc_mm"].value)
        moved.append(np.linalg.norm(square_diameters(np.array(points), spacing) - points, axis=1).mean())
    show("HC18 HC, mm", found, [float(row["hc_mm"]) for row in rows])
    print(f"projection moves points by {np.mean(moved):.2f} px, at most {np.max(moved):.2f}")
    leaks("HC18", "HC", [row["subject"] for row in rows])


def ventricles(folder: Path) -> None:
    told = {row["file"]: row for row in table(folder / "metadata.csv")}
    marks, volumes = table(folder / "landmarks_derived_256.csv"), {}
    with zipfile.ZipFile(folder / "camus4ch_256.zip") as archive:
        for row in marks:
            mask = np.asarray(Image.open(io.BytesIO(archive.read(f"masks/{row['file']}")))) == 1
            hinges = [[float(row[f"ma_{side}_{axis}"]) for axis in "xy"] for side in ("left", "right")]
            plane = plane_of_mask(mask, np.array(hinges), square(row["mm_per_px"]))
            volumes[row["file"]] = volume_one_plane(plane)
    show(
        "CAMUS LV volume, ml",
        [one.value for one in volumes.values()],
        [float(told[name]["lv_vol_ml_singleplane"]) for name in volumes],
    )
    ends = [name for name in volumes if name.endswith("_ED.png")]
    fractions = [ejection_fraction(volumes[name], volumes[name.replace("_ED", "_ES")]).value for name in ends]
    show("CAMUS EF, percent", fractions, [float(told[name]["ef_singleplane_derived"]) for name in ends])
    leaks("CAMUS", "A4C", [row["patient"] for row in marks])


def square(mm_per_px: str) -> Spacing:
    return Spacing(row_mm=float(mm_per_px), col_mm=float(mm_per_px))


def show(name: str, found: list[float], wanted: list[float]) -> None:
    limits = bland_altman(found, wanted)
    agreement = icc(np.stack([found, wanted], axis=1))
    print(
        f"{name}: n {len(found)}, bias {limits.bias:.3f} ({limits.low:.2f} to {limits.high:.2f}), "
        f"ICC(2,1) {agreement:.4f}"
    )


def leaks(name: str, task: str, groups: list[str]) -> None:
    one = leak(groups, random_split_like_card(len(groups)))
    many = np.mean([leak(groups, random_split_like_card(len(groups), seed=seed)).share for seed in SEEDS])
    held = chosen_groups(Counter(groups), task)
    fair = leak(groups, np.flatnonzero([group in held for group in groups]))
    print(
        f"{name}: random split leaks {one.known_items} of {one.items} ({one.share:.0%}; mean of {len(SEEDS)} "
        f"seeds {many:.0%}), fair split {fair.known_items} of {fair.items}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the shared test data")
    data = parser.parse_args().data
    heads(data / "hc18_landmarks")
    ventricles(data / "camus_4ch")
