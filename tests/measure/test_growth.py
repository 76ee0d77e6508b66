"""Fetal weight and centiles against worked values."""

from __future__ import annotations

import pytest

from insonate.measure import growth
from insonate.measure.quantity import quantity

TERM, MIDDLE, YOUNG = (93, 340, 345, 73), (80, 295, 280, 62), (50, 185, 160, 33)


@pytest.mark.parametrize(
    ("sizes", "four", "head", "bpd", "two", "intergrowth"),
    [
        (MIDDLE, 1909.6, 1913.0, 1920.5, 1949.1, 1808.5),
        (TERM, 3418.0, 3414.0, 3420.0, 3414.2, 3352.8),
        (YOUNG, 376.4, 375.0, 380.4, 377.8, 474.7),
    ],
)
def test_weights_of_three_fetuses(sizes, four, head, bpd, two, intergrowth):
    b, h, a, f = sizes
    found = [
        growth.weight_bpd_hc_ac_fl(b, h, a, f), growth.weight_hc_ac_fl(h, a, f),
        growth.weight_bpd_ac_fl(b, a, f), growth.weight_ac_fl(a, f), growth.weight_intergrowth(a, h),
    ]  # fmt: skip
    assert [one.value for one in found] == pytest.approx([four, head, bpd, two, intergrowth], abs=0.06)
    assert {one.unit for one in found} == {"g"}
    assert all(one.in_range and one.reference for one in found)


def test_a_weight_outside_of_the_formulas_weeks_is_told():
    assert growth.weight_intergrowth(160, 185, ga_weeks=20).doubts == ("ga_weeks 20 is not within 22 to 40",)
    assert growth.weight_intergrowth(280, 295, ga_weeks=32).in_range
    assert growth.weight_ac_fl(28.0, 6.2).in_range is False  # cm
    with pytest.raises(ValueError, match="ac_mm"):
        growth.weight_intergrowth(0, 185)


def test_hadlock_centiles():
    assert [growth.hadlock_weight(w) for w in (24, 32, 40)] == pytest.approx(
        [669.8, 1952.8, 3619.2], abs=0.06
    )
    assert growth.weight_at_hadlock(10, 32).value == pytest.approx(1635, abs=0.6)
    assert growth.weight_at_hadlock(90, 32).value == pytest.approx(2271, abs=0.6)
    for grams, weeks, z, percent in ((1700, 32, -1.0195, 15.4), (3400, 40, -0.477, 31.7)):
        found = growth.weight_z_hadlock(grams, weeks)
        assert found.value == pytest.approx(z, abs=6e-4)
        assert growth.centile(found).value == pytest.approx(percent, abs=0.06)
    assert growth.centile(growth.weight_z_hadlock(650, 24)).value == pytest.approx(40.8, abs=0.06)


def test_intergrowth_weight_centiles():
    skew, median, spread = growth._intergrowth_weight(32)
    assert (skew, median, spread) == pytest.approx((1.17345, 7.470055, 0.0182493), abs=6e-6)
    found = [growth.weight_at_intergrowth(p, 32).value for p in (3, 10, 50, 90, 97)]
    assert found == pytest.approx([1357, 1473, 1755, 2089, 2266], abs=0.6)
    assert growth.weight_at_intergrowth(50, 24).value == pytest.approx(669, abs=0.6)
    for grams, weeks, z, percent in ((1700, 32, -0.2322, 40.8), (3400, 40, 0.1526, 56.1)):
        score = growth.weight_z_intergrowth(grams, weeks)
        assert score.value == pytest.approx(z, abs=6e-5)
        assert growth.centile(score).value == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize("weeks", [22, 27.3, 32, 40])
@pytest.mark.parametrize("percent", [3, 50, 90])
def test_score_and_weight_are_each_others_inverse(weeks, percent):
    for weight, z in (
        (growth.weight_at_hadlock, growth.weight_z_hadlock),
        (growth.weight_at_intergrowth, growth.weight_z_intergrowth),
    ):
        assert growth.centile(z(weight(percent, weeks).value, weeks)).value == pytest.approx(percent)


@pytest.mark.parametrize(
    ("weeks", "table"),
    [
        (20, {"hc_mm": (172.480, 7.440), "bpd_mm": (48.446, 2.298), "ofd_mm": (60.690, 2.777),
              "ac_mm": (147.725, 7.628), "fl_mm": (31.292, 1.776)}),
        (32, {"hc_mm": (294.369, 9.619), "bpd_mm": (83.768, 3.192), "ofd_mm": (103.459, 4.145),
              "ac_mm": (273.935, 13.590), "fl_mm": (59.446, 2.376)}),
    ],
)  # fmt: skip
def test_intergrowth_sizes(weeks, table):
    for name, expected in table.items():
        assert growth.size_at_intergrowth(name, weeks) == pytest.approx(expected, abs=6e-4)
        later = growth.size_at_intergrowth(name, weeks + 1)[0]
        assert later > expected[0]


def test_intergrowth_scores_and_centiles():
    for name, size_mm, weeks, z in (
        ("hc_mm", 300, 32, 0.5854),
        ("ac_mm", 250, 32, -1.7612),
        ("fl_mm", 33, 20, 0.9619),
    ):
        assert growth.size_z_intergrowth(name, size_mm, weeks).value == pytest.approx(z, abs=6e-5)
    assert growth.centile(growth.size_z_intergrowth("hc_mm", 300, 32)).value == pytest.approx(72.1, abs=0.06)
    assert growth.centile(growth.size_z_intergrowth("ac_mm", 250, 32)).value == pytest.approx(3.9, abs=0.06)


def test_a_centile_outside_of_the_charts_weeks_is_told():
    early = growth.centile(growth.size_z_intergrowth("fl_mm", 10, 13))
    assert early.in_range is False
    assert "ga_weeks 13" in early.doubts[0]
    wild = growth.centile(quantity("z_sd", 7.0))
    assert wild.in_range is False
