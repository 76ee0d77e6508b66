"""Hand, contact, dropped frames and tracker."""

from __future__ import annotations

import numpy as np

from insonate.phantom import Anatomy, Chambers, Plane, stream
from insonate.phantom.acquire import Faults, Hand, tracked
from insonate.phantom.heart import HeartOrder, render_heart, volume
from insonate.phantom.physics import Maps


def test_a_hand_starts_at_rest_and_moves_little():
    hands = [Hand.draw(stream(0, n, "hand")) for n in range(40)]
    assert all(np.allclose(hand.at(0.0), 0) for hand in hands)
    moved = np.array([hand.at(t_s) for hand in hands for t_s in np.linspace(1, 9, 40)])
    assert 0.4 < moved.std() < 1.0


def test_the_probe_and_its_picture_move_together():
    chambers = Chambers(Anatomy.draw(stream(0, 1, "a"), pathology="normal"))
    plane = Plane(chambers, volume(0), stream(0, 1, "b"), view="A4C")
    plane._breath = 0.25, 0.0, 0.0
    later = 2 * chambers.beat.period_s
    shift = np.linalg.inv(plane.world_from_probe) @ plane.probe_at(later)
    first, then = (np.array(plane.truth(t_s).points_mm["LV_long_p2"]) for t_s in (0.0, later))
    assert np.allclose(then - first, -shift[[0, 2], 3], atol=0.3)


def test_lost_contact_darkens_one_side_for_its_time():
    faults = Faults(lost_s=(0.2, 0.5), lost_lines=(0.7, 1.0), dropped=())
    one = np.ones((4, 50), np.float32)
    maps = Maps(one, one, one, one, one.astype(np.uint8), one, one)
    during = faults.applied(maps, 0.3).amp
    assert np.allclose(during[:, -5:], 0.1, atol=0.01)
    assert np.allclose(during[:, :25], 1, atol=0.01)
    assert faults.applied(maps, 0.6) is maps


def test_dropped_frames_stand_still_and_labelled_ones_are_kept():
    frames = np.arange(200, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    faults = Faults.draw(stream(0, 3, "faults"), 200, 30.0, keep=(7,))
    assert 0 < len(faults.dropped) < 15
    assert not {0, 7} & set(faults.dropped)
    shown = faults.frozen(frames)
    for number in faults.dropped:
        assert shown[number, 0, 0] == shown[number - 1, 0, 0]


def test_a_tracker_is_near_and_sometimes_blind():
    told = tracked(np.tile(np.eye(4), (600, 1, 1)), stream(0, 0, "tracker"))
    blind = np.isnan(told).any((1, 2))
    assert 0 < blind.sum() < 20
    assert 0.25 < told[~blind][:, :3, 3].std() < 0.35


def test_degraded_clips_say_what_befell_them():
    order = HeartOrder(seed=1, patient=0, item=0, view="A2C", size=48, clip=True, degraded=1.0)
    item = render_heart(order)
    count = item.row["frames"]
    assert len(item.row["probe_poses"]) == len(item.row["tracker_poses"]) == 16 * count
    assert len(item.row["contact_lost_s"]) == 2
