"""Scatter in 3-D, so that tissue that moves through the plane changes its speckle at the right pace.

A periodic block of complex Gaussian noise, blurred by less than the point spread in the plane and by the
thickness of the slice across it (shared spec phantom, section 1.1: white noise would decorrelate at once).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from insonate.phantom.physics import Array, Lattice, Maps, stream

PLANE_BLUR_MM, SLICE_BLUR_MM = 0.3, 1.2
PLANE_PITCH_MM, SLICE_PITCH_MM = 0.3, 0.6
PLANE_CELLS, SLICE_CELLS = 128, 64
"""powers of two: a remainder is then a mask of bits"""


class Volume(Lattice):
    """A lattice with a third axis; axes of the block: y (across the plane), z, x.

    Args:
        rng: of the noise.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(rng, PLANE_BLUR_MM)
        shape = SLICE_CELLS, PLANE_CELLS, PLANE_CELLS
        white = rng.standard_normal((2, *shape), dtype=np.float32)
        plane = np.fft.fftfreq(PLANE_CELLS) * 2 * np.pi / PLANE_PITCH_MM
        across = np.fft.fftfreq(SLICE_CELLS) * 2 * np.pi / SLICE_PITCH_MM
        squared = (plane[:, None] ** 2 + plane**2)[None] * PLANE_BLUR_MM**2
        squared = squared + (across**2 * (PLANE_BLUR_MM**2 + SLICE_BLUR_MM**2))[:, None, None]
        blurred = np.fft.ifftn(np.fft.fftn(white[0] + 1j * white[1]) * np.exp(-squared / 2))
        blurred *= np.sqrt(2 / np.mean(np.abs(blurred) ** 2))
        self.block = blurred.astype(np.complex64).ravel()

    def scatter_of(self, maps: Maps) -> Array:
        """R 2 L: the scatter of a scene's tissue, by all three coordinates."""
        x, z = (_cell(c, PLANE_PITCH_MM, PLANE_CELLS) for c in (maps.material_x_mm, maps.material_z_mm))
        cell = z * PLANE_CELLS + x
        if maps.material_y_mm is not None:
            cell += _cell(maps.material_y_mm, SLICE_PITCH_MM, SLICE_CELLS) * PLANE_CELLS**2
        read = self.block.take(cell)  # R L
        field = np.empty((len(read), 2, read.shape[1]), np.float32)
        field[:, 0], field[:, 1] = read.real, read.imag
        return field


def _cell(place_mm: Array, pitch_mm: float, cells: int) -> np.ndarray:
    return np.rint(place_mm * np.float32(1 / pitch_mm)).astype(np.int32) & (cells - 1)


@lru_cache(maxsize=2)
def volume(seed: int) -> Volume:
    """The scatter of all hearts of a seed."""
    return Volume(stream(seed, -1, "texture/volume"))
