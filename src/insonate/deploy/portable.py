"""`insonate predict` with an exported folder: the same answers for files, without torch.

Per file `out/NAME.json` (all frames) and an overlay of the surest frame's points, or masks. There are no
traces, no smoothing and no reports: those need the model folder and torch.
Shapes: T frames, R Q pixels, K points.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from insonate.data.media import MediaFile
from insonate.data.spacing import Spacing
from insonate.deploy import NOTICE
from insonate.deploy.choosing import AUTO, LEAST, VIEW, View, check_views, chosen, looked_at
from insonate.deploy.runtime import Exported, Found
from insonate.errors import InsonateError, ModelError
from insonate.files import Content, atomic_write_all, safe_name, writable
from insonate.measure.overlay import Marked, draw_marked
from insonate.measure.points import MEASURED, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How files are to be looked at."""

    task: str | None = None
    """one of the model's; needed where it has several; `auto`: by its own task `view`"""
    least: float = LEAST
    """chance of a view below which `auto` chooses nothing"""
    spacing: Spacing | None = None
    """of media that tell none"""
    tta: bool = True
    """mean with the mirrored picture"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableResult:
    """What came of one file: what it says and the files written, or an error and nothing written."""

    media: Path
    text: str = ""
    """of the first frame, in a line"""
    json_path: Path | None = None
    error: str | None = None


def predict_exported(
    paths: Iterable[Path], folder: Path | str, out: Path, settings: Settings
) -> Iterator[PortableResult]:
    """Predict each file with an exported model.

    Args:
        paths: media files.
        folder: of `insonate export`.
        out: folder of the results; those of the same media are replaced.
        settings: how.

    Yields:
        A result for each path, in order.

    Raises:
        ModelError: the folder cannot be used, the task is not there, or the model reads clips.
        InsonateError: `out` cannot be written.
    """
    out, model = writable(out), Exported(folder)
    if settings.task == AUTO:
        check_views(model.tasks, model.facts["tasks"].get(VIEW, {}).get("names", ()))
    name = "" if settings.task == AUTO else model.task_named(settings.task)
    if model.facts["input"]["frames"] > 1:
        raise ModelError(folder, "reads clips, of which this way knows only stills", "Use the model folder")
    for path in paths:
        try:
            view = View(task=name, chance=1.0) if name else _view_of(path, model, settings.least)
            yield _written(path, model, view, out, settings)
        except InsonateError as told:
            yield PortableResult(media=path, error=str(told))


def _view_of(path: Path, model: Exported, least: float) -> View:
    frames = [model.predict(frame, VIEW) for frame in looked_at(path)]
    chances = [found.value for found in frames]
    return chosen(path, frames[0].names, chances, tasks=model.tasks, least=least)


def _written(path: Path, model: Exported, view: View, out: Path, settings: Settings) -> PortableResult:
    stem, name = safe_name(str(path)), view.task
    files: dict[Path, Content] = {}
    told: list[dict[str, Any]] = []
    best: tuple[float, Image.Image] | None = None
    with MediaFile(path) as media:
        for number in range(media.info.frames):
            frame = media.read([number])[0]
            spacing = media.info.spacing_at(number) or settings.spacing
            found = model.predict(frame, name, spacing=spacing, tta=settings.tta)
            one = found.to_dict() | {"frame": number, "measurements": _measured(found, spacing)}
            if found.kind == "segmentation":
                one["mask"] = f"{stem}-mask-{number:05}.png"
                files[out / one["mask"]] = _png(Image.fromarray(found.value))
            sure = float(np.nanmin(found.confidence))
            if found.kind == "keypoints" and (best is None or sure > best[0]):
                best = sure, _drawn(frame, found, spacing)
            told.append(one)
    if not told:
        raise ModelError(path, "holds no frames", "Check the file")
    if best is not None:
        files[out / f"{stem}.png"] = _png(best[1])
    content = {
        "media": str(path), "task": name, "notice": NOTICE,
        "task_chance": view.chance if settings.task == AUTO else None, "predictions": told,
    }  # fmt: skip
    json_path = out / f"{stem}.json"
    atomic_write_all({**files, json_path: json.dumps(content, indent=1, allow_nan=False) + "\n"})
    chosen_task = f"{name} ({view.chance:.2f}): " if settings.task == AUTO else ""
    return PortableResult(media=path, text=chosen_task + _text(told[0]), json_path=json_path)


def _measured(found: Found, spacing: Spacing | None) -> dict[str, Any]:
    if found.kind != "keypoints":
        return {}
    sizes = measure(MEASURED.get(found.facts["points"] or ""), found.value, spacing)
    return {name: one.to_dict() for name, one in sizes.items()}


def _drawn(frame: np.ndarray, found: Found, spacing: Spacing | None) -> Image.Image:
    points = found.facts["points"] or found.task
    sizes = measure(MEASURED.get(points), found.value, spacing)
    marked = Marked(
        points_set=points,
        points_xy=found.value,
        confidence=found.confidence,
        measurements=sizes,
        spacing=spacing,
    )
    return draw_marked(
        Image.fromarray(frame).convert("RGB"), marked, footer=f"{found.task} · research use only"
    )


def _text(one: dict[str, Any]) -> str:
    """What a frame says."""
    if one["kind"] == "classification":
        index = int(np.argmax(one["value"]))
        return f"{one['names'][index]} {one['value'][index]:.2f}"
    if one["kind"] == "regression":
        return f"{one['value']:.4g}"
    sizes = [f"{name} {size['value']:.4g}" for name, size in one["measurements"].items()]
    return ", ".join(sizes) or f"{len(one['names'])} {'points' if one['kind'] == 'keypoints' else 'classes'}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
