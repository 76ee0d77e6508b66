"""A classifier of views beside the tasks of a model: a linear layer on the tokens of its frozen encoder.

The tokens are averaged in 4 × 4 cells of the picture: where something lies tells views apart. It is what
`--task auto` asks. Its weights are fitted to a manifest's column `points_set`; their decay is chosen, and
their sureness set right (temperature), on the validation rows. Source: Guo et al. 2017 (temperature scaling,
arXiv 1706.04599).
Shapes: N rows, D channels of a token, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from insonate.data import Manifest
from insonate.data.manifest import Row
from insonate.data.media import read_frames
from insonate.errors import ManifestError, ModelError
from insonate.hub.model import Model
from insonate.models import build_part
from insonate.models.probes import GridProbe
from insonate.progress import Track, untracked

VIEW, COLUMN = "view", "points_set"
CELLS = 4
DECAYS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 200
"""of L-BFGS; the problem is convex"""
FEWEST = 2
"""classes, and rows of each"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFit:
    """How well the views of the validation rows are told."""

    classes: tuple[str, ...]
    rows: int
    """that it was fitted to"""
    validated: int
    accuracy: float
    """of all validation rows"""
    answered: float
    """share of them for which it is sure enough"""
    right: float
    """accuracy of those; NaN where there are none"""


def fit_view(model: Model, manifest: Manifest, *, least: float = 0.6, track: Track = untracked) -> ViewFit:
    """Give a model a part `view` with the values of `points_set` as classes; one that is there is replaced.

    Args:
        model: changed; its encoder stays as it is.
        manifest: rows of the splits train and val with `points_set`.
        least: the chance for which `answered` and `right` are told.
        track: shows the progress over the rows.

    Raises:
        ManifestError: there are fewer than two views, or one has fewer than two training rows or none in val.
        ModelError: the encoder takes clips.
        MediaError: a medium cannot be read.
    """
    parts = {split: [row for row in manifest.rows if row["split"] == split and row.get(COLUMN)] for split in
             ("train", "val")}  # fmt: skip
    classes = _classes(manifest, parts)
    head, options = _head(model, classes)
    features, labels = {}, {}
    for split, rows in parts.items():
        told = [
            _features(model, head, _frame(manifest, row)) for row in track(rows, total=len(rows), what=split)
        ]
        features[split] = torch.cat(told).double()  # N F
        labels[split] = torch.tensor([classes.index(row[COLUMN]) for row in rows])
    fitted = [_fitted(features["train"], labels["train"], len(classes), decay) for decay in DECAYS]
    losses = [functional.cross_entropy(_logits(features["val"], one), labels["val"]) for one in fitted]
    best = fitted[int(torch.stack(losses).argmin())]
    weight = best / _temperature(_logits(features["val"], best), labels["val"])
    with torch.no_grad():
        head.final.weight.copy_(weight[:, :-1])
        head.final.bias.copy_(weight[:, -1])
    model.parts[VIEW] = (options, head)
    chance, said = _logits(features["val"], weight).softmax(dim=1).max(dim=1)
    sure, right = chance >= least, said == labels["val"]
    return ViewFit(
        classes=classes,
        rows=len(labels["train"]),
        validated=len(right),
        accuracy=float(right.double().mean()),
        answered=float(sure.double().mean()),
        right=float(right[sure].double().mean()),
    )


def _head(model: Model, classes: tuple[str, ...]) -> tuple[GridProbe, dict[str, Any]]:
    """A probe for the grid of the encoder's tokens, whose weights are to be found, and its options.

    Raises:
        ModelError: the encoder takes clips.
    """
    spec = model.backbone.spec
    if spec.frames > 1:
        raise ModelError("view", "the encoder takes clips", "Give a model of single pictures")
    height, width = model.input.height, model.input.width
    blank = torch.zeros(1, spec.channels, height, width, device=model.device)
    with torch.inference_mode():
        _, rows, columns = model.backbone(blank).grid
    options = {
        "name": "grid_probe", "width": spec.embed_dim, "outputs": len(classes), "classes": list(classes),
        "rows": rows, "columns": columns, "cells": min(CELLS, rows, columns),
    }  # fmt: skip
    return cast(GridProbe, build_part(options)).eval().to(model.device), options


def _features(model: Model, head: GridProbe, frame: np.ndarray) -> Tensor:
    """What the probe's linear layer reads of a picture, 1 F."""
    image, _ = model.preprocess(frame)
    with torch.inference_mode():
        tokens = model.backbone(image.as_subclass(Tensor)[None].to(model.device)).patch  # 1 N D
        return head.features(tokens).cpu()


def _classes(manifest: Manifest, parts: dict[str, list[Row]]) -> tuple[str, ...]:
    counts = {split: [row[COLUMN] for row in rows] for split, rows in parts.items()}
    names = tuple(sorted(set(counts["train"])))
    if len(names) < FEWEST:
        raise ManifestError(
            manifest.source, f"has training rows of {len(names)} views", f"Two are needed in column {COLUMN}"
        )
    few = next((name for name in names if counts["train"].count(name) < FEWEST), None)
    if few is not None or set(counts["val"]) - set(names) or not counts["val"]:
        what = (
            f"has one training row of {few}" if few else "has views in val that are not in train, or no val"
        )
        raise ManifestError(manifest.source, what, "Split it anew by patient, or leave the view out")
    return names


def _frame(manifest: Manifest, row: Row) -> np.ndarray:
    """The labelled frame of a row, or the middle one."""
    frame = row.get("frame")
    middle = int(row["frames"] or 1) // 2
    return read_frames(manifest.file(row), [middle if frame is None else int(frame)])[0]


def _fitted(features: Tensor, labels: Tensor, classes: int, decay: float) -> Tensor:
    """Weights and bias C D+1 of a logistic regression whose weights, not its bias, cost."""
    weight = torch.zeros(classes, features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    given = features.double()
    optimiser = torch.optim.LBFGS([weight], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        total = (
            functional.cross_entropy(_logits(given, weight), labels) + decay * weight[:, :-1].square().sum()
        )
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach()


def _logits(features: Tensor, weight: Tensor) -> Tensor:
    return features.to(weight) @ weight[:, :-1].T + weight[:, -1]  # N C


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """What divides logits so that chances are as often right as they say; between 1/20 and 20."""
    tried = torch.logspace(-1.3, 1.3, 105, dtype=torch.float64)
    losses = torch.stack([functional.cross_entropy(logits / t, labels) for t in tried])
    return float(tried[losses.argmin()])
