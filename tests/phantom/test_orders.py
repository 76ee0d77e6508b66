"""Sets of phantom pictures: what they hold, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.data.pointsets import POINT_SETS
from insonate.errors import InsonateError
from insonate.phantom.cast import KINDS
from insonate.phantom.orders import HEART, PhantomSet
from insonate.phantom.write import samples


@pytest.mark.parametrize("kind", [HEART, *KINDS])
def test_each_kind_has_orders_that_do_not_depend_on_how_many_there_are(kind):
    few, many = (PhantomSet(kind=kind, patients=n, seed=3).orders() for n in (2, 11))
    assert few.items() <= many.items()
    assert len({order.patient for order in many.values()}) == 11


def test_fetuses_are_shown_in_three_planes_and_lesion_patients_in_one():
    fetal, lesion = (PhantomSet(kind=kind, patients=3).orders().values() for kind in ("fetal", "lesion"))
    assert [(o.patient, o.scene) for o in fetal][:4] == [
        (0, "head"), (0, "abdomen"), (0, "femur"), (1, "head"),
    ]  # fmt: skip
    assert [(o.patient, o.scene) for o in lesion] == [
        (n, organ) for n, organ in enumerate(("breast", "thyroid", "liver")) for _ in range(2)
    ]


def test_some_planes_of_a_fetus_are_missing_and_no_patient_is():
    whole, some = (
        PhantomSet(kind="fetal", patients=40, seed=1, missing=share).orders() for share in (0.0, 0.3)
    )
    assert some.items() < whole.items()
    assert len(some) == pytest.approx(0.7 * 120, abs=16)
    assert {order.patient for order in some.values()} == set(range(40))


def test_samples_need_no_files_and_hold_all_nine_point_sets():
    items = list(samples(PhantomSet(kind="biometry", patients=9, images_per_patient=1, size=64, seed=2)))
    # a plane that by chance misses the vessels of the heart has no points and says no set
    hearts = {"A4C", "PLAX", "PSAX"}
    assert {item.row["points_set"] for item in items if item.row["keypoints"]} >= set(POINT_SETS) - hearts
    assert {f"keypoints_{name.lower()}" for name in hearts} <= {name for item in items for name in item.row}
    for item in items:
        assert item.frames.shape == (1, 64, 64)
        row = item.row
        assert row["split"] == "train"
        if row["keypoints"] is not None:
            assert len(row["keypoints"]) == 2 * len(POINT_SETS[row["points_set"]].names)
            assert row["keypoints"] == row[f"keypoints_{row['points_set'].lower()}"]


def test_each_scene_of_a_turning_kind_fills_all_splits():
    wanted = PhantomSet(kind="biometry", patients=45)
    found = {(p % 9, wanted.split(p)) for p in range(45)}
    assert len(found) == 27


def test_age_of_all_fetuses_can_be_asked_for():
    items = list(samples(PhantomSet(kind="femur", patients=3, images_per_patient=1, ga_weeks=20, size=64)))
    assert {item.row["ga_weeks"] for item in items} == {20}
    assert len({item.row["fl_mm"] for item in items}) == 3
    assert np.mean([item.row["fl_mm"] for item in items]) == pytest.approx(31.3, abs=5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "fetl"}, "Did you mean fetal"),
        ({"kind": "fetal", "ga_weeks": 50}, "50 weeks"),
        ({"kind": "lung", "ga_weeks": 20}, "of fetuses"),
        ({"kind": "lung", "ef_pct": 40}, "of hearts"),
        ({"kind": "lung", "missing": 0.5}, "one view"),
        ({"kind": "fetal", "missing": 1.0}, "1 of the views missing"),
        ({"kind": "lung", "overlays": 2.0}, "with overlays"),
        ({"kind": "fetal", "views": ("A4C",)}, "of hearts"),
        ({"kind": "cava", "size": 2048, "formats": ("mp4",)}, "clips of 2048 px"),
        ({"kind": "head", "size": 100_000}, "100000 px"),
        ({"kind": "heart", "patients": 10**9}, "10000000000 pictures"),
        ({"kind": "breast", "patients": 10**6, "images_per_patient": 10**6}, "memory"),
        ({"kind": "heart", "views": ("A4C", "A4D")}, "no view 'A4D'"),
    ],
)
def test_what_cannot_be_made_is_told(changes, told):
    with pytest.raises(InsonateError, match=told):
        PhantomSet(**({"patients": 1} | changes))
