"""Masks: equal to the authors' where asked for, and without their faults by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from insonate.errors import RecipeError
from insonate.models.masking import (
    BlockSampler,
    IJepaBlockSampler,
    MaskOptions,
    make_sampler,
    uniform,
)

GRID = (16, 16)
CASES = [
    "14x14", "16x16", "16x16_224p14", "28x28", "32x32",
    "16x16_overlap", "16x16_nenc2", "12x20_rect", "16x16_hard",
]  # fmt: skip


def item_seeds(count: int, start: int = 0) -> list[int]:
    numbers = np.arange(start, start + count, dtype=np.uint64)
    return [int(place * 2**63) for place in uniform(numbers, 1, stream=98)[:, 0]]


@pytest.mark.parametrize("name", CASES)
def test_ijepa_mode_draws_what_the_authors_code_draws(parity, name) -> None:
    case = torch.load(parity / "ijepa_masks.pt", weights_only=True)["cases"][name]  # noqa: TID251
    config = case["config"]
    options = MaskOptions(
        sampler="ijepa", targets=config["npred"], contexts=config["nenc"], min_keep=config["min_keep"],
        target_scale=config["pred_mask_scale"], context_scale=config["enc_mask_scale"],
        target_aspect=config["aspect_ratio"], allow_overlap=config["allow_overlap"],
    )  # fmt: skip
    sampler = IJepaBlockSampler(options, tuple(config["grid"]))
    for step in case["steps"]:
        positions = torch.Generator().manual_seed(step["global_seed"])
        masks = sampler.replay(step["step"], positions, config["batch"])
        assert torch.equal(torch.from_numpy(masks.contexts), torch.stack(step["masks_enc"]))
        assert torch.equal(torch.from_numpy(masks.targets), torch.stack(step["masks_pred"]))


def coverage(sampler, images: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each cell is context, and target."""
    context, target = np.zeros(256), np.zeros(256)
    for step in range(images // batch):
        masks = sampler.sample(uniform_seed(step), item_seeds(batch, step * batch))
        np.add.at(context, masks.contexts.ravel(), 1)
        for b in range(batch):
            target[np.unique(masks.targets[:, b])] += 1
    return context.reshape(GRID) / images, target.reshape(GRID) / images


def uniform_seed(step: int) -> int:
    return int(uniform(np.array([step], dtype=np.uint64), 1, stream=99)[0, 0] * 2**63)


def test_every_cell_is_drawn_and_top_and_bottom_alike() -> None:
    context, target = coverage(BlockSampler(MaskOptions(), GRID), images=4000, batch=1)
    assert context[-1].mean() > 0.2
    assert context[:, -1].mean() > 0.2
    for profile in (target.mean(1), target.mean(0)):
        np.testing.assert_allclose(profile, profile[::-1], atol=0.03)


def test_contexts_of_a_batch_see_the_bottom_as_often_as_the_top() -> None:
    """The authors cut each context to the shortest of its batch in raster order: the bottom starves."""
    mended, _ = coverage(BlockSampler(MaskOptions(), GRID), images=2048, batch=32)
    for profile in (mended.mean(1), mended.mean(0)):
        np.testing.assert_allclose(profile, profile[::-1], atol=0.03)
    theirs, _ = coverage(IJepaBlockSampler(MaskOptions(sampler="ijepa"), GRID), images=256, batch=32)
    rows = theirs.mean(1)[:15]  # the last one is never drawn
    assert rows[-5:].mean() < 0.6 * rows[:5].mean()
    assert mended.mean(1)[-5:].mean() == pytest.approx(mended.mean(1)[:5].mean(), rel=0.05)


def test_ijepa_mode_has_the_authors_statistics() -> None:
    sampler = IJepaBlockSampler(MaskOptions(sampler="ijepa"), GRID)
    tokens, contexts = [], []
    for step in range(60):
        masks = sampler.sample(uniform_seed(step), item_seeds(16, 16 * step))
        tokens.append(masks.targets.shape[-1])
        contexts.append(masks.contexts.shape[-1])
        used = np.union1d(masks.contexts, masks.targets)
        assert (used // 16).max() < 15
        assert (used % 16).max() < 15
    assert np.mean(tokens) == pytest.approx(44.2, abs=2.0)
    assert np.mean(contexts) == pytest.approx(82.5, abs=5.0)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(3, 24), columns=st.integers(3, 24), targets=st.integers(1, 5),
    contexts=st.integers(1, 2),
    low=st.floats(0.02, 0.5), span=st.floats(0, 0.3), min_keep=st.integers(0, 20), overlap=st.booleans(),
    sampler=st.sampled_from(["insonate", "ijepa"]), seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_any_options_give_sound_masks_or_are_refused(
    rows, columns, targets, contexts, low, span, min_keep, overlap, sampler, seed
) -> None:
    options = MaskOptions(
        targets=targets, contexts=contexts, target_scale=(low, low + span), min_keep=min_keep,
        allow_overlap=overlap, sampler=sampler,
    )  # fmt: skip
    try:
        masks = make_sampler(options, (rows, columns)).sample(seed, [seed, seed ^ 5, 7])
    except RecipeError:
        return
    assert masks.contexts.shape[:2] == (contexts, 3)
    assert masks.targets.shape[:2] == (targets, 3)
    for index in masks:
        assert index.dtype == np.int64
        assert index.min() >= 0
        assert index.max() < rows * columns
        assert (np.diff(index, axis=-1) > 0).all()
    row, column = masks.targets // columns, masks.targets % columns
    area = (np.ptp(row, axis=-1) + 1) * (np.ptp(column, axis=-1) + 1)
    assert (area == masks.targets.shape[-1]).all()
    covered = targets * masks.targets.shape[-1]
    if not overlap and sampler == "insonate" and rows * columns - covered >= masks.contexts.shape[-1]:
        for b in range(3):
            assert not np.intersect1d(masks.contexts[:, b], masks.targets[:, b]).size


def test_an_images_masks_do_not_depend_on_its_batch_or_rank() -> None:
    sampler, seeds = BlockSampler(MaskOptions(contexts=2), GRID), item_seeds(8)
    whole = sampler.sample(5, seeds)
    first, second = sampler.sample(5, seeds[:4]), sampler.sample(5, seeds[4:])
    assert np.array_equal(whole.contexts, np.concatenate([first.contexts, second.contexts], axis=1))
    assert np.array_equal(whole.targets, np.concatenate([first.targets, second.targets], axis=1))
    assert not np.array_equal(first.targets, second.targets)


def test_scale_and_aspect_are_drawn_apart() -> None:
    sampler = BlockSampler(MaskOptions(), GRID)
    sizes = {sampler._sizes(step * 0x9E3779B97F4A7C15)[0] for step in range(300)}
    assert (5, 7) in sizes  # small and wide, as in the original
    assert (7, 5) in sizes  # small and tall, which the original never draws


@pytest.mark.parametrize("sampler", ["insonate", "ijepa"])
@pytest.mark.parametrize("side", [4, 6, 7, 8])
def test_grids_that_hang_the_original_are_refused(sampler, side) -> None:
    with pytest.raises(RecipeError, match=f"{side}×{side}.*min_keep"):
        make_sampler(MaskOptions(sampler=sampler), (side, side))


def test_reversed_ranges_and_too_many_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller one comes first"):
        MaskOptions(target_scale=(0.3, 0.2))
    with pytest.raises(RecipeError, match="256 of 256"):
        make_sampler(MaskOptions(context_tokens=256), GRID)


def test_targets_that_cover_the_grid_still_leave_a_context() -> None:
    options = MaskOptions(target_scale=(0.9, 1.0), targets=4)
    masks = BlockSampler(options, GRID).sample(1, item_seeds(3))
    assert masks.contexts.shape[-1] == options.min_keep + 1
