"""8-bit products of an exported graph: calibrated on pictures, kept only where the tasks' scores hold.

OpenVINO's graph is quantised by NNCF (weights and activations, from the pictures' ranges), ONNX's by
onnxruntime (weights a channel, activations by the range of each input). Page: docs/export.md.
Shapes: B items, C channels, H W input.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from insonate.data.dataset import ManifestDataset
from insonate.data.loader import Loader, collate
from insonate.data.manifest import Manifest
from insonate.data.sample import Batch
from insonate.deploy.runtime import ONNX, OPENVINO, Exported
from insonate.errors import ManifestError, ModelError
from insonate.hub import Model
from insonate.tasks.base import Outputs, Task

CALIBRATION, JUDGED = 64, 200
"""pictures that ranges are taken from, and labelled ones that scores are of, at most"""
BATCH = 8
SCORES = {
    "classification": ("correct", -0.005), "segmentation": ("dice", -0.005),
    "keypoints": ("mre_input_px", 0.3), "regression": ("abs_error", 0.02),
}  # fmt: skip
"""kind → its score and by how much it may get worse; of a regression in parts of the labels' spread"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Mean score of a task on labelled pictures, with torch in fp32 and with the graph."""

    task: str
    score: str
    items: int
    torch: float
    exported: float
    allowed: float
    """change for the worse that is allowed"""

    def holds(self) -> bool:
        """Whether the score changed by no more than is allowed."""
        change = self.exported - self.torch
        return change <= self.allowed if self.allowed > 0 else change >= self.allowed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class Judge:
    """Scores tasks on a labelled manifest: rows of val, else of test, else all."""

    def __init__(self, model: Model, tasks: Mapping[str, Task], data: Manifest) -> None:
        self.model, self.tasks, self.data = model, tasks, data

    def pictures(self) -> list[np.ndarray]:
        """Inputs 1 (T) C H W to calibrate on: evenly spaced rows of train, or of all."""
        rows = _of(self.data, "train")
        dataset = ManifestDataset(rows, self.model.format)
        numbers = np.linspace(0, len(dataset) - 1, min(CALIBRATION, len(dataset))).astype(int)
        return [self._shown(collate([dataset[int(i)]])).numpy() for i in dict.fromkeys(numbers.tolist())]

    def judged(self, exported: Exported) -> tuple[Gate, ...]:
        """The gate of each task that has labels.

        Raises:
            ManifestError: none has.
            ModelError: a score does not hold.
        """
        gates = []
        for name, task in self.tasks.items():
            try:
                dataset = ManifestDataset(_of(self.data, "val", "test"), self.model.format, task.target())
            except ManifestError:
                continue  # no label of this task
            gates.append(self._gate(name, task, dataset, exported))
        if not gates:
            raise ManifestError(
                self.data.source, "has no label of any task of the model", "Give a manifest that has"
            )
        failed = next((gate for gate in gates if not gate.holds()), None)
        if failed is not None:
            raise ModelError(
                "export",
                f"int8 changes {failed.score} of {failed.task} from {failed.torch:.4g} to "
                f"{failed.exported:.4g} on {failed.items} items, allowed is {failed.allowed:+g}",
                "Export without --int8",
            )
        return tuple(gates)

    def _gate(self, name: str, task: Task, dataset: ManifestDataset, exported: Exported) -> Gate:
        score, allowed = SCORES[task.kind]
        scores, labels = [], []
        loader = Loader(dataset, min(BATCH, len(dataset)), shuffle=False, drop_last=False)
        for batch in loader.epoch(0):
            with torch.inference_mode():
                first = task.predict(batch)
            found = exported.run(self._shown(batch).numpy())
            second = Outputs(
                *(torch.from_numpy(found[f"{name}.{part}"]) for part in ("values", "confidence"))
            )
            truths = task.truth(batch)
            labels += [float(truth.value) for truth in truths if truth.value.ndim == 0]
            pairs = zip(truths, task.decode(first, batch), task.decode(second, batch), strict=True)
            scores += [[task.score(one, truth)[score] for one in both] for truth, *both in pairs]
            if len(scores) >= JUDGED:
                break
        mean = np.nanmean(np.array(scores), axis=0)
        spread = max(float(np.std(labels)), 1e-6) if labels else 1.0
        return Gate(
            task=name, score=score, items=len(scores), torch=float(mean[0]), exported=float(mean[1]),
            allowed=allowed * spread,
        )  # fmt: skip

    def _shown(self, batch: Batch) -> Tensor:
        """The batch as the graph takes it: pictures in all frames where it takes clips."""
        image = batch["image"].as_subclass(Tensor)
        frames = self.model.input.frames
        return image if frames == 1 else image[:, None].expand(-1, frames, -1, -1, -1).contiguous()


def calibrated(folder: Path, to: Literal["onnx", "openvino"], pictures: list[np.ndarray]) -> None:
    """Quantise the graph in a folder.

    Args:
        folder: of `export`.
        to: its format.
        pictures: inputs 1 (T) C H W.
    """
    with _quiet():
        (_dynamic if to == "onnx" else _static)(folder, pictures)


def _dynamic(folder: Path, pictures: list[np.ndarray]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    del pictures  # the range of each input is taken when it comes
    whole = folder / "fp32.onnx"
    (folder / ONNX).rename(whole)
    quantize_dynamic(
        str(whole), str(folder / ONNX), op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    whole.unlink()


def _static(folder: Path, pictures: list[np.ndarray]) -> None:
    import nncf
    import openvino

    graph = openvino.Core().read_model(str(folder / OPENVINO))
    smaller = nncf.quantize(
        graph, nncf.Dataset(pictures), subset_size=len(pictures), model_type=nncf.ModelType.TRANSFORMER
    )
    del graph
    openvino.save_model(smaller, str(folder / "int8.xml"), compress_to_fp16=False)
    for kind in ("xml", "bin"):
        (folder / f"int8.{kind}").replace((folder / OPENVINO).with_suffix(f".{kind}"))


def _of(data: Manifest, *splits: str) -> Manifest:
    """Rows of the first of the splits that has any; all where none has."""
    for split in splits:
        rows = [row for row in data.rows if row.get("split") == split]
        if rows:
            return data.with_rows(rows)
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of libraries and NNCF's report of its use; progress bars go to stderr."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"  # what openvino_telemetry takes for a refusal
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # progress is no result
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
