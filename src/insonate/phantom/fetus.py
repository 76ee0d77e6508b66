"""A fetus: its sizes for its age, and the womb around it, which its three planes share.

Sizes: INTERGROWTH-21st (Papageorghiou et al. 2014) for a gestational age, with standard scores of head,
abdomen and femur that go together; cephalic index 78.3 ± 4.4 %. Echo levels: shared spec phantom, 1.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from insonate.errors import InsonateError
from insonate.measure.ellipse import ellipse_perimeter
from insonate.measure.growth import SIZE_WEEKS, size_at_intergrowth
from insonate.phantom.painting import Canvas
from insonate.phantom.physics import Array
from insonate.phantom.scene import Texture, ridge

Low = Callable[..., Array]
SHARED = 0.6
"""correlation of the standard scores of two sizes of one fetus"""
LARGEST_SD = 2.5
FLUID_DB, TISSUE_DB = -36.0, -8.0


@dataclass(frozen=True, kw_only=True)
class Fetus:
    """What belongs to the patient, not to the picture."""

    ga_weeks: float
    hc_mm: float
    bpd_mm: float
    ofd_mm: float
    ac_mm: float
    fl_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator, ga_weeks: float | None = None) -> Fetus:
        """A fetus of an age, which is drawn from 14 to 40 weeks unless it is given.

        Raises:
            InsonateError: an age outside the growth charts.
        """
        first, last = SIZE_WEEKS
        age = float(rng.uniform(first, last)) if ga_weeks is None else ga_weeks
        if not first <= age <= last:
            what = f"a fetus of {age:g} weeks is outside the growth charts"
            raise InsonateError("phantom fetus", what, f"Ask for {first:g} to {last:g} weeks")
        common, own = rng.normal(), rng.normal(size=3)
        scores = np.clip(math.sqrt(SHARED) * common + math.sqrt(1 - SHARED) * own, -LARGEST_SD, LARGEST_SD)
        charts = (size_at_intergrowth(name, age) for name in ("hc_mm", "ac_mm", "fl_mm"))
        hc_mm, ac_mm, fl_mm = (
            mean + float(z) * spread for (mean, spread), z in zip(charts, scores, strict=True)
        )
        index = float(np.clip(rng.normal(0.783, 0.044), 0.68, 0.88))
        ofd_mm = 2 * hc_mm / ellipse_perimeter(1, index)
        return cls(ga_weeks=age, hc_mm=hc_mm, bpd_mm=index * ofd_mm, ofd_mm=ofd_mm, ac_mm=ac_mm, fl_mm=fl_mm)


class Womb:
    """Belly wall, uterine wall or placenta and amniotic fluid around a part of the fetus.

    Args:
        texture: the patient's.
        rng: of this acquisition.
        top_mm: depth of the nearest part of the fetus: the walls end before it.
    """

    def __init__(self, texture: Texture, rng: np.random.Generator, top_mm: float) -> None:
        self._low, self._waves = texture.low, rng.uniform(0, 2 * math.pi, 3)
        self._belly_mm = float(rng.uniform(0.35, 0.6)) * top_mm
        self._inner_mm = float(rng.uniform(0.75, 0.95)) * top_mm
        self._placenta = rng.random() < 0.4
        self._bottom_mm = float(rng.uniform(4, 14))
        self.fluid_db = FLUID_DB + float(rng.normal(0, 1))

    def paint(self, canvas: Canvas, fetus: Array, far_mm: float) -> None:
        """Paint all that is not fetus.

        Args:
            canvas: at first strokes.
            fetus: distance to the part that is shown, R L; what is nearest outside is often fluid.
            far_mm: depth of the deepest part of the fetus; the far wall comes behind it.
        """
        x, z, low, waves = canvas.grid.x_mm, canvas.grid.z_mm, self._low, self._waves
        inner = (
            z
            - np.float32(self._inner_mm)
            - 2.5 * np.sin(x / 24 + np.float32(waves[0]))
            - 1.6 * low(x, 0 * z, 14)
        )
        belly = z - np.float32(self._belly_mm) - 1.2 * np.sin(x / 30 + np.float32(waves[1]))
        outer = np.float32(far_mm + self._bottom_mm) - z + 4 * np.sin(x / 27 + np.float32(waves[2]))
        outer += 2 * low(x, z, 15, 2)
        broken = np.clip(0.5 + 0.8 * low(x, z, 11, 12), 0, 1.6)
        self._behind(canvas, low, (inner, outer, fetus))
        self._things(canvas, low, (inner, outer, fetus), broken)
        self._walls(canvas, low, belly, inner)
        canvas.echo(belly, 0.3 * broken, width_mm=0.6, power=4)
        canvas.echo(inner, 0.55 * broken, width_mm=0.6, power=3)
        canvas.echo(outer, 0.9 * broken, width_mm=0.7, power=3)

    def _behind(self, canvas: Canvas, low: Low, places: tuple[Array, Array, Array]) -> None:
        """Fluid around the fetus, and behind it the far wall, which runs in streaks across the beam."""
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        inner, outer, fetus = places
        streaks = low(0.3 * x, z, 2.4, 5) + 0.7 * low(x, z, 3, 13)
        tissue = TISSUE_DB + 2.2 * streaks + 4.5 * low(x, z, 15, 14)
        canvas.fill(inner > -1e6, tissue, 0.5)
        fluid = (inner > 0) & (outer > 0) & (fetus > 0)
        canvas.fill(fluid, self.fluid_db + 1.5 * low(x, z, 9, 6), 0.05)

    def _things(self, canvas: Canvas, low: Low, places: tuple[Array, Array, Array], broken: Array) -> None:
        """Limbs, cord and membranes: grey things in the fluid, with outlines."""
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        inner, outer, fetus = places
        things = low(x, 1.2 * z, 12, 7) - 0.5 - np.maximum(4 - fetus, 0) / 3
        edge = np.where((inner > 0) & (outer > 0) & (fetus > 1), -6 * things, 1)
        grain = TISSUE_DB - 1 + 2 * low(x, z, 2.2, 15) + 3 * low(x, z, 7, 16)
        canvas.blend(edge, 1.5, grain, 0.5)
        canvas.blend(edge + 4.5, 1.5, grain - 7, 0.5)
        canvas.spec += (0.45 * ridge(edge, 0.7) * broken * (edge != 1)).astype(np.float32)

    def _walls(self, canvas: Canvas, low: Low, belly: Array, inner: Array) -> None:
        """Dark fat and muscle between bright sheets; then placenta, bright and even, or uterine muscle."""
        x, z = canvas.grid.x_mm, canvas.grid.z_mm
        sheets = ridge(low(0.16 * x, z, 3.2, 8), 0.3) * np.clip(0.6 + 0.7 * low(x, z, 16, 17), 0, 1.5)
        canvas.fill(belly < 0, -13 + 10 * sheets + 2 * low(x, z, 5, 9), 0.55)
        grain = -4.5 + 0.9 * low(x, z, 2, 10) if self._placenta else -12 + 1.6 * low(0.3 * x, z, 2, 11)
        canvas.fill((inner < 0) & (belly >= 0), grain + 1.2 * low(x, z, 14, 18), 0.55)
