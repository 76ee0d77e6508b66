"""Views for test-time augmentation: where shrunk pictures show a place, and exact mirrors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from insonate.tasks.views import View, mean_of_views, points_back, shrunk, views_of, with_views


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 48), (7, 9)])
@pytest.mark.parametrize("scale", [0.5, 0.8, 0.93])
def test_a_shrunk_picture_is_linear_resampling_about_the_middle(height, width, scale):
    image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    found = shrunk(image, scale)
    turn = torch.tensor([[1 / scale, 0, 0], [0, 1 / scale, 0]]).expand(2, 2, 3)
    grid = functional.affine_grid(turn, [2, 3, height, width], align_corners=False)
    wanted = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-4)
    for axis in (-1, -2):
        assert torch.equal(shrunk(image.flip(axis), scale), found.flip(axis))  # bit by bit
    assert shrunk(image, 1.0) is image


def test_points_of_all_views_come_back_to_the_picture():
    views = views_of((0.8,), tta=True)
    assert views == (View(1.0, False), View(1.0, True), View(0.8, False), View(0.8, True))
    assert views_of((0.8,), tta=False) == (View(1.0, False),)
    mirror = torch.tensor([1, 0, 2])
    points = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    seen = torch.stack([
        (points[:, mirror] * torch.tensor([-1.0, 1.0]) if view.mirrored else points) * view.scale
        for view in views
    ])  # fmt: skip
    back = points_back(seen, views, mirror)
    assert torch.allclose(back, points.expand(4, -1, -1, -1), atol=1e-6)
    assert torch.allclose(mean_of_views(back), points, atol=1e-6)


def test_all_views_make_one_batch():
    image = torch.randn(3, 1, 8, 8)
    many = with_views(image, views_of((0.5, 0.9), tta=True))
    assert many.shape == (18, 1, 8, 8)
    assert torch.equal(many[3:6], image.flip(-1))
    assert torch.equal(many[9:12], many[6:9].flip(-1))
