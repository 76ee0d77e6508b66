"""What the tasks draw with: colours, text and bars on an RGB picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from insonate.measure.overlay import font

PREDICTED, TRUE = (255, 140, 0), (0, 220, 120)
"""orange and green: told apart also with red-green blindness, by their lightness"""
CLASS_COLOURS = ((255, 140, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 158, 115), (213, 94, 0))
Colour = tuple[int, int, int]
SMALLEST_PX = 192
"""shorter side of a picture, below which it is enlarged before it is written on"""


def enlarged(image: Image.Image) -> Image.Image:
    """The picture, or a small one by a whole number as large as text on it needs: it covers little then."""
    times = max(1, math.ceil(SMALLEST_PX / min(image.size)))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def text_size(image: Image.Image) -> int:
    """Letter height that is readable on this picture, in px."""
    return max(10, min(image.size) // 24)


def write_lines(image: Image.Image, lines: Sequence[tuple[str, Colour]]) -> None:
    """Lines of text in the upper left corner."""
    pen, size = ImageDraw.Draw(image), text_size(image)
    for row, (text, colour) in enumerate(lines):
        pen.text(
            (4, 3 + row * (size + 3)),
            text,
            fill=colour,
            font=font(size),
            stroke_width=1,
            stroke_fill=(0, 0, 0),
        )


def draw_bars(image: Image.Image, names: Sequence[str], parts: np.ndarray, true_index: int | None) -> None:
    """One bar a class along the lower edge, as long as its probability; the true class in green."""
    pen, size = ImageDraw.Draw(image, "RGBA"), text_size(image)
    width, height = image.size
    top = height - len(names) * (size + 4) - 2
    pen.rectangle((0, top, width, height), fill=(0, 0, 0, 160))
    for row, (name, part) in enumerate(zip(names, parts, strict=True)):
        y = top + 2 + row * (size + 4)
        colour = TRUE if row == true_index else PREDICTED
        pen.rectangle((0, y, max(1, round(float(part) * (width - 1))), y + size), fill=(*colour, 110))
        pen.text((4, y), f"{name} {float(part):.2f}", fill=(255, 255, 255), font=font(size))


def draw_outline(image: Image.Image, region: np.ndarray, colour: Colour, thickness_px: int = 1) -> None:
    """The border of a region (bool H W, of the picture's size), inside the region."""
    inner = region.copy()
    for _ in range(thickness_px):
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    border = Image.fromarray(((region & ~inner) * 255).astype(np.uint8))
    image.paste(colour, (0, 0), border)
