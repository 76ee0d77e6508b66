"""Runtime: an exported folder on onnxruntime or OpenVINO, with numpy; torch is not needed.

The folder is that of `deploy/export.py`. Pictures are prepared as its `insonate.json` says; predictions come
in pixels of the original, as `Model.predict` gives them.
Shapes: B items, T frames, C channels, H W input, K points, R Q rows and columns of the original.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from insonate.data.spacing import Spacing
from insonate.deploy.mirrored import merged
from insonate.errors import ModelError, choose

FACTS, ONNX, OPENVINO = "insonate.json", "model.onnx", "model.xml"
LARGEST_BYTES = 10_000_000
INPUT = "image"
LUMINANCE = (0.299, 0.587, 0.114)
FLATTEST = 1e-3
"""deviation of a picture, in grey levels, below which it counts as this when it is standardised"""
WEIGHT_BITS, MOST_BITS = 15, 22
"""of the whole numbers that torch resizes pictures of 8 bits with: bits in all, and after the comma"""
Run = Callable[[np.ndarray], dict[str, np.ndarray]]
Scale = tuple[float, float, float, float]
"""sx, sy, tx, ty: an input pixel is (sx·x + tx, sy·y + ty) of an original one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the pixels of an input lie in the original."""

    scale: Scale
    original_hw: tuple[int, ...]
    spacing: Spacing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a task says of one picture."""

    task: str
    kind: str
    value: np.ndarray
    """probabilities; a number; a mask R Q; or points K 2 in original pixels, NaN where there is none"""
    confidence: np.ndarray
    names: tuple[str, ...] = ()
    """of classes or points"""
    facts: dict[str, Any] = field(default_factory=dict)
    """what `insonate.json` says of the task"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, but for a mask."""
        shown = None if self.kind == "segmentation" else _plain(self.value)
        return {
            "task": self.task, "kind": self.kind, "value": shown, "names": list(self.names),
            "confidence": _plain(self.confidence),
        }  # fmt: skip


class Exported:
    """An exported model, ready to run."""

    def __init__(self, folder: Path | str, *, threads: int = 0) -> None:
        """Open the graph in `folder`; `threads` 0 = as many as there are.

        Raises:
            ModelError: it is no exported folder, or its runtime is not installed.
        """
        self.folder = Path(folder)
        self.facts = read_facts(self.folder)
        self.tasks = tuple(self.facts["tasks"])
        path = self.folder / (ONNX if self.facts["format"] == "onnx" else OPENVINO)
        if not path.is_file():
            raise ModelError(path, "is missing", "Export the model again")
        self.run: Run = (_onnx if self.facts["format"] == "onnx" else _openvino)(path, threads)
        """pictures B (T) C H W, float32 → output name → array"""

    def prepare(self, picture: np.ndarray) -> tuple[np.ndarray, Scale]:
        """Picture R Q or R Q 3, uint8 → input C H W, float32, and its place in the original.

        Raises:
            ModelError: it is no such picture.
        """
        return prepare(picture, self.facts["input"])

    def predict(
        self,
        picture: np.ndarray,
        task: str | None = None,
        *,
        spacing: Spacing | None = None,
        tta: bool = False,
    ) -> Found:
        """What a task says of a picture, R Q or R Q 3, uint8; a model of clips is shown it in all frames.

        Args:
            picture: as it is.
            task: one of `tasks`, in upper or lower case; needed where there are several.
            spacing: of its pixels, where it is known: diameters of HC and FA are put at right angles in mm.
            tta: mean with the mirrored picture where the task has `tta_mirror`; not in its `tta_scales`.

        Raises:
            ModelError: it is no picture, or there is no such task.
        """
        name = self.task_named(task)
        tta = tta and self.facts["tasks"][name].get("tta_mirror", True)
        pixels, scale = self.prepare(picture)
        frames = self.facts["input"]["frames"]
        batch = pixels[None] if frames == 1 else np.repeat(pixels[None, None], frames, 1)
        shown = np.concatenate([batch, batch[..., ::-1]]) if tta else batch
        outputs = self.run(np.ascontiguousarray(shown))
        value, confidence = (outputs[f"{name}.{part}"][0] for part in ("values", "confidence"))
        if tta:
            size = (pixels.shape[-1], pixels.shape[-2])
            value, confidence = merged(outputs, name, self.facts["tasks"][name], size)
        place = Place(scale=scale, original_hw=picture.shape[:2], spacing=spacing)
        return decode(self.facts, name, (value, confidence), place)

    def task_named(self, name: str | None) -> str:
        """The task of a name, in upper or lower case; for none the only one.

        Raises:
            ModelError: there is none, or more than one.
        """
        if name is None and len(self.tasks) == 1:
            return self.tasks[0]
        if name is None:
            raise ModelError(self.folder, f"has the tasks {', '.join(self.tasks)}", "Say task=NAME")
        found = next((task for task in self.tasks if task.casefold() == name.casefold()), None)
        if found is None:
            raise ModelError(self.folder, f"no task is called {name!r}", choose(name, self.tasks))
        return found


def is_exported(folder: Path | str) -> bool:
    """Whether a folder is one of an exported model."""
    return (Path(folder) / FACTS).is_file()


def read_facts(folder: Path) -> dict[str, Any]:
    """Content of `insonate.json`.

    Raises:
        ModelError: it is missing, damaged or of another version.
    """
    path, mend = folder / FACTS, "Export the model again"
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(path, f"has {path.stat().st_size} bytes", mend)
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(path, f"cannot be read ({type(error).__name__})", mend) from None
    wanted = {"version", "format", "input", "tasks"}
    if not isinstance(facts, dict) or not wanted <= facts.keys() or facts["version"] != 1:
        raise ModelError(path, "does not describe an exported model of this version", mend)
    return facts


def prepare(picture: np.ndarray, wanted: dict[str, Any]) -> tuple[np.ndarray, Scale]:
    """See `Exported.prepare`; `wanted` is the field `input` of `insonate.json`.

    Raises:
        ModelError: it is no picture.
    """
    shape = picture.shape
    flat = picture.ndim == 2 or (picture.ndim == 3 and shape[2] in {1, 3})
    if picture.dtype != np.uint8 or not flat or picture.size == 0:
        raise ModelError("image", f"is {picture.dtype} of shape {shape}", "Give H W or H W 3 as uint8")
    grey = picture[..., 0] if picture.ndim == 3 and shape[2] == 1 else picture
    if grey.ndim == 3 and wanted["channels"] == 1:
        grey = np.rint(grey.astype(np.float32) @ np.array(LUMINANCE, np.float32)).astype(np.uint8)
    scale, size, corner = _places(shape[0], shape[1], wanted)
    planes = grey[None] if grey.ndim == 2 else grey.transpose(2, 0, 1)  # 1 or C R Q
    left, top = corner
    planes = resized(planes, size, wanted["interpolation"])
    planes = planes[:, top : top + wanted["height"], left : left + wanted["width"]].astype(np.float32)
    if wanted["standardise"]:
        planes = (planes - planes.mean()) / max(float(planes.std()), FLATTEST)
        return np.ascontiguousarray(np.broadcast_to(planes, (wanted["channels"], *planes.shape[1:]))), scale
    mean, std = (
        255 * np.array(wanted[name], np.float32)[: wanted["channels"], None, None] for name in ("mean", "std")
    )
    return (planes - mean) / std, scale


def resized(planes: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Planes C R Q, uint8 → C H W, antialiased, in whole numbers as torch counts on processors with AVX2.

    Args:
        planes: the picture.
        size: W, H.
        interpolation: bilinear or bicubic.
    """
    for axis, count in ((2, size[0]), (1, size[1])):
        if planes.shape[axis] == count:
            continue
        weights, bits = _whole_weights(planes.shape[axis], count, interpolation)
        sums = np.moveaxis(planes, axis, -1).astype(np.float64) @ weights.T  # exact: far below 2^53
        rounded = np.floor((sums + 2.0 ** (bits - 1)) / 2.0**bits).clip(0, 255).astype(np.uint8)
        planes = np.moveaxis(rounded, -1, axis)
    return planes


def _whole_weights(before: int, after: int, interpolation: str) -> tuple[np.ndarray, int]:
    """Weights `after` × `before` as whole numbers, and how many of their bits are behind the comma."""
    scale = before / after
    stretch, reach = max(scale, 1.0), 1.0 if interpolation == "bilinear" else 2.0
    centre = scale * (np.arange(after) + 0.5)
    low = np.maximum((centre - reach * stretch + 0.5).astype(int), 0)
    high = np.minimum((centre + reach * stretch + 0.5).astype(int), before)
    place = np.arange(before)
    away = np.abs((place - centre[:, None] + 0.5) / stretch)
    weights = _tent(away) if interpolation == "bilinear" else _cubic(away)
    weights = np.where((place >= low[:, None]) & (place < high[:, None]), weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < MOST_BITS and int(0.5 + weights.max() * 2 ** (bits + 1)) < 2**WEIGHT_BITS:
        bits += 1
    return np.trunc(weights * 2.0**bits + np.copysign(0.5, weights)), bits


def _tent(away: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - away, 0.0)


def _cubic(away: np.ndarray) -> np.ndarray:
    """Keys' cubic with a = -1/2."""
    near = (1.5 * away - 2.5) * away**2 + 1.0
    far = ((-0.5 * away + 2.5) * away - 4.0) * away + 2.0
    return np.where(away < 1, near, np.where(away < 2, far, 0.0))


def decode(facts: dict[str, Any], name: str, outputs: tuple[np.ndarray, np.ndarray], place: Place) -> Found:
    """Values and confidence of one item, as the graph gives them → pixels and units of the original."""
    task, (value, confidence) = facts["tasks"][name], outputs
    names = tuple(task["names"])
    if task["kind"] == "keypoints":
        value, confidence = _points(value, confidence, task, facts["input"], place)
    elif task["kind"] == "segmentation":
        value = _on_original(value, place.scale, place.original_hw).argmax(axis=0).astype(np.uint8)
    return Found(
        task=name, kind=task["kind"], value=np.asarray(value), confidence=np.asarray(confidence), names=names,
        facts=task,
    )  # fmt: skip


def _points(
    values: np.ndarray, raw: np.ndarray, task: dict[str, Any], wanted: dict[str, Any], place: Place
) -> tuple[np.ndarray, np.ndarray]:
    """Points K 2 in original pixels, and the chance of each to be near its place."""
    sx, sy, tx, ty = place.scale
    middle = np.array([wanted["width"] - 1, wanted["height"] - 1]) / 2
    points = (values.astype(np.float64) + middle - (tx, ty)) / (sx, sy)
    seen = raw.astype(np.float64)
    points = np.where(seen[:, None] > 0, points, math.nan)
    chances = np.interp(seen, np.linspace(0, 1, len(task["chances"])), task["chances"])
    if task["project"] and np.isfinite(points).all():
        from insonate.measure.points import MEASURED

        measured = MEASURED[task["points"]]
        points = points if measured.project is None else measured.project(points, place.spacing)
    return points, np.where(seen > 0, chances, 0.0)


def _places(
    height: int, width: int, wanted: dict[str, Any]
) -> tuple[Scale, tuple[int, int], tuple[int, int]]:
    """Scale, size (width, height) to resize to, and corner (left, top) of what is cut out of it."""
    rows, columns = wanted["height"], wanted["width"]
    left = top = 0
    if wanted["resize"] == "crop":
        factor = max(int(rows * wanted["margin"]) / height, int(columns * wanted["margin"]) / width)
        high, wide = max(int(height * factor + 1e-6), rows), max(int(width * factor + 1e-6), columns)
        top, left = round((high - rows) / 2), round((wide - columns) / 2)
        rows, columns = high, wide
    sx, sy = columns / width, rows / height
    return (sx, sy, 0.5 * sx - 0.5 - left, 0.5 * sy - 0.5 - top), (columns, rows), (left, top)


def _on_original(probs: np.ndarray, scale: Scale, original_hw: tuple[int, ...]) -> np.ndarray:
    """Probabilities C H W at the pixels of the original, C R Q: bilinear, the border goes on outside."""
    sx, sy, tx, ty = scale
    below = _weights(sy * np.arange(original_hw[0]) + ty, probs.shape[1])  # R H
    right = _weights(sx * np.arange(original_hw[1]) + tx, probs.shape[2])  # Q W
    return np.einsum("rh,chw,qw->crq", below, probs, right, optimize=True)


def _weights(places: np.ndarray, size: int) -> np.ndarray:
    """Rows that take what lies between two of `size` values, the outermost beyond them."""
    inside = places.clip(0, size - 1)
    low = np.minimum(inside.astype(int), max(size - 2, 0))
    matrix, row = np.zeros((len(places), size)), np.arange(len(places))
    matrix[row, low] = 1 - (inside - low)
    matrix[row, np.minimum(low + 1, size - 1)] += inside - low
    return matrix


def _onnx(path: Path, threads: int) -> Run:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(path, "onnxruntime is not installed", "pip install 'insonate[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's own errors share no base class
        raise ModelError(
            path, f"onnxruntime cannot open it ({type(error).__name__})", "Export it again"
        ) from None
    names = [output.name for output in session.get_outputs()]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {INPUT: image}), strict=True))

    return run


def _openvino(path: Path, threads: int) -> Run:
    try:
        import openvino
    except ImportError:
        raise ModelError(path, "openvino is not installed", "pip install 'insonate[export]'") from None
    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads} if threads else {}
    settings["INFERENCE_PRECISION_HINT"] = "f32"  # bf16 processors would round otherwise
    try:
        compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            path, f"OpenVINO cannot open it ({type(error).__name__})", "Export it again"
        ) from None

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        results = compiled({INPUT: image})
        return {output.get_any_name(): np.asarray(results[output]) for output in compiled.outputs}

    return run


def _plain(value: np.ndarray) -> Any:
    """Lists and numbers; None for what is not finite."""
    if value.ndim:
        return [_plain(part) for part in value]
    return float(value) if np.isfinite(value) else None
