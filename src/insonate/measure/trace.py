"""An M-mode-like picture of a loop: one line of each frame beside the next, with the walls that were found.

The line lies where the caliper lies most of the time, and reaches beyond both its ends. It stays still while
the tissue moves, as a cursor line does: a wall that slides along the vessel is not followed.
Shapes: T frames, H W pixels, L samples of the line; (x, y) in pixels of the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from insonate.data.spacing import Spacing
from insonate.measure.ellipse import vectors_mm
from insonate.measure.overlay import COLOURS, FAINT, PAPER, WRITING, font

BEYOND = 0.6
"""of the caliper's length, that the line reaches past each end"""
HEIGHT_PX, WIDTH_PX, MARGIN_PX = 320, 720, 56
TICKS = 5
"""of the time axis, about"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The line that is looked along: `start` + t (`end` - `start`), t from -BEYOND to 1 + BEYOND."""

    start_xy: np.ndarray
    """2: where the first end of the caliper lies most of the time"""
    end_xy: np.ndarray

    @classmethod
    def along(cls, ends_xy: np.ndarray) -> Cursor | None:
        """The line through the median of each end of the calipers T 2 2; None where there is no length."""
        known = ends_xy[np.isfinite(ends_xy).all(axis=(1, 2))]
        if not len(known):
            return None
        start, end = np.median(known, axis=0)
        return cls(start_xy=start, end_xy=end) if np.linalg.norm(end - start) > 1 else None

    def places(self) -> np.ndarray:
        """x, y about every pixel along it, L 2."""
        length = float(np.linalg.norm(self.end_xy - self.start_xy)) * (1 + 2 * BEYOND)
        t = np.linspace(-BEYOND, 1 + BEYOND, max(2, round(length)))[:, None]
        return self.start_xy + t * (self.end_xy - self.start_xy)

    def project(self, points_xy: np.ndarray) -> np.ndarray:
        """How far along the whole line points (…, 2) lie, 0 to 1."""
        line = self.end_xy - self.start_xy
        t = (np.asarray(points_xy) - self.start_xy) @ line / float(line @ line)
        return (t + BEYOND) / (1 + 2 * BEYOND)


def sampled(frames: Iterable[np.ndarray], cursor: Cursor) -> np.ndarray:
    """The grey levels along the line in each frame (H W or H W 3, uint8), L T; 0 outside the picture."""
    places = cursor.places()
    columns = [
        ndimage.map_coordinates(
            frame if frame.ndim == 2 else frame.mean(axis=-1), places[:, ::-1].T, order=1, cval=0.0,
            output=np.float32,
        )
        for frame in frames
    ]  # fmt: skip
    return np.clip(np.stack(columns, axis=1), 0, 255).astype(np.uint8)


def draw_trace(
    levels: np.ndarray,
    cursor: Cursor,
    ends_xy: np.ndarray,
    *,
    times_s: Sequence[float] | None,
    spacing: Spacing | None,
    marks: Mapping[str, int],
    lines: Sequence[str],
) -> Image.Image:
    """The trace with both walls, named frames, axes, and lines of text below.

    Args:
        levels: L T, of `sampled`.
        cursor: its line.
        ends_xy: T 2 2, the caliper of each frame; NaN where there is none.
        times_s: of each frame; without them the axis counts frames.
        spacing: of the original; gives the depth scale.
        marks: name → frame.
        lines: to write below.
    """
    size = 16
    whole = Image.new("RGB", (MARGIN_PX + WIDTH_PX, HEIGHT_PX + (3 + len(lines)) * 24), PAPER)
    shown = Image.fromarray(levels).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BILINEAR)
    whole.paste(shown.convert("RGB"), (MARGIN_PX, 0))
    pen, count = ImageDraw.Draw(whole), levels.shape[1]
    across = MARGIN_PX + (np.arange(count) + 0.5) / count * WIDTH_PX
    walls = cursor.project(ends_xy) * HEIGHT_PX  # T 2
    for wall in walls.T:
        _course(pen, across, wall)
    for name, frame in marks.items():
        pen.line((across[frame], 0, across[frame], HEIGHT_PX), fill=COLOURS[1], width=1)
        side = "ra" if across[frame] > whole.width - 90 else "la"
        pen.text(
            (across[frame] + (-4 if side == "ra" else 4), 4), name, fill=COLOURS[1], font=font(size),
            anchor=side, stroke_width=1, stroke_fill=(0, 0, 0),
        )  # fmt: skip
    _time_axis(pen, across, times_s, size)
    if spacing is not None:
        line_mm = float(np.linalg.norm(vectors_mm(cursor.end_xy - cursor.start_xy, spacing))) * (
            1 + 2 * BEYOND
        )
        _depth_axis(pen, line_mm, size)
    for row, text in enumerate(lines):
        pen.text((8, HEIGHT_PX + (2 + row) * 24), text, fill=WRITING, font=font(size))
    return whole


def _course(pen: ImageDraw.ImageDraw, across: np.ndarray, wall: np.ndarray) -> None:
    """A wall over time, broken where it is not known."""
    for i in range(len(wall) - 1):
        if np.isfinite(wall[i : i + 2]).all():
            pen.line((across[i], wall[i], across[i + 1], wall[i + 1]), fill=COLOURS[0], width=2)


def _time_axis(
    pen: ImageDraw.ImageDraw, across: np.ndarray, times_s: Sequence[float] | None, size: int
) -> None:
    count = len(across)
    for i in np.unique(np.linspace(0, count - 1, TICKS).round().astype(int)):
        text = f"frame {i}" if times_s is None else f"{times_s[i]:.2f} s"
        pen.line((across[i], HEIGHT_PX, across[i], HEIGHT_PX + 6), fill=FAINT, width=1)
        pen.text((across[i], HEIGHT_PX + 8), text, fill=FAINT, font=font(size), anchor="ra" if i else "la")


def _depth_axis(pen: ImageDraw.ImageDraw, line_mm: float, size: int) -> None:
    """A tick every 5 or 10 mm from the top of the line."""
    step_mm = 5 if line_mm < 60 else 10
    for depth_mm in np.arange(0, line_mm, step_mm):
        y = depth_mm / line_mm * HEIGHT_PX
        pen.line((MARGIN_PX - 6, y, MARGIN_PX, y), fill=FAINT, width=1)
        pen.text(
            (MARGIN_PX - 10, y), f"{depth_mm:g}", fill=FAINT, font=font(size), anchor="rm" if y else "rt"
        )
    pen.text((8, HEIGHT_PX + 8), "mm", fill=FAINT, font=font(size))
