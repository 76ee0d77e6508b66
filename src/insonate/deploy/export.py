"""Export: a model's tasks as one graph for onnxruntime or OpenVINO, compared with torch before it is kept.

The graph takes prepared pictures (any number of them) and gives `TASK.values` and `TASK.confidence` of each
task, and of points `TASK.seen`, what their confidence comes from; the encoder runs once for all. What
pictures must be like and what the numbers mean stands beside it in `insonate.json` and in the graph's own
metadata. `deploy/runtime.py` runs the folder without torch.
Page: docs/export.md. Shapes: B items, T frames, C channels, H W input.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

import insonate
from insonate.data.manifest import Manifest
from insonate.data.sample import Batch
from insonate.deploy import NOTICE
from insonate.deploy.halved import halve
from insonate.deploy.mirrored import SEEN
from insonate.deploy.quantise import Gate, Judge, calibrated
from insonate.deploy.runtime import FACTS, INPUT, ONNX, OPENVINO, Exported
from insonate.errors import ModelError
from insonate.files import atomic_write, publish_dir
from insonate.hub import Model
from insonate.hub.part_tasks import check_single
from insonate.hub.plain import to_json
from insonate.models import Backbone, Tokens
from insonate.tasks.base import Task
from insonate.tasks.keypoints import Keypoints, locate
from insonate.tasks.views import STRAIGHT

Format = Literal["onnx", "openvino"]
Storage = Literal["fp32", "fp16"]
OPSET = 17
TOLERANCES: dict[Storage, float] = {"fp32": 1e-4, "fp16": 1e-3}
"""largest error of a graph so stored, in parts of the largest number of that output, at least 1"""
TRACED, TRIED = 2, (1, 3)
"""items of the batch that is traced, and of those that are compared"""
PAIRS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was written, and how near and how fast it is."""

    folder: Path
    format: Format
    precision: Literal["fp32", "int8"]
    tasks: tuple[str, ...]
    error: float
    """largest difference from torch, in parts of the largest number of that output, at least 1"""
    gates: tuple[Gate, ...]
    """of int8: each task's score with torch and with the graph"""
    eager_ms: float
    """CPU milliseconds of one picture with torch in fp32, one thread"""
    exported_ms: float
    """the same of the graph"""


class Once(nn.Module):
    """An encoder that looks at the input of a graph once, whichever task asks first."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.spec = backbone, backbone.spec
        self._tokens: Tokens | None = None
        self._pyramid: list[Tensor] | None = None

    def start(self) -> None:
        """Forget what was seen."""
        self._tokens = self._pyramid = None

    def forward(self, x: Tensor) -> Tokens:
        """See `Backbone.forward`."""
        if self._tokens is None:
            self._tokens = self.backbone(x)
        return self._tokens

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.pyramid`."""
        if self._pyramid is None:
            self._pyramid = self.backbone.pyramid(x)
        return self._pyramid


class Graph(nn.Module):
    """Tasks as one module: pictures B C H W, or clips B T C H W → values and confidence of each task."""

    def __init__(self, model: Model, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.once = Once(model.backbone)
        self.named = dict(tasks)
        self.heads = nn.ModuleList(task.head for task in tasks.values())
        self.outputs = [f"{name}.{part}" for name, task in tasks.items() for part in _parts(task)]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Two tensors a task, three where it locates points, as `outputs` names them."""
        self.once.start()
        found: list[Tensor] = []
        with self._sharing():
            for task in self.named.values():
                batch = Batch(image=image, meta=[], item_seed=[], step_seed=0)
                found += _located(task, batch) if _locates(task) else task.predict(batch)
        self.once.start()
        return tuple(found)

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """While it lasts the tasks ask `once`; one that reads levels of the encoder goes on as it was."""
        kept = {name: task.backbone for name, task in self.named.items()}
        for task in self.named.values():
            if task.backbone is self.once.backbone:
                task.backbone = self.once  # type: ignore[assignment]  # it stands for one
        try:
            yield
        finally:
            for name, task in self.named.items():
                task.backbone = kept[name]


def export(
    model: Model,
    out: Path,
    *,
    to: Format,
    int8: bool = False,
    data: Manifest | None = None,
    storage: Storage = "fp32",
) -> ExportReport:
    """Write the tasks of a model as a folder that runs without torch.

    Args:
        model: with one task at least that reads single pictures or clips.
        out: folder; must not be there, or be empty.
        to: runtime.
        int8: 8-bit products, calibrated on pictures of `data` and kept only where each task's score holds.
        data: labelled manifest; needed for int8.
        storage: of the numbers in the file; from fp16, half the size, the runtime makes fp32 again.

    Raises:
        ModelError: the model has no such task, a library is missing, the graph is too far from torch, or int8
            is to be stored in fp16.
        ManifestError: `data` has no labels for any of the tasks.
        InsonateError: `out` is not empty.
    """
    tasks = exportable(model)
    if int8 and data is None:
        raise ModelError("--int8", "has no pictures to be calibrated on", "Give --data MANIFEST with labels")
    if int8 and storage == "fp16":
        raise ModelError("--storage fp16", "int8 graphs are stored as they are", "Leave one of them out")
    _check_installed(to, int8=int8)
    graph = Graph(model.to("cpu"), tasks).eval()
    example = _example(model, TRACED)
    with publish_dir(out) as folder, _one_thread():
        _write_onnx(graph, example, folder / ONNX)
        facts = described(model, tasks) | {
            "format": to, "precision": "int8" if int8 else "fp32", "storage": storage,
        }  # fmt: skip
        write = _finish_onnx if to == "onnx" else _finish_openvino
        write(folder, facts)
        atomic_write(folder / FACTS, to_json(facts))
        error = compared(graph, Exported(folder, threads=1), model, TOLERANCES[storage])
        gates: tuple[Gate, ...] = ()
        if int8 and data is not None:
            judge = Judge(model, tasks, data)
            calibrated(folder, to, judge.pictures())
            error = compared(graph, Exported(folder, threads=1), model, tolerance=None)
            gates = judge.judged(Exported(folder, threads=1))
        eager_ms, exported_ms = latencies(graph, Exported(folder, threads=1), model)
        facts |= {
            "error": error, "latency_ms": {"torch": eager_ms, "exported": exported_ms},
            "gates": [gate.to_dict() for gate in gates],
        }  # fmt: skip
        atomic_write(folder / FACTS, to_json(facts))
    return ExportReport(
        folder=out, format=to, precision="int8" if int8 else "fp32", tasks=tuple(tasks), error=error,
        gates=gates, eager_ms=eager_ms, exported_ms=exported_ms,
    )  # fmt: skip


def exportable(model: Model) -> dict[str, Task]:
    """The tasks of a model that read one picture or clip.

    Raises:
        ModelError: there is none.
    """
    found = {}
    for name in model.tasks:
        task = model.task_named(name).eval()
        try:
            check_single(task)
        except ModelError:
            continue  # a probe of whole studies
        found[name] = task
    if not found:
        raise ModelError("export", "the model has no task that reads one picture or clip", "Train one on it")
    return found


def described(model: Model, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What a reader of the graph must know: how pictures become its input, and what its outputs mean."""
    spec = model.input
    frames = ["frames"] if spec.frames > 1 else []
    return {
        "version": 1, "insonate": insonate.__version__, "license": model.info.get("license", ""),
        "notice": NOTICE,
        "input": {
            **spec.model_dump(mode="json"), "name": INPUT, "rule": spec.resize_rule(),
            "axes": ["batch", *frames, "channels", "height", "width"],
        },
        "tasks": {name: _task_facts(task) for name, task in tasks.items()},
    }  # fmt: skip


def compared(graph: Graph, exported: Exported, model: Model, tolerance: float | None) -> float:
    """Largest difference of graph and torch, in parts of the largest number of that output, at least 1.

    Raises:
        ModelError: it is above the tolerance, or an output is not finite.
    """
    worst, where = 0.0, ""
    for count in TRIED:
        x = _example(model, count)
        with torch.no_grad():
            wanted = graph(x)
        found = exported.run(x.numpy())
        for name, theirs in zip(graph.outputs, wanted, strict=True):
            ours = found[name]
            if not np.isfinite(ours).all() or ours.shape != tuple(theirs.shape):
                raise ModelError(
                    exported.folder.name, f"{name} of the graph is not finite", "Tell us the model"
                )
            apart = float(np.abs(ours - theirs.numpy()).max() / max(1.0, float(theirs.abs().max())))
            worst, where = max((worst, where), (apart, name))
    if tolerance is not None and worst > tolerance:
        raise ModelError(
            "export", f"{where} differs from torch by {worst:.2g}, allowed is {tolerance:.0e}",
            "Use the model folder with torch",
        )  # fmt: skip
    return worst


def latencies(graph: Graph, exported: Exported, model: Model) -> tuple[float, float]:
    """CPU milliseconds of one input with torch and with the graph: medians of alternating pairs."""
    x = _example(model, 1)
    with torch.inference_mode():
        pairs = [
            (_timed(lambda: graph(x)), _timed(lambda: exported.run(x.numpy()))) for _ in range(PAIRS + 1)
        ]
    first, second = zip(*pairs[1:], strict=True)
    return statistics.median(first), statistics.median(second)


def _timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def _parts(task: Task) -> tuple[str, ...]:
    return ("values", "confidence", SEEN) if _locates(task) else ("values", "confidence")


def _locates(task: Task) -> TypeGuard[Keypoints]:
    """Whether the points of a task come from one set of maps: an ensemble's do not."""
    return type(task) is Keypoints


def _located(task: Keypoints, batch: Batch) -> list[Tensor]:
    """Values, confidence, and what both come from, B K 3: `mirrored.merged` needs it of each view."""
    found = locate(task.maps(batch))
    seen = torch.stack([found.variance, found.mass, found.peak], dim=-1)  # B K 3
    return [*task.fused(found, (STRAIGHT,), batch["image"]), seen]


def _task_facts(task: Task) -> dict[str, Any]:
    config = task.config
    facts: dict[str, Any] = {"kind": task.kind, "column": config.column, "names": []}
    if isinstance(task, Keypoints):
        measured = task.measured
        project = measured is not None and measured.project is not None and task.config.project
        return facts | {
            "names": list(task.names), "points": task.config.points, "hflip": list(task.hflip),
            "tta_mirror": task.config.tta_mirror,
            "chances": task.certainty.chances.tolist(), "project": bool(project),
            "values": "x, y in input pixels from the centre of the picture",
            "confidence_is": "raw; chances at even steps from 0 to 1 turn it into a chance",
        }  # fmt: skip
    meaning = {
        "classification": "probabilities", "segmentation": "probabilities, classes × input rows × columns",
        "regression": "the value in the unit of the column's name",
    }  # fmt: skip
    return facts | {"names": list(getattr(config, "classes", ())), "values": meaning[task.kind]}


def _example(model: Model, count: int) -> Tensor:
    """Random prepared inputs, the same for a number."""
    spec = model.input
    frames = [spec.frames] if spec.frames > 1 else []
    shape = (count, *frames, spec.channels, spec.height, spec.width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(count))


def _check_installed(to: Format, *, int8: bool) -> None:
    """Import what will be needed, before anything is written.

    Raises:
        ModelError: it is not installed.
    """
    needed = ["onnx", "onnxruntime" if to == "onnx" else "openvino"]
    for name in [*needed, *(["nncf"] if int8 and to == "openvino" else [])]:
        try:
            with quiet():
                __import__(name)
        except ImportError:
            raise ModelError("export", f"{name} is not installed", "pip install 'insonate[export]'") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of tracing and of libraries about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_onnx(graph: Graph, example: Tensor, path: Path) -> None:
    axes = {name: {0: "batch"} for name in (INPUT, *graph.outputs)}
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                graph, (example,), str(path), input_names=[INPUT], output_names=graph.outputs,
                dynamic_axes=axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        what = f"torch cannot write it as a graph ({type(error).__name__})"
        raise ModelError("export", what, "Use the model folder with torch") from error


def _finish_onnx(folder: Path, facts: Mapping[str, Any]) -> None:
    import onnx

    graph = onnx.load(str(folder / ONNX))
    onnx.helper.set_model_props(graph, {"insonate": json.dumps(facts)})
    onnx.save(graph, str(folder / ONNX))
    if facts["storage"] == "fp16":
        halve(folder / ONNX)


def _finish_openvino(folder: Path, facts: Mapping[str, Any]) -> None:
    import openvino

    graph = openvino.Core().read_model(str(folder / ONNX))  # not its converter, which reports its use
    graph.set_rt_info(json.dumps(facts), "insonate")
    openvino.save_model(graph, str(folder / OPENVINO), compress_to_fp16=facts["storage"] == "fp16")
    (folder / ONNX).unlink()
