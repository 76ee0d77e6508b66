"""The sector: its outline on the phantom's truth and on drawn pictures, and what is no picture of tissue."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from insonate.data.overlays import find_text
from insonate.data.sector import find_sector
from insonate.phantom import VENDORS, Breast, Fetus, Head, Lesion, Machine, lattice, stream


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def phantom(name, patient=0):
    """A frame of a vendor and where its echoes are."""
    vendor, rng = VENDORS[name], stream(5, patient, "acquisition")
    if vendor.shape == "linear":
        lesion = Lesion.draw("benign", stream(5, patient, "anatomy"))
        scene = Breast(lesion, lattice(5, 0.12), rng, width_mm=vendor.width_mm, f_mhz=vendor.f_mhz)
        texture = lattice(5, 0.12)
    else:
        scene = Head(Fetus.draw(stream(5, patient, "anatomy")), lattice(5, 0.3), rng)
        texture = lattice(5, 0.3)
    machine = Machine(vendor, scene.depth_mm, size=224, rng=rng, texture=texture)
    moment = scene.frame(scene.static(machine.grid), 0.0)
    machine.auto_gain(moment, quantile=scene.gain[0], level=scene.gain[1])
    return machine.clip([moment]), machine


@pytest.mark.parametrize("name", VENDORS)
def test_the_outline_is_the_phantoms_for_every_vendor(name):
    frames, machine = phantom(name)
    sector = find_sector(frames)
    assert overlap(sector.mask, machine.screen.inside) >= 0.97
    assert (sector.fan is None) == (VENDORS[name].shape == "linear")


def test_a_curved_probes_geometry_is_told():
    frames, machine = phantom("Fern")
    fan, vendor = find_sector(frames).fan, VENDORS["Fern"]
    apex = machine.screen.to_px(0.0, -vendor.radius_mm)
    assert fan.apex_xy == pytest.approx(apex, abs=4)
    assert math.degrees(fan.right_rad) == pytest.approx(vendor.half_angle_deg, abs=1.5)
    assert math.degrees(fan.left_rad) == pytest.approx(-vendor.half_angle_deg, abs=1.5)
    depth_px = (machine.grid.r_mm[-1] - machine.grid.r_mm[0]) / machine.screen.mm_per_px
    assert fan.depth_px == pytest.approx(depth_px, rel=0.03)


def test_writing_and_banners_beside_the_echoes_are_left_out():
    frames, machine = phantom("Bracken")
    picture = Image.new("RGB", (420, 300), "black")
    picture.paste(Image.fromarray(frames[0]), (150, 60))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 420, 30), fill=(40, 60, 120))
    for y in range(4, 280, 16):
        draw.text((4, y), "NAME 1234", "white", font_size=14)
    truth = np.zeros((300, 420), bool)
    truth[60:284, 150:374] = machine.screen.inside
    assert overlap(find_sector(np.asarray(picture)[None]).mask, truth) >= 0.97


def test_crop_is_black_outside_and_as_small_as_the_sector():
    frames, _ = phantom("Fern")
    sector = find_sector(frames)
    left, top, right, bottom = sector.box
    cropped = sector.crop(frames)
    assert cropped.shape == (1, bottom - top, right - left)
    assert not cropped[:, ~sector.mask[top:bottom, left:right]].any()
    kept = sector.mask[top:bottom, left:right]
    assert np.array_equal(cropped[0][kept], frames[0, top:bottom, left:right][kept])


def test_a_page_of_writing_is_no_picture_of_tissue():
    picture = Image.new("L", (400, 300))
    for y in range(10, 280, 40):
        ImageDraw.Draw(picture).text((20, y), "MEASUREMENTS 12.4 cm", 255, font_size=16)
    assert find_sector(np.asarray(picture)[None]) is None
    assert find_sector(np.zeros((1, 300, 400), np.uint8)) is None


@pytest.mark.parametrize("colour", ["white", "yellow"])
@pytest.mark.parametrize("size", [12, 16, 24])
def test_level_writing_in_echoes_is_found_and_speckle_is_not(colour, size):
    frames, _ = phantom("Slate")
    assert find_text(np.clip(frames, 0, 120)) == []
    picture = Image.fromarray(np.clip(frames[0], 0, 120)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    box = draw.textbbox((40, 90), "SMITH", font_size=size)
    draw.text((40, 90), "SMITH", colour, font_size=size)
    covered = np.zeros(frames.shape[1:], bool)
    for left, top, right, bottom in find_text(np.asarray(picture)[None]):
        covered[top:bottom, left:right] = True
    ink = np.asarray(picture).max(-1) > 150
    assert covered[ink].mean() > 0.95, box


def test_power_doppler_is_no_writing():
    rng = np.random.default_rng(3)
    picture = Image.new("RGB", (320, 240), (40, 40, 40))
    pixels = np.asarray(picture).copy()
    for x in range(60, 240, 14):
        pixels[100:112, x : x + 8, 0] = 255
        pixels[100:112, x : x + 8, 1] = rng.integers(0, 255, (12, 8))
        pixels[100:112, x : x + 8, 2] = 0
    assert find_text(pixels[None]) == []
