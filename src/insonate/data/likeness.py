"""Pictures that are nearly the same: a hash finds the candidates, a fingerprint of fine structure decides.

Sectors of one scanner look alike to a hash of coarse shape alone; their speckle does not. A copy may have
been scaled and coded anew, or cut: the fingerprint of the one is then sought within that of the other.

Shapes: N pictures, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage

SIDE = 16
BITS = SIDE * SIDE
NEAR_BITS = 32
"""of 256 that may differ in a candidate: copies at 0.6 of the size, as JPEG of quality 60 or brightened by
20 % differ by up to 17 (measured on CAMUS, HC18 and muscle pictures)"""
FINE_SIDE, BLURRED, SMOOTHED = 64, 0.9, 9
NEAR = 0.95
"""correlation of fingerprints from which two pictures count as one: such copies reach 0.98, pictures of two
patients of CAMUS at most 0.9"""
NEIGHBOURS = 16
"""of each picture by the hash, in which it is sought as a cut copy"""
SCALES = (1.0, 0.975, 0.95, 0.925, 0.9, 0.85, 0.8)
"""of the original's sides that a cut copy keeps, where the sizes do not tell"""
NEAR_CUT = 0.885
"""correlation from which a picture is a cut copy of another one"""
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
    """4096, int8: what differs from its surroundings at 64×64 places"""
    size: tuple[int, int]
    """width and height of the picture"""


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
    small = ndimage.gaussian_filter(small, BLURRED)  # what half a place of shift would tear
    fine = small - ndimage.uniform_filter(small, SMOOTHED)
    length = float(np.linalg.norm(fine)) or 1.0
    return Likeness(
        bits=np.packbits(steps > 0),
        fine=np.clip(np.round(800 * fine / length), -127, 127).astype(np.int8).ravel(),
        size=image.size,
    )


def near_pairs(pictures: list[Likeness]) -> list[tuple[int, int]]:
    """Pairs (first, second) of pictures that are nearly the same or cut from one another, in order."""
    if not pictures:
        return []
    bits = np.stack([picture.bits for picture in pictures])  # N 32
    signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1  # N 256
    fine = np.stack([picture.fine for picture in pictures])  # N 4096
    length = np.linalg.norm(fine.astype(np.float32), axis=1)  # N
    pairs = set(_equal_pairs(signs, fine, length))
    for first, second in _neighbours(signs):
        if (first, second) not in pairs and _is_cut(pictures[first], pictures[second]):
            pairs.add((first, second))
    return sorted(pairs)


def _equal_pairs(signs: np.ndarray, fine: np.ndarray, length: np.ndarray) -> Iterator[tuple[int, int]]:
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
            yield from zip(first[close].tolist(), second[close].tolist(), strict=True)


def _floats(fine: np.ndarray, start: int) -> np.ndarray:
    return fine[start : start + BLOCK].astype(np.float32)


def _neighbours(signs: np.ndarray) -> list[tuple[int, int]]:
    """Each picture with those that are most like it by the hash, each pair once."""
    count = min(NEIGHBOURS, len(signs) - 1)
    found: set[tuple[int, int]] = set()
    for start in range(0, len(signs), BLOCK):
        agreeing = signs[start : start + BLOCK] @ signs.T  # n N
        rows = np.arange(len(agreeing))
        agreeing[rows, rows + start] = -BITS
        nearest = np.argpartition(-agreeing, count - 1, axis=1)[:, :count] if count else agreeing[:, :0]
        pairs = ((start + row, int(other)) for row in rows.tolist() for other in nearest[row])
        found |= {(min(pair), max(pair)) for pair in pairs}
    return sorted(found)


def _is_cut(one: Likeness, other: Likeness) -> bool:
    """Whether either picture shows a part of the other one, at most a fifth of a side being gone."""
    for whole, part in ((one, other), (other, one)):
        told = part.size[0] / whole.size[0], part.size[1] / whole.size[1]
        scales = [(scale, scale) for scale in SCALES]
        if all(SCALES[-1] - 0.05 <= scale <= 1 for scale in told):
            scales.insert(0, told)  # cut and not resized
        field = whole.fine.reshape(FINE_SIDE, FINE_SIDE).astype(np.float32)
        spectrum = fft.rfft2(field)
        if any(_within(field, spectrum, part, scale) >= NEAR_CUT for scale in scales):
            return True
    return False


def _within(field: np.ndarray, spectrum: np.ndarray, part: Likeness, scale: tuple[float, float]) -> float:
    """Correlation of a part, squeezed to so much of the width and height, at the place where it fits best."""
    width, height = (max(8, round(FINE_SIDE * side)) for side in scale)
    fine = Image.fromarray(part.fine.reshape(FINE_SIDE, FINE_SIDE).astype(np.float32))
    small = np.asarray(fine.resize((width, height), Image.Resampling.BILINEAR))
    small = small - small.mean()
    products = fft.irfft2(spectrum * np.conj(fft.rfft2(small, field.shape)), field.shape)
    places = products[: FINE_SIDE - height + 1, : FINE_SIDE - width + 1]
    y, x = np.unravel_index(int(np.argmax(places)), places.shape)
    there = field[y : y + height, x : x + width]
    there = there - there.mean()
    lengths = float(np.linalg.norm(there) * np.linalg.norm(small))
    return float((there * small).sum()) / lengths if lengths else 0.0


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
