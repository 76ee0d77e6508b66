"""The machine's point spread and speckle against PyMUST (Garcia 2022), which sums waves of elements.

Slow, and skipped without the package: pip install pymust (LGPL; no dependency). One plane of the 64-element
array P4-2v at 2.72 MHz, focused at 80 mm.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from insonate.phantom import Machine, Maps, Vendor, lattice

pymust = pytest.importorskip("pymust", reason="pymust is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # pymust's own
]
FOCUS_MM, DEPTHS_MM = 80.0, (50.0, 80.0, 110.0)
WITHIN = 0.20
STEP_MM = 0.05


@pytest.fixture(scope="module")
def array():
    param = pymust.getparam("P4-2v")
    param.bandwidth, param.fs, param.c = 40, 4 * param.fc, 1540
    return param


@pytest.fixture(scope="module")
def machine(array):
    """Ours, with the array's frequency and aperture and the length of its two-way pulse."""
    pulse, time_s = pymust.getpulse(array, 2)
    width_us = width(np.abs(np.asarray(hilbert(pulse))), 1e6 * float(time_s[1] - time_s[0]))
    vendor = Vendor(
        name="P4-2v", f_mhz=array.fc / 1e6, cycles=width_us * array.fc / 1e6,
        aperture_mm=1000 * array.pitch * array.Nelements, focus_mm=FOCUS_MM, range_db=60, noise_db=-50,
        haze_db=-30, clutter_db=-20, gamma=1, floor=0, smooth=0.3, persistence=0, shape="sector", lines=144,
        half_angle_deg=20,
    )  # fmt: skip
    return Machine(vendor, 130.0, size=512, rng=np.random.default_rng(0), texture=lattice(0))


def hilbert(signal):
    from scipy.signal import hilbert as analytic

    return analytic(np.asarray(signal).ravel())


def width(profile: np.ndarray, step: float) -> float:
    """Full width at half maximum around the largest sample."""
    peak = int(profile.argmax())
    level = profile[peak] / 2
    left, right = peak, peak
    while profile[left] > level:
        left -= 1
    while profile[right] > level:
        right += 1
    before = (level - profile[left]) / (profile[left + 1] - profile[left])
    after = (level - profile[right]) / (profile[right - 1] - profile[right])
    return float((right - after - left - before) * step)


def received(array, x_mm, z_mm, reflectivity, delays):
    signal = pymust.simus(x_mm / 1000, z_mm / 1000, reflectivity, delays, array)
    return pymust.rf2iq(signal[0] if isinstance(signal, tuple) else signal, array)


def envelope(array, iq, delays, x_mm, z_mm) -> np.ndarray:
    """Delay and sum at the points of a grid."""
    x, z = np.meshgrid(x_mm / 1000, z_mm / 1000)
    matrix = pymust.dasmtx(iq, x, z, delays, array)
    return np.abs((matrix @ iq.flatten(order="F")).reshape(x.shape, order="F"))


def theirs_of_a_point(array, depth_mm: float) -> tuple[float, float]:
    """Lateral and axial width: the beam is focused beside the point, line after line."""
    side, along = np.arange(-4, 4.01, 0.4), np.arange(depth_mm - 4, depth_mm + 4, STEP_MM)
    lines = []
    for x_mm in side:
        delays = pymust.txdelay(np.array([x_mm / 1000]), np.array([FOCUS_MM / 1000]), array)
        iq = received(array, np.array([0.0]), np.array([depth_mm]), np.array([1.0]), delays)
        lines.append(envelope(array, iq, delays, np.array([x_mm]), along)[:, 0])
    picture = np.stack(lines, 1)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    return width(picture[row], 0.4), width(picture[:, column], STEP_MM)


def ours_of_a_point(machine: Machine, depth_mm: float) -> tuple[float, float]:
    grid = machine.grid
    none = np.zeros((grid.samples, machine.vendor.lines), np.float32)
    echo = none.copy()
    row, column = int(np.abs(grid.r_mm - depth_mm).argmin()), machine.vendor.lines // 2
    echo[row, column] = 1
    maps = Maps(
        amp=none, spec=echo, att=np.full_like(none, 0.5), loss=none, label=none.astype(np.uint8),
        material_x_mm=none, material_z_mm=none,
    )  # fmt: skip
    seen = np.sqrt(machine.power(maps, noise=False))
    return width(seen[row], float(grid.line_pitch_mm[row])), width(seen[:, column], grid.step_mm)


@pytest.mark.parametrize("depth_mm", DEPTHS_MM)
def test_a_point_is_as_wide_as_in_pymust(array, machine, depth_mm):
    theirs, ours = theirs_of_a_point(array, depth_mm), ours_of_a_point(machine, depth_mm)
    print(  # noqa: T201 with -s
        f"{depth_mm:.0f} mm: PyMUST {theirs[0]:.2f} × {theirs[1]:.2f}, ours {ours[0]:.2f} × {ours[1]:.2f} mm"
    )
    assert ours == pytest.approx(theirs, rel=WITHIN)


def test_speckle_is_as_in_pymust(array, machine):
    """Signal-to-noise ratio of the envelope and spread of its logarithm, in uniform tissue."""
    rng, count, values = np.random.default_rng(0), 2000, []
    delays = pymust.txdelay(array, 0, math.pi / 3)  # one diverging wave
    for _ in range(2):
        x_mm, z_mm = rng.uniform(-15, 15, count), rng.uniform(60, 80, count)
        iq = received(array, x_mm, z_mm, rng.normal(size=count), delays)
        seen = envelope(array, iq, delays, np.linspace(-10, 10, 81), np.linspace(64, 76, 161))
        values.append((seen / seen.mean(1, keepdims=True)).ravel())
    theirs = np.concatenate(values)
    grid = machine.grid
    one = np.ones((grid.samples, machine.vendor.lines), np.float32)
    maps = Maps(
        amp=one, spec=0 * one, att=one * 0.5, loss=0 * one, label=one.astype(np.uint8),
        material_x_mm=grid.x_mm, material_z_mm=grid.z_mm,
    )  # fmt: skip
    ours = np.sqrt(machine.power(maps, noise=False)).ravel()
    told = [(values.mean() / values.std(), (20 * np.log10(values)).std()) for values in (theirs, ours)]
    print(f"SNR and dB: PyMUST {told[0][0]:.2f} {told[0][1]:.2f}, ours {told[1][0]:.2f} {told[1][1]:.2f}")  # noqa: T201
    assert told[1] == pytest.approx(told[0], rel=WITHIN)
