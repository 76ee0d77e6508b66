"""Put a trained model into the package: stored in 16 bits, as a graph for use without torch, with its card.

Run: python -m insonate.experiments.shipped_pack MODEL --evaluation evaluation.json --command "…" [--out DIR]
The evaluation is that of `shipped_model`; each `--command` is one with which the model was made, for its
card. Without `--out` it is written where `insonate predict` looks for it (`shipped.py`). Nothing is written
unless both forms are small enough and agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from insonate.deploy.export import export
from insonate.deploy.runtime import ONNX, Exported
from insonate.errors import ModelError
from insonate.experiments.told import errors_told
from insonate.files import publish_dir
from insonate.hub import Model, load
from insonate.hub.config import WEIGHTS
from insonate.shipped import DEFAULT, FOLDER, PORTABLE
from insonate.tasks.base import Prediction

LARGEST_BYTES = 12_000_000
"""of each form"""
NEAR = 1e-3
"""that both forms may differ by, in sizes of the picture, and in chances"""
TRIED = ((180, 240), (256, 256), (300, 200))
"""heights and widths of the pictures that both forms are shown"""
LICENCE = "Apache-2.0"
HC18 = (
    "HC18, CC BY 4.0: pictures and drawn ellipses at half size, points derived from the ellipses. T. L. A. "
    "van den Heuvel, D. de Bruijn, C. L. de Korte and B. van Ginneken, Automated measurement of fetal head "
    "circumference using 2D ultrasound images, PLoS ONE 13(8), 2018, doi 10.1371/journal.pone.0200412; data "
    "doi 10.5281/zenodo.1327317"
)
SOURCES = (
    "insonate's phantom: synthetic, Apache-2.0",
    HC18,
    "tested on CAMUS (Leclerc et al. 2019, doi 10.1109/TMI.2019.2900516, CC BY-NC-SA 4.0), not trained on it",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written."""

    folder: Path
    weights_bytes: int
    graph_bytes: int
    apart: float
    """largest difference of torch and graph, in sizes of the picture and in chances"""


def pack(source: Path | str, evaluation: Path, commands: Sequence[str], out: Path) -> Packed:
    """Write the package's form of a model.

    Args:
        source: its folder.
        evaluation: JSON of `shipped_model`.
        commands: with which it was made.
        out: a new folder.

    Raises:
        ModelError: a form is larger than 12 MB, they differ, or the evaluation cannot be read.
        InsonateError: `out` is there already.
    """
    trained = load(source)
    trained.info = {
        **_without_places(trained.info), "license": LICENCE, "sources": list(SOURCES),
        "metrics": _metrics(evaluation), "commands": list(commands),
    }  # fmt: skip
    with publish_dir(out) as folder:
        trained.save_pretrained(folder, storage="float16")
        model = load(folder)
        export(model, folder / PORTABLE, to="onnx", storage="fp16")
        sizes = [_size(path) for path in (folder / WEIGHTS, folder / PORTABLE / ONNX)]
        apart = difference(model, Exported(folder / PORTABLE, threads=1))
        if apart > NEAR:
            what = f"torch and graph differ by {apart:.2g}, allowed is {NEAR:g}"
            raise ModelError(source, what, "Train it longer, or tell us the model")
    return Packed(folder=out, weights_bytes=sizes[0], graph_bytes=sizes[1], apart=apart)


def difference(model: Model, exported: Exported) -> float:
    """The largest difference between both forms over all tasks, straight and mirrored, on noisy pictures."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in TRIED]
    return max(
        _of_picture(model, exported, picture, task, tta=tta)
        for picture, task, tta in product(pictures, model.tasks, (False, True))
    )


def _of_picture(model: Model, exported: Exported, picture: np.ndarray, task: str, *, tta: bool) -> float:
    theirs, ours = model.predict(picture, task=task, tta=tta), exported.predict(picture, task, tta=tta)
    assert isinstance(theirs, Prediction)  # a still gives one
    size = picture.shape[::-1] if theirs.kind == "keypoints" else 1.0
    values = _apart(np.asarray(ours.value), np.asarray(theirs.value), size)
    return max(values, _apart(np.asarray(ours.confidence), np.asarray(theirs.confidence), 1.0))


def _apart(ours: np.ndarray, theirs: np.ndarray, size: Any) -> float:
    """Infinite where only one of both has a number."""
    if not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        return float("inf")
    apart = np.abs(ours - theirs) / size
    return float(np.nanmax(apart)) if np.isfinite(apart).any() else 0.0


def _size(path: Path) -> int:
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        what = f"has {size / 1e6:.1f} MB, the package takes {LARGEST_BYTES / 1e6:.0f}"
        raise ModelError(path.name, what, "Train a smaller model, such as recipe sonichu_tiny")
    return size


def _metrics(path: Path) -> dict[str, Any]:
    """Name → value with its interval, for the card.

    Raises:
        ModelError: it is no evaluation.
    """
    try:
        lines = json.loads(path.read_bytes())
        return {f"{line['name']} ({_counted(line)})": line["mean_abs_error"] for line in lines}
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "Give what `python -m insonate.experiments.shipped_model` wrote"
        raise ModelError(path, f"is no evaluation ({type(error).__name__})", mend) from None


def _counted(line: Mapping[str, Any]) -> str:
    told = f"{line['items']} pictures of {line['patients']} patients"
    return f"{told}, {line['unmeasured']} not measured" if line["unmeasured"] else told


def _without_places(value: Any) -> Any:
    """The same without folders of the machine that it was trained on."""
    if isinstance(value, Mapping):
        return {key: _without_places(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_places(one) for one in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return value


def main() -> None:
    """Command line.

    Raises:
        SystemExit: with 2, when it cannot be packed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--command", action="append", required=True)
    parser.add_argument("--out", type=Path, default=FOLDER / DEFAULT)
    given = parser.parse_args()
    with errors_told():
        packed = pack(given.model, given.evaluation, given.command, given.out)
    sizes = f"weights {packed.weights_bytes / 1e6:.2f} MB, graph {packed.graph_bytes / 1e6:.2f} MB"
    sys.stdout.write(f"{packed.folder}: {sizes}, they differ by {packed.apart:.1g}\n")


if __name__ == "__main__":
    main()
