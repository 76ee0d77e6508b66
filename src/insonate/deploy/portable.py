"""`insonate predict` with an exported folder: the same answers for files, without torch.

Per file `out/NAME.json` (all frames) and an overlay of the surest frame's points, or masks. There are no
mirrored views, no `auto`, no traces and no reports: those need the model folder and torch.
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
from insonate.deploy.runtime import Exported, Found
from insonate.errors import InsonateError, ModelError
from insonate.files import Content, atomic_write_all, safe_name, writable
from insonate.measure.overlay import Marked, draw_marked
from insonate.measure.points import MEASURED, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class PortableResult:
    """What came of one file: what it says and the files written, or an error and nothing written."""

    media: Path
    text: str = ""
    """of the first frame, in a line"""
    json_path: Path | None = None
    error: str | None = None


def predict_exported(
    paths: Iterable[Path],
    folder: Path | str,
    out: Path,
    *,
    task: str | None = None,
    spacing: Spacing | None = None,
) -> Iterator[PortableResult]:
    """Predict each file with an exported model.

    Args:
        paths: media files.
        folder: of `insonate export`.
        out: folder of the results; those of the same media are replaced.
        task: one of the model's; needed where it has several.
        spacing: of media that tell none.

    Yields:
        A result for each path, in order.

    Raises:
        ModelError: the folder cannot be used, the task is not there, or the model reads clips.
        InsonateError: `out` cannot be written.
    """
    out, model = writable(out), Exported(folder)
    name = model.task_named(task)
    if model.facts["input"]["frames"] > 1:
        raise ModelError(folder, "reads clips, of which this way knows only stills", "Use the model folder")
    for path in paths:
        try:
            yield _written(path, model, name, out, spacing)
        except InsonateError as told:
            yield PortableResult(media=path, error=str(told))


def _written(path: Path, model: Exported, name: str, out: Path, given: Spacing | None) -> PortableResult:
    stem = safe_name(str(path))
    files: dict[Path, Content] = {}
    told: list[dict[str, Any]] = []
    best: tuple[float, Image.Image] | None = None
    with MediaFile(path) as media:
        for number in range(media.info.frames):
            frame = media.read([number])[0]
            spacing = media.info.spacing_at(number) or given
            found = model.predict(frame, name, spacing=spacing)
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
    content = {"media": str(path), "task": name, "notice": NOTICE, "predictions": told}
    json_path = out / f"{stem}.json"
    atomic_write_all({**files, json_path: json.dumps(content, indent=1, allow_nan=False) + "\n"})
    return PortableResult(media=path, text=_text(told[0]), json_path=json_path)


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
