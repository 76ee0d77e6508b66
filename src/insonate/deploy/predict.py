"""Predict many files: JSON, overlay picture and masks each; a file that is damaged does not stop the rest."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from insonate.data.media import MediaInfo, probe
from insonate.data.structured_report import Caliper
from insonate.data.vet import vetted
from insonate.deploy import NOTICE
from insonate.deploy.choosing import AUTO, LEAST, View
from insonate.deploy.measured import Known, Said, said_about, trace_of
from insonate.deploy.reporting import calipers_of
from insonate.deploy.views import check_chooser, view_of
from insonate.errors import InsonateError, ModelError, one_line
from insonate.files import Content, atomic_write_all, safe_name, writable
from insonate.hub import Model, load, to_json
from insonate.measure.quantity import Quantity
from insonate.progress import Track, untracked
from insonate.tasks.base import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What came of one file: predictions and the files written, or an error and nothing written."""

    media: Path
    task: str = ""
    """the task that was used"""
    chance: float | None = None
    """how sure it is that this is the medium's task, where that was chosen here"""
    predictions: tuple[Prediction, ...] = ()
    """one a frame"""
    quantities: dict[str, Quantity] = field(default_factory=dict)
    """of the medium as a whole"""
    calipers: tuple[Caliper, ...] = ()
    """the same for a structured report"""
    warnings: tuple[str, ...] = ()
    json_path: Path | None = None
    overlay_path: Path | None = None
    trace_path: Path | None = None
    """an M-mode-like picture, of a loop of IVC, PLAX or A4C"""
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
    known: Known | None = None,
    least: float = LEAST,
    track: Track = untracked,
) -> Iterator[FileResult]:
    """Predict each file and write `out/<name>.json` (all frames) and `out/<name>.png` (one frame).

    The picture shows the surest frame, or the end of diastole or the widest vein of a loop of PLAX, A4C or
    IVC, which also gets `out/<name>-trace.png`. A segmentation also gives `out/<name>-mask.png`, for a clip
    one a frame: grey pictures of the original's size with class numbers, as a manifest's mask column takes
    them; the JSON names them. Names are made by `files.safe_name`: no medium chooses where results go.

    Several files are first decoded in a worker process each, so that one that crashes or holds its decoder is
    told, and the rest go on; a single file is decoded here at once.

    Args:
        paths: media files.
        model: a model with a task, or its folder or hub id.
        out: folder of the results; those of the same media are replaced.
        tta: average with the mirrored image, where the task does so.
        task: one of `model.tasks`; needed where it has several; `auto`: by the model's own task `view`.
        known: what is known besides the pictures.
        least: chance of a view below which `auto` chooses nothing, which is that file's error.
        track: shows the progress over the frames of a file.

    Yields:
        A result for each path, in order, as it is done.

    Raises:
        ModelError: the model cannot be loaded or has not the task: nothing can be predicted at all.
        InsonateError: `out` cannot be written.
    """
    out = writable(out)
    model = model if isinstance(model, Model) else load(model)
    if task == AUTO:
        check_chooser(model)
    else:
        model.task_named(task)
    several = [Path(path) for path in paths]
    for path, error in vetted(several) if len(several) > 1 else ((path, None) for path in several):
        try:
            if error is not None:
                raise error
            view = view_of(model, path, least) if task == AUTO else View(task=task or "", chance=1.0)
            frames = model.stream(path, tta=tta, task=view.task or None)
            info = probe(path)
            predictions = list(track(frames, total=info.frames, what=one_line(path.name)))
            if not predictions:
                raise ModelError(path, "holds no frames", "Check the file")
            said = said_about(path, predictions, known or Known())
            chance = view.chance if task == AUTO else None
            yield _written(path, model, out, said, info=info, chance=chance)
        except InsonateError as told:
            yield FileResult(media=path, error=str(told))


def _written(
    path: Path, model: Model, out: Path, said: Said, *, info: MediaInfo, chance: float | None
) -> FileResult:
    name, task = safe_name(str(path)), said.shown.task
    files: dict[Path, Content] = {}
    told = [_told(prediction) for prediction in said.predictions]
    for prediction, one in zip(said.predictions, told, strict=True):
        if prediction.kind == "segmentation":
            number = f"-{prediction.meta.frame:05}" if len(told) > 1 else ""
            one["mask"] = f"{name}-mask{number}.png"
            files[out / one["mask"]] = _png(Image.fromarray(prediction.value))
    masks = tuple(files)
    trace, trace_path = trace_of(path, said, info), out / f"{name}-trace.png"
    if trace is not None:
        files[trace_path] = _png(trace)
    spacing = said.shown.meta.spacing
    content = {
        "media": str(path),
        "model": {"backbone": model.config().backbone, "task": task},
        "notice": NOTICE,
        "task_chance": chance,
        "spacing_mm": None if spacing is None else {"row": spacing.row_mm, "column": spacing.col_mm},
        "warnings": list(said.warnings),
        "measurements": {key: one.to_dict() for key, one in said.quantities.items()},
        "frames": said.frames,
        "beats": [
            beat.frames | {"measurements": {key: one.to_dict() for key, one in beat.quantities.items()}}
            for beat in said.beats
        ],
        "overlay": f"{name}.png",
        "overlay_frame": said.shown.meta.frame,
        "trace": None if trace is None else trace_path.name,
        "predictions": told,
    }
    overlay_path, json_path = out / f"{name}.png", out / f"{name}.json"
    atomic_write_all({**files, overlay_path: _png(said.shown.draw()), json_path: to_json(content)})
    return FileResult(
        media=path,
        task=task,
        chance=chance,
        predictions=said.predictions,
        quantities=said.quantities,
        calipers=calipers_of(said),
        warnings=said.warnings,
        json_path=json_path,
        overlay_path=overlay_path,
        trace_path=None if trace is None else trace_path,
        mask_paths=masks,
    )


def _told(prediction: Prediction) -> dict[str, Any]:
    """The prediction with its points in mm too, from the centre of the first pixel."""
    told, spacing = prediction.to_dict(), prediction.meta.spacing
    if prediction.kind == "keypoints":
        told["value_mm"] = None if spacing is None else prediction.value * (spacing.col_mm, spacing.row_mm)
    return told


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
