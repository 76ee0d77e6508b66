"""Fetal sizes, and what a quantity says of itself."""

from __future__ import annotations

import pytest

from insonate.measure import fetal
from insonate.measure.quantity import RANGES, quantity


def test_head_sizes():
    assert fetal.head_circumference(90, 115).value == pytest.approx(323.2116, abs=1e-4)
    assert fetal.abdominal_circumference(95, 99).value == pytest.approx(304.7669, abs=1e-4)
    assert fetal.cephalic_index(90, 115).value == pytest.approx(78.26, abs=5e-3)
    assert fetal.cephalic_index(47, 62).value == pytest.approx(75.81, abs=5e-3)
    assert fetal.cephalic_index(47, 62).unit == "percent"
    with pytest.raises(ValueError, match="ofd_mm"):
        fetal.cephalic_index(47, 0)


def test_centimetres_given_as_millimetres_are_out_of_range():
    assert fetal.bpd(90).in_range
    assert not fetal.bpd(9.0).in_range
    assert not fetal.ofd(11.5).in_range
    assert not fetal.head_circumference(9.0, 11.5).in_range
    assert not fetal.femur_length(3.3).in_range


def test_each_head_size_says_how_it_was_measured():
    assert {fetal.bpd(90).convention, fetal.ofd(110).convention} == {"outer to outer"}


@pytest.mark.parametrize("name", RANGES)
def test_limits_belong_to_a_unit(name):
    low, high = RANGES[name]
    assert low < high
    assert quantity(name, high + 1).in_range is False
    assert quantity(name, (low + high) / 2).in_range is True
    unit = quantity(name, 1).unit or "ratio"
    assert name.endswith(unit.replace("/", "_per_").casefold())


def test_a_quantity_without_known_limits_says_so():
    one = quantity("score", 0.5)
    assert (one.unit, one.in_range, str(one)) == ("", None, "0.5")


def test_what_a_number_is_made_of_can_put_it_in_doubt():
    hc = quantity("hc_mm", 30.0)
    made = quantity("score", 1.0, made_of={"hc_mm": hc, "fl_mm": 62.0})
    assert made.in_range is False
    assert made.doubts == ("hc_mm 30 is not within 40 to 420",)
    assert made.to_dict()["doubts"] == list(made.doubts)
    assert quantity("z", 0.0, made_of={"score": made}).doubts == made.doubts
