"""Pictures that are nearly the same: a hash finds the candidates, a fingerprint of fine structure decides.

Sectors of one scanner look alike to a hash of coarse shape alone; their speckle does not.

Shapes: N pictures, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 16
BITS = SIDE * SIDE
NEAR_BITS = 32
"""of 256 that may differ in a candidate: copies at 0.6 of the size, as JPEG of quality 60 or brightened by
20 % differ by up to 17 (measured on CAMUS, HC18 and muscle pictures)"""
FINE_SIDE, SMOOTHED = 32, 5
NEAR = 0.95
"""correlation of fingerprints from which two pictures count as one: such copies reach 0.98, pictures of two
patients of CAMUS at most 0.88"""
FLAT = 3
"""grey levels between neighbours of a picture that holds nothing: its hash would be noise"""
BLOCK, MANY = 1024, 10_000
"""pictures compared at a time, and candidates among them that are many"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What is kept of one picture, to be compared."""

    bits: np.ndarray
    """32 bytes, uint8: whether each of 16×16 places is brighter than its left neighbour"""
    fine: np.ndarray
    """1024, int8: what differs from its surroundings at 32×32 places"""


def likeness(grey: np.ndarray) -> Likeness | None:
    """Of a picture H W, uint8; `None` where it is flat.

    Source: dHash of Krawetz 2013, "Kind of like that"; the fingerprint is ours.
    """
    image = Image.fromarray(grey)
    coarse = np.asarray(image.resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.int16)
    steps = np.diff(coarse, axis=1)  # 16 16
    if int(np.abs(steps).max()) <= FLAT:
        return None
    small = np.asarray(image.resize((FINE_SIDE, FINE_SIDE), Image.Resampling.BOX), np.float32)
    fine = small - ndimage.uniform_filter(small, SMOOTHED)
    length = float(np.linalg.norm(fine)) or 1.0
    return Likeness(
        bits=np.packbits(steps > 0),
        fine=np.clip(np.round(400 * fine / length), -127, 127).astype(np.int8).ravel(),
    )


def near_pairs(pictures: list[Likeness]) -> list[tuple[int, int]]:
    """Pairs (first, second) of pictures that are nearly the same, in order."""
    if not pictures:
        return []
    bits = np.stack([picture.bits for picture in pictures])  # N 32
    signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1  # N 256
    fine = np.stack([picture.fine for picture in pictures])  # N 1024
    length = np.linalg.norm(fine.astype(np.float32), axis=1)  # N
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(signs), BLOCK):
        rows = signs[start : start + BLOCK]
        for other in range(start, len(signs), BLOCK):
            agreeing = rows @ signs[other : other + BLOCK].T  # n m
            first, second = np.nonzero(agreeing >= BITS - 2 * NEAR_BITS)
            first, second = first + start, second + other
            ordered = first < second
            first, second = first[ordered], second[ordered]
            if len(first) > MANY:  # one scanner's sectors: a product of the whole blocks is cheaper
                whole = _floats(fine, start) @ _floats(fine, other).T  # n m
                products = whole[first - start, second - other]
            else:
                products = np.einsum("nd,nd->n", fine[first], fine[second], dtype=np.float32)
            close = products >= NEAR * length[first] * length[second]
            pairs += zip(first[close].tolist(), second[close].tolist(), strict=True)
    return sorted(pairs)


def _floats(fine: np.ndarray, start: int) -> np.ndarray:
    return fine[start : start + BLOCK].astype(np.float32)


def groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` items the first item that pairs link it with, itself where none do."""
    first = list(range(count))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        first[high] = low
    return [root(i) for i in range(count)]
