"""Symphysis and head: the planted angle and distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.data.spacing import Spacing
from insonate.errors import InsonateError
from insonate.measure.intrapartum import (
    angle_of_progression,
    caudal_tangent,
    ellipse_of_mask,
    hsd_nearest_of,
)
from insonate.phantom.pelvis import HEAD, SKULL, SYMPHYSIS, Labour
from insonate.phantom.physics import stream


@pytest.mark.parametrize(("aop_deg", "hsd_mm"), [(75, 40), (100, 25), (125, 20), (150, 12), (164, 6)])
def test_head_lies_where_angle_and_distance_want_it(aop_deg, hsd_mm):
    for patient in range(3):
        labour = Labour.draw(stream(0, patient, "anatomy"), aop_deg=aop_deg, hsd_mm=hsd_mm)
        assert labour.aop_deg == pytest.approx(aop_deg, abs=0.2)
        nearest = math.dist(labour.nearest_mm, labour.vertex_mm)
        assert nearest == pytest.approx(hsd_mm, abs=0.05)
        assert nearest == pytest.approx(
            hsd_nearest_of(labour.head, np.array(labour.vertex_mm)).value, abs=0.02
        )
        assert labour.tangent_mm[1] > 0


def test_all_points_are_in_the_picture(stage):
    for patient in range(12):
        scene, machine, _ = stage("pelvis", patient, size=64)
        for place in scene.truth(0.0).points_mm.values():
            assert np.isfinite(machine.screen.seen_px(*place)).all()


def test_masks_measure_the_same_angle(stage):
    # the whole head is needed to fit an ellipse: take those that the picture does not cut
    for patient in range(3):
        scene, machine, _ = stage("pelvis", patient)
        labour, step_mm = scene.labour, 0.5
        x, z = np.meshgrid(np.arange(-120, 120, step_mm), np.arange(-20, 220, step_mm))
        inward = labour.head.inward(np.stack([x, z], -1)) / (labour.head.semi_a, labour.head.semi_b)
        mask = (inward**2).sum(-1) < 1
        found = ellipse_of_mask(mask, Spacing(row_mm=step_mm, col_mm=step_mm))
        vertex, upper = (np.array(p) - (-120, -20) for p in (labour.vertex_mm, labour.upper_mm))
        angle = angle_of_progression(vertex, upper, caudal_tangent(found, vertex, upper)).value
        assert angle == pytest.approx(labour.aop_deg, abs=0.5)
        assert machine.grid.samples > 0


def test_masks_of_symphysis_and_head_lie_at_the_points(stage):
    for patient in range(3):
        scene, machine, painting = stage("pelvis", patient, size=256)
        label = machine.screen.labels(painting.still.label)
        points = [machine.screen.to_px(*p) for p in scene.truth(0.0).points_mm.values()]
        for (px, py), parts in zip(
            points, [(SYMPHYSIS,), (SYMPHYSIS,), (HEAD, SKULL), (HEAD, SKULL)], strict=True
        ):
            rows, columns = np.nonzero(np.isin(label, parts))
            assert np.hypot(columns - px, rows - py).min() < 2.5


@pytest.mark.parametrize("wrong", [{"aop_deg": 30}, {"aop_deg": 180}, {"hsd_mm": 90}])
def test_what_is_not_modelled_is_told(wrong):
    with pytest.raises(InsonateError, match="not modelled"):
        Labour.draw(stream(0, 0, "anatomy"), **wrong)
