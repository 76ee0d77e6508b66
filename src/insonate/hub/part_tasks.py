"""Tasks that the parts of an official encoder hold: PanEcho's heads, the probe of a V-JEPA.

They share the modules of `Model.parts` and are made when asked for; a model folder stores the parts alone.
Shapes: B items, N tokens of a clip, S clips of a study, D channels, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from insonate.errors import ModelError, WeightsError
from insonate.models import Backbone, LoadReport, load_official
from insonate.models.backbone import Tokens
from insonate.models.panecho import PanEchoHeads
from insonate.models.panecho_tasks import task_options
from insonate.models.probes import AttentiveProbe, GridProbe, LinearProbe
from insonate.models.vit import VisionTransformer
from insonate.tasks import build_task
from insonate.tasks.base import Task

PROBE = "probe"
Probe = AttentiveProbe | LinearProbe | GridProbe
Parts = Mapping[str, tuple[dict[str, Any], nn.Module]]


class TokenHead(nn.Module):
    """A probe as the head of a task.

    Args:
        probe: it.
        value: of several values the number of this one.
        ignore: 1 SN, True for the tokens of missing clips.
    """

    def __init__(self, probe: Probe, value: int | None = None, ignore: Tensor | None = None) -> None:
        super().__init__()
        self.probe: Probe = probe
        self.value, self.ignore = value, ignore

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → B O, or B 1 of one value."""
        found = self.probe(tokens.patch, self.ignore)
        return found if self.value is None else found[:, self.value, None]


class Leveled(nn.Module):
    """An encoder whose tokens are those of some of its blocks, one after the other; it shares its modules."""

    def __init__(self, backbone: VisionTransformer, taps: Sequence[int]) -> None:
        super().__init__()
        self.backbone, self.taps = backbone, tuple(taps)

    def forward(self, x: Tensor) -> Tokens:
        """Picture or clip → tokens B LN D, each level after the final norm."""
        levels = self.backbone.intermediate(x, self.taps)
        return levels[-1]._replace(patch=torch.cat([level.patch for level in levels], dim=1))


class Given(nn.Module):
    """Stands for an encoder whose tokens are there already."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, _: Tensor) -> Tokens:
        """The tokens 1 SN D, whatever is seen."""
        return Tokens(self.tokens, self.tokens[:, :0], (self.tokens.shape[1], 1, 1))


def names_of(parts: Parts) -> tuple[str, ...]:
    """Names of the tasks in the parts."""
    names: list[str] = []
    for name, (_, module) in parts.items():
        if isinstance(module, PanEchoHeads):
            names += module.heads
        if isinstance(module, Probe):
            names += module.config.values or (name,)
    return tuple(names)


def task_of(name: str, backbone: Backbone, parts: Parts) -> Task:
    """The task that a part holds, one of `names_of`, in eval mode, sharing its modules."""
    for _, module in parts.values():
        if isinstance(module, PanEchoHeads) and name in module.heads:
            options = task_options(name, len(module.heads[name].get_parameter("bias")))
            return _around(_build(backbone, options), module.task_head(name))
    module = next(module for _, module in parts.values() if isinstance(module, Probe))
    return _probe(name, backbone, module)


def study_task(task: Task, tokens: Sequence[Tensor | None]) -> Task:
    """The task of a probe on the clips of one study.

    Args:
        task: of `task_of`; changed.
        tokens: 1 N D of each clip, view by view; None for a missing one.

    Raises:
        ModelError: it is no probe's task, no clip is there, or they are not as many as the probe has places.
    """
    head = task.head
    if not isinstance(head, TokenHead):
        raise ModelError("study", "only a probe reads several clips together", "Use `predict` for each")
    places = _places(head.probe)
    if places > 1 and len(tokens) != places:
        raise ModelError(
            "study", f"{len(tokens)} clips, the probe has {places} places", "Give None for each missing one"
        )
    known = next((one for one in tokens if one is not None), None)
    if known is None:
        raise ModelError("study", "has no clip", "Give at least one")
    filled = [torch.zeros_like(known) if one is None else one for one in tokens]
    missing = torch.tensor([one is None for one in tokens], device=known.device)
    ignore = missing.repeat_interleave(known.shape[1])[None] if bool(missing.any()) else None  # 1 SN
    task.head = TokenHead(head.probe, head.value, ignore)
    task.backbone = Given(torch.cat(filled, dim=1))  # type: ignore[assignment]  # it stands for one
    return task.eval()


def check_single(task: Task) -> None:
    """Refuse the probe of a study for single clips.

    Raises:
        ModelError: it is one.
    """
    if isinstance(task.head, TokenHead) and (places := _places(task.head.probe)) > 1:
        raise ModelError(
            "task",
            f"this probe reads studies of {places} clips",
            "Use `predict_study`, None for a missing clip",
        )


def read_probe(
    path: Path | str, backbone: Backbone, given: Mapping[str, Any]
) -> tuple[dict[str, Any], nn.Module, LoadReport]:
    """The probe in a file, for an encoder.

    Args:
        path: its file.
        backbone: the encoder that it was trained on.
        given: what is known of it: `heads`, `which`, `classes`, …

    Raises:
        WeightsError: the file holds no probe, or one for another width; see `load_official`.
    """
    loaded = load_official(path, **given)
    part = loaded.converted.parts.get(PROBE)
    if part is None:
        raise WeightsError(path, f"is {loaded.report.layout}, no probe", "Give the file of the probe")
    width = backbone.spec.embed_dim
    if part.options["width"] != width:
        raise WeightsError(
            path, f"reads tokens of {part.options['width']} channels, the encoder has {width}",
            "Take the probe of this encoder",
        )  # fmt: skip
    taps = part.options.get("taps", ())
    blocks = len(backbone.blocks) if isinstance(backbone, VisionTransformer) else 0
    if taps and max(taps) >= blocks:
        raise WeightsError(
            path, f"reads block {max(taps)}, the encoder has {blocks} that can be read", "Correct probe_taps"
        )
    return part.options, loaded.parts[PROBE], loaded.report


def _places(probe: Probe) -> int:
    """Clips of a study that a probe tells apart; 1 where it tells none."""
    if isinstance(probe, LinearProbe | GridProbe) or probe.config.slots == "none":
        return 1
    return probe.config.views * probe.config.clips


def _probe(name: str, backbone: Backbone, module: Probe) -> Task:
    """A classification where the probe has classes, else the regression of the value of this name."""
    config = module.config
    number = config.values.index(name) if config.values else 0
    options: dict[str, Any] = {"name": "regression", "column": name}
    if config.mean:
        options |= {"mean": config.mean[number], "std": config.std[number]}
    if config.classes:
        options = {"name": "classification", "column": name, "classes": list(config.classes)}
    task = _around(_build(backbone, options), TokenHead(module, number if config.values else None))
    if config.taps:
        assert isinstance(backbone, VisionTransformer)  # see read_probe
        task.backbone = Leveled(backbone, config.taps)  # type: ignore[assignment]  # it stands for one
    return task


def _build(backbone: Backbone, options: Mapping[str, Any]) -> Task:
    """A task whose head will be another: its start draws no random numbers that others would get."""
    with torch.random.fork_rng(devices=[]):
        return build_task(backbone, options)


def _around(task: Task, head: nn.Module) -> Task:
    task.head = head
    return task.eval()
