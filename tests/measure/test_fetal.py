"""Fetal formulas against worked values of the papers."""

from __future__ import annotations

import inspect

import pytest

from insonate.measure import fetal
from insonate.measure.quantity import RANGES, quantity


@pytest.mark.parametrize(
    ("function", "size_mm", "weeks"),
    [
        (fetal.ga_from_bpd, 50, 21.140), (fetal.ga_from_bpd, 80, 32.122),
        (fetal.ga_from_hc, 185, 20.849), (fetal.ga_from_hc, 295, 32.592),
        (fetal.ga_from_ac, 160, 21.110), (fetal.ga_from_ac, 280, 32.046),
        (fetal.ga_from_fl, 33, 20.319), (fetal.ga_from_fl, 62, 32.137),
    ],
)  # fmt: skip
def test_gestational_age_of_one_size(function, size_mm, weeks):
    age = function(size_mm)
    assert age.value == pytest.approx(weeks, abs=5e-4)
    assert (age.unit, age.in_range) == ("weeks", True)
    assert "Hadlock" in age.reference


def test_gestational_age_of_head_sizes_by_hand():
    # 10.32 + 0.009·18.5² + 1.32·5 + 0.00012·18.5³
    assert fetal.ga_from_bpd_hc(50, 185).value == pytest.approx(20.760, abs=5e-4)
    assert fetal.ga_from_bpd_hc(80, 295).value == pytest.approx(31.793, abs=5e-4)


def test_older_fetuses_have_larger_heads():
    weeks = [fetal.ga_from_hc(mm).value for mm in range(60, 361, 10)]
    assert weeks == sorted(weeks)


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
    assert not fetal.ga_from_hc(29.5).in_range
    assert not fetal.femur_length(3.3).in_range


def test_each_head_size_says_how_it_was_measured():
    assert {fetal.bpd(90).convention, fetal.ofd(110).convention} == {"outer to outer"}
    assert list(inspect.signature(fetal.ga_from_bpd).parameters) == ["bpd_outer_inner_mm"]
    # 3 mm of skull, taken for brain, make a fetus of 80 mm more than a week older
    assert fetal.ga_from_bpd(83).value - fetal.ga_from_bpd(80).value > 1


@pytest.mark.parametrize("name", RANGES)
def test_limits_belong_to_a_unit(name):
    low, high = RANGES[name]
    assert low < high
    assert quantity(name, high + 1).in_range is False
    assert quantity(name, (low + high) / 2).in_range is True
    assert quantity(name, 1).unit in name


def test_a_quantity_without_known_limits_says_so():
    one = quantity("score", 0.5)
    assert (one.unit, one.in_range, str(one)) == ("", None, "0.5")
