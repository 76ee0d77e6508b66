"""The lung between two ribs: sliding pleura, A-lines, B-lines, consolidation, effusion, pneumothorax.

Below the pleura there is no anatomy but what air makes of the beam: copies of the pleura at its own depth
(A-lines), rays that do not fade (B-lines), or tissue and fluid where air is gone. Signs: Volpicelli et al.
2012 (Intensive Care Med 38:577); places: shared spec phantom, section 4.2.

s is what is seen between the ribs: mm along the pleura, to the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from insonate.errors import InsonateError
from insonate.phantom.painting import Canvas, Painted, Painting
from insonate.phantom.physics import Array, Grid, Lattice, Maps
from insonate.phantom.scene import Truth, ridge, soft

CHEST, PLEURA, B_LINE, CONSOLIDATION, EFFUSION, RIB, AIR = range(7)
LungClass = Literal["a_lines", "b_lines", "consolidation", "effusion", "pneumothorax"]
CLASSES: tuple[LungClass, ...] = ("a_lines", "b_lines", "consolidation", "effusion", "pneumothorax")
ODDS = (0.28, 0.3, 0.2, 0.12, 0.1)
FADE_DB_MM = 0.35
MANY = 3
"""B-lines from which on they are more than a healthy lung may have"""


@dataclass(frozen=True, kw_only=True)
class Pleura:
    """One place of the chest: its class, and what the class drew."""

    lung_class: LungClass
    b_lines: tuple[tuple[float, float], ...]
    """place, -1 to 1 between the ribs, and half width in mm"""
    patch: tuple[float, float, float]
    """place, half width and depth of a consolidation, mm; zeros where there is none"""
    fluid_mm: float
    slides: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, lung_class: str | None = None) -> Pleura:
        """A place of a class, which is drawn unless it is given.

        Raises:
            InsonateError: no class is called so.
        """
        drawn = str(rng.choice(CLASSES, p=ODDS))
        found = next((c for c in CLASSES if c == (lung_class or drawn)), None)
        if found is None:
            what = f"there is no lung {lung_class!r}"
            raise InsonateError("phantom lung", what, f"Choose one of {', '.join(CLASSES)}")
        count = {
            "b_lines": int(rng.integers(MANY, 9)), "a_lines": int(rng.random() < 0.25),
            "consolidation": int(rng.integers(0, 4)), "effusion": 0, "pneumothorax": 0,
        }[found]  # fmt: skip
        # rays keep apart unless there are many: then they run into one another
        places = np.linspace(-0.8, 0.8, count) if count > 1 else rng.uniform(-0.7, 0.7, count)
        places = places + rng.normal(0, 0.05, count)
        patch = (float(rng.normal(0, 4)), float(rng.uniform(5, 13)), float(rng.uniform(8, 26)))
        return cls(
            lung_class=found,
            b_lines=tuple((float(p), float(rng.uniform(0.5, 1.3))) for p in places),
            patch=patch if found == "consolidation" else (0.0, 0.0, 0.0),
            fluid_mm=float(rng.uniform(6, 24)) if found == "effusion" else 0.0,
            slides=found != "pneumothorax",
        )

    @property
    def severity(self) -> int:
        """0 air, 1 three or more B-lines, 2 so many that they meet, 3 consolidation or effusion."""
        if self.lung_class in {"consolidation", "effusion"}:
            return 3
        count = len(self.b_lines)
        return 2 if count > 5 else int(count >= MANY)


class Lung(Painted):
    """A plane across two ribs.

    Args:
        pleura: what to show.
        texture: the patient's texture source.
        rng: of this acquisition.
        width_mm: of the field at the skin: the ribs lie near its sides.
    """

    name = "lung"
    mask_values: ClassVar = {PLEURA: 1, B_LINE: 2, CONSOLIDATION: 3, EFFUSION: 4, RIB: 5}
    gain = (0.95, -0.3)
    fps = 15.0
    clip_frames = 45

    def __init__(
        self, pleura: Pleura, texture: Lattice, rng: np.random.Generator, *, width_mm: float
    ) -> None:
        super().__init__(texture, rng)
        self.pleura = pleura
        self.pleura_mm = float(rng.uniform(14, 24))
        self.gap_mm = min(float(rng.uniform(11, 14)), 0.32 * width_mm)
        """half of the space between the ribs"""
        self.middle_mm = float(rng.normal(0, 2))
        self.rib_mm = float(rng.uniform(5.5, 8))
        self.depth_mm = float(np.clip(self.pleura_mm * rng.uniform(3.2, 5.5), 48, max(1.25 * width_mm, 56)))
        self.slope, self.waves = float(rng.normal(0, 0.06)), rng.uniform(0, 2 * math.pi, 3)
        self.ribs = (-1.0, 1.0) if rng.random() < 0.6 else (float(rng.choice([-1.0, 1.0])),)
        self.breath = float(rng.uniform(12, 22)) / 60, float(rng.uniform(0, 2 * math.pi))
        self.slide_mm = float(rng.uniform(6, 12)) if pleura.slides else 0.0

    def slid_mm(self, t_s: float) -> float:
        """How far the lung has slid to the right since time 0."""
        rate, phase = self.breath
        swing = math.sin(2 * math.pi * rate * t_s + phase) - math.sin(phase)
        return 0.5 * self.slide_mm * swing

    def truth(self, t_s: float) -> Truth:
        """Class, severity, B-lines, depth of the pleura, and whether it slides."""
        p = self.pleura
        return Truth(
            columns={
                "lung_class": p.lung_class, "lung_severity": float(p.severity),
                "b_lines": float(len(p.b_lines)), "pleura_mm": self.pleura_mm,
                "sliding": "yes" if p.slides else "no",
                "consolidation_mm": p.patch[2], "effusion_mm": p.fluid_mm,
            },
        )  # fmt: skip

    def frame(self, cache: Painting, t_s: float) -> Maps:
        """The chest stays, what lies at the pleura and below slides along it."""
        still, grid = cache.still, cache.grid
        slides = (still.label != CHEST) & (still.label != RIB) & ~self._shadowed(grid)
        shift = np.rint(self.slid_mm(t_s) / grid.line_pitch_mm).astype(np.int32)[:, None]  # R 1
        lines = np.arange(grid.vendor.lines, dtype=np.int32)[None]
        wanted = np.clip(lines - shift, 0, grid.vendor.lines - 1)
        column = np.where(slides, wanted, lines)
        from_chest = ~np.take_along_axis(slides, column, 1)
        column = np.where(from_chest, lines, column)
        index = column + np.arange(grid.samples, dtype=np.int32)[:, None] * grid.vendor.lines
        moved = np.where(slides, np.float32(self.slid_mm(t_s)), np.float32(0))
        return still._replace(
            amp=still.amp.take(index),
            spec=still.spec.take(index),
            label=np.asarray(still.label.take(index), np.uint8),
            material_x_mm=still.material_x_mm - moved,
        )

    def _shadowed(self, grid: Grid) -> np.ndarray:
        """R L: behind a rib."""
        s = self._along(grid)
        behind = np.zeros(s.shape, dtype=bool)
        for side in self.ribs:
            behind |= side * s > self.gap_mm
        return behind & (self._below(grid) > 0)

    def _along(self, grid: Grid) -> Array:
        """R L: where the beam met the depth of the pleura."""
        if grid.linear:
            return grid.x_mm - np.float32(self.middle_mm)
        x, _ = grid.place(np.full(1, self.pleura_mm, np.float32), grid.lateral)
        return np.broadcast_to(x[None], grid.x_mm.shape) - np.float32(self.middle_mm)

    def _below(self, grid: Grid) -> Array:
        """R L: depth under the pleura."""
        s = self._along(grid)
        bow = s * np.float32(self.slope) + 0.5 * np.sin(s / 9 + np.float32(self.waves[0]))
        return (grid.r_mm[:, None] - np.float32(self.pleura_mm) - bow).astype(np.float32)

    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Skin, muscle, ribs, pleura, and what is below it."""
        x, low = grid.x_mm, self.texture.low
        s, below = self._along(grid), self._below(grid)
        r = grid.r_mm[:, None] + 0 * below
        fibres = np.sin(2 * math.pi * (r / 2.6 + 0.02 * s) + 1.6 * low(x, r, 7, 20))
        muscle = -9 + 3 * fibres + 2 * low(0.3 * x, r, 1.4, 21) + 2 * low(x, r, 6, 22)
        canvas = Canvas(grid, muscle, 0.5)
        fat_mm = np.float32(0.35 * self.pleura_mm) + 0.8 * np.sin(s / 8 + np.float32(self.waves[1]))
        lobule = low(s, 1.6 * r, 5, 23)
        canvas.fill(r < fat_mm, -11 + 1.2 * low(x, r, 2, 24) + 8 * ridge(lobule, 0.12))
        canvas.fill(r < 3.2, -1 + 1.5 * low(x, r, 2, 25))
        canvas.echo(r - fat_mm, 0.9 * np.clip(0.7 + 0.6 * low(x, r, 5, 26), 0, 1.6), width_mm=0.4)
        self._air(canvas, s, below)
        self._line(canvas, s, below)
        if self.pleura.fluid_mm:
            self._fluid(canvas, s, below)
        if self.pleura.patch[1]:
            self._consolidation(canvas, s, below)
        self._b_lines(canvas, s, below)
        self._ribs(canvas, s, r)
        return canvas

    def _air(self, canvas: Canvas, s: Array, below: Array) -> None:
        """Nothing but echoes that wander between pleura and probe, ever fainter; and the A-lines."""
        low, r = self.texture.low, canvas.grid.r_mm[:, None]
        streaks = low(0.4 * s, below, 1.6, 27) + low(s, 0 * below, 5, 28) + low(s, 0.5 * below, 9, 45)
        dirt = -11 - FADE_DB_MM * below + 1.8 * streaks
        air = below > 0
        canvas.fill(air, dirt, 0.5, label=AIR, echoes=0.0)
        if self.pleura.lung_class in {"b_lines", "consolidation", "effusion"}:
            return
        for number in range(1, 5):
            # the beam went to the pleura `number` + 1 times
            away = (below + r * 0) - number * np.float32(self.pleura_mm)
            line = 10 ** ((5 - 7 * number) / 20) * ridge(away, 0.55 + 0.15 * number)
            shown = np.clip(0.8 + 0.6 * low(s, 0 * below + 3 * number, 7, 29), 0.3, 1.5)
            line = line + 0.4 * line * ridge(away - 2.2, 0.8)
            canvas.spec += (line * shown).astype(np.float32)

    def _line(self, canvas: Canvas, s: Array, below: Array) -> None:
        low = self.texture.low
        rough = 1.0 if self.pleura.lung_class in {"b_lines", "consolidation"} else 0.3
        line = below - 0.35 * rough * low(s, 0 * below, 1.8, 30)
        canvas.label[np.abs(line - 0.7) < 0.8] = PLEURA
        shimmer = np.clip(1 + 0.45 * rough * low(s, below, 3, 31) + 0.25 * low(s, below, 1.2, 32), 0.25, 2)
        canvas.spec += (3.4 * ridge(line - 0.7, 0.75) * shimmer).astype(np.float32)
        canvas.level_db += 8 * ridge(line - 0.7, 1.2)

    def _fluid(self, canvas: Canvas, s: Array, below: Array) -> None:
        """A wedge between chest wall and lung; the lung's own surface is its floor."""
        low, deep = self.texture.low, self.pleura.fluid_mm
        floor = below - np.float32(deep) - 0.25 * s - 1.2 * low(s, 0 * below, 8, 33)
        fluid = (below > 1.4) & (floor < 0)
        canvas.fill(fluid, -32 + 1.5 * low(s, below, 4, 34), 0.05, label=EFFUSION, echoes=0.1)
        visceral = np.where(below > 1.4, floor, 9.0)
        canvas.label[np.abs(np.where(below > 1.4, floor - 0.5, 9.0)) < 0.7] = PLEURA
        canvas.spec += (
            1.9 * ridge(visceral, 0.7) * np.clip(0.9 + 0.4 * low(s, below, 4, 35), 0.2, 1.6)
        ).astype(np.float32)

    def _consolidation(self, canvas: Canvas, s: Array, below: Array) -> None:
        """Tissue where air was, with a torn border and air left in the bronchi."""
        low, (place, half, deep) = self.texture.low, self.pleura.patch
        edge = np.hypot((s - np.float32(place)) / np.float32(half), below / np.float32(deep)) - 1
        torn = (
            edge * np.float32(min(half, deep)) + 1.6 * low(s, below, 2.5, 36) + 0.8 * low(s, below, 1.1, 37)
        )
        inside = np.where(below > 1.2, torn, 9.0)
        canvas.blend(inside, 0.8, -8.5 + 2 * low(s, below, 1.8, 38) + 1.5 * low(s, below, 5, 39), 0.5)
        canvas.label[inside < 0] = CONSOLIDATION
        # air left in the bronchi: bright dots, and here and there a branch along the beam
        dots = np.clip(low(s, below, 1.7, 40) - 1.5, 0, 1) + ridge(low(s, 0.45 * below, 4.5, 46), 0.06)
        canvas.level_db += 12 * np.clip(dots * (low(s, below, 5, 41) > -0.3), 0, 1) * soft(inside + 1, 1.0)
        canvas.spec += (1.1 * ridge(inside, 0.7) * np.clip(low(s, below, 2, 42) + 0.6, 0, 1.8)).astype(
            np.float32
        )

    def _b_lines(self, canvas: Canvas, s: Array, below: Array) -> None:
        """Rays along the beam from the pleura down, made of short echoes 1 to 1.5 mm apart."""
        low, free = self.texture.low, self.gap_mm - 2.5
        for number, (place, half) in enumerate(self.pleura.b_lines):
            own = np.abs(s - np.float32(place * free)) - np.float32(half) * (1 + 0.012 * np.maximum(below, 0))
            start = 1.0 if canvas.grid.linear else 0.8
            ray = soft(own, 1.1) * (below > start)
            ring = 2.5 * np.sin(2 * math.pi * below / np.float32(1.25) + number) + 2 * low(
                s, below, 2, 43 + number
            )
            level = -3.5 + ring - 0.04 * below
            canvas.level_db += (level - canvas.level_db) * ray * (canvas.label != CONSOLIDATION)
            canvas.spec *= 1 - 0.85 * ray * (below > 2.5)
            canvas.label[(own < 0) & (below > 1.6) & (canvas.label == AIR)] = B_LINE

    def _ribs(self, canvas: Canvas, s: Array, r: Array) -> None:
        low = self.texture.low
        top = np.float32(self.pleura_mm - self.rib_mm - 1.5)
        for side in self.ribs:
            own = side * s - np.float32(self.gap_mm + 7.5)
            face = r - top - own**2 / 22 - 0.3 * low(s, 0 * r, 4, 60)
            rib = (np.abs(own) < 7.5) & (face > 0) & (face < 2.2)
            canvas.fill(rib, 3 + 2 * low(s, r, 2, 61), 2.0, label=RIB)
            edge = np.where(np.abs(own) < 7.5, face - 0.5, 9.0)
            canvas.spec += (2.6 * ridge(edge, 0.7) * np.clip(0.9 - own**2 / 70, 0.1, 1)).astype(np.float32)
            behind = (np.abs(own) < 7.5) & (face >= 2.2)
            beyond = (own >= 7.5) & (r > top + 4)
            canvas.level_db -= np.where(behind | beyond, 17.0, 0.0).astype(np.float32)
            canvas.spec *= np.where(behind, np.float32(0.02), np.float32(1)) * np.where(beyond, 0.3, 1)
            canvas.label[behind] = RIB
