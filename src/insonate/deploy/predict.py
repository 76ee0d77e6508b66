"""Predict many files: JSON, overlay picture and masks each; a file that is damaged does not stop the rest."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from insonate.data.media import probe
from insonate.data.vet import vetted
from insonate.errors import InsonateError, ModelError, one_line
from insonate.files import Content, atomic_write_all, safe_name, writable
from insonate.hub import Model, load, to_json
from insonate.progress import Track, untracked
from insonate.tasks.base import Prediction, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What came of one file: predictions and the files written, or an error and nothing written."""

    media: Path
    predictions: tuple[Prediction, ...] = ()
    """one a frame"""
    json_path: Path | None = None
    overlay_path: Path | None = None
    mask_paths: tuple[Path, ...] = ()
    """of a segmentation, one a frame"""
    error: str | None = None


def predict_media(
    paths: Iterable[Path | str],
    model: Model | Path | str,
    out: Path,
    *,
    tta: bool = True,
    task: str | None = None,
    track: Track = untracked,
) -> Iterator[FileResult]:
    """Predict each file and write `out/<name>.json` (all frames) and `out/<name>.png` (the surest frame).

    A segmentation also gives `out/<name>-mask.png`, for a clip one a frame: grey pictures of the original's
    size with class numbers, as a manifest's mask column takes them; the JSON names them. Names are made by
    `files.safe_name`, so that no medium chooses where results go.

    Several files are first decoded in a worker process each, so that one that crashes or holds its decoder is
    told, and the rest go on; a single file is decoded here at once.

    Args:
        paths: media files.
        model: a model with a task, or its folder or hub id.
        out: folder of the results; those of the same media are replaced.
        tta: average with the mirrored image, where the task does so.
        task: one of `model.tasks`; needed where it has several.
        track: shows the progress over the frames of a file.

    Yields:
        A result for each path, in order, as it is done.

    Raises:
        ModelError: the model cannot be loaded or has not the task: nothing can be predicted at all.
        InsonateError: `out` cannot be written.
    """
    out = writable(out)
    model = model if isinstance(model, Model) else load(model)
    chosen = model.task_named(task)
    several = [Path(path) for path in paths]
    for path, error in vetted(several) if len(several) > 1 else ((path, None) for path in several):
        try:
            if error is not None:
                raise error
            yield _predict_file(path, model, out, chosen, tta=tta, track=track)
        except InsonateError as told:
            yield FileResult(media=path, error=str(told))


def _predict_file(path: Path, model: Model, out: Path, task: Task, *, tta: bool, track: Track) -> FileResult:
    frames = model.stream(path, tta=tta, task=task.config.column)
    predictions = list(track(frames, total=probe(path).frames, what=one_line(path.name)))
    if not predictions:
        raise ModelError(path, "holds no frames", "Check the file")
    surest = max(predictions, key=lambda prediction: float(np.mean(prediction.confidence)))
    name = safe_name(str(path))
    told = [prediction.to_dict() for prediction in predictions]
    files: dict[Path, Content] = {}
    for prediction, one in zip(predictions, told, strict=True):
        if prediction.kind == "segmentation":
            number = f"-{prediction.meta.frame:05}" if len(predictions) > 1 else ""
            one["mask"] = f"{name}-mask{number}.png"
            files[out / one["mask"]] = _png(Image.fromarray(prediction.value))
    masks = tuple(files)
    content = {
        "media": str(path),
        "model": {"backbone": model.config().backbone, "task": task.config.model_dump(mode="json")},
        "notice": "not for clinical use",
        "overlay": f"{name}.png",
        "overlay_frame": surest.meta.frame,
        "predictions": told,
    }
    overlay_path, json_path = out / f"{name}.png", out / f"{name}.json"
    atomic_write_all({**files, overlay_path: _png(surest.draw()), json_path: to_json(content)})
    return FileResult(
        media=path,
        predictions=tuple(predictions),
        json_path=json_path,
        overlay_path=overlay_path,
        mask_paths=masks,
    )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
