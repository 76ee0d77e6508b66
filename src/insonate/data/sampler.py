"""Which items a step sees, and their seeds: functions of (seed, epoch, step), for any number of ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
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


class EpochSampler:
    """Batches of `ItemKey` for one rank; the global batch of a step is the same for any number of ranks."""

    def __init__(
        self, num_items: int, batch: int, *, seed: int, shuffle: bool, rank: int, world: int, drop_last: bool
    ) -> None:
        self.num_items, self.batch, self.seed, self.shuffle = num_items, batch, seed, shuffle
        self.rank, self.world, self.drop_last = rank, world, drop_last
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
        return np.random.Generator(np.random.Philox(seed_of("order", self.seed, epoch))).permutation(
            self.num_items
        )

    def step_seed(self, epoch: int, step: int) -> int:
        """Equal on all ranks."""
        return seed_of("step", self.seed, epoch, step)

    def __iter__(self) -> Iterator[list[ItemKey]]:
        epoch, order = self.current_epoch, self.order(self.current_epoch)
        for step in range(self.start_step, len(self)):
            mine = self.of_rank(order, step)
            yield [ItemKey(int(i), seed_of("item", self.seed, epoch, int(i))) for i in mine]

    def of_rank(self, order: np.ndarray, step: int) -> np.ndarray:
        """Items of this rank in a step of an epoch with this `order`."""
        whole = self.batch * self.world
        items = order[step * whole : (step + 1) * whole]
        mine = np.array_split(items, self.world)[self.rank]
        return mine if len(mine) else items[:1]  # fewer items than ranks are left: all ranks must take part
