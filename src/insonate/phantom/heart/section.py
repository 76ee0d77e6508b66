"""Measuring in the plane of a picture: distances at points, along lines, and where a line leaves a chamber.

Coordinates (x, z) in mm, as in the picture: right and away from the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from insonate.phantom.heart.chambers import Distances
from insonate.phantom.heart.motion import Moment
from insonate.phantom.heart.solids import Point
from insonate.phantom.physics import Array

if TYPE_CHECKING:
    from insonate.phantom.heart.scene import Plane

Spot = tuple[float, float]
Field = Callable[[Distances], Array]
NOWHERE: Spot = (float("nan"), float("nan"))
NEAR_MM = 5.0
"""a point of the heart that is farther from the plane is not visible in it"""
STEP_MM, MAP_MM = 0.25, 1.5
REACH_MM = 90.0


class Crossing(NamedTuple):
    """Where a line meets a surface: distance along the line from its start, and the spot."""

    along_mm: float
    spot: Spot


class Section:
    """The plane at one moment."""

    def __init__(self, plane: Plane, now: Moment, t_s: float) -> None:
        self.plane, self.now = plane, now
        self.lay = plane.chambers.layout(now)
        self._moved = plane.moved_mm(t_s)
        self._probe_from_heart = np.linalg.inv(plane.heart_from_probe)
        self._map: tuple[Array, Array, Distances] | None = None

    def at(self, x_mm: Array, z_mm: Array) -> Distances:
        """Distances at points of the plane."""
        places = self.plane.places(x_mm.astype(np.float32), z_mm.astype(np.float32)).less(self._moved)
        return self.plane.chambers.distances(places, self.now)

    def project(self, place: Point) -> tuple[np.ndarray, float]:
        """(x, z) of a point of the solids' frame, and how far it is from the plane."""
        real = self.plane.chambers.unbent(place) + self._moved
        x, y, z, _ = self._probe_from_heart @ np.append(real, 1)
        return np.array([x, z]), abs(float(y))

    def hinges(self, ring: Point, ring_mm: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the plane cuts a valve's ring: left and right; None where it does not."""
        angles = np.linspace(0, 2 * np.pi, 181)
        places = [ring + ring_mm * np.array([np.cos(a), np.sin(a), 0]) for a in angles]
        moved = [self.plane.chambers.unbent(place) + self._moved for place in places]
        own = (self._probe_from_heart @ np.c_[moved, np.ones(len(moved))].T)[:3]
        cut = np.flatnonzero(np.sign(own[1, :-1]) != np.sign(own[1, 1:]))
        if len(cut) != 2:
            return None
        share = own[1, cut] / (own[1, cut] - own[1, cut + 1])
        x, z = (own[i, cut] + share * (own[i, cut + 1] - own[i, cut]) for i in (0, 2))
        left, right = np.argsort(x)
        return np.array([x[left], z[left]]), np.array([x[right], z[right]])

    def farthest(self, field: Field, start: np.ndarray) -> np.ndarray | None:
        """The point of the region around `start` that is farthest from it; None where there is no region."""
        x, z, distances = self._mapped()
        inside = field(distances) < 0
        parts, count = ndimage.label(inside)
        if count == 0:
            return None
        away = np.hypot(x - start[0], z - start[1])
        own = parts[np.unravel_index(np.where(inside, away, np.inf).argmin(), away.shape)]
        row, column = np.unravel_index(np.where(parts == own, away, -1).argmax(), away.shape)
        spot = np.array([x[row, column], z[row, column]], dtype=np.float64)
        if away[row, column] < 5:
            return None
        direction = (spot - start) / np.linalg.norm(spot - start)
        out = self.exits(field, spot - 2 * direction, direction)
        return np.array(out.spot) if out is not None and out.along_mm < 8 else spot

    def through(self, field: Field, start: np.ndarray) -> np.ndarray | None:
        """Where the line from `start` through the middle of the region nearest to it leaves the region."""
        x, z, distances = self._mapped()
        parts, count = ndimage.label(field(distances) < 0)
        if count == 0:
            return None
        away = np.where(parts > 0, np.hypot(x - start[0], z - start[1]), np.inf)
        own = parts == parts[np.unravel_index(away.argmin(), away.shape)]
        toward = np.array([x[own].mean(), z[own].mean()]) - start
        direction = toward / np.linalg.norm(toward)
        out = self.exits(field, start + 0.6 * toward, direction)
        return None if out is None else np.array(out.spot)

    def _mapped(self) -> tuple[Array, Array, Distances]:
        if self._map is None:
            depth = self.plane.depth_mm
            side = np.arange(-0.7 * depth, 0.7 * depth, MAP_MM)
            x, z = np.meshgrid(side, np.arange(5, depth, MAP_MM))
            self._map = x, z, self.at(x, z)
        return self._map

    def exits(self, field: Field, start: np.ndarray, direction: np.ndarray) -> Crossing | None:
        """The first place where the line from `start` leaves the region; None where it never does."""
        return self._first(field, start, direction, leaves=True)

    def enters(self, field: Field, start: np.ndarray, direction: np.ndarray) -> Crossing | None:
        """The first place where the line from `start` gets into the region; None where it never does."""
        return self._first(field, start, direction, leaves=False)

    def _first(
        self, field: Field, start: np.ndarray, direction: np.ndarray, *, leaves: bool
    ) -> Crossing | None:
        steps = np.arange(0, REACH_MM, STEP_MM)
        value = field(self.at(start[0] + steps * direction[0], start[1] + steps * direction[1]))
        inside = value < 0
        turned = np.flatnonzero(inside[:-1] & ~inside[1:] if leaves else ~inside[:-1] & inside[1:])
        if len(turned) == 0:
            return None
        i = int(turned[0])
        along = float(steps[i] + STEP_MM * value[i] / (value[i] - value[i + 1]))
        return Crossing(
            along, (float(start[0] + along * direction[0]), float(start[1] + along * direction[1]))
        )

    def widest(self, field: Field, start: np.ndarray, stop: np.ndarray) -> tuple[Spot, Spot] | None:
        """Ends, left first, of the widest stretch across the axis from `start` to `stop`."""
        axis = stop - start
        across = np.array([-axis[1], axis[0]]) / np.linalg.norm(axis)
        across *= np.sign(across[0]) or 1.0
        share = np.linspace(0.08, 0.92, 64)[:, None]  # 64 chords
        steps = np.arange(-60, 60.01, 2 * STEP_MM)
        x, z = (start[i] + share * axis[i] + steps * across[i] for i in (0, 1))
        value = field(self.at(x, z))
        best: tuple[float, Spot, Spot] | None = None
        for number in range(len(share)):
            ends = _stretch(steps, value[number])
            if ends is not None and (best is None or ends[1] - ends[0] > best[0]):
                middle = start + share[number] * axis
                left, right = (middle + end * across for end in ends)
                best = ends[1] - ends[0], (float(left[0]), float(left[1])), (float(right[0]), float(right[1]))
        return None if best is None else best[1:]


def _stretch(steps: Array, value: Array) -> tuple[float, float] | None:
    """First and last place of the run of inside (< 0) around step 0, between samples."""
    middle = len(steps) // 2
    if value[middle] >= 0:
        return None
    outside = np.flatnonzero(value >= 0)
    before, after = outside[outside < middle], outside[outside > middle]
    if len(before) == 0 or len(after) == 0:
        return None
    i, j = int(before[-1]), int(after[0])
    left = steps[i] + (steps[i + 1] - steps[i]) * value[i] / (value[i] - value[i + 1])
    right = steps[j - 1] + (steps[j] - steps[j - 1]) * value[j - 1] / (value[j - 1] - value[j])
    return float(left), float(right)
