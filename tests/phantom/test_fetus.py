"""Fetal sizes against the growth charts."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.errors import InsonateError
from insonate.measure.age import hadlock_age
from insonate.measure.growth import size_z_intergrowth
from insonate.phantom.fetus import LARGEST_SD, SHARED, Fetus
from insonate.phantom.physics import stream


@pytest.fixture(scope="module")
def scores():
    fetuses = [Fetus.draw(stream(0, n, "anatomy"), ga_weeks=24.0) for n in range(300)]
    return np.array(
        [
            [size_z_intergrowth(name, getattr(f, name), 24.0).value for name in ("hc_mm", "ac_mm", "fl_mm")]
            for f in fetuses
        ]
    )


def test_sizes_have_the_spread_of_the_chart_and_no_monsters(scores):
    assert abs(scores).max() <= LARGEST_SD + 1e-6
    assert scores.mean(0) == pytest.approx([0, 0, 0], abs=0.2)
    assert scores.std(0) == pytest.approx([1, 1, 1], abs=0.12)


def test_sizes_of_one_fetus_go_together(scores):
    together = np.corrcoef(scores.T)
    assert together[np.triu_indices(3, 1)] == pytest.approx([SHARED] * 3, abs=0.12)


def test_other_charts_read_about_the_same_age():
    for n in range(20):
        fetus = Fetus.draw(stream(1, n, "anatomy"))
        found = hadlock_age(hc_mm=fetus.hc_mm, ac_mm=fetus.ac_mm, fl_mm=fetus.fl_mm).value
        assert found == pytest.approx(fetus.ga_weeks, rel=0.16)


def test_an_age_outside_the_charts_is_told():
    with pytest.raises(InsonateError, match="44 weeks"):
        Fetus.draw(stream(0, 0, "anatomy"), ga_weeks=44)
