"""The data card: what a manifest holds and what is wrong with it, as one HTML page that loads nothing.

Each medium is looked at once, in the worker processes of `pool`: a small picture, its likeness to others,
writing in it. Everything shown is escaped; the page may only use its own style sheet and embedded pictures.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insonate.data import pool
from insonate.data.columns import COLUMNS, Row, is_path, patient_key
from insonate.data.likeness import Likeness, likeness, near_pairs
from insonate.data.limits import limited, limits
from insonate.data.manifest import Manifest
from insonate.data.overlays import find_text
from insonate.data.shards.read import open_row
from insonate.errors import InsonateError, escaped
from insonate.files import atomic_write
from insonate.progress import Track, untracked

THUMB_PX = 128
SHOWN_PAIRS, SHOWN_ITEMS, SHOWN_VALUES = 12, 40, 20
BARS = 24
SPLIT_ORDER = {"train": 0, "val": 1, "test": 2}
TEXT_FRAMES = 4
"""of a clip in which writing must stand still"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is kept of one medium."""

    jpeg: bytes
    likeness: Likeness | None
    has_text: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the card says."""

    path: Path
    findings: list[str]
    """what should be looked into before training"""
    errors: list[tuple[str, str]]
    """media that cannot be read, with the reason"""
    near: list[tuple[int, int]]
    """rows of different patients whose pictures are nearly the same"""


def write_card(
    manifest: Manifest,
    out: Path | str,
    *,
    title: str = "Data card",
    workers: int | None = None,
    track: Track = untracked,
) -> Card:
    """Look at every medium of a manifest and write its card.

    Args:
        manifest: of files or of shards.
        out: the HTML file.
        title: heading of the page.
        workers: processes that read; one a core unless given.
        track: shows the progress.

    Raises:
        InsonateError: `out` cannot be written.
    """
    rows = _one_a_medium(manifest)
    looks, errors = _looks(manifest, rows, workers, track)
    near = _near(rows, looks)
    findings = [
        *_findings(rows, looks, near),
        *([f"media that cannot be read: {len(errors)} of {len(rows)}"] if errors else []),
    ]
    page = _page(title, manifest, rows, looks, near, findings, errors)
    return Card(path=atomic_write(out, page), findings=findings, errors=errors, near=near)


def _one_a_medium(manifest: Manifest) -> list[Row]:
    """The first row of each medium: several rows may label frames of one clip."""
    return list({(row["path"], row.get("member")): row for row in reversed(manifest.rows)}.values())[::-1]


# ---------------------------------------------------------------------------------------------- looking


def _looks(
    manifest: Manifest, rows: list[Row], workers: int | None, track: Track
) -> tuple[dict[int, Look], list[tuple[str, str]]]:
    bare = manifest.with_rows([])
    look = partial(_look, bare, asdict(limits()))
    results = pool.run(look, enumerate(rows), workers, seconds=60.0)
    looks: dict[int, Look] = {}
    errors = []
    for (number, row), found in track(results, total=len(rows), what="data card"):
        if isinstance(found, InsonateError):
            errors.append((_name(row), f"{found.what}. {found.mend}"))
        else:
            looks[number] = found
    return looks, sorted(errors)


def _look(manifest: Manifest, bounds: Mapping[str, int], item: tuple[int, Row]) -> Look:
    """The middle frame of one medium. Runs in a worker.

    Raises:
        MediaError: it cannot be read.
    """
    _, row = item
    with limited(**bounds), open_row(manifest, row) as file:
        count = file.info.frames
        indices = np.unique(np.linspace(0, count - 1, TEXT_FRAMES).astype(int)).tolist()
        frames = np.asarray(file.read([count // 2, *indices], grey=True))
    small = Image.fromarray(frames[0])
    small.thumbnail((THUMB_PX, THUMB_PX))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=80)
    return Look(jpeg=content.getvalue(), likeness=likeness(frames[0]), has_text=bool(find_text(frames[1:])))


def _near(rows: list[Row], looks: dict[int, Look]) -> list[tuple[int, int]]:
    """Pairs of rows of different patients; one patient's own pictures may be alike."""
    numbers = [number for number in sorted(looks) if looks[number].likeness is not None]
    kept = [found for number in numbers if (found := looks[number].likeness) is not None]
    pairs = [(numbers[a], numbers[b]) for a, b in near_pairs(kept)]
    return [
        (a, b) for a, b in pairs if patient_key(rows[a]["patient_id"]) != patient_key(rows[b]["patient_id"])
    ]


def _leaks(rows: list[Row], near: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (a, b)
        for a, b in near
        if rows[a]["split"] and rows[b]["split"] and rows[a]["split"] != rows[b]["split"]
    ]


def _findings(rows: list[Row], looks: dict[int, Look], near: list[tuple[int, int]]) -> list[str]:
    leaks = _leaks(rows, near)
    unscaled = sum(row["spacing_row_mm"] is None for row in rows)
    written = sum(look.has_text for look in looks.values())
    unsplit = sum(not row["split"] for row in rows)
    own = sum(row["patient_id"] == row["path"] for row in rows)
    told = [
        (leaks, f"pairs of nearly equal pictures in two splits (leakage): {len(leaks)}"),
        (near, f"pairs of nearly equal pictures of two patients: {len(near)}"),
        (unscaled, f"media without calibration, of which nothing is told in mm: {unscaled} of {len(rows)}"),
        (written, f"media with writing in the picture, which may name people: {written} of {len(looks)}"),
        (own, f"media that name no patient, each of which counts as one: {own} of {len(rows)}"),
        (0 < unsplit < len(rows), f"media in no split: {unsplit} of {len(rows)}"),
    ]
    return [text for found, text in told if found]


# ---------------------------------------------------------------------------------------------- the page


def _page(
    title: str,
    manifest: Manifest,
    rows: list[Row],
    looks: dict[int, Look],
    near: list[tuple[int, int]],
    findings: list[str],
    errors: list[tuple[str, str]],
) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.finalize = _visible
    home = resources.files("insonate.data")
    style = home.joinpath("card.css").read_text("utf-8")
    return environment.from_string(home.joinpath("card.html.jinja").read_text("utf-8")).render(
        title=title,
        style=_Trusted(style),
        style_hash=_Trusted("sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()),
        synthetic={row["site"] for row in rows} == {"phantom"},
        notes=manifest.notes,
        findings=findings,
        totals=_totals(manifest, rows),
        tables=_tables(rows),
        histograms=_histograms(rows),
        labels=_labels(manifest),
        sheet=_sheet(rows, looks),
        pairs=_pairs(rows, looks, near),
        num_pairs=len(near),
        errors=errors[:SHOWN_VALUES],
        num_errors=len(errors),
    )


def _totals(manifest: Manifest, rows: list[Row]) -> list[tuple[str, int, int, int, int]]:
    """Split, media, labelled rows, patients, frames; all together last."""
    splits = sorted({row["split"] for row in rows}, key=lambda s: SPLIT_ORDER.get(s, 3))
    parts = [(split or "no split", [row for row in rows if row["split"] == split]) for split in splits]
    parts = [*parts, ("all", rows)] if len(parts) > 1 else [("all", rows)]
    counts = Counter(row["split"] or "no split" for row in manifest.rows)
    return [
        (
            name,
            len(part),
            len(manifest.rows) if name == "all" else counts[name],
            len({patient_key(row["patient_id"]) for row in part}),
            sum(row["frames"] or 1 for row in part),
        )
        for name, part in parts
    ]


def _tables(rows: list[Row]) -> list[dict[str, Any]]:
    """Media, patients and missing calibration by view, vendor, site and kind."""
    tables = []
    for column in ("view", "vendor", "site", "kind"):
        counts = Counter(row[column] or "unknown" for row in rows)
        if set(counts) == {"unknown"}:
            continue
        lines = []
        for value, count in counts.most_common(SHOWN_VALUES):
            part = [row for row in rows if (row[column] or "unknown") == value]
            patients = len({patient_key(row["patient_id"]) for row in part})
            lines.append((value, count, patients, sum(row["spacing_row_mm"] is None for row in part)))
        tables.append({"name": column, "lines": lines, "more": len(counts) - len(lines)})
    return tables


def _histograms(rows: list[Row]) -> list[dict[str, Any]]:
    per_patient = Counter(patient_key(row["patient_id"]) for row in rows)
    clips = [row for row in rows if (row["frames"] or 1) > 1]
    wanted = (
        ("frames per second", [row["fps"] for row in clips]),
        ("frames a clip", [row["frames"] for row in clips]),
        ("mm per pixel, down", [row["spacing_row_mm"] for row in rows]),
        ("mm per pixel, across", [row["spacing_col_mm"] for row in rows]),
        ("height in pixels", [row["height"] for row in rows]),
        ("width in pixels", [row["width"] for row in rows]),
        ("media a patient", list(per_patient.values())),
    )
    return [histogram(name, values) for name, values in wanted if any(v is not None for v in values)]


def histogram(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Bars of the known values, as rectangles of a picture 300 wide and 100 high.

    Args:
        name: what is counted.
        values: `None` where unknown; one at least is known.
    """
    known = np.array([v for v in values if v is not None], np.float64)
    low, high = float(known.min()), float(known.max())
    spread = (low, high) if high > low else (low - 0.5, low + 0.5)
    counts, _ = np.histogram(known, bins=BARS, range=spread)
    width = 300 / BARS
    bars = [
        {
            "x": round(i * width, 2),
            "y": round(100 - h, 2),
            "width": round(width - 1, 2),
            "height": round(h, 2),
        }
        for i, count in enumerate(counts)
        if (h := 96 * float(count) / float(counts.max()))
    ]
    return {
        "name": name, "bars": bars, "low": _number(low), "high": _number(high),
        "median": _number(float(np.median(known))), "most": int(counts.max()),
        "missing": len(values) - len(known),
    }  # fmt: skip


def _labels(manifest: Manifest) -> list[tuple[str, str, int]]:
    """Name, what the column holds in short, and rows without it."""
    extra = [
        c for c in manifest.rows[0] if c not in {*COLUMNS, "file_bytes", "modified_us", "member", "frame"}
    ]
    told = []
    for column in extra:
        values = [value for row in manifest.rows if (value := row[column]) is not None]
        told.append((column, _in_short(column, values), len(manifest) - len(values)))
    return told


def _in_short(column: str, values: list[Any]) -> str:
    if not values:
        return "nothing"
    if is_path(column):
        return f"{len(set(values))} files"
    if isinstance(values[0], list):
        return f"{len(values[0]) // 2} points"
    counts = Counter(str(value) for value in values)
    if isinstance(values[0], int | float) and not isinstance(values[0], bool) and len(counts) > SHOWN_VALUES:
        low, middle, high = np.quantile(values, [0, 0.5, 1])
        return f"{_number(low)} to {_number(high)}, median {_number(middle)}"
    shown = ", ".join(f"{value[:40]}: {count}" for value, count in counts.most_common(SHOWN_VALUES))
    return shown + (f" and {len(counts) - SHOWN_VALUES} more" if len(counts) > SHOWN_VALUES else "")


def _sheet(rows: list[Row], looks: dict[int, Look]) -> list[dict[str, str]]:
    """Pictures spread over views and vendors."""
    ordered = sorted(looks, key=lambda i: (rows[i]["view"], rows[i]["vendor"], rows[i]["path"], i))
    places = (
        sorted(set(np.linspace(0, len(ordered) - 1, SHOWN_ITEMS).astype(int).tolist())) if ordered else []
    )
    return [_shown(rows[ordered[i]], looks[ordered[i]]) for i in places]


def _pairs(rows: list[Row], looks: dict[int, Look], near: list[tuple[int, int]]) -> list[dict[str, Any]]:
    leaks = set(_leaks(rows, near))
    first = sorted(near, key=lambda pair: pair not in leaks)[:SHOWN_PAIRS]
    return [{"leak": (a, b) in leaks, "sides": [_shown(rows[i], looks[i]) for i in (a, b)]} for a, b in first]


def _shown(row: Row, look: Look) -> dict[str, str]:
    about = " · ".join(text for text in (row["view"], row["vendor"], row["split"]) if text)
    return {
        "uri": _Trusted(f"data:image/jpeg;base64,{base64.b64encode(look.jpeg).decode()}"),
        "name": _name(row),
        "about": about + (" · writing" if look.has_text else ""),
    }


def _name(row: Row) -> str:
    return f"{row['path']}/{row['member']}" if row.get("member") else str(row["path"])


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _visible(value: Any) -> Any:
    """Characters that would hide or reorder text are shown as codes."""
    return escaped(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


class _Trusted(str):
    """Text of ours: put into the page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self
