"""What is drawn for a measurement: the line, ellipse or angle that its points make.

Pictures and structured reports both follow it. The orders of points are those of `insonate.data.pointsets`.
Shapes: K points of a set, N points of a figure; (x, y) in pixels of the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from insonate.measure.points import A4C_NAMES, MEASURED

OUTLINE_POINTS = 90
"""of an ellipse: one every 4°"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How one measurement lies in the picture."""

    name: str
    """of the measurement, e.g. `bpd_mm`; empty where the line is not measured"""
    kind: Literal["line", "ellipse", "angle"]
    points: tuple[int, ...]
    """line: its ends; ellipse: the ends of one diameter, then of the other; angle: its vertex, then a point
    on each ray"""

    @property
    def length_name(self) -> str:
        """What it is called where the spacing is unknown, e.g. `bpd_px`."""
        return self.name.removesuffix("_mm") + "_px"

    def known(self, points_xy: np.ndarray) -> bool:
        """Whether all its points (of K 2) are there."""
        return bool(np.isfinite(np.asarray(points_xy)[list(self.points)]).all())

    def path(self, points_xy: np.ndarray) -> np.ndarray:
        """The points (of K 2) along which it is drawn, N 2; of an ellipse the first one closes it."""
        own = np.asarray(points_xy, dtype=np.float64)[list(self.points)]
        if self.kind == "line":
            return own
        if self.kind == "angle":
            return own[[1, 0, 2]]
        return _outline(own)


def _outline(ends_xy: np.ndarray) -> np.ndarray:
    """The ellipse of two diameters with the ends 4 2; conjugate ones, where they are not at right angles."""
    centre = ends_xy.mean(axis=0)
    first, second = (ends_xy[0] - ends_xy[1]) / 2, (ends_xy[2] - ends_xy[3]) / 2
    turn = np.linspace(0, 2 * math.pi, OUTLINE_POINTS + 1)[:, None]  # N 1
    outline = centre + np.cos(turn) * first + np.sin(turn) * second  # N 2
    outline[-1] = outline[0]
    return outline


def _lines(*names: str) -> tuple[Figure, ...]:
    """Points 2i and 2i + 1 are the ends of the line `names[i]`."""
    return tuple(Figure(name=name, kind="line", points=(2 * i, 2 * i + 1)) for i, name in enumerate(names))


def _diameters(ellipse: str, *names: str) -> tuple[Figure, ...]:
    return (*_lines(*names), Figure(name=ellipse, kind="ellipse", points=(0, 1, 2, 3)))


FIGURES: dict[str, tuple[Figure, ...]] = {
    "HC": _diameters("hc_mm", "bpd_mm", "ofd_mm"),
    "FA": _diameters("ac_mm", "ad_vertical_mm", "ad_horizontal_mm"),
    "AOP": (
        Figure(name="aop_deg", kind="angle", points=(0, 1, 3)),
        Figure(name="hsd_mm", kind="line", points=(0, 2)),
    ),
    "FUGC": _lines("cl_mm"),
    "fetal_femur": _lines("fl_mm"),
    **{name: _lines(*MEASURED[name].names) for name in ("IVC", "PSAX", "PLAX")},
    "A4C": _lines(*A4C_NAMES),
}
"""name of the point set → its figures"""


def figures_of(points_set: str, count: int) -> tuple[Figure, ...]:
    """The figures of a set; of points that belong to none, the lines 0-1, 2-3, … where they pair up."""
    if points_set in FIGURES:
        return FIGURES[points_set]
    return _lines(*[""] * (count // 2)) if count % 2 == 0 else ()
