"""The sector: its outline on the phantom's truth and on drawn pictures, and what is no picture of tissue."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sector_truth import errors, overlap, phantom

from insonate.data.overlays import find_text
from insonate.data.sector import find_sector
from insonate.phantom import VENDORS


@pytest.mark.parametrize("name", VENDORS)
def test_the_outline_is_the_phantoms_for_every_vendor(name):
    frames, machine = phantom(name)
    sector = find_sector(frames)
    assert overlap(sector.mask, machine.screen.inside) >= 0.97
    assert (sector.fan is None) == (VENDORS[name].shape == "linear")


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.shape != "linear"])
def test_apex_angles_and_depth_are_told_for_every_vendor(name):
    frames, machine = phantom(name)
    apex_px, angle_deg, depth = errors(find_sector(frames).fan, machine)
    assert apex_px < 4
    assert angle_deg < 1.5
    assert depth < 0.03


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


def test_a_sector_that_opens_upwards_is_told():
    frames, machine = phantom("Fern")
    upright, sector = find_sector(frames), find_sector(frames[:, ::-1])
    assert overlap(sector.mask, machine.screen.inside[::-1]) >= 0.97
    assert (upright.fan.upward, sector.fan.upward) == (False, True)
    last = frames.shape[1] - 1
    assert sector.fan.apex_xy == pytest.approx((upright.fan.apex_xy[0], last - upright.fan.apex_xy[1]), abs=4)


def test_a_picture_of_a_linear_probe_is_a_rectangle_though_corners_are_dark():
    rng = np.random.default_rng(0)
    frames = np.zeros((1, 200, 240), np.uint8)
    frames[:, 20:180, 50:190] = rng.integers(40, 125, (160, 140))
    frames[:, 165:180, 50:70] = 0
    sector = find_sector(frames)
    assert sector.shape == "rectangle"
    assert sector.box == pytest.approx((50, 20, 190, 180), abs=1)


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


def covered(frames, **flow):
    found = np.zeros(frames.shape[1:3], bool)
    for left, top, right, bottom in find_text(frames, **flow):
        found[top:bottom, left:right] = True
    return found


@pytest.mark.parametrize("slant", [-90, -45, -12, 20, 60, 90])
def test_slanted_writing_is_found(slant):
    frames, _ = phantom("Slate")
    word = Image.new("L", (110, 26))
    ImageDraw.Draw(word).text((3, 2), "SMITH JO", 255, font_size=20)
    word = word.rotate(slant, expand=True, resample=Image.Resampling.BICUBIC)
    picture = Image.fromarray(np.clip(frames[0], 0, 120))
    picture.paste(255, (60, 60), word)
    ink = np.asarray(picture) > 180
    assert covered(np.asarray(picture)[None])[ink].mean() > 0.95


def test_faint_writing_of_one_grey_is_found():
    frames, _ = phantom("Slate")
    picture = Image.fromarray(np.clip(frames[0] // 3, 0, 60))
    ImageDraw.Draw(picture).text((40, 90), "12.03.1961", 110, font_size=18)
    ink = np.asarray(picture) > 90
    assert covered(np.asarray(picture)[None])[ink].mean() > 0.95


def test_writing_that_changes_on_the_way_is_found():
    pictures = []
    for text in ("RIGHT HIP", "LEFT HIP B"):
        picture = Image.new("L", (200, 120), 30)
        ImageDraw.Draw(picture).text((30, 50), text, 255, font_size=18)
        pictures.append(np.asarray(picture))
    for frames in (np.stack(pictures), np.stack([pictures[0]] * 8 + [pictures[1]] * 8)):
        assert covered(frames)[frames.max(0) > 128].mean() > 0.95


@pytest.mark.parametrize("told", [(), ((40, 80, 250, 130),)])
def test_power_doppler_is_no_writing(told):
    """Specks as large as letters, in a row, each of nearly one hue, and no two of the same."""
    rng = np.random.default_rng(3)
    pixels = np.full((240, 320, 3), 40, np.uint8)
    for x in range(60, 240, 14):
        hue = rng.integers(0, 255)
        pixels[100:112, x : x + 8, 0] = 255
        pixels[100:112, x : x + 8, 1] = np.clip(hue + rng.integers(-25, 25, (12, 8)), 0, 255)
        pixels[100:112, x : x + 8, 2] = 0
    assert not covered(pixels[None], flow=told).any()


def test_coloured_writing_over_flow_is_found():
    rng = np.random.default_rng(3)
    pixels = np.full((240, 320, 3), 40, np.uint8)
    pixels[60:90, 60:240, 0] = 255
    pixels[60:90, 60:240, 1] = rng.integers(0, 255, (30, 180))
    pixels[60:90, 60:240, 2] = 0
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).text((70, 96), "SMITH", "cyan", font_size=18)
    assert covered(np.asarray(picture)[None])[np.asarray(picture)[..., 2] > 200].mean() > 0.95
