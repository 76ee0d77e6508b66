"""Positions of every kind at all multiples of 16 pixels from 64 to 1024, never square but once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from insonate.models import build_backbone
from insonate.models.relative import resize_offsets
from insonate.models.rope import rope_tables
from insonate.models.vit import ROPE_LAYOUTS, VisionTransformer

NATIVE, WIDTH, HEADS = (14, 10), 48, 2
GRIDS = [(rows, 68 - rows) for rows in range(4, 65)]
"""each number of patches from 4 to 64 once as rows and once as columns"""
CLIPS = {"sincos_3d", "sincos_3d_even", "rope", "rope_paired", "sinusoid"}
PLACES = {
    "sincos": (slice(24, 48), slice(0, 24)), "sincos_rows_first": (slice(0, 24), slice(24, 48)),
    "sincos_3d": (slice(24, 36), slice(36, 48)), "sincos_3d_even": (slice(16, 32), slice(32, 48)),
    "rope": (slice(8, 16), slice(16, 24)), "rope_paired": (slice(8, 16), slice(16, 24)),
    "learned": (slice(0, 24), slice(24, 48)),
}  # fmt: skip
"""channels that tell the row, and the column"""
KINDS = [*PLACES, "sinusoid", "relative", "relative_per_block"]


def encoder(kind: str, resize: str) -> VisionTransformer:
    torch.manual_seed(0)
    height, width = (16 * side for side in NATIVE)
    frames = {"frames": 8, "tubelet": 2} if kind in CLIPS else {}
    made = build_backbone({
        "name": "vit", "width": WIDTH, "depth": 1, "heads": HEADS, "position": kind,
        "resize_position": resize, "input_size": [height, width], **frames,
    })  # fmt: skip
    if kind == "learned":
        rows, columns = torch.randn(14, 1, 24), torch.randn(1, 10, 24)
        both = torch.cat([rows.expand(14, 10, 24), columns.expand(14, 10, 24)], -1)
        made.pos_embed.data.copy_(both.flatten(0, 1))
    return made.eval()


def told(model: VisionTransformer, grid: tuple[int, int, int]) -> Tensor:
    """What attention and tokens are told of each place: t h w D."""
    if model.position in ROPE_LAYOUTS:
        return model._rope(grid, None).sin.view(*grid, -1)
    return model.positions(grid).detach().view(*grid, -1)


@pytest.mark.parametrize("resize", ["recompute", "interpolate"])
@pytest.mark.parametrize("kind", KINDS[:-2])
def test_tables_are_finite_and_keep_their_orientation_at_every_size(kind, resize) -> None:
    model = encoder(kind, resize)
    for number, (rows, columns) in enumerate(GRIDS):
        steps = 1 + number % 9 if kind in CLIPS else 1
        table = told(model, (steps, rows, columns))
        assert table.isfinite().all()
        for axis, channels in zip((1, 2), PLACES.get(kind, ()), strict=False):
            part = table[..., channels]
            other = part.movedim(3 - axis, 0)  # the other axis of the picture comes first
            assert (other - other[:1]).abs().max() < 1e-4, (rows, columns)
            assert (part - part.select(axis, 0).unsqueeze(axis)).abs().max() > 1e-2, (rows, columns)


@pytest.mark.parametrize("resize", ["recompute", "interpolate"])
@pytest.mark.parametrize("kind", KINDS[:-2])
def test_tables_of_the_native_size_are_the_stored_ones(kind, resize) -> None:
    model = encoder(kind, resize)
    table = told(model, model.clip_grid).flatten(0, 2)
    if kind in ROPE_LAYOUTS:
        whole = rope_tables((4, 64, 64), WIDTH // HEADS, ROPE_LAYOUTS[kind], torch.device("cpu"))
        assert torch.equal(table.view(4, 14, 10, -1), whole.sin.view(4, 64, 64, -1)[:, :14, :10])
    else:
        assert torch.equal(table, model.pos_embed[0])


@pytest.mark.parametrize("kind", ["relative", "relative_per_block"])
def test_relative_tables_at_every_size(kind) -> None:
    model = encoder(kind, "recompute")
    bias = model.rel_pos if kind == "relative" else model.blocks[0].attn.rel_pos
    table = bias.table.detach()
    assert resize_offsets(table, NATIVE, NATIVE, class_token=False) is table
    row = torch.arange(-13.0, 14.0)[:, None].expand(27, 19).reshape(-1, 1)
    column = torch.arange(-9.0, 10.0).expand(27, 19).reshape(-1, 1)
    for rows, columns in GRIDS:
        assert resize_offsets(table, NATIVE, (rows, columns), class_token=False).isfinite().all()
        both = resize_offsets(torch.cat([row, column], 1), NATIVE, (rows, columns), class_token=False)
        down, right = both.view(2 * rows - 1, 2 * columns - 1, 2).unbind(-1)
        assert (down - down[:, :1]).abs().max() < 1e-4
        assert (right - right[:1]).abs().max() < 1e-4
        assert (down[1:, 0] - down[:-1, 0]).min() > -1e-6 < (right[0, 1:] - right[0, :-1]).min()
        reach = 0.9 * min(rows - 1, 5)
        assert down[-1, 0] > reach > -reach > down[0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_take_every_kind_of_size(kind) -> None:
    model = encoder(kind, "interpolate")
    with torch.no_grad():
        for height, width in [(64, 1024), (1024, 64), (272, 256)]:
            frames = (6, 3) if kind in CLIPS else (3,)
            tokens = model(torch.randn(1, *frames, height, width))
            assert tokens.grid == (3 if kind in CLIPS else 1, height // 16, width // 16)
            assert tokens.patch.isfinite().all()
