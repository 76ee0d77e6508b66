"""All scenes: points, masks and mm agree with each other and with what is measured of them."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.pointorders import to_official
from insonate.data.pointsets import POINT_SETS
from insonate.data.spacing import Spacing
from insonate.measure.points import MEASURED, measure
from insonate.phantom.cast import HEARTS, KINDS, ROLES
from insonate.phantom.items import Order, render

MEASURES = {
    "head": "hc_mm", "abdomen": "ac_mm", "femur": "fl_mm", "cervix": "cl_mm", "cava": "ivc_mm",
    "pelvis": "aop_deg",
}  # fmt: skip


@pytest.fixture(scope="module")
def items():
    return {
        name: [render(Order(scene=name, seed=5, patient=p, item=0, size=160)) for p in range(3)]
        for name in ROLES
    }


def test_nine_point_sets_are_covered():
    shown = {ROLES[s].points if s in ROLES else HEARTS[s] for s in KINDS["biometry"].scenes}
    assert shown == set(POINT_SETS)


@pytest.mark.parametrize("scene", [name for name, role in ROLES.items() if role.points])
def test_points_have_the_names_and_the_official_order_of_their_set(scene, items, stage):
    points_set = ROLES[scene].points
    assert tuple(stage(scene)[0].truth(0.0).points_mm) == POINT_SETS[points_set].names
    for item in items[scene]:
        assert item.row["points_set"] == points_set
        assert item.row["keypoints"] == item.row[f"keypoints_{points_set.lower()}"]
        points = np.reshape(item.row["keypoints"], (-1, 2))
        assert np.isfinite(points).all()
        assert np.array_equal(to_official(points, points_set), points)


@pytest.mark.parametrize(("scene", "name"), MEASURES.items())
def test_what_is_measured_of_the_points_is_what_was_planted(scene, name, items):
    for item in items[scene]:
        row = item.row
        spacing = Spacing(row_mm=row["spacing_row_mm"], col_mm=row["spacing_col_mm"])
        points = np.reshape(row["keypoints"], (-1, 2))
        found = measure(MEASURED[row["points_set"]], points, spacing)
        assert found[name].value == pytest.approx(row[name], rel=1e-4)
        assert found[name].in_range
        if scene == "pelvis":
            assert found["hsd_mm"].value == pytest.approx(row["hsd_mm"], rel=1e-4)


@pytest.mark.parametrize("scene", ROLES)
def test_mask_holds_the_values_of_the_scene_and_the_picture_is_neither_black_nor_white(scene, items, stage):
    values = set(stage(scene)[0].mask_values.values())
    for item in items[scene]:
        (mask,) = item.masks.values()
        assert set(np.unique(mask)) <= values | {0}
        assert (mask > 0).any()
        frame = item.frames[0]
        shown = frame[frame > 0]
        assert 15 < shown.mean() < 150
        assert (frame == 255).mean() < 0.03


@pytest.mark.parametrize("scene", ROLES)
def test_same_order_same_bytes_and_another_patient_another_picture(scene, items):
    again = render(Order(scene=scene, seed=5, patient=1, item=0, size=160))
    assert again.frames.tobytes() == items[scene][1].frames.tobytes()
    assert again.row == items[scene][1].row
    assert items[scene][0].frames.tobytes() != items[scene][1].frames.tobytes()


def test_planes_of_a_fetus_are_of_one_fetus():
    head, abdomen, femur = (
        render(Order(scene=scene, seed=5, patient=4, item=0, size=64)).row for scene in KINDS["fetal"].scenes
    )
    assert head["patient_id"] == abdomen["patient_id"] == femur["patient_id"]
    assert head["ga_weeks"] == abdomen["ga_weeks"] == femur["ga_weeks"]
    assert len({row["series_id"] for row in (head, abdomen, femur)}) == 3


def test_a_machine_draws_over_its_pictures_only_where_asked():
    plain = render(Order(scene="cervix", seed=5, patient=0, item=0, size=192))
    marked = render(Order(scene="cervix", seed=5, patient=0, item=0, size=192, overlays=1.0))
    assert marked.row["burned_in"]
    assert not plain.row["burned_in"]
    assert "overlay_mask_path" not in plain.masks
    drawn = marked.masks["overlay_mask_path"] > 0
    assert np.array_equal(marked.frames[0][~drawn], plain.frames[0][~drawn])
    assert (marked.frames[0][drawn] != plain.frames[0][drawn]).mean() > 0.9
    assert np.array_equal(marked.mask, plain.mask)


def test_a_degraded_clip_loses_contact_at_one_side_for_a_while():
    clip = {"scene": "abdomen", "seed": 5, "patient": 1, "item": 0, "size": 64, "frames": 12}
    good, bad = (render(Order(**clip, degraded=share)) for share in (0.0, 1.0))
    start, stop = bad.row["contact_lost_s"]
    assert "contact_lost_s" not in good.row
    times = np.arange(12) / bad.row["fps"]
    lost = (times >= start) & (times < stop)
    change = np.abs(bad.frames.astype(float) - good.frames).mean((1, 2))
    assert change[lost].min() > 2
    assert change[0] == 0 or lost[0]
