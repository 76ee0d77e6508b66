"""How many copies of real pictures the data card finds: coded anew, brightened, made smaller, cut.

Run: python tests/data/copies.py ../shared/data --pictures 60
Of each data set, one picture a patient. Prints the share of copies that are found and the pairs of two
patients that are taken for copies of each other.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from insonate.data.likeness import likeness, near_pairs

SETS = {
    "CAMUS": ("camus_4ch/camus4ch_256.zip", "_ED.png"),
    "HC18": ("hc18_landmarks/hc18_half.zip", "_HC.png"),
}
"""archive, and how the names of pictures end that are one a patient"""


def pictures(data: Path, name: str, count: int) -> list[np.ndarray]:
    """H W each, grey."""
    archive, ending = SETS[name]
    with zipfile.ZipFile(data / archive) as whole:
        members = sorted(m for m in whole.namelist() if m.startswith("images/") and m.endswith(ending))
        return [np.asarray(Image.open(io.BytesIO(whole.read(m))).convert("L")) for m in members[:count]]


def recoded(picture: np.ndarray, quality: int = 60, scale: float = 0.7) -> np.ndarray:
    """Made smaller and coded as JPEG."""
    content = io.BytesIO()
    image = Image.fromarray(picture)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    image.save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def cut(picture: np.ndarray, left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Without so much of the width or height at each side."""
    height, width = picture.shape
    rows = slice(int(top * height), height - int(bottom * height))
    return picture[rows, int(left * width) : width - int(right * width)]


def uneven(picture: np.ndarray) -> np.ndarray:
    """Cut by 6 % at most, by another share at each side: one that the picture's own greys draw."""
    sides = np.random.default_rng(int(picture.sum())).uniform(0, 0.06, 4)
    return cut(picture, *sides.tolist())


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0.6 of the size": lambda picture: recoded(picture, 95, 0.6),
    "JPEG of quality 25": lambda picture: recoded(picture, 25, 1.0),
    "brighter by 20 %": lambda picture: np.clip(1.2 * picture, 0, 255).astype(np.uint8),
    "cut by 3 %, 0.8 of the size": lambda picture: recoded(cut(picture, *(0.03,) * 4), 90, 0.8),
    "cut by 6 %, 0.8 of the size": lambda picture: recoded(cut(picture, *(0.06,) * 4), 90, 0.8),
    "cut unevenly, at most 6 %": uneven,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=60)
    asked = parser.parse_args()
    for name in SETS:
        given = pictures(asked.data, name, asked.pictures)
        originals = [likeness(picture) for picture in given]
        start = time.process_time()
        wrong = len(near_pairs(originals))
        each_ms = 1000 * (time.process_time() - start) / len(originals)
        tell(f"{name}: {len(given)} patients, {wrong} pairs taken for copies, {each_ms:.0f} ms a picture")
        for kind, copy in COPIES.items():
            found = near_pairs([*originals, *(likeness(copy(picture)) for picture in given)])
            share = sum((i, i + len(given)) in found for i in range(len(given))) / len(given)
            tell(f"  {kind}: {share:.0%} found")


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
