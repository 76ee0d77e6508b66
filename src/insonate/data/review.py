"""Pictures before and after de-identification, for people: 24 pairs a sheet, the least certain ones first."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from insonate.data.manifest import Row
from insonate.files import atomic_write

TILE_PX = 240
COLUMNS, ROWS = 3, 8
CAPTION_PX = 14
MOST_SHEETS = 40
PICTURES = "pictures"
"""folder of the pairs, in the private one"""


def thumbnail(frames: np.ndarray) -> Image.Image:
    """The middle frame of T H W or T H W 3 on a black square of 240 px."""
    picture = Image.fromarray(np.ascontiguousarray(frames[len(frames) // 2])).convert("RGB")
    picture.thumbnail((TILE_PX, TILE_PX))
    tile = Image.new("RGB", (TILE_PX, TILE_PX))
    tile.paste(picture, (0, 0))
    return tile


def pair(before: Image.Image, after: Image.Image) -> bytes:
    """Two thumbnails side by side, as PNG."""
    picture = Image.new("RGB", (before.width + after.width, before.height))
    picture.paste(before, (0, 0))
    picture.paste(after, (before.width, 0))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def write_sheets(private: Path, audit: list[Row]) -> None:
    """Write `before_after_001.png`, … from the pairs in the folder `pictures`; at most 40 sheets.

    Args:
        private: the folder that may show the originals.
        audit: a row a file; its picture has the name of its `path`.
    """
    ordered = sorted(audit, key=lambda row: (row["fit"], row["path"]))
    size = COLUMNS * ROWS
    for number, start in enumerate(range(0, min(len(ordered), MOST_SHEETS * size), size), 1):
        content = io.BytesIO()
        _sheet(private / PICTURES, ordered[start : start + size]).save(content, "PNG")
        atomic_write(private / f"before_after_{number:03d}.png", content.getvalue())


def _sheet(pictures: Path, rows: list[Row]) -> Image.Image:
    count = -(-len(rows) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (2 * TILE_PX + 8), count * (TILE_PX + CAPTION_PX)), (40, 40, 40))
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(rows):
        x, y = index % COLUMNS * (2 * TILE_PX + 8), index // COLUMNS * (TILE_PX + CAPTION_PX)
        name = Path(row["path"]).stem
        draw.text((x + 2, y + 1), f"{name} {row['shape']} {row['fit']:.2f} text {row['text_boxes']}", "white")
        picture = pictures / f"{name}.png"
        if picture.is_file():
            with Image.open(picture) as pair:
                sheet.paste(pair, (x, y + CAPTION_PX))
    return sheet
