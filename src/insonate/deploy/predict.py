"""Predict many files: a JSON and an overlay picture each; a file that is damaged does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from insonate.errors import InsonateError, ModelError
from insonate.files import atomic_write, safe_name
from insonate.hub import Model, load, to_json
from insonate.tasks.base import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What came of one file: predictions and the two files written, or an error and nothing written."""

    media: Path
    predictions: tuple[Prediction, ...] = ()
    """one a frame"""
    json_path: Path | None = None
    overlay_path: Path | None = None
    error: str | None = None


def predict_media(
    paths: Iterable[Path | str], model: Model | Path | str, out: Path, *, tta: bool = True
) -> Iterator[FileResult]:
    """Predict each file and write `out/<name>.json` (all frames) and `out/<name>.png` (the surest frame).

    Names are made by `files.safe_name`, so that no medium chooses where results go.

    Args:
        paths: media files.
        model: a model with a task, or its folder or hub id.
        out: folder of the results; those of the same media are replaced.
        tta: average with the mirrored image, where the task does so.

    Yields:
        A result for each path, in order, as it is done.

    Raises:
        ModelError: the model cannot be loaded or has no task: nothing can be predicted at all.
    """
    model = model if isinstance(model, Model) else load(model)
    if model.task is None:
        raise ModelError("predict", "the model has no task, it only embeds", "Train a task on it first")
    for path in map(Path, paths):
        try:
            yield _predict_file(path, model, Path(out), tta=tta)
        except InsonateError as error:
            yield FileResult(media=path, error=str(error))


def _predict_file(path: Path, model: Model, out: Path, *, tta: bool) -> FileResult:
    predictions: list[Prediction] = []
    surest: tuple[float, np.ndarray, Prediction] | None = None
    for frame, prediction in model.stream(path, tta=tta):
        predictions.append(prediction)
        confidence = float(np.mean(prediction.confidence))
        if surest is None or confidence > surest[0]:
            surest = confidence, frame, prediction
    if surest is None:
        raise ModelError(path, "holds no frames", "Check the file")
    name = safe_name(str(path))
    overlay = model.draw(surest[1], surest[2])
    content = {
        "media": str(path),
        "model": {"backbone": model.config().backbone, "task": model.config().task},
        "notice": "not for clinical use",
        "overlay_frame": surest[2].meta.frame,
        "predictions": [prediction.to_dict() for prediction in predictions],
    }
    overlay_path = atomic_write(out / f"{name}.png", lambda file: overlay.save(file, "PNG"))
    json_path = atomic_write(out / f"{name}.json", to_json(content))
    return FileResult(
        media=path, predictions=tuple(predictions), json_path=json_path, overlay_path=overlay_path
    )
