"""What follows of several pictures together."""

from __future__ import annotations

import pytest

from insonate.measure import derived
from insonate.measure.quantity import quantity


def sizes(**values):
    return {name: quantity(name, value) for name, value in values.items()}


def test_a_fetus_has_age_and_weight_of_all_its_sizes():
    found = derived.fetus(sizes(hc_mm=295, ac_mm=280, fl_mm=62, bpd_mm=83))
    told = {name: one.value for name, one in found.items()}
    assert told == pytest.approx(
        {"ga_hadlock_weeks": 31.823, "ga_intergrowth_weeks": 32.970, "efw_hadlock_g": 1913.0,
         "efw_intergrowth_g": 1808.5}, rel=1e-4,
    )  # fmt: skip
    assert found["ga_hadlock_weeks"].convention == "from HC, AC, FL"
    assert derived.fetus({}) == {}
    assert set(derived.fetus(sizes(ac_mm=280, fl_mm=62))) == {"ga_hadlock_weeks", "efw_hadlock_g"}


def test_centiles_come_with_an_age_that_is_known():
    found = derived.fetus(sizes(hc_mm=300, ac_mm=250, fl_mm=62), ga_weeks=32)
    assert found["hc_z_sd"].value == pytest.approx(0.5854, abs=1e-4)
    assert found["hc_centile_percent"].value == pytest.approx(72.1, abs=0.06)
    assert found["ac_centile_percent"].value == pytest.approx(3.9, abs=0.06)
    assert {"efw_hadlock_centile_percent", "efw_intergrowth_centile_percent"} <= set(found)
    assert "bpd_z_sd" not in found


def test_a_loop_of_the_long_axis_finds_both_ends_of_the_cycle():
    frames = [sizes(lv_mm=lv, ivs_mm=9, lvpw_mm=9 if lv == 48 else 12) for lv in (40, 48, 36, 32, 44)]
    found = derived.left_ventricle_of_loop(frames, quantity("bsa_m2", 1.9))
    assert found["lv_fs_percent"].value == pytest.approx(33.33, abs=6e-3)
    assert found["ef_percent"].value == pytest.approx(61.90, abs=6e-3)
    assert found["lv_mass_g"].value == pytest.approx(147.784, abs=6e-4)  # walls of diastole
    assert found["lv_mass_index_g_per_m2"].value == pytest.approx(77.8, abs=0.06)
    assert found["rwt_ratio"].value == pytest.approx(0.375)
    assert derived.left_ventricle_of_loop([{}]) == {}


def test_a_loop_of_the_vein_gives_collapse_and_pressure():
    found = derived.vena_cava_of_loop([sizes(ivc_mm=mm) for mm in (15, 20, 8)])
    assert (found["ivc_collapse_percent"].value, found["rap_mmhg"].value) == (60.0, 3.0)
    assert derived.vena_cava_of_loop([sizes(ivc_mm=20)]) == {}


def test_a_loop_of_four_chambers_gives_ejection_and_atrium():
    frames = [sizes(lv_ml=lv, la_ml=la) for lv, la in ((122.33, 30), (48.50, 58), (80, 40))]
    found = derived.chambers_of_loop(frames, quantity("bsa_m2", 2.0))
    assert found["ef_percent"].value == pytest.approx(60.35, abs=6e-3)
    assert (found["la_ml"].value, found["la_index_ml_per_m2"].value) == (58, 29)
