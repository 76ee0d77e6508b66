"""Pictures of measurements: what is drawn lies where the points are, and nothing else covers the picture."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from insonate.data.pointsets import POINT_SETS
from insonate.data.spacing import Spacing
from insonate.measure.ellipse import ellipse_perimeter
from insonate.measure.figures import FIGURES, Figure, figures_of
from insonate.measure.overlay import COLOURS, Marked, draw_marked, told, weeks_and_days
from insonate.measure.points import MEASURED, measure
from insonate.measure.quantity import quantity

SPACING = Spacing(row_mm=0.25, col_mm=0.5)
HEAD = np.array([[60.0, 20.0], [60.0, 100.0], [110.0, 60.0], [10.0, 60.0]])


def marked(name, points, spacing=SPACING, confidence=None):
    return Marked(
        points_set=name,
        points_xy=np.asarray(points, dtype=float),
        confidence=np.ones(len(points)) if confidence is None else np.asarray(confidence),
        measurements=measure(MEASURED.get(name), points, spacing),
        spacing=spacing,
    )


@pytest.mark.parametrize("name", sorted(POINT_SETS))
def test_every_figure_measures_what_it_is_called(name):
    count = len(POINT_SETS[name].names)
    points = np.random.default_rng(1).uniform(0, 90, (count, 2))
    if name in {"HC", "FA"}:
        points[3] = points[0] + points[1] - points[2]  # one centre
    found = measure(MEASURED[name], points, SPACING)
    for figure in FIGURES[name]:
        assert max(figure.points) < count
        path_mm = figure.path(points) * (SPACING.col_mm, SPACING.row_mm)
        steps = np.linalg.norm(np.diff(path_mm, axis=0), axis=-1)
        if figure.kind == "line":
            assert steps.sum() == pytest.approx(found[figure.name].value)
        if figure.kind == "angle":
            first, second = path_mm[0] - path_mm[1], path_mm[2] - path_mm[1]
            cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
            assert np.degrees(np.arccos(cosine)) == pytest.approx(found[figure.name].value)


def test_an_ellipse_is_closed_and_as_long_as_its_perimeter():
    path = Figure(name="hc_mm", kind="ellipse", points=(0, 1, 2, 3)).path(HEAD)
    assert np.array_equal(path[0], path[-1])
    length = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum()
    assert length == pytest.approx(ellipse_perimeter(40, 50), rel=1e-3)


def test_figures_are_drawn_at_their_points_on_an_enlarged_picture():
    drawn = draw_marked(Image.new("L", (120, 120)), marked("HC", HEAD))
    assert drawn.size[0] == 480
    assert drawn.size[1] > 480  # the writing stands below
    pixels = np.asarray(drawn)
    for index, colour in ((0, COLOURS[0]), (1, COLOURS[0]), (2, COLOURS[1]), (3, COLOURS[1])):
        x, y = np.round((HEAD[index] + 0.5) * 4 - 0.5).astype(int)
        near = pixels[y - 3 : y + 4, x - 3 : x + 4]
        assert (near == colour).all(axis=-1).any()
    ellipse = pixels[:480][(pixels[:480] == COLOURS[2]).all(axis=-1)]
    assert len(ellipse) > 50


def test_nothing_is_written_over_the_echoes():
    noise = np.random.default_rng(0).integers(0, 200, (600, 640)).astype(np.uint8)
    away = np.array([[600.0, 500.0], [620.0, 500.0]])
    drawn = np.asarray(draw_marked(Image.fromarray(noise), marked("IVC", away), footer="a footer"))
    assert np.array_equal(drawn[:400, :, 0], noise[:400])
    assert drawn[600:].max() > 200


def test_missing_points_and_unknown_scale_are_drawn_without_a_word_too_much():
    for points in (np.full((4, 2), np.nan), HEAD):
        for spacing in (None, SPACING):
            assert draw_marked(Image.new("RGB", (40, 30)), marked("HC", points, spacing)).mode == "RGB"
    assert draw_marked(Image.new("RGB", (40, 30)), marked("mine", HEAD[:3], None)).size[0] >= 640
    assert figures_of("mine", 4)[1].points == (2, 3)


def test_values_are_told_as_sonographers_write_them():
    assert weeks_and_days(32.571) == "32w4d"
    assert told("ga_weeks", quantity("ga_weeks", 20.0)) == "GA 20w0d"
    assert told("hc_mm", quantity("hc_mm", 293.12)) == "HC 293.1 mm"
    assert told("hc_mm", quantity("hc_mm", 9.0)) == "HC 9.0 mm !"
    assert told("lv_long_mm", quantity("lv_long_mm", 80.0)) == "LV long 80.0 mm"
    assert (
        told("efw_hadlock_centile_percent", quantity("centile_percent", 45.3)) == "EFW Hadlock centile 45 %"
    )


def test_pictures_are_drawn_without_torch():
    code = "import sys; sys.modules['torch'] = None; import insonate.measure.overlay"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
