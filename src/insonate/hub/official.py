"""Official checkpoints as models: in (recognised, converted, audited), and out in the authors' layout."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insonate import weights
from insonate.errors import ModelError, RecipeError, WeightsError, nearest
from insonate.files import atomic_write
from insonate.hub.calibration import restore
from insonate.hub.config import CONFIG, PREPROCESSOR
from insonate.hub.part_tasks import PROBE
from insonate.models import load_official
from insonate.models.layouts import EXPORTS, FILES, SUFFIXES, Exportable, strip
from insonate.models.official import LoadReport
from insonate.tasks import build_task

LOG = logging.getLogger("insonate")


def is_official(source: Path | str) -> bool:
    """Whether `source` is a weights file, or a folder with one that is no model folder of ours."""
    path = Path(source)
    if not path.is_dir():
        return path.is_file()
    config, preprocessor = _json(path / CONFIG), _json(path / PREPROCESSOR)
    ours = (
        "insonate" in config or preprocessor.get("image_processor_type") == "insonate" or "backbone" in config
    )
    here = any((path / name).is_file() for name in FILES) or any(f.suffix in SUFFIXES for f in path.iterdir())
    return here and not ours


def _json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; {"insonate": …} where it is damaged: the door of model folders tells why."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {"insonate": "damaged"}
    return content if isinstance(content, dict) else {"insonate": "damaged"}


def from_official(source: Path | str, given: Mapping[str, Any]) -> tuple[dict[str, Any], LoadReport]:
    """The parts of a `Model` (as keyword arguments) in an official checkpoint, and the report of its tensors.

    Raises:
        ModelError: it holds no encoder.
        WeightsError: see `models.official.load_official`.
    """
    loaded = load_official(source, **given)
    converted, report = loaded.converted, loaded.report
    if loaded.backbone is None:
        mend = "Load it with insonate.models.load_official"
        if PROBE in loaded.parts:
            mend = f"Load it with its encoder: insonate.load(ENCODER, probe={str(source)!r})"
        raise ModelError(source, f"holds a {', '.join(loaded.parts)} without an encoder", mend)
    task = None
    if converted.task is not None:
        try:
            task = build_task(loaded.backbone, converted.task)
        except RecipeError as error:
            raise WeightsError(source, f"{error.where}: {error.what}", error.mend) from None
        weights.load_into(task.head, converted.head, f"{source}, head")
        path = Path(source) / CONFIG if Path(source).is_dir() else Path(source).with_name(CONFIG)
        restore(task, _json(path), path)
        task.eval()
    origin = {
        "family": converted.family, "layout": converted.layout, "assumed": list(report.assumed),
        **({"prefix": converted.prefix} if converted.prefix else {}), **converted.info,
    }  # fmt: skip
    info = {"official": origin, **({"license": origin["license"]} if "license" in origin else {})}
    parts = {name: (part.options, loaded.parts[name]) for name, part in converted.parts.items()}
    LOG.info("%s", report)
    return {"backbone": loaded.backbone, "task": task, "info": info, "parts": parts}, report


def write_official(model: Any, path: Path, layout: str | None = None) -> str:
    """Write a model in an official layout: safetensors where `path` says so, else an archive of `torch.save`.

    Args:
        model: a `Model`.
        path: the file.
        layout: name of the layout; none = that which it came in, its names' common prefix too.

    Returns:
        The layout.

    Raises:
        ModelError: there is no such layout, or safetensors cannot hold its nested parts.
    """
    origin = model.info.get("official", {})
    name = layout or origin.get("layout")
    if name not in EXPORTS:
        raise ModelError(path, f"no layout {name!r} can be written", nearest(str(name), EXPORTS))
    content = EXPORTS[name](
        Exportable(
            backbone=model.backbone.options,
            state=_state(model.backbone),
            task=None if model.task is None else model.task.config.model_dump(mode="json"),
            head={} if model.task is None else _state(model.task.head),
            parts={part: _state(module) for part, (_, module) in model.parts.items()},
            part_options={part: options for part, (options, _) in model.parts.items()},
            info=origin,
        )
    )
    if layout is None and all(isinstance(value, Tensor) for value in content.values()):
        content = {origin.get("prefix", "") + key: tensor for key, tensor in strip(content)[0].items()}
    atomic_write(path, _bytes(content, path))
    return str(name)


def _bytes(content: dict[str, Any], path: Path) -> bytes:
    if path.suffix != ".safetensors":
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()
    from safetensors.torch import save

    if not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(path, "this layout has parts, safetensors has not", "Write a .pth file")
    return save({name: tensor.contiguous().clone() for name, tensor in content.items()})


def _state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}
