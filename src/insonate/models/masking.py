"""Which patches are context and which are targets: rectangles on the patch grid, drawn per image.

Source: Assran et al. 2023 (arXiv 2301.08243), sec. 3 and app. A.1. `BlockSampler` draws them as the paper
describes; `IJepaBlockSampler` repeats the authors' code draw by draw, faults included, to reproduce runs.
Shapes: B images, E contexts and T targets an image, K and M tokens of each, N = rows · columns cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator

from insonate.errors import RecipeError
from insonate.options import Options

Share = Annotated[float, Field(gt=0.0, le=1.0)]
Aspect = Annotated[float, Field(gt=0.0, le=100.0)]
Grid = tuple[int, int]
MAX_CELLS = 1 << 16
TRIES = 20
"""draws of an image's blocks before a constraint is loosened"""


class MaskOptions(Options):
    """Blocks of one image; the defaults are the published ones."""

    targets: int = Field(default=4, ge=1, le=64)
    """target blocks per image"""
    target_scale: tuple[Share, Share] = (0.15, 0.2)
    """smallest and largest area of a target block, as a share of the image"""
    target_aspect: tuple[Aspect, Aspect] = (0.75, 1.5)
    """smallest and largest height/width of a target block"""
    contexts: int = Field(default=1, ge=1, le=16)
    """context blocks per image"""
    context_scale: tuple[Share, Share] = (0.85, 1.0)
    """smallest and largest area of a context block, before the targets are cut out of it"""
    min_keep: int = Field(default=10, ge=0)
    """a block must have more cells than this"""
    allow_overlap: bool = False
    """leave the cells of the targets in the context"""
    sampler: Literal["insonate", "ijepa"] = "insonate"
    """insonate: every cell can be drawn, and an image's masks do not depend on its batch; ijepa: as the
    authors' code draws them"""
    context_tokens: int | None = Field(default=None, ge=1)
    """tokens of each context (sampler insonate); none = by context_quantile"""
    context_quantile: float = Field(default=0.05, ge=0.0, le=1.0)
    """share of the drawn contexts that are smaller than the number of tokens used, and are drawn again"""

    @model_validator(mode="after")
    def _ordered(self) -> MaskOptions:
        for name in ("target_scale", "target_aspect", "context_scale"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is [{low}, {high}], the smaller one comes first")
        return self


class Masks(NamedTuple):
    """Sorted cell indices (row · columns + column) of a batch, int64."""

    contexts: np.ndarray  # E B K
    targets: np.ndarray  # T B M


class Sampler(Protocol):
    """Draws masks as a pure function of seeds, so that they are the same after a resume and in any worker."""

    def sample(self, step_seed: int, item_seeds: Sequence[int]) -> Masks:
        """Masks of a batch: sizes from the step's seed (equal on all ranks), positions from the items'."""


@lru_cache(maxsize=64)
def make_sampler(options: MaskOptions, grid: Grid) -> Sampler:
    """The sampler that the options name, for a grid (rows, columns).

    Raises:
        RecipeError: blocks of these options do not fit the grid.
    """
    sampler = SAMPLERS[options.sampler](options, grid)
    sampler.check()
    return sampler


class BlockSampler:
    """Rectangles at any position, every image drawn from its own seed; vectorised over the batch.

    Scale and aspect of the step's blocks are separate draws. All contexts have the same number of tokens:
    blocks are drawn again until the context is at least that large, then a random subset of it is kept.
    """

    def __init__(self, options: MaskOptions, grid: Grid) -> None:
        self.options, self.grid = options, grid
        self.cells = grid[0] * grid[1]

    def check(self) -> None:
        """Refuse options that do not fit the grid.

        Raises:
            RecipeError: a block can be too small, or a context has more tokens than the grid has cells.
        """
        options, grid = self.options, self.grid
        if self.cells > MAX_CELLS:
            raise RecipeError(
                "backbone.patch", f"{self.cells} patches, at most {MAX_CELLS}", "Use a larger patch"
            )
        scale, aspect = options.target_scale, options.target_aspect
        smallest = min(
            math.prod(block_size(grid, float(s), float(a)))
            for s in np.linspace(*scale, 33)
            for a in np.linspace(*aspect, 65)
        )
        check_block("target", options, grid, smallest)
        check_block("context", options, grid, math.prod(self._context_size(options.context_scale[0])))
        if options.context_tokens is not None and options.context_tokens >= self.cells:
            raise RecipeError(
                "objective.context_tokens", f"{options.context_tokens} of {self.cells} patches", "Give fewer"
            )

    def sample(self, step_seed: int, item_seeds: Sequence[int]) -> Masks:
        """See `Sampler.sample`; an image's masks do not depend on the others of the batch."""
        target_size, context_size = self._sizes(step_seed)
        seeds = np.array([seed & MASK_64 for seed in item_seeds], dtype=np.uint64)  # B
        tokens = self.num_context_tokens
        corners, visible = self._draw(seeds, 0, target_size, context_size)  # B T 2, B E N
        short = visible.sum(-1).min(-1) < tokens  # B
        for attempt in range(1, TRIES):
            if not short.any():
                break
            corners[short], visible[short] = self._draw(seeds[short], attempt, target_size, context_size)
            short = visible.sum(-1).min(-1) < tokens
        for i in np.flatnonzero(short):
            visible[i] = self._loosened(visible[i], corners[i], target_size)
        targets = cells_of(corners, target_size, self.grid)  # B T M
        return Masks(self._cut(seeds, visible), np.ascontiguousarray(targets.swapaxes(0, 1)))

    @cached_property
    def num_context_tokens(self) -> int:
        """Tokens of every context."""
        options = self.options
        if options.context_tokens is not None:
            return options.context_tokens
        counts = []
        for step in range(64):
            sizes = self._sizes(int(splitmix64(step)))
            seeds = splitmix64(np.arange(64 * step, 64 * step + 64, dtype=np.uint64))
            counts.append(self._draw(seeds, 0, *sizes)[1].sum(-1).ravel())
        quantile = int(np.quantile(np.concatenate(counts), options.context_quantile))
        return min(max(quantile, options.min_keep + 1), self.cells - 1)

    def _context_size(self, scale: float) -> Grid:
        return block_size(self.grid, scale, self.grid[0] / self.grid[1])

    def _sizes(self, step_seed: int) -> tuple[Grid, Grid]:
        scale, aspect, context_scale = (
            low + float(u) * (high - low)
            for u, (low, high) in zip(
                uniform(np.array([step_seed & MASK_64], dtype=np.uint64), 3, stream=0)[0],
                (self.options.target_scale, self.options.target_aspect, self.options.context_scale),
                strict=True,
            )
        )
        return block_size(self.grid, scale, aspect), self._context_size(context_scale)

    def _draw(
        self, seeds: np.ndarray, attempt: int, target_size: Grid, context_size: Grid
    ) -> tuple[np.ndarray, np.ndarray]:
        """Corners of the targets (B T 2) and the visible cells of each context (B E N, bool)."""
        num_targets, num_contexts = self.options.targets, self.options.contexts
        u = uniform(seeds, 2 * (num_targets + num_contexts), stream=1 + attempt)
        u = u.reshape(len(seeds), -1, 2)  # B T+E 2
        sizes = np.array([target_size] * num_targets + [context_size] * num_contexts)  # T+E 2
        corners = (u * (np.array(self.grid) - sizes + 1)).astype(np.int64)
        visible = inside_blocks(corners[:, num_targets:], context_size, self.grid)  # B E N
        corners = corners[:, :num_targets]
        if not self.options.allow_overlap:
            visible &= ~inside_blocks(corners, target_size, self.grid).any(1, keepdims=True)
        return corners, visible

    def _loosened(self, visible: np.ndarray, corners: np.ndarray, target_size: Grid) -> np.ndarray:
        """Contexts (E N) of an image for which every draw was too small: everything but its targets.

        Where that is too small too, the cells of its last targets are let in, one target after the other; the
        whole grid is always enough.
        """
        hidden = inside_blocks(corners[None], target_size, self.grid)[0]  # T N
        count = len(hidden)
        while (rest := ~hidden[:count].any(0)).sum() < self.num_context_tokens:  # N
            count -= 1
        return np.broadcast_to(rest, visible.shape)

    def _cut(self, seeds: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """A random subset of `num_context_tokens` visible cells of each context, sorted: E B K."""
        batch, contexts, cells = visible.shape
        order = random_bits(seeds, contexts * cells, stream=TRIES + 1).reshape(visible.shape) >> np.uint64(1)
        order &= ~np.uint64(MAX_CELLS - 1)
        order |= np.arange(cells, dtype=np.uint64)  # no two are equal
        order |= (~visible).astype(np.uint64) << np.uint64(63)  # hidden cells come last
        count = self.num_context_tokens
        last = np.partition(order, count - 1, axis=-1)[..., count - 1 : count]  # B E 1
        kept = np.flatnonzero(order <= last).reshape(batch, contexts, count) % cells  # B E K
        return np.ascontiguousarray(kept.swapaxes(0, 1))


class IJepaBlockSampler:
    """The authors' sampler, draw by draw: last row and column never drawn, cut to the batch's shortest.

    Kept to reproduce published runs; `BlockSampler` mends it (see docs/methods/ijepa.md).
    """

    def __init__(self, options: MaskOptions, grid: Grid) -> None:
        self.options, self.grid = options, grid

    def check(self) -> None:
        """Refuse options of which some step's blocks are too small (there the authors' code hangs).

        Raises:
            RecipeError: a block can be too small.
        """
        options, grid = self.options, self.grid
        for r in np.linspace(0, 1, 1025)[:-1]:
            target, context = self._sizes(float(r), float(r))
            check_block("target", options, grid, math.prod(target))
            check_block("context", options, grid, math.prod(context))

    def sample(self, step_seed: int, item_seeds: Sequence[int]) -> Masks:
        """See `Sampler.sample`; positions hang on the batch's first item, lengths on the whole batch."""
        positions = torch.Generator().manual_seed(int(splitmix64(item_seeds[0])) >> 1)
        return self.replay((step_seed & MASK_64) >> 1, positions, len(item_seeds))

    def replay(self, size_seed: int, positions: torch.Generator, batch: int) -> Masks:
        """What the authors' collator returns.

        Args:
            size_seed: value of its counter.
            positions: generator in the state of its process's global one.
            batch: number of images.

        Raises:
            RecipeError: the blocks of this step can never be large enough.
        """
        options = self.options
        sizes = torch.Generator().manual_seed(size_seed)
        draws = [torch.rand(1, generator=sizes).item() for _ in range(2)]
        target_size, context_size = self._sizes(*draws)
        check_block("target", options, self.grid, math.prod(target_size))
        check_block("context", options, self.grid, math.prod(context_size))
        contexts, targets = [], []
        for _ in range(batch):
            blocks = [self._block(target_size, positions) for _ in range(options.targets)]
            hidden = [] if options.allow_overlap else blocks
            contexts.append([self._context(context_size, hidden, positions) for _ in range(options.contexts)])
            targets.append([np.flatnonzero(block) for block in blocks])
        shortest = min(len(context) for image in contexts for context in image)
        cut = np.array([[context[:shortest] for context in image] for image in contexts])  # B E K
        return Masks(cut.swapaxes(0, 1).copy(), np.array(targets).swapaxes(0, 1).copy())

    def _sizes(self, target_draw: float, context_draw: float) -> tuple[Grid, Grid]:
        options = self.options
        return (
            self._size(target_draw, options.target_scale, options.target_aspect),
            self._size(context_draw, options.context_scale, (1.0, 1.0)),
        )

    def _size(self, r: float, scale: tuple[float, float], aspect: tuple[float, float]) -> Grid:
        """One number for scale and aspect; a block is smaller than the grid on both sides."""
        rows, columns = self.grid
        area = int(rows * columns * (scale[0] + r * (scale[1] - scale[0])))
        ratio = aspect[0] + r * (aspect[1] - aspect[0])
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        return min(height, rows - 1), min(width, columns - 1)

    def _block(self, size: Grid, positions: torch.Generator) -> np.ndarray:
        """Cells (N, bool) of a block; it never reaches the last row or column."""
        top, left = (
            int(torch.randint(0, whole - part, (1,), generator=positions))
            for whole, part in zip(self.grid, size, strict=True)
        )
        return inside_blocks(np.array([[[top, left]]]), size, self.grid)[0, 0]

    def _context(self, size: Grid, targets: list[np.ndarray], positions: torch.Generator) -> np.ndarray:
        """Indices of a context's visible cells; after each 20 failures one target less is respected."""
        visible = np.zeros(0, dtype=bool)
        for attempt in range(TRIES * len(targets) + 1):  # the last has no constraint: always large enough
            visible = self._block(size, positions)
            for target in targets[: len(targets) - attempt // TRIES]:
                visible = visible & ~target
            if visible.sum() > self.options.min_keep:
                break
        return np.flatnonzero(visible)


SAMPLERS: dict[str, type[BlockSampler | IJepaBlockSampler]] = {
    "insonate": BlockSampler,
    "ijepa": IJepaBlockSampler,
}


def block_size(grid: Grid, scale: float, aspect: float) -> Grid:
    """Rows and columns of a block of `scale` of the grid's area and height/width `aspect`."""
    area = int(grid[0] * grid[1] * scale)
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(max(height, 1), grid[0]), min(max(width, 1), grid[1])


def check_block(kind: str, options: MaskOptions, grid: Grid, area: int) -> None:
    """Refuse options whose blocks are too small for the grid, which no number of draws would mend.

    Raises:
        RecipeError: `area` is not above `min_keep`.
    """
    if area > options.min_keep:
        return
    needed = (options.min_keep + 1) / (grid[0] * grid[1])
    raise RecipeError(
        f"objective.{kind}_scale",
        f"on a grid of {grid[0]}×{grid[1]} patches a {kind} block can have {area} cells, "
        f"not above min_keep ({options.min_keep})",
        f"Raise the scale (towards {min(1.0, 1.3 * needed):.2f}), lower min_keep, or use a smaller patch",
    )


def inside_blocks(corners: np.ndarray, size: Grid, grid: Grid) -> np.ndarray:
    """Cells (..., N, bool) inside blocks of `size` with top-left cells (row, column) `corners` (..., 2)."""
    row = np.arange(grid[0]) - corners[..., :1]  # ... rows
    column = np.arange(grid[1]) - corners[..., 1:]  # ... columns
    inside_row, inside_column = (row >= 0) & (row < size[0]), (column >= 0) & (column < size[1])
    inside: np.ndarray = inside_row[..., :, None] & inside_column[..., None, :]  # ... rows columns
    return inside.reshape(*corners.shape[:-1], grid[0] * grid[1])


def cells_of(corners: np.ndarray, size: Grid, grid: Grid) -> np.ndarray:
    """Sorted cell indices (..., M) of blocks of `size` at `corners` (..., 2)."""
    offsets = (np.arange(size[0])[:, None] * grid[1] + np.arange(size[1])).ravel()  # M
    cells: np.ndarray = (corners[..., 0] * grid[1] + corners[..., 1])[..., None] + offsets
    return cells


MASK_64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(value: np.ndarray | int) -> np.ndarray:
    """A 64-bit hash of each 64-bit value. Source: Steele et al. 2014, constants of Vigna's splitmix64.c."""
    z = np.asarray(value if isinstance(value, np.ndarray) else value & MASK_64, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def random_bits(seeds: np.ndarray, count: int, *, stream: int) -> np.ndarray:
    """64 bits each, B count, from nothing but each seed (B, uint64), the stream and the position."""
    start = splitmix64(seeds ^ splitmix64(stream))[:, None]  # B 1
    return splitmix64(start + (np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN))[None])


def uniform(seeds: np.ndarray, count: int, *, stream: int) -> np.ndarray:
    """Numbers in [0, 1), B count, from nothing but each seed (B, uint64), the stream and the position."""
    numbers: np.ndarray = (random_bits(seeds, count, stream=stream) >> np.uint64(11)) * 2.0**-53
    return numbers
