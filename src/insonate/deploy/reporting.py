"""What a structured report says of a medium: each figure with its value in its frame, then what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from insonate.data.structured_report import Caliper
from insonate.deploy.measured import Said
from insonate.measure.figures import FIGURES, Figure
from insonate.measure.overlay import words
from insonate.measure.quantity import Quantity
from insonate.tasks.base import Prediction


def calipers_of(said: Said) -> tuple[Caliper, ...]:
    """The values of a still in its frame, those of a loop in the frames that it names; then the others."""
    placed = list(_placed(said))
    names = {caliper.name for caliper in placed}
    rest = [_caliper(name, one) for name, one in said.quantities.items() if name not in names]
    return (*placed, *rest)


def _placed(said: Said) -> Iterator[Caliper]:
    if said.shown.task not in FIGURES:
        return
    frames = {one.meta.frame: one for one in said.predictions}
    if not said.frames:
        yield from _figures(said.shown)
        return
    for place, (end, number) in enumerate(said.frames.items()):
        for caliper in _figures(frames[number]):
            stem, _, unit = caliper.name.rpartition("_")
            name = f"{stem}_{end}_{unit}"
            if name in said.quantities:
                yield _caliper(name, said.quantities[name], caliper)
            elif place == 0:
                yield caliper


def _figures(prediction: Prediction) -> Iterator[Caliper]:
    for figure in FIGURES[prediction.task]:
        name = figure.name if prediction.meta.spacing is not None else figure.length_name
        one = prediction.measurements.get(name)
        if one is None or not figure.known(prediction.value):
            continue
        ends = prediction.value[list(figure.points)]
        yield Caliper(
            name=name, title=words(name, one), value=one.value, unit=one.unit, kind=figure.kind,
            points_xy=_path(figure, ends, prediction.value), frame=prediction.meta.frame,
        )  # fmt: skip


def _path(figure: Figure, ends_xy: np.ndarray, points_xy: np.ndarray) -> np.ndarray:
    return ends_xy if figure.kind == "ellipse" else figure.path(points_xy)


def _caliper(name: str, one: Quantity, place: Caliper | None = None) -> Caliper:
    caliper = Caliper(name=name, title=words(name, one), value=one.value, unit=one.unit)
    if place is None:
        return caliper
    return replace(caliper, kind=place.kind, points_xy=place.points_xy, frame=place.frame)
