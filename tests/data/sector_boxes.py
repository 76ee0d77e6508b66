"""Boxes that a person read off pictures of every real source, and the sheet that shows what is found.

Run: python tests/data/sector_boxes.py ../shared/data --out docs/data_sectors.jpg
It prints the overlap of each found box with the person's, and draws those files whose licence lets them be
shown, the outline in yellow and the person's box in blue.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from insonate.data.media import MediaFile
from insonate.data.sector import Sector, find_sector
from insonate.files import atomic_write

TABLE = Path(__file__).with_suffix(".csv")
TILE_PX, ACROSS, CAPTION_PX = 250, 5, 14
LOOKS = 16
"""frames of a clip"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a person drew."""

    file: str
    """within the shared data; a `!` parts an archive from its member"""
    box: tuple[int, int, int, int]
    """left, top, right, bottom of the echoes; right and bottom are one past the last pixel"""
    may_be_shown: str
    """whose it is and its licence; empty where it may not be copied into the project"""
    known_fault: bool
    """the outline is known to be another one"""


def drawn_boxes() -> list[Drawn]:
    """All of them."""
    with TABLE.open(newline="") as lines:
        return [
            Drawn(
                file=row["file"], box=tuple(int(row[side]) for side in ("left", "top", "right", "bottom")),
                may_be_shown=row["may_be_shown"], known_fault=row["known_fault"] == "yes",
            )
            for row in csv.DictReader(lines)
        ]  # fmt: skip


def looked_at(data: Path, file: str) -> np.ndarray:
    """T H W or T H W 3: frames of a medium, spread over it."""
    archive, _, member = file.partition("!")
    if member:
        with zipfile.ZipFile(data / archive) as whole:
            return np.asarray(Image.open(io.BytesIO(whole.read(member))))[None]
    with MediaFile(data / archive) as medium:
        chosen = np.linspace(0, medium.info.frames - 1, min(LOOKS, medium.info.frames)).astype(int)
        return medium.read(chosen.tolist())


def box_overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    return both / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - both)


def tile(frames: np.ndarray, sector: Sector | None, box: tuple[int, ...], caption: str) -> Image.Image:
    """A frame with the found outline and the person's box."""
    picture = Image.fromarray(np.ascontiguousarray(frames[len(frames) // 2])).convert("RGB")
    scale = TILE_PX / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    pixels = np.array(picture.resize(size))
    if sector is not None:
        mask = np.asarray(Image.fromarray(sector.mask).resize(size, Image.Resampling.NEAREST))
        pixels[mask & ~ndimage.binary_erosion(mask)] = (255, 220, 0)
    sheet = Image.new("RGB", (TILE_PX, TILE_PX + CAPTION_PX), (40, 40, 40))
    sheet.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(sheet)
    left, top, right, bottom = (round(side * scale) for side in box)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=(60, 140, 255))
    draw.text((2, TILE_PX + 1), caption, "white")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    tiles = []
    for drawn in drawn_boxes():
        frames = looked_at(asked.data, drawn.file)
        sector = find_sector(frames)
        sys.stdout.write(f"{box_overlap(drawn.box, sector.box) if sector else 0:.3f}  {drawn.file}\n")
        if drawn.may_be_shown:
            tiles.append(tile(frames, sector, drawn.box, drawn.may_be_shown))
    height = TILE_PX + CAPTION_PX
    sheet = Image.new("RGB", (ACROSS * (TILE_PX + 4), -(-len(tiles) // ACROSS) * (height + 4)), (90, 90, 90))
    for number, picture in enumerate(tiles):
        sheet.paste(picture, (number % ACROSS * (TILE_PX + 4), number // ACROSS * (height + 4)))
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=80)
    atomic_write(asked.out, content.getvalue())


if __name__ == "__main__":
    main()
