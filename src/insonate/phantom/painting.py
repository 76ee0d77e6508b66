"""Scenes that are painted once and then moved: what most anatomies in one plane need.

A scene paints its tissue on the polar grid as it is at time 0, with all that depends on the beam: surfaces
that mirror it, shadows, enhancement. In later frames each sample asks where its tissue was at time 0 and
takes what was painted there: far cheaper than painting again, and right as long as tissue moves by a few mm
and turns by a few degrees against the beam.

Shapes: R samples along the beam, L lines; r l the knots on which motion is computed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from insonate.phantom.physics import Array, Grid, Labels, Lattice, Maps, through
from insonate.phantom.scene import (
    Drift,
    Texture,
    Truth,
    decibel,
    first_along_beam,
    ridge,
    soft,
    transmission_db,
)


class Canvas:
    """Tissue as it is painted: later strokes cover earlier ones.

    Args:
        grid: where it is looked at.
        level_db: echogenicity to begin with.
        att: attenuation to begin with, one way, dB/cm/MHz.
    """

    def __init__(self, grid: Grid, level_db: Array | float, att: float) -> None:
        shape = grid.samples, grid.vendor.lines
        self.grid = grid
        self.level_db = np.broadcast_to(np.float32(level_db), shape).copy()
        self.att = np.full(shape, att, np.float32)
        self.spec, self.loss = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.label = np.zeros(shape, np.uint8)

    def fill(
        self,
        region: np.ndarray,
        level_db: Array | float,
        att: Array | float | None = None,
        *,
        label: int | None = None,
        echoes: float = 1.0,
    ) -> None:
        """Paint a region with sharp edges; of echoes that are there already, the share `echoes` stays."""
        np.copyto(self.level_db, np.float32(level_db), where=region)
        if att is not None:
            np.copyto(self.att, np.float32(att), where=region)
        if label is not None:
            self.label[region] = label
        if echoes != 1.0:
            self.spec[region] *= np.float32(echoes)

    def blend(
        self, distance: Array, width_mm: float, level_db: Array | float, att: Array | float | None = None
    ) -> None:
        """Paint where a distance is below 0, with an edge of `width_mm`; echoes there are wiped out."""
        share = soft(distance, width_mm)
        self.level_db += (np.float32(level_db) - self.level_db) * share
        if att is not None:
            self.att += (np.float32(att) - self.att) * share
        self.spec *= 1 - share

    def echo(
        self, distance: Array, gain: Array | float, *, width_mm: float = 0.5, power: float = 2.0
    ) -> None:
        """A surface that mirrors the beam; the sharper (`power`), the less it shows when it lies askew."""
        cosine = self.grid.along_beam(distance) ** np.float32(power)
        self.spec += (np.float32(gain) * ridge(distance, width_mm) * cosine).astype(np.float32)

    def block(self, region: np.ndarray, loss_db: Array | float) -> None:
        """What enters this region of bone, stone or gas loses `loss_db`."""
        self.loss += np.where(first_along_beam(region), np.float32(loss_db), np.float32(0))

    def stop(self, rate_db_mm: float, after: np.ndarray) -> None:
        """Below the first sample of a region nothing comes back but what fades by `rate_db_mm`."""
        behind = np.cumsum(np.cumsum(after, 0) > 0, 0) * np.float32(self.grid.step_mm)
        self.level_db -= np.float32(rate_db_mm) * behind


@dataclass(frozen=True)
class Painting:
    """A scene on one grid, as it is at time 0."""

    grid: Grid
    still: Maps
    amp: Array
    """R L, after attenuation"""
    spec: Array
    knots_x_mm: Array
    """r l"""
    knots_z_mm: Array
    along: Array
    """R r: from knots to samples"""
    across: Array
    """l L: from knots to lines"""

    @cached_property
    def nothing_lost(self) -> Array:
        """R L: the attenuation is in `amp` and `spec` already."""
        return np.ones_like(self.amp)

    def spread(self, knots: Array) -> Array:
        """R L from r l, bilinear."""
        return np.asarray(self.along @ knots.astype(np.float32) @ self.across)


def _weights(size: int, every: int) -> Array:
    """Size knots: linear interpolation, about one knot in `every`, and one at each end."""
    knots = math.ceil((size - 1) / every) + 1
    place = np.arange(size) * (knots - 1) / (size - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(knots)[None])).astype(np.float32)


class Painted(ABC):
    """A scene (see `scene.Scene`) that is painted once.

    Args:
        texture: the patient's texture source.
        rng: of this acquisition.
    """

    name: str
    mask_values: ClassVar[Mapping[int, int]]
    """label → value in the item's mask; other labels are 0"""
    gain = (0.94, -0.32)
    depth_mm: float
    least_span_mm: float = 0.0
    """what the picture must show of the width"""
    fps = 25.0
    clip_frames = 16
    always_moved = False
    """whether what is painted is not what is seen at time 0"""
    knots = (8, 8)
    """samples and lines between two places where motion is computed"""

    def __init__(self, texture: Lattice, rng: np.random.Generator) -> None:
        self.texture = Texture(texture, rng)
        self.drift, self._key = Drift.draw(rng), int(rng.integers(2**63))

    @abstractmethod
    def paint(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """The tissue at time 0; `rng` is the same at each call."""

    @abstractmethod
    def truth(self, t_s: float) -> Truth:
        """The labels at time `t_s`."""

    def pivot_mm(self) -> tuple[float, float]:
        """About what the hand turns."""
        return 0.0, self.depth_mm / 2

    def before(self, x_mm: Array, z_mm: Array, t_s: float) -> tuple[Array, Array]:
        """Where the tissue that is at x, z was at time 0; any shape."""
        return self.drift.before(x_mm, z_mm, t_s, self.pivot_mm())

    def after(self, x_mm: float, z_mm: float, t_s: float) -> tuple[float, float]:
        """Where the tissue that was at x, z at time 0 is."""
        return self.drift.after(x_mm, z_mm, t_s, self.pivot_mm())

    def static(self, grid: Grid) -> Painting:
        """Paint it."""
        rng = np.random.Generator(np.random.Philox(key=self._key))
        line_db = decibel(transmission_db(grid, rng))
        canvas = self.paint(grid, rng)
        still = Maps(
            amp=(decibel(canvas.level_db) * line_db).astype(np.float32),
            spec=(canvas.spec * line_db).astype(np.float32),
            att=canvas.att,
            loss=canvas.loss,
            label=canvas.label,
            material_x_mm=(grid.x_mm + np.float32(self.texture.x_mm)).astype(np.float32),
            material_z_mm=(grid.z_mm + np.float32(self.texture.z_mm)).astype(np.float32),
        )
        left = through(grid, canvas.att, canvas.loss)
        along, across = (
            _weights(size, every)
            for size, every in zip((grid.samples, grid.vendor.lines), self.knots, strict=True)
        )
        knots_x_mm, knots_z_mm = grid.place(
            np.linspace(grid.r_mm[0], grid.r_mm[-1], along.shape[1], dtype=np.float32)[:, None],
            np.linspace(grid.lateral[0], grid.lateral[-1], across.shape[1], dtype=np.float32)[None],
        )
        return Painting(
            grid=grid,
            still=still,
            amp=still.amp * left,
            spec=still.spec * left,
            knots_x_mm=knots_x_mm,
            knots_z_mm=knots_z_mm,
            along=along,
            across=np.ascontiguousarray(across.T),
        )

    def frame(self, cache: Painting, t_s: float) -> Maps:
        """The maps at time `t_s`."""
        if t_s == 0 and not self.always_moved:
            return cache.still
        grid = cache.grid
        x, z = self.before(cache.knots_x_mm, cache.knots_z_mm, t_s)
        row, column = grid.index_of(x, z)
        rows = np.rint(np.clip(cache.spread(row), 0, grid.samples - 1)).astype(np.int32)
        columns = np.rint(np.clip(cache.spread(column), 0, grid.vendor.lines - 1)).astype(np.int32)
        rows *= grid.vendor.lines
        rows += columns
        return Maps(
            amp=cache.amp.take(rows),
            spec=cache.spec.take(rows),
            att=cache.still.att,
            loss=cache.still.loss,
            label=_taken(cache.still.label, rows),
            material_x_mm=cache.spread(x + np.float32(self.texture.x_mm)),
            material_z_mm=cache.spread(z + np.float32(self.texture.z_mm)),
            through=cache.nothing_lost,
        )


def _taken(label: Labels, index: np.ndarray) -> Labels:
    return np.asarray(label.take(index), dtype=np.uint8)
