"""A measured picture as a sonographer knows it: crosshairs, caliper lines, ellipse, values, scale bar.

Small pictures are enlarged by a whole number, and all writing stands below the picture: nothing covers the
echoes but thin lines. Needs no torch. Shapes: K points; (x, y) in pixels of the original.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from insonate.data.spacing import Spacing
from insonate.measure.figures import Figure, figures_of
from insonate.measure.quantity import Quantity

Colour = tuple[int, int, int]
SMALLEST_PX = 480
"""shorter side of a picture, below which it is enlarged"""
COLOURS: tuple[Colour, ...] = (
    (255, 214, 0), (86, 200, 255), (255, 140, 0), (120, 230, 150), (240, 150, 200), (230, 230, 230),
)  # fmt: skip
"""of the figures, in turn"""
TRUTH, WRITING, FAINT, PAPER = (0, 220, 120), (235, 235, 235), (150, 150, 150), (14, 14, 14)
SURE = 0.2
"""confidence of a point below which its figures are told with a question mark"""
CAPITAL = {"hadlock": "Hadlock", "intergrowth": "INTERGROWTH", "fs": "FS"}
SIGNS = {"!": "! not plausible, or not what its formula is for", "?": "? unsure of a point"}
"""after a value, and what a line below says of it"""
BAR_PART = 0.25
"""of the picture's width, that the scale bar is at most"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What is drawn on a picture."""

    points_set: str
    """decides the figures; any other name joins the points in pairs"""
    points_xy: np.ndarray
    """K 2; NaN where there is none"""
    confidence: np.ndarray
    """K, 0 to 1"""
    measurements: Mapping[str, Quantity]
    spacing: Spacing | None
    """of the original"""


def draw_marked(
    image: Image.Image, marked: Marked, *, truth_xy: np.ndarray | None = None, footer: str = ""
) -> Image.Image:
    """The picture (RGB) with figures, and below it values, scale bar and footer.

    Args:
        image: the original.
        marked: what was found.
        truth_xy: K 2, the points of the label, drawn in green.
        footer: a last line.
    """
    times = max(1, math.ceil(SMALLEST_PX / min(image.size)))
    picture = image.convert("RGB").resize(
        (image.width * times, image.height * times), Image.Resampling.BICUBIC
    )
    width_px = max(2, round(min(picture.size) / 320))
    figures = figures_of(marked.points_set, len(marked.points_xy))
    if truth_xy is not None:
        for figure in figures:
            _figure(picture, figure, _scaled(truth_xy, times), TRUTH, width_px)
    found_xy = _scaled(marked.points_xy, times)
    for number, figure in enumerate(figures, 1):
        _figure(picture, figure, found_xy, _colour(number), width_px)
    _numbers(picture, figures, found_xy, 7 * width_px)
    if not figures:
        for point in found_xy[np.isfinite(found_xy).all(axis=-1)]:
            _cross(ImageDraw.Draw(picture), point, COLOURS[0], width_px)
    bar_mm = None if marked.spacing is None else _bar_mm(image.width * marked.spacing.col_mm * BAR_PART)
    bar = (
        None if marked.spacing is None or bar_mm is None else (bar_mm, bar_mm / marked.spacing.col_mm * times)
    )
    entries = _entries(figures, marked)
    signs = [sign for mark, sign in SIGNS.items() if any(mark in text for text, _ in entries)]
    return _with_panel(picture, entries, bar, " · ".join([*filter(None, [footer]), *signs]))


def told(name: str, one: Quantity) -> str:
    """A measurement as people write it: `HC 293.1 mm`, `GA 32w4d`, `HC centile 45 %`; `!` = not plausible."""
    return f"{words(name, one)} {_value(one)}{' !' if one.in_range is False else ''}"


def words(name: str, one: Quantity) -> str:
    """What a measurement is called: `HC`, `LV long`, `EFW Hadlock centile`."""
    stem = name.rpartition("_")[0] if one.unit or name.endswith("_ratio") else name
    first, *others = stem.split("_")
    start = first.upper() if len(first) <= 4 else first.capitalize()
    return " ".join([start, *(CAPITAL.get(word, word) for word in others)])


def weeks_and_days(weeks: float) -> str:
    """32.6 → `32w4d`, as sonographers write an age."""
    days = round(weeks * 7)
    return f"{days // 7}w{days % 7}d"


@cache
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size_px)


def _value(one: Quantity) -> str:
    if one.unit == "weeks":
        return weeks_and_days(one.value)
    digits = {"mm": 1, "px": 1, "deg": 0, "percent": 0, "g": 0, "ml": 0, "cm2": 1, "mmHg": 0}.get(one.unit, 2)
    unit = {"percent": " %", "deg": "°", "cm2": " cm²", "sd": " SD", "": ""}.get(one.unit, f" {one.unit}")
    return f"{one.value:.{digits}f}{unit}"


def _scaled(points_xy: np.ndarray, times: int) -> np.ndarray:
    """The centre of a pixel → the centre of its enlarged square."""
    return (np.asarray(points_xy, dtype=np.float64) + 0.5) * times - 0.5


def _colour(number: int) -> Colour:
    return COLOURS[(number - 1) % len(COLOURS)]


def _figure(
    picture: Image.Image, figure: Figure, points_xy: np.ndarray, colour: Colour, width_px: int
) -> None:
    """One figure with crosshairs at its points."""
    if not figure.known(points_xy):
        return
    pen = ImageDraw.Draw(picture)
    path = figure.path(points_xy)
    _dotted(pen, path, colour, width_px)
    if figure.kind == "ellipse":
        return
    if figure.kind == "angle":
        _arc(pen, path, colour, width_px)
    for point in path:
        _cross(pen, point, colour, width_px)


def _numbers(picture: Image.Image, figures: Sequence[Figure], points_xy: np.ndarray, size_px: int) -> None:
    """The number of each figure beyond its first point, or beside its middle where that place is taken."""
    pen, taken = ImageDraw.Draw(picture), list(points_xy[np.isfinite(points_xy).all(axis=-1)])
    for number, figure in enumerate(figures, 1):
        if figure.kind == "ellipse" or not figure.known(points_xy):
            continue
        path = figure.path(points_xy)
        away = path[0] - path[1]
        away = away / (float(np.linalg.norm(away)) or 1.0) * 1.6 * size_px
        beyond, beside = path[0] + away, path[:2].mean(axis=0) + np.array([away[1], -away[0]])
        crowded = any(np.linalg.norm(beyond - other) < 1.2 * size_px for other in taken)
        place = np.clip(beside if crowded else beyond, size_px, np.subtract(picture.size, size_px))
        taken.append(place)
        pen.text(
            tuple(place), str(number), fill=_colour(number), font=font(size_px), anchor="mm", stroke_width=1,
            stroke_fill=(0, 0, 0),
        )  # fmt: skip


def _dotted(pen: ImageDraw.ImageDraw, path: np.ndarray, colour: Colour, width_px: int) -> None:
    """Dots along a path, evenly spaced, so that the echoes below stay to be seen."""
    radius, left = width_px / 2, 0.0
    for start, end in pairwise(path):
        length = float(np.linalg.norm(end - start))
        for along in np.arange(left, length, 4.0 * width_px):
            x, y = start + (end - start) * (along / length)
            pen.ellipse((x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1), fill=(0, 0, 0))
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        left = (left - length) % (4.0 * width_px)


def _arc(pen: ImageDraw.ImageDraw, path: np.ndarray, colour: Colour, width_px: int) -> None:
    """The angle at the middle point of a path of three."""
    first, second = path[0] - path[1], path[2] - path[1]
    start, end = (math.degrees(math.atan2(ray[1], ray[0])) for ray in (first, second))
    if (end - start) % 360 > 180:
        start, end = end, start
    radius = min(16.0 * width_px, *(float(np.linalg.norm(ray)) for ray in (first, second)))
    box = [*(path[1] - radius), *(path[1] + radius)]
    pen.arc(box, start, end, fill=colour, width=width_px)


def _cross(pen: ImageDraw.ImageDraw, point: np.ndarray, colour: Colour, width_px: int) -> None:
    x, y = (float(v) for v in point)
    arm = 5 * width_px
    for shade, extra in (((0, 0, 0), 2), (colour, 0)):
        reach = arm + extra // 2
        pen.line((x - reach, y, x + reach, y), fill=shade, width=width_px + extra)
        pen.line((x, y - reach, x, y + reach), fill=shade, width=width_px + extra)


def _entries(figures: Sequence[Figure], marked: Marked) -> list[tuple[str, Colour]]:
    """Numbered values of the figures, then the other measurements."""
    entries: list[tuple[str, Colour]] = []
    shown = set()
    for number, figure in enumerate(figures, 1):
        name = figure.name if marked.spacing is not None else figure.length_name
        one = marked.measurements.get(name)
        if one is None:
            continue
        shown.add(name)
        unsure = float(np.min(np.asarray(marked.confidence)[list(figure.points)])) < SURE
        sign = "   " if figure.kind == "ellipse" else f"{number} "
        entries.append((f"{sign}{told(name, one)}{' ?' if unsure else ''}", _colour(number)))
    rest = [(told(name, one), WRITING) for name, one in marked.measurements.items() if name not in shown]
    return entries + rest


def _bar_mm(largest_mm: float) -> float | None:
    """The largest of 1, 2, 5, 10, 20, … mm that is no longer."""
    if not largest_mm > 0:
        return None
    power = 10.0 ** math.floor(math.log10(largest_mm))
    return next(step * power for step in (5, 2, 1) if step * power <= largest_mm)


def _with_panel(
    picture: Image.Image, entries: Sequence[tuple[str, Colour]], bar: tuple[float, float] | None, footer: str
) -> Image.Image:
    """The picture above a panel with the scale bar (mm, px), the entries in columns, and the footer."""
    size = max(13, min(28, picture.width // 42))
    row, pad, letters = round(1.45 * size), size // 2, font(size)
    cell = max((math.ceil(letters.getlength(text)) for text, _ in entries), default=0) + 2 * size
    width = max(picture.width, cell + 2 * pad)
    columns = max(1, (width - 2 * pad) // cell)
    rows = math.ceil(len(entries) / columns)
    lines = rows + 1 + bool(footer)
    whole = Image.new("RGB", (width, picture.height + lines * row + 2 * pad), PAPER)
    whole.paste(picture, (0, 0))
    pen, top = ImageDraw.Draw(whole), picture.height + pad
    _bar(pen, (pad, top), size, bar)
    top += row
    for place, (text, colour) in enumerate(entries):
        column, line = divmod(place, rows)
        pen.text((pad + column * cell, top + line * row), text, fill=colour, font=letters)
    if footer:
        pen.text((pad, top + rows * row), footer, fill=FAINT, font=font(max(11, round(0.8 * size))))
    return whole


def _bar(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], size: int, bar: tuple[float, float] | None
) -> None:
    x, y = corner
    if bar is None:
        pen.text((x, y), "scale unknown: lengths in pixels", fill=FAINT, font=font(size))
        return
    length_mm, length_px = bar
    middle = y + size // 2
    pen.line((x, middle, x + length_px, middle), fill=WRITING, width=2)
    for end in (x, x + length_px):
        pen.line((end, middle - size // 3, end, middle + size // 3), fill=WRITING, width=2)
    pen.text((x + length_px + size // 2, y), f"{length_mm:g} mm", fill=WRITING, font=font(size))
