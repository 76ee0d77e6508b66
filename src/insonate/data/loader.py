"""Loader: batches of a dataset, the same for any number of workers and ranks, from any step on.

Shapes: B items, C channels, H W model input, K points.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from insonate.data.sample import Batch, Sample
from insonate.data.sampler import Balance, EpochSampler, ItemKey
from insonate.errors import InsonateError, RunError

TIMEOUT_S = 600.0
"""longest wait for a batch: well above what a slow disk needs"""
NAMED = 5
"""items of a batch that an error names"""


class ItemDataset(Protocol):
    """What the loader needs of a dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: ItemKey, /) -> Sample: ...

    def item_id(self, index: int, /) -> str:
        """What errors call an item."""


class Loader:
    """Batches by (seed, epoch, step).

    Args:
        dataset: yields a sample for an `ItemKey`.
        batch: items a step on this rank.
        seed: of the run.
        shuffle: a new order each epoch; else the order of the dataset.
        workers: processes that read ahead; 0 reads in this one. They stay between epochs.
        balance: shares of groups of items in an epoch, where it shuffles.
        timeout_s: without a batch from them for so long, the epoch ends with an error.
        drop_last: leave out the items that do not fill a last step.

    On several ranks, set `sampler.rank` and `sampler.world`: the global batch of a step is `batch · world`
    items, cut into rank slices.

    Raises:
        ManifestError: there are fewer items than one step needs.
    """

    def __init__(
        self, dataset: ItemDataset, batch: int, *, seed: int = 0, shuffle: bool = True, workers: int = 0,
        timeout_s: float = TIMEOUT_S, drop_last: bool = True,
        balance: Balance | None = None,
    ) -> None:  # fmt: skip
        self.dataset, self.batch, self.drop_last, self.timeout_s = dataset, batch, drop_last, timeout_s
        self.sampler = EpochSampler(
            len(dataset), batch, seed=seed, shuffle=shuffle, rank=0, world=1, drop_last=drop_last,
            balance=balance if shuffle else None,
        )  # fmt: skip
        with _quiet():
            self._torch: DataLoader[Batch | InsonateError] = DataLoader(
                _Fetch(dataset),
                batch_sampler=self.sampler,
                collate_fn=_as_is,
                num_workers=workers,
                persistent_workers=workers > 0,
                timeout=timeout_s if workers else 0,
                pin_memory=torch.cuda.is_available(),
            )

    def __len__(self) -> int:
        """Steps an epoch on each rank."""
        return len(self.sampler)

    @property
    def items_per_epoch(self) -> int:
        """Items that all ranks together see in an epoch."""
        sampler = self.sampler
        return len(sampler) * self.batch * sampler.world if self.drop_last else sampler.num_items

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from `start_step` on.

        Raises:
            InsonateError: an item cannot be read; it names the file.
            RunError: a worker was killed, or none has delivered for `timeout_s`.
        """
        self.sampler.current_epoch, self.sampler.start_step = epoch, start_step
        with _quiet(), worker_death_told():
            batches = iter(self._torch)
        for step in range(start_step, len(self)):
            with worker_death_told(), self._faults_told(epoch, step):
                batch = next(batches)
            if isinstance(batch, InsonateError):
                try:
                    raise batch
                finally:
                    del batch  # else frame and error hold each other, and the workers stop late
            batch["step_seed"] = self.sampler.step_seed(epoch, step)
            yield batch

    @contextlib.contextmanager
    def _faults_told(self, epoch: int, step: int) -> Iterator[None]:
        """Turn what befalls a worker while its batch is awaited into one line, and end all workers.

        Raises:
            RunError: a worker was killed, or none has delivered for `timeout_s`.
            RuntimeError: any other of the block.
        """
        try:
            yield
        except (ConnectionError, EOFError) as error:  # it was killed while it handed a batch over
            self._end_workers()
            raise RunError(*_killed(error)) from None
        except RuntimeError as error:
            if not str(error).startswith("DataLoader "):
                raise
            self._end_workers()
            told = self._hung(epoch, step) if "timed out" in str(error) else _killed(error)
            raise RunError(*told) from None

    def _hung(self, epoch: int, step: int) -> tuple[str, str, str]:
        """Where, what and mend."""
        mine = self.sampler.of_rank(self.sampler.order(epoch), step)
        names = [self.dataset.item_id(int(index)) for index in mine[:NAMED]]
        more = f" and {len(mine) - NAMED} more" if len(mine) > NAMED else ""
        waited = f"nothing came from the processes that read ahead for {self.timeout_s:g} s"
        return (
            f"epoch {epoch + 1}, batch {step + 1}",
            f"{waited}; the batch is {', '.join(names)}{more}",
            "Look at these files and their disk, or raise data.timeout_s; the same command goes on",
        )

    def _end_workers(self) -> None:
        """End them all, also those that answer no signal but SIGKILL; torch tells of no death afterwards."""
        iterator: Any = self._torch._iterator
        self._torch._iterator = None
        iterator._shutdown_workers()
        for worker in iterator._workers:
            worker.kill()
            worker.join()


def collate(samples: Sequence[Sample], step_seed: int = 0) -> Batch:
    """Stack samples of the same kind of label into a batch."""
    batch = Batch(
        image=_stack([s["image"] for s in samples]),  # B C H W
        meta=[s["meta"] for s in samples],
        item_seed=[s["item_seed"] for s in samples],
        step_seed=step_seed,
    )
    first = samples[0]
    if "mask" in first:
        batch["mask"] = _stack([s["mask"] for s in samples]).long()  # B H W
    if "original_mask" in first:
        batch["original_mask"] = [s["original_mask"] for s in samples]
    if "points" in first:
        batch["points_xy"] = _padded([s["points"] for s in samples]).float()  # B K 2
        batch["visible"] = _padded([s["visible"] for s in samples])  # B K
    if "label" in first:
        batch["label"] = torch.tensor([s["label"] for s in samples])  # B
    if "value" in first:
        batch["value"] = torch.tensor([s["value"] for s in samples], dtype=torch.float32)  # B
    if any("weight" in s for s in samples):
        batch["weight"] = torch.tensor([s.get("weight", 1.0) for s in samples], dtype=torch.float32)  # B
    return batch


class _Fetch(Dataset["Batch | InsonateError"]):
    """Makes whole batches in the worker; an `InsonateError` comes back as a value.

    torch would rebuild it from its message alone, and lose which file it was about.
    """

    def __init__(self, dataset: ItemDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: list[ItemKey]) -> Batch | InsonateError:
        try:
            return collate([self.dataset[key] for key in keys])
        except InsonateError as error:
            return error


def _as_is(batch: Any) -> Any:
    return batch


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([t.as_subclass(Tensor) for t in tensors])


def _padded(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked, with zeros behind those that have fewer rows."""
    return pad_sequence([t.as_subclass(Tensor) for t in tensors], batch_first=True)


@contextlib.contextmanager
def worker_death_told() -> Iterator[None]:
    """Turn torch's report of a killed worker, which may come at any time, into one clear line.

    Raises:
        RunError: a worker was killed in the block.
        RuntimeError: any other of the block.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(*_killed(error)) from None


def _killed(error: Exception) -> tuple[str, str, str]:
    """Where, what and mend."""
    return (
        "data.workers",
        f"a process that reads ahead was killed, probably because memory ran out ({error})",
        "Lower data.workers or data.batch; the same command goes on from the last checkpoint",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """More workers than cores, and a fork beside idle threads, are meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        warnings.filterwarnings(
            "ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning
        )
        yield
