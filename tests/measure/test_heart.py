"""Vena cava and left heart against worked values."""

from __future__ import annotations

import pytest

from insonate.measure import venous, ventricle
from insonate.measure.quantity import quantity


def test_collapse_and_pressures_of_the_right_heart():
    assert venous.ivc_collapsibility(20, 8).value == pytest.approx(60.0)
    assert venous.ivc_collapsibility(24, 20).value == pytest.approx(16.7, abs=0.05)
    assert venous.ivc_distensibility(24, 20).value == pytest.approx(20.0)
    assert venous.ivc_collapsibility(20, 0).in_range  # a vein may close
    assert venous.ivc_collapsibility(2000, 800).in_range is False
    pressures = [venous.right_atrial_pressure(mm, percent) for mm, percent in
                 ((20, 60), (24, 16.7), (24, 60), (20, 30), (21, 60), (24, 50))]  # fmt: skip
    assert [one.value for one in pressures] == [3, 15, 8, 8, 3, 8]
    assert pressures[0].unit == "mmHg"
    assert venous.right_ventricular_pressure(2.5, 3).value == pytest.approx(28.0)
    assert venous.right_ventricular_pressure(3.2, 15).value == pytest.approx(55.96)
    assert venous.right_ventricular_pressure(250, 3).in_range is False  # cm/s
    with pytest.raises(ValueError, match="largest_mm"):
        venous.ivc_collapsibility(0, 0)


@pytest.mark.parametrize(
    ("diastole", "systole", "shortening", "volumes", "ejection"),
    [(48, 32, 33.33, (107.52, 40.96), 61.90), (60, 50, 16.67, (180.0, 118.24), 34.31)],
)
def test_shortening_and_teichholz(diastole, systole, shortening, volumes, ejection):
    assert ventricle.fractional_shortening(diastole, systole).value == pytest.approx(shortening, abs=6e-3)
    found = [ventricle.teichholz_volume(mm) for mm in (diastole, systole)]
    assert [one.value for one in found] == pytest.approx(volumes, abs=6e-3)
    ef = ventricle.ejection_fraction(*found)
    assert ef.value == pytest.approx(ejection, abs=6e-3)
    assert (ef.unit, ef.in_range) == ("percent", True)
    assert "Teichholz" in ef.reference


@pytest.mark.parametrize(
    ("septum", "diameter", "wall", "grams", "surface", "index", "ratio"),
    [(9, 48, 9, 147.784, 1.9, 77.8, 0.375), (13, 52, 12, 263.450, 2.0, 131.7, 0.4615)],
)
def test_mass_and_wall_thickness(septum, diameter, wall, grams, surface, index, ratio):
    mass = ventricle.lv_mass(septum, diameter, wall)
    assert mass.value == pytest.approx(grams, abs=6e-4)
    bsa = quantity("bsa_m2", surface)
    found = ventricle.lv_mass_index(mass, bsa)
    assert found.value == pytest.approx(index, abs=0.06)
    assert found.unit == "g/m2"
    assert ventricle.relative_wall_thickness(diameter, wall).value == pytest.approx(ratio, abs=6e-5)
    assert ventricle.mean_relative_wall_thickness(13, 52, 12).value == pytest.approx(0.4808, abs=6e-5)


def test_the_four_shapes():
    shapes = [ventricle.lv_geometry(*one) for one in
              ((0.375, 77.8, "m"), (0.5, 77.8, "m"), (0.4, 131.7, "m"), (0.4615, 131.7, "m"))]  # fmt: skip
    assert shapes == ["normal", "concentric remodelling", "eccentric hypertrophy", "concentric hypertrophy"]
    assert ventricle.lv_geometry(0.4, 100, "f") == "eccentric hypertrophy"
    assert ventricle.lv_geometry(0.4, 100, "m") == "normal"


def test_area_length_of_ventricle_and_atrium():
    diastole, systole = (ventricle.lv_volume_area_length(*one) for one in ((35, 85), (20, 70)))
    assert (diastole.value, systole.value) == pytest.approx((122.33, 48.50), abs=6e-3)
    assert ventricle.ejection_fraction(diastole, systole).value == pytest.approx(60.35, abs=6e-3)
    atria = [ventricle.la_volume_area_length(*one) for one in ((18, 19, 50), (28, 30, 62))]
    assert [one.value for one in atria] == pytest.approx([58.06, 115.00], abs=6e-3)
    assert ventricle.la_volume_index(atria[0], quantity("bsa_m2", 2.0)).value == pytest.approx(
        29.03, abs=6e-3
    )


def test_outflow_and_stroke_volume():
    assert ventricle.lvot_area(20).value == pytest.approx(3.1416, abs=6e-5)
    assert ventricle.lvot_area(22).value == pytest.approx(3.8013, abs=6e-5)
    assert ventricle.stroke_volume(20, 20).value == pytest.approx(62.83, abs=6e-3)
    assert ventricle.stroke_volume(22, 18).value == pytest.approx(68.42, abs=6e-3)


def test_surface_of_the_body():
    assert ventricle.bsa_mosteller(170, 70).value == pytest.approx(1.8181, abs=6e-5)
    assert ventricle.bsa_du_bois(170, 70).value == pytest.approx(1.8097, abs=6e-5)
    assert ventricle.bsa_mosteller(1.70, 70).in_range is False  # metres
    with pytest.raises(ValueError, match="weight_kg"):
        ventricle.bsa_mosteller(170, 0)


def test_centimetres_given_as_millimetres_are_told():
    for one in (
        ventricle.fractional_shortening(4.8, 3.2),
        ventricle.teichholz_volume(4.8),
        ventricle.lv_mass(0.9, 4.8, 0.9),
        ventricle.relative_wall_thickness(4.8, 0.9),
        ventricle.ejection_fraction(ventricle.teichholz_volume(4.8), ventricle.teichholz_volume(3.2)),
        ventricle.lv_mass_index(ventricle.lv_mass(0.9, 4.8, 0.9), quantity("bsa_m2", 1.9)),
        ventricle.stroke_volume(2.0, 20),
    ):
        assert one.in_range is False, one
    assert ventricle.fractional_shortening(48, 3.2).in_range is False
