"""The fair split of a benchmark of several tasks, and the leaking one of a published model beside it.

Fair: groups (patients, or stretches of a recording) go to validation as a whole, in an order that a hash of
the group alone decides: no random numbers, and neither the order of rows nor another task's rows matter.
Leaking: a random part of all images, as the SONICHU card did it; frames of a recording are then on both
sides. It is here to measure how large that leak is, and for nothing else. A manifest refuses such a split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from insonate.data.manifest import Manifest, Row, patient_key
from insonate.errors import ManifestError

SOURCE_COLUMN = "label_source"
"""of rows whose label a model made: `pseudo:…`"""
SET_COLUMN = "points_set"
"""which of several tasks a row is of, where they share a label column"""
BLOCK_FRAMES, GUARD_FRAMES = 40, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """How much of a validation set is known from training."""

    items: int
    """of the validation"""
    known_items: int
    """of them, those whose group is in the training too"""

    @property
    def share(self) -> float:
        """Part of the validation items whose group is also trained on."""
        return self.known_items / self.items if self.items else 0.0


def fair_split(
    manifest: Manifest, columns: Mapping[str, str], *, fraction: float = 0.15, seed: int = 42
) -> Manifest:
    """Put whole patients of each task into `val`, the other rows into `train`.

    Rows that no task has a label for, and rows whose label a model made, are `train` unless their patient is
    in validation; then they are left out, for a teacher must not have seen them either.

    Args:
        manifest: the rows; their present splits are replaced.
        columns: task → its label column.
        fraction: largest part of a task's labelled rows that goes to validation, to within half a patient.
        seed: another one gives another order.

    Raises:
        ManifestError: a task has labels of fewer than two patients.
    """
    groups = {task: _groups(manifest, task, column) for task, column in columns.items()}
    tasks_of = Counter(group for counts in groups.values() for group in counts)
    held: set[str] = set()
    for task, counts in groups.items():
        shared = {group for group in counts if tasks_of[group] > 1}
        held |= chosen_groups(counts, task, fraction=fraction, seed=seed, shared=shared)
    rows: list[Row] = []
    for row in manifest.rows:
        if patient_key(row["patient_id"]) not in held:
            rows.append({**row, "split": "train"})
        elif any(_labelled(row, task, column) for task, column in columns.items()):
            rows.append({**row, "split": "val"})
    return manifest.with_rows(rows)


def chosen_groups(
    counts: Mapping[str, int],
    task: str,
    *,
    fraction: float = 0.15,
    seed: int = 42,
    shared: set[str] | frozenset[str] = frozenset(),
) -> set[str]:
    """The groups of one task that go to validation: at least one, never all.

    Args:
        counts: group → number of items.
        task: its name, which enters the hash.
        fraction: of the items.
        seed: enters the hash.
        shared: groups that other tasks have too; their place is the same in each.
    """
    total, taken = sum(counts.values()), 0
    chosen: set[str] = set()
    order = sorted(
        counts, key=lambda group: (group_hash(group, "patient" if group in shared else task, seed), group)
    )
    for group in order[:-1]:
        if not chosen or taken + counts[group] / 2 <= fraction * total:
            chosen.add(group)
            taken += counts[group]
    return chosen


def group_hash(group: str, task: str, seed: int = 42) -> int:
    """Where a group stands among those of its task: a number of 64 bits."""
    digest = hashlib.blake2b(f"{seed}:{task}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def frame_blocks(
    frames: Sequence[int], *, size: int = BLOCK_FRAMES, guard: int = GUARD_FRAMES
) -> list[str | None]:
    """Group of each frame of one recording: stretches of `size`; None for `guard` ones at an inner border.

    Frames are counted in their sorted order, so that numbers left out do not move a border far.
    """
    place = {frame: i for i, frame in enumerate(sorted(set(frames)))}
    last = len(place) - 1

    def group(i: int) -> str | None:
        block, inside = divmod(i, size)
        after_border, before_border = block > 0 and inside < guard, inside >= size - guard
        ends_here = (block + 1) * size > last
        return None if after_border or (before_border and not ends_here) else str(block)

    return [group(place[frame]) for frame in frames]


def random_split_like_card(count: int, *, fraction: float = 0.15, seed: int = 42) -> np.ndarray:
    """Indices of the first 15 % of a random order of all images, the published way. It leaks."""
    return np.random.RandomState(seed).permutation(count)[: int(fraction * count)]


def tasks_of(manifest: Manifest) -> dict[str, str]:
    """Task → label column, of the points in a manifest: one a set of points, or one a column `keypoints…`.

    Raises:
        ManifestError: there are no points in it.
    """
    columns = [name for name in manifest.rows[0] if name.startswith("keypoints")]
    if SET_COLUMN in manifest.rows[0] and "keypoints" in columns:
        return dict.fromkeys(sorted({str(one) for one in manifest.column(SET_COLUMN) if one}), "keypoints")
    if not columns:
        raise ManifestError(manifest.source, "has no column keypoints…", "Name the label columns")
    return {name: name for name in columns}


def split_by_image(manifest: Manifest, held: Collection[int], split: str = "val") -> Manifest:
    """The leaking split: rows with the numbers `held` go to `split`, the others to the training.

    Each image counts as a patient of its own, or a manifest would refuse it.
    """
    rows = [
        {**row, "patient_id": f"image {i}", "split": split if i in held else "train"}
        for i, row in enumerate(manifest.rows)
    ]
    return manifest.with_rows(rows)


def leak(groups: Sequence[str], validation: np.ndarray) -> Leak:
    """How many validation items have their group in training, of N items with these groups."""
    inside = np.zeros(len(groups), dtype=bool)
    inside[validation] = True
    trained = {group for group, held in zip(groups, inside, strict=True) if not held}
    return Leak(items=int(inside.sum()), known_items=sum(groups[int(i)] in trained for i in validation))


def _groups(manifest: Manifest, task: str, column: str) -> dict[str, int]:
    """Patient → number of its rows with an original label of the task.

    Raises:
        ManifestError: there are fewer than two patients.
    """
    rows = [row for row in manifest.rows if _labelled(row, task, column)]
    counts = Counter(patient_key(row["patient_id"]) for row in rows)
    if len(counts) < 2:
        raise ManifestError(
            manifest.source, f"{task} has labels of {len(counts)} patients", "Two are needed to split"
        )
    return dict(counts)


def _labelled(row: Row, task: str, column: str) -> bool:
    """Whether a person labelled the row for this task; a row that names a set of points is of that alone."""
    label = row.get(column)
    if label is None or str(label) == "" or row.get(SET_COLUMN) not in {None, "", task}:
        return False
    return not str(row.get(SOURCE_COLUMN) or "").startswith("pseudo")
