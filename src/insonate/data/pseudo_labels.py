"""Pseudo-labels: which of a model's own points may be trained on. Five regimes, filters, caps and a guard.

A regime is a recipe of data: whose labels, how sure they must be, how many a task may have, what they weigh.
The filters are those of section E.2 of our notes on SONICHU (its card names five regimes and defines none):
agreement of the two mirrored views, confidence within the task, shape as the labels have it, and distance to
every picture of the evaluation. Given predictions, this file decides; `deploy.pseudo_label` makes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from insonate.data.likeness import Likeness, near_pairs
from insonate.data.manifest import Row, patient_key
from insonate.data.plausible import Bounds
from insonate.data.sampler import seed_of

HELD_OUT = ("val", "test")
"""splits whose patients, and whatever looks like them, are never labelled by a model"""
EVALUATION, FLIP, DOUBT, SHAPE, SECTOR, COPY, CLIP, CAP = (
    "of the evaluation, or nearly", "the mirrored view differs", "too little confidence",
    "no shape that labels have", "outside the echoes", "a copy of another", "more of its clip",
    "above the task's cap",
)  # fmt: skip
"""why a picture is left out"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How pseudo-labels are chosen."""

    name: str
    teacher: str
    """the regime of the model that labels, for people"""
    weight: float
    """of a pseudo-label in the loss; a person's label has 1"""
    quantile: float = 0.4
    """part of each task's pool with the least confidence, which is left out"""
    most: int | None = None
    """pseudo-labels of a task"""
    most_per_label: float | None = None
    """the same, for each label of a person in the training"""
    exceptions: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """task → another `most_per_label`"""
    repeat_to: int = 0
    """rows of persons' labels of a task are repeated until there are so many"""
    flip_px: float = 8.0
    """largest mean distance of the points of the two mirrored views, in pixels of a picture of 256"""
    per_clip: int = 5
    """pictures of one clip"""

    def cap(self, task: str, labelled: int) -> int | None:
        """Largest number of pseudo-labels of a task with so many labels; none without a cap."""
        if self.most_per_label is None:
            return self.most
        return round(self.exceptions.get(task, self.most_per_label) * labelled)


REGIMES = {
    regime.name: regime
    for regime in (
        Regime(name="r1", teacher="labels alone, both views", most=1500, weight=0.5),
        Regime(name="r2", teacher="r1", most=3000, weight=0.7),
        Regime(name="r3", teacher="r2", most=5000, weight=1.0),
        Regime(
            name="selective", teacher="r3", quantile=0.7, most_per_label=10.0, weight=1.0,
            exceptions=MappingProxyType({"FUGC": 5.0}),
        ),
        Regime(name="balanced", teacher="r3", most=2000, weight=1.0, repeat_to=500),
    )
}  # fmt: skip
"""name → regime"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A picture that a model has labelled."""

    row: Row
    """of the pool; its frame is named where its medium has several"""
    task: str
    points_xy: np.ndarray
    """K 2, pixels of the original"""
    hw: tuple[int, int]
    confidence: float
    """mean of its points"""
    flip_gap_px: float
    """mean distance between the points of the two mirrored views, in pixels of a picture of 256"""
    likeness: Likeness | None
    """of the picture; none where it is flat"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a regime keeps, and why it drops the rest."""

    kept: list[Candidate]
    dropped: Counter[str]


def guarded(rows: Iterable[Row], held_out: Iterable[Row]) -> tuple[list[Row], int]:
    """The rows that a model may label, and how many were left out before it saw them.

    A patient, study, series or file of the evaluation is never labelled, nor is a row of its splits.
    """
    known = {key for row in held_out for key in _keys(row)}
    rows = list(rows)
    free = [row for row in rows if row["split"] not in HELD_OUT and not known.intersection(_keys(row))]
    return free, len(rows) - len(free)


def choose(
    candidates: Sequence[Candidate],
    regime: Regime,
    *,
    bounds: Mapping[str, Bounds],
    labelled: Mapping[str, int],
    held_out: Sequence[Likeness],
    in_sector: Callable[[Candidate], bool] = lambda _: True,
) -> Choice:
    """The candidates that a regime trains on.

    A group with a picture that nearly equals one of the evaluation is left out as a whole: the same patient
    came under another name. Which of too many are kept is decided by a hash of each, not by their order.

    Args:
        candidates: of the pool, past `guarded`.
        regime: see `REGIMES`.
        bounds: task → what its labels allow.
        labelled: task → number of persons' labels in the training.
        held_out: of every picture of the evaluation.
        in_sector: whether all points lie where the echoes are; asked last, for it must look at the picture.
    """
    dropped: Counter[str] = Counter()
    leaked = _near_evaluation(candidates, held_out)
    pool = _kept(candidates, dropped, EVALUATION, lambda one: not leaked.intersection(_keys(one.row)))
    sure = _quantiles(pool, regime.quantile)
    pool = _kept(pool, dropped, FLIP, lambda one: one.flip_gap_px <= regime.flip_px)
    pool = _kept(pool, dropped, DOUBT, lambda one: one.confidence >= sure[one.task])
    pool = _kept(pool, dropped, SHAPE, lambda one: _shaped(one, bounds))
    pool = _kept(pool, dropped, SECTOR, in_sector)
    copies = _copies(pool)
    pool = _kept(pool, dropped, COPY, lambda one: id(one) not in copies)
    pool.sort(key=lambda one: (seed_of("pseudo", *map(str, _place(one.row))), _place(one.row)))
    pool = _capped(pool, dropped, CLIP, lambda one: (one.task, clip_of(one.row)), lambda _: regime.per_clip)
    pool = _capped(
        pool, dropped, CAP, lambda one: one.task, lambda one: regime.cap(one.task, labelled.get(one.task, 0))
    )
    return Choice(kept=pool, dropped=dropped)


def clip_of(row: Row) -> tuple[str, str]:
    """The clip that a picture is of: its series, or else its file (or item of a shard)."""
    if row["series_id"]:
        return patient_key(row["patient_id"]), row["series_id"]
    return row["path"], str(row.get("member") or "")


def provenance(one: Candidate, regime: Regime, teacher: str, column: str) -> Row:
    """The row of a pseudo-label.

    Args:
        one: what is labelled.
        regime: that chose it.
        teacher: SHA-256 of the weights that labelled it.
        column: of the label.
    """
    return {
        **one.row,
        "split": "train",
        column: [float(value) for value in one.points_xy.ravel()],
        "label_source": f"pseudo:{regime.name}@{teacher[:12]}",
        "weight": regime.weight,
        "pseudo_regime": regime.name,
        "pseudo_teacher": teacher,
        "pseudo_confidence": one.confidence,
        "pseudo_flip_gap_px": one.flip_gap_px,
    }


def repeats(count: int, regime: Regime) -> int:
    """How often each of a task's `count` labelled rows stands in the training of a regime."""
    return max(1, -(-regime.repeat_to // count)) if count else 1


def _keys(row: Row) -> set[tuple[str, str]]:
    """Names under which a row's patient, examination or file may be known elsewhere."""
    named = {
        ("patient", patient_key(row["patient_id"])),
        ("file", f"{row['path']}\0{row.get('member') or ''}"),
    }
    return named | {(kind, row[kind]) for kind in ("study_id", "series_id") if row[kind]}


def _near_evaluation(candidates: Sequence[Candidate], held_out: Sequence[Likeness]) -> set[tuple[str, str]]:
    """Keys of the groups of which a picture nearly equals one of the evaluation."""
    seen = [one for one in candidates if one.likeness is not None]
    pictures = [*held_out, *(one.likeness for one in seen if one.likeness is not None)]
    first = len(held_out)
    return {
        key
        for a, b in near_pairs(pictures)
        if a < first <= b
        for key in _keys(seen[b - first].row)
    }  # fmt: skip


def _copies(pool: Sequence[Candidate]) -> set[int]:
    """Ids of candidates that nearly equal a surer one of the same task."""
    seen = [one for one in pool if one.likeness is not None]
    seen.sort(key=lambda one: (-one.confidence, _place(one.row)))
    copies: set[int] = set()
    for a, b in near_pairs([one.likeness for one in seen if one.likeness is not None]):
        if id(seen[a]) not in copies and seen[a].task == seen[b].task:
            copies.add(id(seen[b]))
    return copies


def _shaped(one: Candidate, bounds: Mapping[str, Bounds]) -> bool:
    """Whether the task's labels allow its points; a task without labels allows none."""
    return one.task in bounds and bounds[one.task].allow(one.points_xy, one.hw)


def _quantiles(pool: Sequence[Candidate], quantile: float) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in pool:
        values.setdefault(one.task, []).append(one.confidence)
    return {task: float(np.quantile(found, quantile)) for task, found in values.items()}


def _kept(
    pool: Sequence[Candidate], dropped: Counter[str], why: str, keep: Callable[[Candidate], bool]
) -> list[Candidate]:
    kept = [one for one in pool if keep(one)]
    if len(kept) < len(pool):
        dropped[why] += len(pool) - len(kept)
    return kept


def _capped(
    pool: Sequence[Candidate],
    dropped: Counter[str],
    why: str,
    group: Callable[[Candidate], Hashable],
    most: Callable[[Candidate], int | None],
) -> list[Candidate]:
    """The first `most` of each group."""
    taken: Counter[Hashable] = Counter()

    def keep(one: Candidate) -> bool:
        cap = most(one)
        taken[group(one)] += 1
        return cap is None or taken[group(one)] <= cap

    return _kept(pool, dropped, why, keep)


def _place(row: Row) -> tuple[str, str, int]:
    return row["path"], str(row.get("member") or ""), int(row.get("frame") or 0)
