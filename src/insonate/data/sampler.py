"""Which items a step sees, and their seeds: functions of (seed, epoch, step), for any number of ranks.

With groups of very different sizes (nine biometry tasks: 38 to 4,000 labelled images) each group's share of
an epoch may be its number of items to a power below 1: 0.5 for SONICHU (docs/methods/sonichu.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from insonate.errors import ManifestError


class ItemKey(NamedTuple):
    """An item and the seed of what is random about it in this epoch."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    item_seed: int


def seed_of(*parts: int | str) -> int:
    """63 bits (a non-negative int64) that depend on all parts and their order."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Balance:
    """The items of an epoch where each group has a share in proportion to its size to a power.

    An epoch has as many items as there are. A group walks through shuffles of its own, one after the other,
    and goes on where the epoch before stopped: no item comes again before all of its group were seen.
    """

    def __init__(self, groups: Sequence[str], power: float) -> None:
        names = sorted(set(groups))
        labels = np.asarray(groups)
        self.members = {name: np.flatnonzero(labels == name) for name in names}
        weights = np.array([len(self.members[name]) ** power for name in names])
        exact = len(groups) * weights / weights.sum()
        counts = np.floor(exact).astype(int)
        left = len(groups) - counts.sum()
        counts[np.argsort(counts - exact, kind="stable")[:left]] += 1  # largest remainders
        self.counts = dict(zip(names, counts.tolist(), strict=True))

    def items(self, seed: int, epoch: int) -> np.ndarray:
        """Items of an epoch, group by group; a function of (seed, epoch)."""
        return np.concatenate([self._of_group(name, seed, epoch) for name in self.members])

    def _of_group(self, name: str, seed: int, epoch: int) -> np.ndarray:
        members, count = self.members[name], self.counts[name]
        first, last = epoch * count, (epoch + 1) * count  # of the group's endless walk
        rounds = range(first // len(members), -(-last // len(members)))
        walk = [members[_shuffled(len(members), seed_of("group", name, seed, r))] for r in rounds]
        start = first - rounds.start * len(members)
        return np.concatenate([*walk, members[:0]])[start : start + count]


class EpochSampler:
    """Batches of `ItemKey` for one rank; the global batch of a step is the same for any number of ranks."""

    def __init__(
        self, num_items: int, batch: int, *, seed: int, shuffle: bool, rank: int, world: int,
        drop_last: bool, balance: Balance | None = None,
    ) -> None:  # fmt: skip
        self.num_items, self.batch, self.seed, self.shuffle = num_items, batch, seed, shuffle
        self.rank, self.world, self.drop_last, self.balance = rank, world, drop_last, balance
        self.current_epoch, self.start_step = 0, 0
        if batch < 1 or world < 1 or not 0 <= rank < world:
            raise ValueError(f"batch {batch}, rank {rank} of world {world}")
        if len(self) == 0:
            raise ManifestError(
                "batch", f"{batch} items on {world} devices are more than the {num_items} items there are",
                "Choose a smaller batch or add items",
            )  # fmt: skip

    def __len__(self) -> int:
        whole = self.batch * self.world
        return self.num_items // whole if self.drop_last else -(-self.num_items // whole)

    def order(self, epoch: int) -> np.ndarray:
        """Items of an epoch in the order in which they are seen."""
        if not self.shuffle:
            return np.arange(self.num_items)
        mixed = _shuffled(self.num_items, seed_of("order", self.seed, epoch))
        return mixed if self.balance is None else self.balance.items(self.seed, epoch)[mixed]

    def step_seed(self, epoch: int, step: int) -> int:
        """Equal on all ranks."""
        return seed_of("step", self.seed, epoch, step)

    def __iter__(self) -> Iterator[list[ItemKey]]:
        epoch, order = self.current_epoch, self.order(self.current_epoch)
        again = np.zeros(len(order), dtype=np.int64) if self.balance is None else _times_before(order)
        for step in range(self.start_step, len(self)):
            mine, times = self.of_rank(order, step), self.of_rank(again, step)
            yield [
                ItemKey(int(i), seed_of("item", self.seed, epoch, int(i), *([int(t)] if t else [])))
                for i, t in zip(mine, times, strict=True)
            ]

    def of_rank(self, order: np.ndarray, step: int) -> np.ndarray:
        """Items of this rank in a step of an epoch with this `order`."""
        whole = self.batch * self.world
        items = order[step * whole : (step + 1) * whole]
        mine = np.array_split(items, self.world)[self.rank]
        return mine if len(mine) else items[:1]  # fewer items than ranks are left: all ranks must take part


def _shuffled(count: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).permutation(count)


def _times_before(order: np.ndarray) -> np.ndarray:
    """How often each entry stands before its own place: an item seen twice in an epoch is changed twice."""
    by_item = np.argsort(order, kind="stable")
    sorted_items = order[by_item]
    first = np.searchsorted(sorted_items, sorted_items)
    times = np.empty(len(order), dtype=np.int64)
    times[by_item] = np.arange(len(order)) - first
    return times
