"""Orders of points: the rules, their flips, ties, and that one order gives the other back."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insonate.data import Manifest, ManifestDataset
from insonate.data.augment import Augment
from insonate.data.media import write_png
from insonate.data.pointorders import INTERNAL, OFFICIAL, ordered, ties, to_internal, to_official
from insonate.data.pointsets import POINT_SETS
from insonate.data.sampler import ItemKey
from insonate.data.transforms import InputFormat

NAMES = sorted(POINT_SETS)
FRAME = np.array([640.0, 480.0])


def shapes(name):
    """Random points, in whole pixels as in the challenge's labels."""
    count = len(POINT_SETS[name].names)
    return hnp.arrays(np.float64, (count, 2), elements=st.integers(0, 479).map(float))


def any_set():
    return st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), shapes(name)))


@settings(max_examples=300, deadline=None)
@given(any_set())
def test_orders_are_idempotent_and_the_official_one_comes_back(given_points):
    name, points = given_points
    internal, official = to_internal(points, name), to_official(points, name)
    assert np.array_equal(to_internal(internal, name), internal)
    assert np.array_equal(to_official(official, name), official)
    if not ties(official, OFFICIAL[name]).any():
        assert np.array_equal(to_official(to_internal(official, name), name), official)


@settings(max_examples=300, deadline=None)
@given(any_set(), st.sampled_from([0, 1]))
def test_both_flips_keep_the_internal_order(given_points, axis):
    name, points = given_points
    internal = to_internal(points, name)
    if ties(internal, INTERNAL[name]).any():
        return
    points_set = POINT_SETS[name]
    flipped = internal.copy()
    flipped[:, axis] = FRAME[axis] - 1 - flipped[:, axis]
    flipped = flipped[list(points_set.vflip if axis else points_set.hflip)]
    assert np.array_equal(to_internal(flipped, name), flipped)


def test_rules_by_name():
    line = np.array([[30.0, 10], [10, 40]])
    assert np.array_equal(to_internal(line, "FUGC"), line[::-1])  # left first
    assert np.array_equal(to_internal(line, "IVC"), line)  # upper first
    two = np.concatenate([line[::-1], line[::-1]])
    assert np.array_equal(to_internal(two, "HC"), [[30, 10], [10, 40], [30, 10], [10, 40]])
    assert np.array_equal(to_internal(two, "PSAX"), [[30, 10], [10, 40], [10, 40], [30, 10]])
    assert np.array_equal(to_official(two, "PSAX"), [[30, 10], [10, 40], [30, 10], [10, 40]])
    a4c = np.tile(line, (8, 1))
    assert np.array_equal(to_internal(a4c, "A4C")[:4], [[30, 10], [10, 40], [10, 40], [30, 10]])
    for name in ("AOP", "PLAX"):
        points = np.random.default_rng(0).uniform(0, 400, (len(POINT_SETS[name].names), 2))
        assert np.array_equal(to_official(to_internal(points, name), name), points)


def test_a_tie_keeps_its_order_and_is_flagged():
    level = np.array([[30.0, 10.0], [10.0, 10.9]])  # by y undecided, by x not
    for pair in (level, level[::-1]):
        assert np.array_equal(to_internal(pair, "IVC"), pair)
        assert ties(pair, INTERNAL["IVC"]).tolist() == [True]
        assert ties(pair, INTERNAL["FUGC"]).tolist() == [False]
    # a level line of A4C, put from left to right inside, stays so: the official tie-break is x
    a4c = np.tile(level, (8, 1))
    assert np.array_equal(to_official(to_internal(a4c, "A4C"), "A4C")[2], [10.0, 10.9])


def test_missing_points_and_batches():
    missing = np.array([[30.0, np.nan], [10, 40]])
    assert np.array_equal(to_internal(missing, "IVC"), missing, equal_nan=True)
    batch = np.array([[[30.0, 10], [10, 40]], [[30, 40], [10, 10]]])
    found = to_internal(batch, "IVC")
    assert np.array_equal(found[1], batch[1, ::-1])
    assert ties(batch, INTERNAL["IVC"]).shape == (2, 1)
    assert ties(batch, ()).shape == (2, 0)
    batch_before = batch.copy()
    ordered(batch, INTERNAL["IVC"])
    assert np.array_equal(batch, batch_before)


def test_a_rotation_that_puts_the_other_end_first_changes_the_order(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    points = [28.0, 12.0, 36.0, 52.0]  # steep: 11° off the vertical, left end first
    rows = [{"path": "a.png", "kind": "image", "patient_id": "p", "frames": 1, "height": 64, "width": 64,
             "k": points}]  # fmt: skip
    manifest = Manifest.from_rows(rows, tmp_path)
    dataset = ManifestDataset(
        manifest,
        InputFormat(height=64, width=64),
        POINT_SETS["fetal_femur"].target("k"),
        Augment(rotate_deg=40.0),
    )
    turned = 0
    for seed in range(30):
        found = dataset[ItemKey(0, seed)]["points"].numpy()
        assert found[1, 0] - found[0, 0] > -1
        turned += found[0, 1] > found[1, 1]
    assert turned > 0
