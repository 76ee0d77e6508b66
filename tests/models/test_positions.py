"""Positions of every kind are the originals' at their native size, and stay sensible at any other."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from insonate.models import build_backbone
from insonate.models.ema import ema_update
from insonate.models.positions import resize_table, sincos_3d, sincos_3d_even, sincos_rows_first
from insonate.models.relative import RelativeBias, offset_index, resampling, resize_offsets
from insonate.models.rope import rope_tables, rotate

CPU = torch.device("cpu")
SIDES = st.integers(4, 64)  # all multiples of 16 from 64 to 1024


def test_relative_offsets_count_as_in_beit(parity) -> None:
    state = torch.load(parity / "usfm_small_perblock.pt", weights_only=True)["state_dict"]  # noqa: TID251
    expected = state["blocks.0.attn.relative_position_index"]
    assert torch.equal(offset_index((4, 4), class_token=True, device=CPU), expected)


def test_resized_table_is_the_originals_without_its_swapped_axes_and_nans(parity) -> None:
    known = torch.load(parity / "usfm_relpos_interp.pt", weights_only=True)  # noqa: TID251
    source = known.pop("src_table")
    for size, theirs in known.items():
        side = int(size) // 16
        ours = resize_offsets(source, (14, 14), (side, side), class_token=True)
        swapped = theirs[:-3].reshape(2 * side - 1, 2 * side - 1, 12).transpose(0, 1).reshape(-1, 12)
        finite = swapped.isfinite()
        assert (ours[:-3] - swapped)[finite].abs().max() < 1e-3  # they solve for the ratio to 1e-6
        assert torch.equal(ours[-3:], theirs[-3:])


@settings(max_examples=150, deadline=None)
@given(rows=SIDES, columns=SIDES)
def test_resized_table_keeps_orientation_and_order_and_is_finite(rows, columns) -> None:
    offset = torch.arange(-13.0, 14.0)
    downwards = offset[:, None].expand(27, 27).reshape(-1, 1)  # depends on the row offset only
    resized = resize_offsets(downwards, (14, 14), (rows, columns), class_token=False)
    picture = resized.reshape(2 * rows - 1, 2 * columns - 1)
    assert picture.isfinite().all()
    assert (picture - picture[:, :1]).abs().max() < 1e-4
    assert (picture[1:, 0] - picture[:-1, 0]).min() >= -1e-6
    assert abs(picture[rows - 1, columns - 1].item()) < 1e-5


@settings(max_examples=60, deadline=None)
@given(rows=SIDES, columns=SIDES, frames=st.integers(1, 16))
def test_absolute_tables_resize_without_turning_or_nan(rows, columns, frames) -> None:
    for native, wanted in (((14, 14), (rows, columns)), ((8, 14, 14), (frames, rows, columns))):
        grids = torch.meshgrid(*(torch.arange(float(n)) for n in native), indexing="ij")
        table = torch.stack([axis.flatten() for axis in grids], 1)  # N axes
        resized = resize_table(table, native, wanted)
        assert resized.isfinite().all()
        for axis in range(len(native)):
            picture = resized[:, axis].reshape(wanted).movedim(axis, 0).flatten(1)
            assert (picture - picture[:, :1]).abs().max() < 1e-3  # depends on its own axis only
            assert not (picture[1:, 0] - picture[:-1, 0] < -1e-3).any()


def test_tables_at_their_native_size_are_unchanged() -> None:
    table = torch.randn(732, 12)
    assert resize_offsets(table, (14, 14), (14, 14), class_token=True) is table
    assert torch.equal(resampling(27, 27), torch.eye(27))
    assert torch.equal(resampling(1, 5), torch.ones(5, 1))


def test_tables_of_vjepa_start_with_the_row(parity) -> None:
    state = torch.load(parity / "vjepa_encoder_image_sincos.pt", weights_only=True)["state_dict"]  # noqa: TID251
    assert torch.equal(sincos_rows_first((1, 4, 4), 48), state["pos_embed"][0])
    clip = sincos_3d((2, 3, 4), 96)
    picture = sincos_rows_first((1, 3, 4), 48)
    assert torch.equal(clip[:12, 48:], picture)
    assert torch.equal(clip[12:, 48:], picture)
    assert (clip[:12, :48] == clip[0, :48]).all()
    assert sincos_3d_even((2, 3, 4), 40).shape == (24, 40)


def test_rotation_depends_on_the_distance_alone_where_pairs_are_paired() -> None:
    rope = rope_tables((4, 4, 4), 24, "paired", CPU)
    q, k = torch.randn(2, 64, 24).unbind()
    one, other = q[:1].expand(64, -1), k[:1].expand(64, -1)
    dots = rotate(one, rope) @ rotate(other, rope).T  # 64 64
    same = dots[0, 21], dots[21, 42], dots[42, 63]  # one step along each axis
    torch.testing.assert_close(same[0].expand(2), torch.stack(same[1:]))


@pytest.mark.parametrize("position", ["sincos", "learned", "rope", "relative", "relative_per_block"])
@pytest.mark.parametrize("class_token", [True, False])
def test_kept_tokens_know_where_they_are(position, class_token) -> None:
    registers = 0 if position.startswith("relative") else 2
    model = build_backbone({
        "name": "vit", "input_size": (64, 64), "width": 48, "depth": 3, "heads": 3, "position": position,
        "class_token": class_token, "registers": registers, "layer_scale": 0.1,
    }).eval()  # fmt: skip
    image, keep = torch.randn(2, 3, 64, 48), torch.stack([torch.randperm(12), torch.randperm(12)])
    whole, kept = model(image), model(image, keep)
    expected = torch.stack([whole.patch[i, keep[i]] for i in range(2)])
    torch.testing.assert_close(kept.patch, expected)
    torch.testing.assert_close(kept.prefix, whole.prefix)
    assert whole.prefix.shape[1] == class_token + registers


@pytest.mark.parametrize("change", ["load", "step", "ema", "train", "double", "swap"])
def test_a_kept_bias_is_that_of_the_table_as_it_is_now(change) -> None:
    torch.manual_seed(0)
    bias, other = (RelativeBias((3, 4), 2, class_token=True).eval() for _ in range(2))
    with torch.no_grad():
        first = bias((5, 4))
        assert bias((5, 4)) is first
        assert torch.equal(bias((3, 4)), bias._made((3, 4), None))
    with torch.inference_mode():
        assert torch.equal(bias((5, 4)), first)
    assert bias((5, 4)).requires_grad  # nothing kept where a gradient is wanted
    if change == "load":
        bias.load_state_dict(other.state_dict())
    elif change == "step":
        bias((5, 4)).square().sum().backward()
        torch.optim.AdamW(bias.parameters(), lr=0.1).step()
    elif change == "ema":
        ema_update(bias, other, 0.5)
    elif change == "train":
        bias.train()((5, 4)).sum().backward()
        bias.table.data.add_(1.0)
        bias.eval()
    elif change == "double":
        bias.double()
    else:
        bias.table.data = other.table.data
    with torch.no_grad():
        now = bias((5, 4))
        assert now is not first
        assert torch.equal(now, bias._made((5, 4), None))
        assert torch.equal(copy.deepcopy(bias)((5, 4)), now)


@pytest.mark.parametrize(
    ("position", "frames"),
    [("sincos", 1), ("relative", 1), ("relative_per_block", 1), ("rope", 2), ("sinusoid", 2)],
)
def test_tables_that_a_prediction_asked_for_first_can_be_trained_with(position, frames) -> None:
    options = {
        "name": "vit",
        "input_size": [48, 80],
        "width": 48,
        "depth": 2,
        "heads": 2,
        "position": position,
    }
    clip = {"frames": frames, "tubelet": 2} if frames > 1 else {}
    backbone = build_backbone(options | clip)
    pixels = torch.randn(1, 3, 48, 80) if frames == 1 else torch.randn(1, frames, 3, 48, 80)
    with torch.inference_mode():
        backbone(pixels)
    backbone(pixels).patch.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)
