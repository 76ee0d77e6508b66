"""Load an official checkpoint: recognise, convert, build, audit, report.

Nothing is guessed in silence: what shapes cannot tell is taken from the caller, from a config, or assumed and
said so. Every tensor is matched, converted or ignored for a reason that is reported; else loading refuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from insonate.errors import RecipeError, WeightsError, nearest
from insonate.models import families  # noqa: F401 - registers the layouts
from insonate.models.backbone import Backbone
from insonate.models.build import build_backbone
from insonate.models.layouts import Bundle, Layout, bundle_of, hints_of, open_bundle, recognise
from insonate.models.parts import build_part
from insonate.models.positions import TABLES
from insonate.models.vit import VisionTransformer
from insonate.weights.audit import load_into
from insonate.weights.source import Converted, Hints, Source

ARGUMENTS = (
    "family", "which", "heads", "input_size", "frames", "tubelet", "patch", "depth", "width", "use_rope",
    "resize_position", "predictor_heads", "classes", "views", "clips", "taps", "text_heads", "timm_name",
    "temperature", "interpolate_rope", "values", "target_mean", "target_std", "sha256",
)  # fmt: skip
"""what callers may say about a checkpoint"""
MEAN = "running_mean"
PIN = "published"
"""said for `sha256`: refuse any file but the published one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What became of every tensor of a checkpoint."""

    where: str
    family: str
    layout: str
    matched: tuple[str, ...] = ()
    """taken under the same name, unchanged"""
    converted: tuple[str, ...] = ()
    """renamed, joined, split, reshaped, or replaced by what is computed"""
    ignored: dict[str, str] = field(default_factory=dict)
    """name → why it is not used"""
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    """what shapes could not tell"""
    warnings: tuple[str, ...] = ()
    """what looks wrong and does not stop the loading"""
    sha256: str = ""
    """of the file, where it was checked"""

    def __str__(self) -> str:
        """A few lines for people."""
        counts = ", ".join(
            f"{len(getattr(self, kind))} {kind}"
            for kind in ("matched", "converted", "missing", "unexpected", "ignored")
        )
        lines = [f"{self.where}: {self.family}, layout {self.layout}", f"tensors: {counts}"]
        lines += [f"ignored: {name} ({why})" for name, why in list(self.ignored.items())[:5]]
        lines += [f"assumed: {sentence}" for sentence in self.assumed]
        return "\n".join([*lines, *(f"warning: {sentence}" for sentence in self.warnings)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An official checkpoint as modules."""

    backbone: Backbone | None
    parts: dict[str, nn.Module]
    """predictor, decoder, text tower, probe, …"""
    converted: Converted
    report: LoadReport


def inspect_official(
    path: Path | str, given: Mapping[str, Any] | None = None
) -> tuple[Converted, LoadReport]:
    """What a checkpoint is, and its tensors under our names; nothing is built.

    Args:
        path: a file, or a folder with one.
        given: what is known about it, see `ARGUMENTS`.

    Raises:
        WeightsError: it cannot be read, is of no known layout, a tensor is missing or left over, what is said
            about it is wrong, or has to be said.
    """
    given = dict(given or {})
    for name in given:
        if name not in ARGUMENTS:
            raise WeightsError(path, f"nothing is called {name!r} there", nearest(name, ARGUMENTS))
    bundle = open_bundle(Path(path), given.get("which"))
    wanted = given.pop("sha256", None)
    layout = recognise(bundle, given.get("family"))
    converted, report = convert(bundle, layout, given)
    return converted, _checked(report, wanted, converted.published_sha256)


def convert(bundle: Bundle, layout: Layout, given: Mapping[str, Any]) -> tuple[Converted, LoadReport]:
    """Convert an opened checkpoint by its layout; see `inspect_official`.

    Raises:
        WeightsError: a tensor is missing or left over, or something has to be said.
    """
    hints, source = hints_of(bundle, given), bundle.source()
    converted = layout.convert(bundle, hints, source)
    converted.layout, converted.prefix = layout.name, bundle.stripped
    source.finish()
    _count_from_zero(converted, hints)
    return converted, _report(bundle, converted, source, tuple(hints.assumed))


def _count_from_zero(converted: Converted, hints: Hints) -> None:
    """Add the counters of batch norms that older files lack: no output depends on them."""
    states = (converted.state, converted.head, *(part.state for part in converted.parts.values()))
    lacking = [
        (state, counter)
        for state in states
        for name in list(state)
        if name.endswith(MEAN) and (counter := f"{name.removesuffix(MEAN)}num_batches_tracked") not in state
    ]
    for state, counter in lacking:
        state[counter] = torch.zeros((), dtype=torch.int64)
    if lacking:
        hints.assumed.append(f"num_batches_tracked 0 of {len(lacking)} batch norms: it has none")


def load_official(path: Path | str, **given: Any) -> Loaded:
    """The modules of an official checkpoint, in eval mode.

    Args:
        path: a file, or a folder with one.
        given: what is known about it, see `ARGUMENTS`.

    Raises:
        WeightsError: see `inspect_official`.
    """
    converted, report = inspect_official(path, given)
    return build(converted, report)


def build(converted: Converted, report: LoadReport) -> Loaded:
    """The modules of a converted checkpoint, with its weights.

    Raises:
        WeightsError: a tensor of the architecture is missing or has another shape.
    """
    backbone = None
    if converted.backbone is not None:
        backbone = _make(build_backbone, converted.backbone, report.where)
        load_into(backbone, converted.state, report.where)
        backbone.eval()
    parts = {}
    for name, part in converted.parts.items():
        parts[name] = _make(build_part, part.options, report.where)
        load_into(parts[name], part.state, f"{report.where}, {name}")
        parts[name].eval()
    return Loaded(backbone=backbone, parts=parts, converted=converted, report=report)


def official_weights(content: Mapping[str, Any], backbone: Backbone, *, where: object) -> Mapping[str, Any]:
    """The weights in a checkpoint, for a backbone that is already built.

    Args:
        content: what the file holds, as `weights.read` gives it.
        backbone: what they are for.
        where: the file, for errors.

    Returns:
        Those of a known layout under our names; `content` itself where it has our names already, or none that
        is known.

    Raises:
        WeightsError: it is recognised, but not of this backbone.
    """
    if content.keys() == backbone.state_dict().keys() or not isinstance(backbone, VisionTransformer):
        return content
    bundle = bundle_of(dict(content), Path(str(where)))
    try:
        layout = recognise(bundle)
    except WeightsError:
        return content
    spec = backbone.spec
    known = {"heads": backbone.heads, "input_size": spec.input_size, "frames": spec.frames}
    converted, _ = convert(bundle, layout, known)
    found = (converted.backbone or {}).get("position")
    if found in TABLES and backbone.position == "learned":
        grid = backbone.clip_grid
        return converted.state | {"pos_embed": TABLES[str(found)](grid, spec.embed_dim)[None].clone()}
    if found != backbone.position:
        raise WeightsError(
            where,
            f"its positions are {found}, those of the backbone {backbone.position}",
            f"Set position: {found}",
        )
    return converted.state


def _make(make: Any, options: Mapping[str, Any], where: object) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            return make(options)
    except RecipeError as error:
        raise WeightsError(where, f"{error.where}: {error.what}", error.mend) from None


def _report(bundle: Bundle, converted: Converted, source: Source, assumed: tuple[str, ...]) -> LoadReport:
    ours = {name: id(tensor) for name, tensor in converted.state.items()}
    sources = {"": source, **{f"{name}.": child for name, child in source.children.items()}}
    matched: list[str] = []
    changed: list[str] = []
    ignored: dict[str, str] = dict(bundle.aside)
    inside = tuple(f"{name}." for name in source.children)
    for prefix, part in sources.items():
        ignored |= {prefix + name: why for name, why in part.ignored.items()}
        for name, tensor in part.all.items():
            if name in part.ignored or (not prefix and name.startswith(inside)):
                continue
            (matched if ours.get(name) == id(tensor) else changed).append(prefix + name)
    return LoadReport(
        where=str(bundle.where), family=converted.family, layout=converted.layout, matched=tuple(matched),
        converted=tuple(changed), ignored=ignored, assumed=assumed,
    )  # fmt: skip


def _checked(report: LoadReport, wanted: object, published: str) -> LoadReport:
    """The report with the file's SHA-256, where one is asked for or published.

    Args:
        report: so far.
        wanted: by the caller; `PIN` stands for the published one.
        published: of the file that has these very tensors; empty where none is known.

    Raises:
        WeightsError: the file is not the one that the caller asked for, or its hash is not published.
    """
    if wanted == PIN and not published:
        raise WeightsError(report.where, "no SHA-256 of it is published", "Give its digits")
    expected = published if wanted in {None, PIN} else str(wanted).lower()
    if not expected:
        return report
    with Path(report.where).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == expected:
        return replace(report, sha256=found)
    if wanted is not None:
        raise WeightsError(report.where, f"its SHA-256 is {found}, not {expected}", "Download it again")
    warning = f"its SHA-256 is {found}, that of the published file with these tensors is {expected}"
    return replace(report, sha256=found, warnings=(*report.warnings, warning))
