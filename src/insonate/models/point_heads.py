"""Heads of several point sets on one backbone: each row of a mixed batch goes to the head of its own set.

The backbone sees the batch once; rows are picked from its tokens. Three arrangements: a ViTPose head a set
(SONICHU's; BatchNorm, since each head sees one kind of picture), one trunk for all, or a trunk a field
(fetal, intrapartum, cardiac). A shared trunk has GroupNorm: running statistics of a BatchNorm would mix the
sets. Source: the model card of SONICHU-124M; the shared trunks are ours.
Shapes: B rows, n rows of a set, D channels, K points of a set, h w token grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from insonate.models.backbone import Tokens, token_map
from insonate.models.heads import PointMaps, ViTPoseHead, doubled_twice

GROUPS_OF_NORM = 32
Rows = Mapping[str, Tensor]
"""set → indices n of its rows in the batch"""


class HeadPerSet(nn.Module):
    """A whole head a set."""

    def __init__(
        self, embed_dim: int, points: Mapping[str, int], fields: Mapping[str, str], width: int
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: ViTPoseHead(embed_dim, k, width) for name, k in points.items()})

    def forward(self, tokens: Tokens, rows: Rows) -> dict[str, Tensor]:
        """Tokens of B rows → maps n K 4h 4w of each set in `rows`."""
        return {name: self.heads[name](_picked(tokens, index)) for name, index in rows.items()}

    def of_set(self, name: str) -> nn.Module:
        """The head of one set, tokens → maps; it shares these weights."""
        return self.heads[name]


class SharedTrunks(nn.Module):
    """Sets of one trunk (all, or those of a field) share the transposed convolutions; K maps a set."""

    def __init__(
        self, embed_dim: int, points: Mapping[str, int], fields: Mapping[str, str], width: int,
        trunk_of: Callable[[str], str],
    ) -> None:  # fmt: skip
        super().__init__()
        self.trunk_of = {name: trunk_of(fields[name]) for name in points}
        trunks = dict.fromkeys(self.trunk_of.values())
        norm = partial(nn.GroupNorm, min(GROUPS_OF_NORM, width))
        self.trunks = nn.ModuleDict({name: doubled_twice(embed_dim, width, norm) for name in trunks})
        self.heads = nn.ModuleDict({name: PointMaps(width, k) for name, k in points.items()})

    def forward(self, tokens: Tokens, rows: Rows) -> dict[str, Tensor]:
        """Tokens of B rows → maps n K 4h 4w of each set in `rows`; each trunk runs once."""
        maps: dict[str, Tensor] = {}
        for trunk, module in self.trunks.items():
            names = [name for name in rows if self.trunk_of[name] == trunk]
            if not names:
                continue
            features = module(token_map(_picked(tokens, torch.cat([rows[name] for name in names]))))
            parts = features.split([len(rows[name]) for name in names])  # n width 4h 4w, each
            maps |= {name: self.heads[name](part) for name, part in zip(names, parts, strict=True)}
        return {name: maps[name] for name in rows}

    def of_set(self, name: str) -> nn.Module:
        """The head of one set, tokens → maps; it shares these weights."""
        return TrunkAndMaps(self.trunks[self.trunk_of[name]], self.heads[name])


class TrunkAndMaps(nn.Module):
    """One set's way through a shared trunk."""

    def __init__(self, trunk: nn.Module, maps: nn.Module) -> None:
        super().__init__()
        self.trunk, self.maps = trunk, maps

    def forward(self, tokens: Tokens) -> Tensor:
        """Tokens → heat maps B K 4h 4w."""
        return self.maps(self.trunk(token_map(tokens)))


PointHeads = HeadPerSet | SharedTrunks
ARRANGEMENTS: dict[str, Callable[[int, Mapping[str, int], Mapping[str, str], int], PointHeads]] = {
    "per_task": HeadPerSet,
    "shared": partial(SharedTrunks, trunk_of=lambda field: "all"),
    "grouped": partial(SharedTrunks, trunk_of=lambda field: field),
}
"""name in recipes → heads for (channels, set → K, set → field, width)"""


def everyones(rows: Rows, names: Iterable[str], heads: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The rows, with none of a set that only other processes have, where their BatchNorm is synchronised.

    Such a layer waits for all processes: each must call the same heads.
    """
    if not any(isinstance(module, nn.SyncBatchNorm) for module in heads.modules()):
        return dict(rows)
    known = list(names)
    present = torch.tensor([float(name in rows) for name in known], device=device)
    torch.distributed.all_reduce(present, torch.distributed.ReduceOp.MAX)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return {name: rows.get(name, none) for name, some in zip(known, present.tolist(), strict=True) if some}


def _picked(tokens: Tokens, index: Tensor) -> Tokens:
    return Tokens(tokens.patch.index_select(0, index), tokens.prefix.index_select(0, index), tokens.grid)
