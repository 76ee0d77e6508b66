"""A point and its image move together: whatever the geometry, the landmark stays under its point."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from insonate.data.augment import Augment
from insonate.data.transforms import (
    InputFormat,
    draw,
    generator,
    normalise,
    photometric,
    plain,
    prepare,
    resample,
    resample_mask,
)
from insonate.errors import MediaError

sizes = st.integers(40, 220)
seeds = st.integers(0, 2**63 - 1)
augments = st.builds(
    Augment,
    crop_scale=st.sampled_from([None, (0.3, 1.0)]),
    rotate_deg=st.sampled_from([0.0, 30.0, 180.0]),
    scale=st.sampled_from([None, (0.7, 1.4)]),
    shift=st.sampled_from([0.0, 0.1]),
    hflip=st.sampled_from([0.0, 0.5, 1.0]),
)


def landmark(hw, x, y, sigma_x, sigma_y):
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    square = ((columns - x) / sigma_x) ** 2 + ((rows - y) / sigma_y) ** 2
    return (255 * np.exp(-square / 2)).round().astype(np.uint8), (square < 9).astype(np.uint8)


def centroid(picture):
    weight = picture.double()
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in weight.shape), indexing="ij")
    return [float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())]


def nearest(mask, geometry, out_hw):
    """The original's pixel nearest to each input pixel, 0 outside; and where no two are equally near."""
    rows, columns = np.mgrid[: out_hw[0], : out_hw[1]]
    back = np.linalg.inv(geometry.input_from_original) @ np.stack(
        [columns, rows, np.ones_like(rows)]
    ).reshape(3, -1)
    x, y = np.rint(back[:2]).astype(int).reshape(2, *out_hw)
    inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    found = np.where(inside, mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)], 0)
    sure = (np.abs(back[:2] - np.floor(back[:2]) - 0.5) > 1e-3).all(axis=0).reshape(out_hw)
    return found, sure


@settings(max_examples=150, deadline=None)
@given(height=sizes, width=sizes, out_h=st.integers(32, 96), out_w=st.integers(32, 96), augment=augments,
       seed=seeds, across=st.floats(0.2, 0.8), down=st.floats(0.2, 0.8))  # fmt: skip
def test_the_landmark_stays_under_its_point(height, width, out_h, out_w, augment, seed, across, down):
    fmt = InputFormat(height=out_h, width=out_w, channels=1)
    geometry = draw((height, width), fmt, augment, generator(seed))
    top, left, rows, columns = geometry.box
    x, y = left + across * (columns - 1), top + down * (rows - 1)
    zoom_x, zoom_y = np.linalg.norm(geometry.input_from_original[:2, :2], axis=0)
    sigma_x, sigma_y = max(1.2, 1.2 / zoom_x), max(1.2, 1.2 / zoom_y)
    moved = geometry.points(np.array([[x, y]]))[0]
    reach = 4 * max(sigma_x * zoom_x, sigma_y * zoom_y)  # in input pixels
    assume(reach <= moved[0] <= out_w - 1 - reach and reach <= moved[1] <= out_h - 1 - reach)
    assume(4 * sigma_x <= x <= width - 1 - 4 * sigma_x and 4 * sigma_y <= y <= height - 1 - 4 * sigma_y)
    image, mask = landmark((height, width), x, y, sigma_x, sigma_y)
    np.testing.assert_allclose(centroid(resample(image, geometry, fmt)[0]), moved, atol=0.3)
    wanted, sure = nearest(mask, geometry, (out_h, out_w))
    np.testing.assert_array_equal(resample_mask(mask, geometry, fmt).numpy()[sure], wanted[sure])


@settings(max_examples=30, deadline=None)
@given(seed=seeds, augment=augments)
def test_the_same_seed_gives_the_same_picture(seed, augment):
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    fmt = InputFormat(height=32, width=40)

    def once():
        rng = generator(seed)
        geometry = draw(image.shape[:2], fmt, augment, rng)
        return photometric(resample(image, geometry, fmt), Augment(noise=0.1, contrast=0.2), rng)

    assert torch.equal(once(), once())


def test_mirroring_moves_the_first_column_to_the_last():
    fmt = InputFormat(height=8, width=10, channels=1)
    geometry = draw((8, 10), fmt, Augment(hflip=1), generator(0))
    image = np.arange(80, dtype=np.uint8).reshape(8, 10)
    np.testing.assert_array_equal(resample(image, geometry, fmt)[0], image[:, ::-1])
    np.testing.assert_array_equal(resample_mask(image, geometry, fmt), image[:, ::-1])
    np.testing.assert_allclose(geometry.points(np.array([[0.0, 3.0]])), [[9, 3]])


def test_a_quarter_turn_is_exact_in_a_square():
    fmt = InputFormat(height=9, width=9, channels=1)
    image = np.arange(81, dtype=np.uint8).reshape(9, 9)
    turn = np.array([[0.0, -1, 8], [1, 0, 0], [0, 0, 1]])
    geometry = replace(plain((9, 9), fmt), input_from_original=turn, turned=True)
    np.testing.assert_allclose(resample(image, geometry, fmt)[0], np.rot90(image, -1), atol=1e-3)


def test_prepare_is_the_dataset_s_way_without_augmentation():
    image = np.random.default_rng(1).integers(0, 255, (60, 90), np.uint8)
    fmt = InputFormat(height=30, width=30)
    picture, matrix = prepare(image, fmt)
    assert picture.shape == (3, 30, 30)
    assert torch.equal(picture, normalise(resample(image, plain((60, 90), fmt), fmt), fmt))
    np.testing.assert_allclose(matrix[0], [1 / 3, 0, 0.5 / 3 - 0.5])


def test_grey_and_colour_come_out_alike():
    grey = np.random.default_rng(2).integers(0, 255, (20, 20), np.uint8)
    colour = np.repeat(grey[..., None], 3, 2)
    for channels in (1, 3):
        fmt = InputFormat(height=20, width=20, channels=channels)
        assert torch.allclose(prepare(grey, fmt)[0], prepare(colour, fmt)[0])


def test_values_are_normalised_by_the_format():
    fmt = InputFormat(height=4, width=4, channels=1, mean=(0.5,), std=(0.25,))
    assert torch.allclose(prepare(np.full((9, 5), 255, np.uint8), fmt)[0], torch.tensor(2.0))


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_pictures_are_refused(image):
    with pytest.raises(MediaError, match="shape"):
        prepare(image, InputFormat(height=8, width=8))


def test_pictures_may_be_read_only():
    image = np.zeros((4, 4), np.uint8)
    image.flags.writeable = False
    assert prepare(image, InputFormat(height=8, width=8))[0].shape == (3, 8, 8)


def test_nothing_is_changed_by_default():
    image = np.random.default_rng(3).integers(0, 255, (30, 40), np.uint8)
    fmt = InputFormat(height=20, width=20)
    geometry = draw((30, 40), fmt, Augment(), generator(9))
    assert torch.equal(resample(image, geometry, fmt), resample(image, plain((30, 40), fmt), fmt))
    assert geometry.matrix() == plain((30, 40), fmt).matrix()


def test_a_standardised_picture_does_not_know_the_gain():
    fmt = InputFormat(height=8, width=8, standardise=True)
    picture = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) * 100
    found = normalise(picture, fmt)
    assert found.shape == (3, 8, 8)
    assert float(found.mean()) == pytest.approx(0, abs=1e-5)
    assert float(found.std(correction=0)) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(normalise(1.5 * picture + 20, fmt), found)
    assert not normalise(torch.full((1, 8, 8), 7.0), fmt).any()
