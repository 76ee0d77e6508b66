"""Learning rate and weight decay of a step, as pure functions of its number.

n counts steps from 1 (the first step already takes a warm-up increment), as in I-JEPA (Assran et al. 2023,
arXiv 2301.08243). WSD: Hu et al. 2024 (arXiv 2404.06395).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from insonate.train.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Rates over a run of `epochs` × `steps_per_epoch` steps."""

    settings: Settings
    steps_per_epoch: int

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return int(self.settings.warmup_epochs * self.steps_per_epoch)

    @property
    def total(self) -> int:
        """Steps over which the schedules are laid out; `stretch` times the run's."""
        return int(self.settings.stretch * self.settings.epochs * self.steps_per_epoch)

    def lr(self, n: int) -> float:
        """Learning rate of step n ≥ 1; the final one after the schedule's end."""
        s = self.settings
        if n < self.warmup:
            return s.start_lr + n / self.warmup * (s.lr - s.start_lr)
        if s.schedule == "cosine":
            return cosine(self._part(n, self.warmup), s.lr, s.final_lr)
        hold_end = max(self.warmup, self.total - round(s.decay_fraction * self.total))
        return s.lr + (s.final_lr - s.lr) * self._part(n, hold_end)

    def weight_decay(self, n: int) -> float:
        """Weight decay of step n ≥ 1, from the first step on half a cosine if two values were given."""
        decay = self.settings.weight_decay
        return decay if isinstance(decay, float) else cosine(self._part(n, 0), *decay)

    def progress(self, n: int) -> float:
        """Place of step n in the schedule for moving averages: 0 in step 1, never quite 1 in the last."""
        return min(1.0, (n - 1) / (self.steps_per_epoch * self.settings.epochs * self.settings.stretch))

    def _part(self, n: int, start: int) -> float:
        """Part of start … total that has passed at n, in [0, 1]."""
        return min(1.0, max(0.0, (n - start) / max(1, self.total - start)))


def cosine(part: float, first: float, last: float) -> float:
    """Half a cosine from `first` (part 0) to `last` (part 1)."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * part))
