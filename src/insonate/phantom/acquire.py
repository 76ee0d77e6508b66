"""What goes wrong between patient and file: an unsteady hand, lost contact, dropped frames, a noisy tracker.

Every function of time is a pure one, so that a frame does not depend on the frames before it.
Rates: shared spec phantom, section 5. Shapes: T frames, R samples, L lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from insonate.phantom.physics import Array, Frame, Maps

HAND_SWINGS = 5
TREMOR_MM = 0.5
"""standard deviation of the hand, each axis"""
DROPPED = 0.02
"""share of the frames of a degraded clip that are lost"""
CONTACT_DB = -20.0
TRACKER_MM, TRACKER_DEG, TRACKER_LATE_S, TRACKER_LOST = 0.3, 0.2, 0.030, 0.01


@dataclass(frozen=True)
class Hand:
    """Slow motion of a probe that should be still: sums of swings, zero at time 0."""

    swings: tuple[tuple[float, float, tuple[float, float, float]], ...]
    """rate in Hz, phase, and amplitude in mm along the axes of the probe"""

    @classmethod
    def draw(cls, rng: np.random.Generator, scale: float = 1.0) -> Hand:
        """A hand; a small patient is scanned with smaller motion."""
        size = TREMOR_MM * scale * math.sqrt(2 / HAND_SWINGS)
        return cls(
            tuple(
                (
                    float(rng.uniform(0.1, 1.6)),
                    float(rng.uniform(0, 2 * math.pi)),
                    _three(rng.normal(0, size, 3)),
                )
                for _ in range(HAND_SWINGS)
            )
        )

    def at(self, t_s: float) -> np.ndarray:
        """Shift in mm along the probe's axes."""
        moved = np.zeros(3)
        for rate, phase, size in self.swings:
            moved += np.array(size) * (math.sin(2 * math.pi * rate * t_s + phase) - math.sin(phase))
        return moved


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Of one clip."""

    lost_s: tuple[float, float]
    """when contact is lost, from and to"""
    lost_lines: tuple[float, float]
    """which part of the lines, 0 to 1"""
    dropped: tuple[int, ...]
    """frames that were lost: the one before stands still instead"""

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, fps: float, keep: tuple[int, ...]) -> Faults:
        """Lost contact at one side for 0.2 to 1 s, and dropped frames other than the first and `keep`."""
        start, edge = float(rng.uniform(0, count / fps)), float(rng.uniform(0.2, 0.4))
        left = rng.random() < 0.5
        lost = rng.random(count) < DROPPED
        return cls(
            lost_s=(start, start + float(rng.uniform(0.2, 1.0))),
            lost_lines=(0.0, edge) if left else (1 - edge, 1.0),
            dropped=tuple(int(n) for n in np.flatnonzero(lost) if n > 0 and int(n) not in keep),
        )

    def applied(self, maps: Maps, t_s: float) -> Maps:
        """The maps as the probe still sees them."""
        if not self.lost_s[0] <= t_s < self.lost_s[1]:
            return maps
        place = np.linspace(0, 1, maps.amp.shape[1])
        first, last = self.lost_lines
        beyond = last - place if first == 0 else place - first
        inside = 1 / (1 + np.exp(-80 * beyond))
        gain = (10 ** (CONTACT_DB * inside / 20)).astype(np.float32)
        return maps._replace(amp=maps.amp * gain, spec=maps.spec * gain)

    def frozen(self, frames: Frame) -> Frame:
        """T H W: the clip with its dropped frames."""
        frames = frames.copy()
        for number in self.dropped:
            frames[number] = frames[number - 1]
        return frames


def tracked(poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """T 4 4 as a tracker tells them: 0.3 mm and 0.2° of noise on each axis; NaN where it lost sight.

    Args:
        poses: T 4 4, where the probe was when the tracker looked (`TRACKER_LATE_S` before each frame).
        rng: of the tracker.
    """
    told = poses.copy()
    for pose in told:
        angle = np.radians(rng.normal(0, TRACKER_DEG, 3))
        pose[:3, :3] = pose[:3, :3] @ turned(angle)
        pose[:3, 3] += rng.normal(0, TRACKER_MM, 3)
        if rng.random() < TRACKER_LOST:
            pose[:] = np.nan
    return told


def turned(vector: Array) -> np.ndarray:
    """3 3: rotation about `vector` by its length in rad. Source: Rodrigues."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)
