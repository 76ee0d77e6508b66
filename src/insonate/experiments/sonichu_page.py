"""The tables of `insonate claims sonichu`: what was measured, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from insonate.evaluate import Interval
from insonate.experiments.biometry_arms import Arm

PAIRS = (
    ("I-JEPA start against random", "r0", "random"),
    ("I-JEPA start against supervised", "r0", "supervised"),
    ("r1 against the labels alone", "r1", "r0"),
    ("r3 against the labels alone", "r3", "r0"),
    ("balanced against r3", "balanced", "r3"),
    ("median of 5 against r3", "median of 5", "r3"),
    ("median of 5 against median of 4", "median of 5", "median of 4"),
    ("median of 3 against r3", "median of 3", "r3"),
    ("student against r3", "student", "r3"),
    ("student against median of 5", "student", "median of 5"),
    ("student against median of 3", "student", "median of 3"),
    ("student: points remembered against asked for", "student", "student, asked online"),
    ("soup against r3", "soup", "r3"),
)
"""(what is asked, arm, arm that it is compared with)"""
PARTS = {
    "init": "Start of the encoder, labels alone", "teacher": "Teachers, one a regime",
    "together": "Several teachers as one, and students", "order": "Order of the points",
    "split": "Split by patient, and by image",
}  # fmt: skip


def result(arms: Sequence[Arm], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything measured, ready for JSON."""
    return {**facts, "arms": [arm.to_dict() for arm in arms], "differences": differences(arms)}


def differences(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Paired by image, below 0 = the first is better; and of each arm, the mirrored view against without."""
    found: list[dict[str, Any]] = []
    for problem in dict.fromkeys(arm.problem for arm in arms):
        named = {
            arm.name: arm for arm in arms if arm.problem == problem and arm.part not in {"order", "split"}
        }
        for asked, first, second in PAIRS:
            if first in named and second in named:
                apart = named[first].plain.minus(named[second].plain)
                found.append({"problem": problem, "asked": asked, **apart.to_dict()})
        for name, arm in named.items():
            if arm.mirrored is not None:
                apart = arm.mirrored.minus(arm.plain)
                found.append({"problem": problem, "asked": f"mirrored view too, {name}", **apart.to_dict()})
    return found


def page(measured: Mapping[str, Any]) -> str:
    """Markdown tables of a `result`."""
    arms = measured["arms"]
    parts = []
    for problem in dict.fromkeys(arm["problem"] for arm in arms):
        own = [arm for arm in arms if arm["problem"] == problem]
        kind = "synthetic" if own[0]["synthetic"] else "real"
        parts.append(f"## {problem} ({kind} pictures)\n")
        parts += [
            _table(title, [arm for arm in own if arm["part"] == part])
            for part, title in PARTS.items() if any(arm["part"] == part for arm in own)
        ]  # fmt: skip
        parts.append(_differences([one for one in measured["differences"] if one["problem"] == problem]))
        parts.append(_by_task([arm for arm in own if arm["part"] in {"init", "teacher", "together"}]))
    return "\n".join(part for part in parts if part)


def _table(title: str, arms: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"### {title}\n",
        "| arm | training images | passes | ms | mean over images | over tasks | with the mirrored view |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        ms = "" if arm["ms"] is None else f"{arm['ms']:.0f}"
        mirrored = _told(arm["mirrored"]["weighted"]) if "mirrored" in arm else ""
        plain = arm["plain"]
        lines.append(
            f"| {arm['name']} | {arm['items'] or ''} | {arm['passes']} | {ms} | {_told(plain['weighted'])} "
            f"| {_told(plain['unweighted'])} | {mirrored} |"
        )
    return "\n".join(lines) + "\n"


def _differences(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["### Differences\n", "| asked | difference, px |", "|---|---|"]
    lines += [f"| {row['asked']} | {_told(row, sign='+')} |" for row in rows]
    return "\n".join(lines) + "\n"


def _by_task(arms: Sequence[Mapping[str, Any]]) -> str:
    tasks = list(arms[0]["plain"]["tasks"])
    if len(tasks) < 2:
        return ""
    lines = ["### By task\n", f"| arm | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for arm in arms:
        cells = [f"{arm['plain']['tasks'][task]['value']:.1f}" for task in tasks]
        lines.append(f"| {arm['name']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _told(found: Mapping[str, Any] | Interval, sign: str = "") -> str:
    one = found.to_dict() if isinstance(found, Interval) else found
    value, low, high = (one[name] for name in ("value", "low", "high"))
    if value is None:
        return ""
    if low is None:
        return f"{value:{sign}.2f}"
    return f"{value:{sign}.2f} [{low:{sign}.2f}, {high:{sign}.2f}]"
