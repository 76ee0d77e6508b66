"""Gestational age against worked values."""

from __future__ import annotations

import inspect
import math

import pytest

from insonate.measure.age import _HADLOCK, hadlock_age, hadlock_hc_spread_weeks, intergrowth_age

SIZES = {"B": "bpd_outer_inner_mm", "H": "hc_mm", "A": "ac_mm", "F": "fl_mm"}
YOUNG = {"bpd_outer_inner_mm": 50.0, "hc_mm": 185.0, "ac_mm": 160.0, "fl_mm": 33.0}
OLD = {"bpd_outer_inner_mm": 80.0, "hc_mm": 295.0, "ac_mm": 280.0, "fl_mm": 62.0}


@pytest.mark.parametrize(
    ("letters", "young", "old"),
    [
        ("B", 21.140, 32.122), ("H", 20.849, 32.592), ("A", 21.110, 32.046), ("F", 20.319, 32.137),
        ("BHAF", 20.551, 31.888), ("HAF", 20.474, 31.823),
        # by hand: 10.32 + 0.009·18.5² + 1.32·5 + 0.00012·18.5³
        ("BH", 20.760, 31.793),
    ],
)  # fmt: skip
def test_hadlock_gives_the_worked_ages(letters, young, old):
    for sizes, weeks in ((YOUNG, young), (OLD, old)):
        age = hadlock_age(**{SIZES[letter]: sizes[SIZES[letter]] for letter in letters})
        assert age.value == pytest.approx(weeks, abs=6e-4)
        assert (age.unit, age.in_range) == ("weeks", True)
        assert "Hadlock" in age.reference


@pytest.mark.parametrize("letters", _HADLOCK)
def test_all_fifteen_formulas_agree_on_an_ordinary_fetus_and_grow(letters):
    def age(sizes):
        return hadlock_age(**{SIZES[letter]: sizes[SIZES[letter]] for letter in letters}).value

    assert len(_HADLOCK) == 15
    assert age(YOUNG) == pytest.approx(20.8, abs=0.6)
    assert age(OLD) == pytest.approx(32.1, abs=0.6)
    between = [
        age({name: YOUNG[name] + part / 20 * (OLD[name] - YOUNG[name]) for name in YOUNG})
        for part in range(21)
    ]
    assert between == sorted(between)


def test_the_biparietal_diameter_is_asked_for_from_outer_to_inner():
    assert "bpd_outer_inner_mm" in inspect.signature(hadlock_age).parameters
    # 3 mm of skull, taken for brain, make a fetus of 80 mm more than a week older
    assert hadlock_age(bpd_outer_inner_mm=83).value - hadlock_age(bpd_outer_inner_mm=80).value > 1
    assert hadlock_age(hc_mm=185, fl_mm=33).convention == "from HC, FL"


def test_centimetres_are_told():
    assert hadlock_age(hc_mm=30.0).in_range is False
    assert any("hc_mm 30" in doubt for doubt in hadlock_age(hc_mm=30.0).doubts)
    with pytest.raises(ValueError, match="at least one"):
        hadlock_age()


def test_spread_of_the_age_by_the_head():
    assert [hadlock_hc_spread_weeks(mm) for mm in (144, 145, 280, 300, 360)] == [1.2, 1.5, 2.1, 3.0, 3.2]
    assert math.isnan(hadlock_hc_spread_weeks(361))


def test_intergrowth_gives_the_worked_ages_and_says_where_it_is_best():
    young, old = intergrowth_age(185, 33), intergrowth_age(295, 62)
    assert young.value * 7 == pytest.approx(145.47, abs=6e-3)
    assert young.value == pytest.approx(20.78, abs=6e-3)
    assert old.value * 7 == pytest.approx(230.79, abs=6e-3)
    assert intergrowth_age(185).value * 7 == pytest.approx(147.43, abs=6e-3)
    assert (young.in_range, old.in_range) == (True, False)
    with pytest.raises(ValueError, match="fl_mm"):
        intergrowth_age(185, 0)
