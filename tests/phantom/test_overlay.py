"""Graphics in the picture: one style a vendor, truth about where, nothing that looks like a real patient."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.phantom.overlay import STYLES, Facts, overlaid
from insonate.phantom.physics import Grid, Screen
from insonate.phantom.vendors import SECTOR, VENDORS

FACTS = Facts(patient="00042", view="A4C", f_mhz=2.5, fps=30, depth_mm=160)
PHASES = [(0.3 + n / 25) % 1 for n in range(12)]


def drawn(vendor: str, size: int = 256) -> tuple[np.ndarray, np.ndarray, Screen]:
    screen = Screen(Grid(VENDORS[vendor], 160, 200), size)
    frames = np.zeros((12, size, size), np.uint8)
    shown, where = overlaid(frames, screen, STYLES[vendor], FACTS, PHASES)
    return shown, where, screen


def test_every_machine_has_a_style_of_its_own():
    assert set(STYLES) == set(VENDORS)
    pictures = {drawn(vendor)[0].tobytes() for vendor in VENDORS}
    assert len(pictures) == len(VENDORS)


@pytest.mark.parametrize("vendor", SECTOR)
def test_the_mask_is_where_something_was_drawn_and_spares_most_of_the_field(vendor):
    shown, where, screen = drawn(vendor)
    assert np.array_equal((shown > 0).any(0), where > 0)
    assert (where[screen.inside] > 0).mean() < 0.03
    assert 20 < (where > 0).sum() < 0.12 * where.size


def test_ticks_are_a_centimetre_apart():
    shown, _, screen = drawn("Oldfield")
    rows = np.flatnonzero(shown[0][:, 2])
    rows = rows[rows > screen.to_px(0, 25)[1]]
    assert np.diff(rows) == pytest.approx(10 / screen.mm_per_px, abs=1.01)


def test_the_cursor_runs_along_the_ecg():
    shown, _, _ = drawn("Harbor")
    moved = shown.astype(int) - shown[0]
    first, last = (np.nonzero(moved[n] > 0)[1].mean() for n in (4, 11))
    assert last > first + 10


def test_small_pictures_have_no_letters():
    _, small, _ = drawn("Northlight", 96)
    assert small[:30, :60].sum() == 0
