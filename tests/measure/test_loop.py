"""Loops: smoothing keeps what is smooth, and the ends of a cycle are where the ventricle is widest."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.spacing import Spacing
from insonate.measure.beats import beats_of
from insonate.measure.loop import cycle_of, smoothed
from insonate.measure.points import MEASURED, measure
from insonate.measure.quantity import quantity

SPACING = Spacing(row_mm=0.5, col_mm=0.5)


def test_a_parabola_stays_and_an_outlier_goes():
    t = np.arange(21.0)
    course = np.stack([0.1 * (t - 10) ** 2, 40 - t], axis=-1)[:, None]  # T 1 2
    rng = np.random.default_rng(0)
    given = course + rng.normal(0, 0.05, course.shape)
    given[8] += 30
    found = smoothed(given, np.ones((21, 1)), 7)
    assert np.abs(found - course).max() < 0.15
    exact = smoothed(course, np.ones((21, 1)), 7)
    assert exact == pytest.approx(course, abs=1e-9)


def test_an_unsure_point_follows_its_neighbours_and_a_missing_one_is_filled():
    points = np.zeros((9, 1, 2))
    points[4] = 10
    confidence = np.ones((9, 1))
    confidence[4] = 1e-6
    assert np.abs(smoothed(points, confidence, 5)).max() < 1e-3
    points[4] = np.nan
    assert np.abs(smoothed(points, np.ones((9, 1)), 5)).max() < 1e-9
    assert np.isnan(smoothed(np.full((3, 1, 2), np.nan), np.ones((3, 1)), 3)).all()


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_needs_a_middle_and_neighbours(window):
    with pytest.raises(ValueError, match="window"):
        smoothed(np.zeros((3, 1, 2)), np.ones((3, 1)), window)


def test_a_beating_ventricle_gives_ends_function_and_mass():
    frames = []
    for lv in (44.0, 48.0, 40.0, 32.0, 41.0):
        points = np.zeros((22, 2))
        points[1] = (0, lv / 0.5)
        points[5], points[7] = (0, 18), (0, 18)  # 9 mm each
        frames.append(measure(MEASURED["PLAX"], points, SPACING))
    found = cycle_of("PLAX", frames)
    assert found.frames == {"diastole": 1, "systole": 3}
    assert found.quantities["lv_fs_percent"].value == pytest.approx(33.333, abs=1e-3)
    assert found.quantities["ef_percent"].value == pytest.approx(61.90, abs=5e-3)
    assert found.quantities["lv_mass_g"].value == pytest.approx(147.784, abs=1e-3)
    assert found.quantities["ivs_diastole_mm"].value == pytest.approx(9)
    assert cycle_of("PLAX", frames[:1]).frames == {}
    assert cycle_of("HC", frames).quantities == {}


def test_a_breath_gives_collapse_and_pressure():
    frames = [{"ivc_mm": quantity("ivc_mm", d)} for d in (18.0, 20.0, 8.0)]
    found = cycle_of("IVC", frames)
    assert found.frames == {"widest": 1, "narrowest": 2}
    assert found.quantities["ivc_collapse_percent"].value == pytest.approx(60)
    assert found.quantities["rap_mmhg"].value == 3


def test_four_chambers_give_an_ejection_fraction():
    frames = [{"lv_ml": quantity("lv_ml", v)} for v in (100.0, 40.0)]
    found = cycle_of("A4C", frames)
    assert found.frames == {"diastole": 0, "systole": 1}
    assert found.quantities["ef_percent"].value == pytest.approx(60)


def ventricles(*widths):
    """A frame of PLAX each."""
    frames = []
    for lv in widths:
        points = np.zeros((22, 2))
        points[1] = (0, lv / 0.5)
        frames.append(measure(MEASURED["PLAX"], points, SPACING))
    return frames


def test_each_beat_of_a_loop_has_its_own_ends():
    t = np.arange(60)
    size = 40 + 8 * np.cos(2 * np.pi * t / 20) + 1.5 * np.cos(6 * np.pi * t / 20)  # three beats
    size[20:39] *= 1.02
    assert beats_of(size) == ((0, 10), (20, 30), (40, 50))
    found = cycle_of("PLAX", ventricles(*size))
    assert [tuple(beat.frames.values()) for beat in found.beats] == [(0, 10), (20, 30), (40, 50)]
    shortening = [beat.quantities["lv_fs_percent"].value for beat in found.beats]
    assert shortening == pytest.approx([100 * (1 - 30.5 / 49.5)] * 3, abs=1e-6)  # of a size that only scales
    middle = sorted(found.beats, key=lambda one: size[one.frames["diastole"]] - size[one.frames["systole"]])[
        1
    ]
    assert (found.frames, found.quantities) == (middle.frames, middle.quantities)


def test_beats_pass_over_noise_missing_frames_and_a_beat_without_its_start():
    rng = np.random.default_rng(0)
    t = np.arange(50)
    size = 40 - 8 * np.cos(2 * np.pi * (t + 3) / 20)  # begins narrow
    noisy = size + rng.normal(0, 0.4, len(t))
    noisy[[5, 28]] = np.nan
    found = beats_of(noisy)
    assert len(found) == 2
    assert [abs(beat.diastole - place) < 4 for beat, place in zip(found, (7, 27), strict=True)] == [True] * 2
    assert [abs(beat.systole - place) < 4 for beat, place in zip(found, (17, 37), strict=True)] == [True] * 2


def test_a_frame_far_off_makes_no_beat_where_none_is_and_hides_none():
    flat = np.full(30, 40.0)
    assert beats_of(flat) == ()
    assert beats_of([np.nan, 40.0]) == ()
    size = 40 + 8 * np.cos(2 * np.pi * np.arange(60) / 20)
    size[7] = 300.0
    assert [beat.systole for beat in beats_of(size)] == [10, 30, 50]
