"""`insonate export`: a model as one graph that runs without torch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from insonate.cli_parts import AsJson, say


def export(
    model: Annotated[str, typer.Argument(help="model folder, official weights file, or hub id")],
    to: Annotated[Literal["onnx", "openvino"], typer.Option(help="what will run it")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write; not there yet, or empty")],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit products; needs --data")] = False,
    data: Annotated[
        Path | None, typer.Option(help="labelled manifest: pictures to calibrate on, scores that must hold")
    ] = None,
    storage: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="of the numbers in the file; fp16 halves it")
    ] = "fp32",
    as_json: AsJson = False,
) -> None:
    """Write a model's tasks as one graph with any number of pictures, compared with torch at once.

    The folder runs with onnxruntime or OpenVINO, numpy and Pillow: insonate.deploy.runtime.Exported.
    """
    from insonate.data.manifest import Manifest
    from insonate.deploy.export import export as write
    from insonate.hub import load
    from insonate.hub.plain import plain

    labelled = None if data is None else Manifest.read(data)
    report = write(load(model), out, to=to, int8=int8, data=labelled, storage=storage)
    if as_json:
        say(json.dumps(plain(asdict(report)), allow_nan=False))
        return
    say(f"{report.folder}: {report.format}, {report.precision}, tasks {', '.join(report.tasks)}")
    say(f"largest difference from torch {report.error:.2g} of the largest number of its output")
    for gate in report.gates:
        scores = f"{gate.torch:.4g} with torch, {gate.exported:.4g} here"
        say(f"{gate.task}: {gate.score} {scores}, {gate.items} items")
    times = f"{report.eager_ms:.1f} ms with torch, {report.exported_ms:.1f} here"
    say(f"one picture, one thread: {times}: {report.eager_ms / report.exported_ms:.2f}×")
