"""Tables of truth of each scene: every column that is promised, within what a patient can have."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.spacing import Spacing
from insonate.errors import InsonateError
from insonate.measure.points import MEASURED, measure
from insonate.phantom.cast import ROLES
from insonate.phantom.fetus import Fetus
from insonate.phantom.items import Order, render, staged
from insonate.phantom.lesion import CLASSES as LESIONS
from insonate.phantom.lesion import Lesion
from insonate.phantom.lung import CLASSES as LUNGS
from insonate.phantom.physics import stream

PATIENTS = 9
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "head": {"hc_mm": (75, 380), "ga_weeks": (14, 40)},
    "abdomen": {"ac_mm": (55, 420), "ga_weeks": (14, 40)},
    "femur": {"fl_mm": (8, 82), "ga_weeks": (14, 40)},
    "cervix": {"cl_mm": (10, 60), "funnel_mm": (0, 25), "internal_os_index": (0, 1)},
    "pelvis": {"aop_deg": (70, 165), "hsd_mm": (5, 45)},
    "cava": {
        "ivc_mm": (0.3, 28), "ivc_widest_mm": (8, 28), "ivc_narrowest_mm": (0.3, 28),
        "ivc_collapse_percent": (5, 95), "rap_mmhg": (0, 20),
    },
    "breast": {"lesion_long_mm": (4, 42), "lesion_short_mm": (2, 42)},
    "thyroid": {"lesion_long_mm": (3, 32), "lesion_short_mm": (1.5, 32)},
    "liver": {"lesion_long_mm": (7, 70), "lesion_short_mm": (3, 70)},
    "lung": {"b_lines": (0, 9), "pleura_mm": (8, 40), "consolidation_mm": (0, 60), "effusion_mm": (0, 60)},
}  # fmt: skip
CLASSES = {
    "breast": ("lesion_class", LESIONS), "thyroid": ("lesion_class", LESIONS),
    "liver": ("lesion_class", LESIONS), "lung": ("lung_class", LUNGS),
}  # fmt: skip
AT_WEEKS = {
    18: {"hc_mm": (130, 170), "ac_mm": (105, 150), "fl_mm": (20, 32)},
    24: {"hc_mm": (195, 245), "ac_mm": (165, 225), "fl_mm": (36, 49)},
    32: {"hc_mm": (270, 325), "ac_mm": (240, 320), "fl_mm": (54, 67)},
    39: {"hc_mm": (305, 370), "ac_mm": (290, 400), "fl_mm": (65, 80)},
}
"""between about the 1st and 99th centile of INTERGROWTH-21st and of Hadlock"""
PARTS = {"abdomen": {1, 2, 3, 4}, "femur": {1, 2}, "cervix": {1, 2}, "pelvis": {1, 2}, "cava": {1, 2, 3}}
"""what a mask of these scenes must hold"""


@pytest.fixture(scope="module")
def truths():
    return {
        scene: [
            dict(staged(Order(scene=scene, seed=11, patient=p, item=0, size=48))[0].truth(0.0).columns)
            for p in range(PATIENTS)
        ]
        for scene in ROLES
    }


@pytest.mark.parametrize("scene", ROLES)
def test_numbers_are_finite_within_their_range_and_spread_over_it(scene, truths):
    for column, (low, high) in RANGES[scene].items():
        values = np.array([truth[column] for truth in truths[scene]], dtype=float)
        assert np.isfinite(values).all(), column
        assert low - 1e-6 <= values.min() <= values.max() <= high + 1e-6, (column, values.min(), values.max())
        if column.endswith("_mm") and values.min() > 0:
            assert len(set(values.tolist())) > 2, column


@pytest.mark.parametrize(("scene", "named"), CLASSES.items())
def test_classes_are_among_those_named_and_more_than_one_occurs(scene, named, truths):
    column, classes = named
    found = {truth[column] for truth in truths[scene]}
    assert found <= set(classes)
    assert len(found) > 1


@pytest.mark.parametrize("scene", ["breast", "thyroid", "liver"])
def test_the_short_axis_of_a_lesion_is_not_the_longer_one(scene, truths):
    for truth in truths[scene]:
        assert truth["lesion_short_mm"] <= truth["lesion_long_mm"]


def test_what_a_lung_is_called_is_what_it_has(truths):
    for truth in truths["lung"]:
        shown = truth["lung_class"], truth["lung_severity"]
        assert 0 <= truth["lung_severity"] <= 3
        if truth["consolidation_mm"] or truth["effusion_mm"]:
            assert truth["lung_severity"] == 3, shown
        elif truth["b_lines"] >= 3:
            assert truth["lung_severity"] >= 1, shown
        assert (truth["sliding"] == "yes") == (truth["lung_class"] != "pneumothorax")


@pytest.mark.parametrize("weeks", AT_WEEKS)
def test_a_fetus_has_the_size_of_its_age(weeks):
    drawn = [Fetus.draw(stream(2, n, "anatomy"), ga_weeks=weeks) for n in range(60)]
    for name, (low, high) in AT_WEEKS[weeks].items():
        values = np.array([getattr(fetus, name) for fetus in drawn])
        assert np.mean((values > low) & (values < high)) > 0.93, (name, values.min(), values.max())
        assert low < values.mean() < high
    assert all(0.679 < fetus.bpd_mm / fetus.ofd_mm < 0.881 for fetus in drawn)


@pytest.mark.parametrize(("scene", "parts"), PARTS.items())
def test_masks_hold_all_that_the_scene_shows(scene, parts):
    found: set[int] = set()
    for patient in range(3):
        found |= set(np.unique(render(Order(scene=scene, seed=11, patient=patient, item=0, size=96)).mask))
    assert parts <= found


@pytest.mark.parametrize("scene", ["head", "abdomen", "femur", "cervix", "pelvis", "cava"])
def test_points_of_the_last_frame_measure_its_truth_too(scene):
    shown, _ = staged(Order(scene=scene, seed=11, patient=2, item=0, size=48))
    last = (shown.clip_frames - 1) / shown.fps
    truth, points_set = shown.truth(last), ROLES[scene].points
    points = np.array(list(truth.points_mm.values()))
    found = measure(MEASURED[points_set], points, Spacing(row_mm=1.0, col_mm=1.0))
    column = next(iter(RANGES[scene]))
    assert found[column].value == pytest.approx(truth.columns[column], rel=1e-3)


def test_a_lesion_of_no_class_is_told():
    with pytest.raises(InsonateError, match="no lesion 'odd'"):
        Lesion.draw("odd", stream(0, 0, "x"))
