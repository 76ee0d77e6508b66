"""The imaging chain against the theory of speckle and against known lengths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from insonate.phantom.physics import Grid, Lattice, Machine, Maps, Screen, band, lattice, stream
from insonate.phantom.vendors import VENDORS


def machine(name: str, depth_mm: float, seed: int = 0, **changes: object) -> Machine:
    vendor = replace(VENDORS[name], **changes)
    texture = lattice(3, 0.12 if vendor.shape == "linear" else 0.3)
    return Machine(vendor, depth_mm, size=256, rng=stream(seed, 0, "noise"), texture=texture)


def uniform(grid: Grid, shift_mm: float = 0.0, **changes: np.ndarray) -> Maps:
    one = np.ones_like(grid.x_mm)
    maps = Maps(one, 0 * one, 0.5 * one, 0 * one, one.astype(np.uint8), grid.x_mm + shift_mm, grid.z_mm)
    return maps._replace(**changes)


@pytest.mark.parametrize(
    ("name", "depth_mm"), [("Northlight", 150), ("Fern", 130), ("Bracken", 90), ("Slate", 42)]
)
def test_envelope_of_uniform_tissue_is_fully_developed_speckle(name, depth_mm):
    scanner = machine(name, depth_mm)
    powers = [scanner.power(uniform(scanner.grid, 9.7 * k), noise=False) for k in range(24)]
    power = np.stack(powers)[:, 6:-6]
    by_depth = power.mean((0, 2))
    envelope = np.sqrt(power)
    assert envelope.mean() / envelope.std() == pytest.approx(1.91, abs=0.05)
    assert (20 * np.log10(envelope)).std() == pytest.approx(5.57, abs=0.15)
    nakagami = power.mean() ** 2 / power.var()
    assert nakagami == pytest.approx(1, abs=0.06)
    eighths = [part.mean() for part in np.array_split(by_depth, 8)]
    assert max(eighths) / min(eighths) < 1.3  # flat field: no depth dependence, 1.1 dB


@pytest.mark.parametrize("name", ["Fern", "Slate"])
def test_speckle_is_as_wide_as_the_point_spread(name):
    scanner = machine(name, 100 if name == "Fern" else 42)
    scanner.texture = WhiteLattice(scanner.grid)
    scanner._flat = np.ones_like(scanner._flat)
    powers = []
    for k in range(30):
        scanner.texture.rng = stream(k, 0, "white")
        powers.append(scanner.power(uniform(scanner.grid), noise=False))
    power = np.stack(powers)
    for rows, sigma in scanner.lateral_sigmas[1:]:
        middle = slice(rows.start + 6, rows.stop - 6)
        width = acf_width(power[:, middle], axis=2, sigma=sigma)
        assert width == pytest.approx(2.355 * sigma, rel=0.08)
    assert acf_width(power, axis=1, sigma=scanner.sigma_axial) == pytest.approx(
        2.355 * scanner.sigma_axial, rel=0.15
    )


class WhiteLattice:
    """Independent scatter at each sample: only the point spread correlates it."""

    blur_mm = 0.0

    def __init__(self, grid: Grid) -> None:
        self.shape = grid.samples, 2, grid.vendor.lines

    def scatter_of(self, maps: Maps) -> np.ndarray:
        return self.rng.standard_normal(self.shape, dtype=np.float32)


def acf_width(power: np.ndarray, axis: int, sigma: float) -> float:
    """FWHM along `axis`, in samples, of the intensity's autocorrelation: a Gaussian through one lag."""
    centred = np.moveaxis(power - power.mean(), axis, -1)
    lag = max(1, round(sigma))
    correlation = np.mean(centred[..., :-lag] * centred[..., lag:]) / np.mean(centred**2)
    return 2.355 * lag / math.sqrt(-2 * math.log(correlation))


def test_band_rows_have_unit_energy_and_no_tails():
    matrix = band(60, 3.0, energy=True)
    dense = matrix.toarray()
    assert np.allclose((dense**2).sum(1), 1, atol=1e-6)
    stored = np.abs(matrix.data)
    assert stored.min() > 1e-4


@pytest.mark.parametrize(("name", "depth_mm"), [("Northlight", 150), ("Fern", 120), ("Slate", 42)])
@pytest.mark.parametrize("size", [128, 256])
def test_a_bar_of_known_length_measures_right(name, depth_mm, size):
    vendor = VENDORS[name]
    grid = Grid(vendor, depth_mm, 400)
    screen = Screen(grid, size)
    length_mm, top_mm = (30.0, 10.0) if grid.linear else (50.0, 40.0)
    outside_mm = np.maximum(np.abs(grid.x_mm) - length_mm / 2, np.abs(grid.z_mm - top_mm - 5) - 5)
    shown = screen.image(np.clip(0.5 - outside_mm / 6, 0, 1)) > 127  # soft edges: lines are 1 mm apart
    middle = round(screen.to_px(0, top_mm + 5)[1])
    assert shown[middle].sum() * screen.mm_per_px == pytest.approx(length_mm, abs=screen.mm_per_px)
    column = round(screen.to_px(0, 0)[0])
    assert shown[:, column].sum() * screen.mm_per_px == pytest.approx(10, abs=screen.mm_per_px)
    left = np.flatnonzero(shown[middle])[0]
    assert left == pytest.approx(screen.to_px(-length_mm / 2, 0)[0], abs=1)


def test_strong_attenuation_casts_a_shadow_and_fluid_enhances():
    scanner = machine("Fern", 120)
    x, z = scanner.grid.x_mm, scanner.grid.z_mm
    slab = (z > 40) & (z < 50)
    att = np.where(slab & (x < -10), 12.0, np.where(slab & (x > 10), 0.05, 0.5)).astype(np.float32)
    power = scanner.power(uniform(scanner.grid, att=att))
    behind = (z > 60) & (z < 75)
    left, middle, right = (
        10 * np.log10(power[behind & part].mean())
        for part in ((x < -16) & (x > -26), np.abs(x) < 6, (x > 16) & (x < 26))
    )
    assert middle - left > 15
    assert right - middle > 3


def test_tissue_that_moves_takes_its_speckle_along():
    linear = machine("Slate", 42)
    step = 4 * linear.grid.step_mm
    first = linear.power(uniform(linear.grid), noise=False)
    moved = linear.power(uniform(linear.grid)._replace(material_z_mm=linear.grid.z_mm - step), noise=False)
    rows = slice(140, 250)  # one depth zone
    tracked = np.corrcoef(first[rows].ravel(), moved[144:254].ravel())[0, 1]
    in_place = np.corrcoef(first[rows].ravel(), moved[rows].ravel())[0, 1]
    assert tracked > 0.9 > in_place


def test_streams_are_independent_of_order_and_name():
    first = stream(1, 2, "anatomy").normal(size=4)
    stream(1, 3, "anatomy").normal(size=4)
    assert np.array_equal(first, stream(1, 2, "anatomy").normal(size=4))
    for other in (stream(1, 2, "noise"), stream(1, 3, "anatomy"), stream(2, 2, "anatomy")):
        assert not np.array_equal(first, other.normal(size=4))


def test_lattice_is_unit_power_and_low_noise_is_unit_variance():
    texture = Lattice(stream(5, 0, "texture"))
    grid = Grid(VENDORS["Fern"], 130, 320)
    scatter = texture.read(grid.x_mm, grid.z_mm)
    assert scatter.var() == pytest.approx(1, abs=0.1)
    low = texture.smooth(grid.x_mm, grid.z_mm, 4.0)
    assert low.std() == pytest.approx(1, abs=0.15)
