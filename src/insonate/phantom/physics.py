"""From polar maps of tissue to an 8-bit ultrasound frame. Knows machines, no anatomy.

The chain: complex Gaussian scatter at material coordinates × echogenicity, plus specular echoes, attenuated
along the beam, blurred by a depth-dependent point spread function, over haze, clutter and noise; logarithm,
automatic gain, smoothing, grey map, scan conversion. Numbers: shared spec phantom, section 1.

Shapes: R samples along the beam, L lines, H W pixels. Axes: x to the right, z away from the probe, both in
mm from the middle of the probe's face. Amplitudes are linear, `_db` are 20·log10 of an amplitude.

Every random number is a pure function of (seed, patient, stream). Matrices are sparse bands: fast, free of
denormals (tails are cut at 1e-3), and summed in one order whatever the number of threads.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from insonate.phantom.vendors import Vendor

Array = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.uint8]
Frame = npt.NDArray[np.uint8]

SOUND_MM_PER_US = 1.54
FIRST_SAMPLE_MM = 2.0
TGC_DB_CM_MHZ = 0.5
"""the attenuation that every machine assumes and makes up for"""
FWHM = 2.355
PRE_ROLL = 4
"""frames rendered before a clip, so that persistence has settled"""


def stream(seed: int, patient: int, name: str) -> np.random.Generator:
    """The random numbers of one purpose (`name`) of one patient; the same everywhere, in any order."""
    digest = hashlib.blake2b(f"insonate-phantom/1|{seed}|{patient}|{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@dataclass(frozen=True)
class Grid:
    """Where the samples of the beams lie."""

    vendor: Vendor
    depth_mm: float
    samples: int

    @cached_property
    def r_mm(self) -> Array:
        """R: distance from the probe's face along the beam."""
        return np.linspace(FIRST_SAMPLE_MM, self.depth_mm, self.samples, dtype=np.float32)

    @property
    def step_mm(self) -> float:
        """Between two samples of a beam."""
        return (self.depth_mm - FIRST_SAMPLE_MM) / (self.samples - 1)

    @cached_property
    def lateral(self) -> Array:
        """L: beam angle in radians, or x in mm for a linear probe."""
        half = self.vendor.width_mm / 2 if self.linear else math.radians(self.vendor.half_angle_deg)
        return np.linspace(-half, half, self.vendor.lines, dtype=np.float32)

    @property
    def linear(self) -> bool:
        """Whether the beams are parallel."""
        return self.vendor.shape == "linear"

    def place(self, r_mm: Array, lateral: Array) -> tuple[Array, Array]:
        """Place x, z in mm of what is `r_mm` from the face on the beam `lateral`."""
        radius = np.float32(self.vendor.radius_mm)
        if self.linear:
            return lateral + 0 * r_mm, r_mm + 0 * lateral
        return (r_mm + radius) * np.sin(lateral), (r_mm + radius) * np.cos(lateral) - radius

    def index_of(self, x_mm: Array, z_mm: Array) -> tuple[Array, Array]:
        """Row and column, with fractions, of the sample at x, z."""
        radius = np.float32(self.vendor.radius_mm)
        if self.linear:
            r, side = z_mm + 0 * x_mm, x_mm + 0 * z_mm
        else:
            r, side = np.hypot(x_mm, z_mm + radius) - radius, np.arctan2(x_mm, z_mm + radius)
        pitch = float(self.lateral[1] - self.lateral[0])
        return (r - FIRST_SAMPLE_MM) / self.step_mm, (side - float(self.lateral[0])) / pitch

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        return self.place(self.r_mm[:, None], self.lateral[None])

    @property
    def x_mm(self) -> Array:
        """R L."""
        return self._places[0]

    @property
    def z_mm(self) -> Array:
        """R L."""
        return self._places[1]

    @cached_property
    def line_pitch_mm(self) -> Array:
        """R: distance between neighbouring lines."""
        pitch = float(self.lateral[1] - self.lateral[0])
        return np.full_like(self.r_mm, pitch) if self.linear else pitch * (self.r_mm + self.vendor.radius_mm)

    def along_beam(self, field: Array) -> Array:
        """|∂field/∂r|, at most 1: the cosine between beam and surface normal where `field` is a distance."""
        slope = np.empty_like(field)
        slope[1:-1] = (field[2:] - field[:-2]) / (2 * self.step_mm)
        slope[0], slope[-1] = slope[1], slope[-2]
        return np.minimum(np.abs(slope), 1)


class Maps(NamedTuple):
    """A scene at one moment, as a machine meets it: each R L on a `Grid`."""

    amp: Array
    """echogenicity, linear amplitude"""
    spec: Array
    """coherent echo of surfaces, linear amplitude"""
    att: Array
    """attenuation, one way, dB/cm/MHz"""
    loss: Array
    """dB lost once, at a surface"""
    label: Labels
    material_x_mm: Array
    """where the tissue of the sample was at time 0: its speckle moves with it"""
    material_z_mm: Array
    material_y_mm: Array | None = None
    """out of the picture's plane, where the scene moves through it"""
    through: Array | None = None
    """what attenuation leaves of an amplitude, where the scene has summed it along the beam already"""


def lost_db(grid: Grid, att: Array, loss: Array) -> Array:
    """R L: what attenuation takes of an echo, there and back, after the machine's gain for depth."""
    vendor = grid.vendor
    step_db = att * np.float32(2 * vendor.f_mhz * grid.step_mm / 10)
    step_db += loss
    # beams as rows while they are summed: numpy is several times slower down the columns
    left_db = np.ascontiguousarray(np.cumsum(np.ascontiguousarray(step_db.T), 1).T)
    left_db -= np.float32(2 * vendor.f_mhz * TGC_DB_CM_MHZ / 10) * grid.r_mm[:, None]
    return np.clip(left_db, -25, 70, out=left_db)


def through(grid: Grid, att: Array, loss: Array) -> Array:
    """R L: what attenuation leaves of an amplitude."""
    return np.asarray(10 ** (-lost_db(grid, att, loss) / 20), dtype=np.float32)


# --- texture ----------------------------------------------------------------------------------------------


class Lattice:
    """Periodic random fields in the plane, read at material coordinates.

    Args:
        rng: of the fields.
        blur_mm: standard deviation of the scatter's blur: nearest reading of white noise would jump when
            tissue moves. Smaller than the point spread; the period is 512 times as long.
    """

    SIZE = 1024
    PER_BLUR = 2
    """cells per standard deviation of the blur"""

    def __init__(self, rng: np.random.Generator, blur_mm: float = 0.3) -> None:
        self.blur_mm, self.pitch_mm = blur_mm, blur_mm / self.PER_BLUR
        white = rng.standard_normal((2, self.SIZE, self.SIZE), dtype=np.float32)
        k = np.fft.fftfreq(self.SIZE) * 2 * np.pi / self.pitch_mm
        pass_ = np.exp(-(k[:, None] ** 2 + k[None] ** 2) * blur_mm**2 / 2)
        blurred = np.fft.ifft2(np.fft.fft2(white[0] + 1j * white[1]) * pass_)
        blurred *= math.sqrt(2) / np.sqrt(np.mean(np.abs(blurred) ** 2))
        self.scatter = blurred.astype(np.complex64).ravel()
        self.table = rng.standard_normal((64, 64), dtype=np.float32)

    def read(self, x_mm: Array, z_mm: Array) -> Array:
        """R 2 L: real and imaginary scatter, each of unit variance."""
        scale, wrap = np.float32(1 / self.pitch_mm), self.SIZE - 1  # a power of two: & is a cheap remainder
        column = np.rint(x_mm * scale).astype(np.int32) & wrap
        row = np.rint(z_mm * scale).astype(np.int32) & wrap
        found = self.scatter.take(row * self.SIZE + column)  # R L
        field = np.empty((found.shape[0], 2, found.shape[1]), np.float32)
        field[:, 0], field[:, 1] = found.real, found.imag
        return field

    def scatter_of(self, maps: Maps) -> Array:
        """R 2 L: the scatter of a scene's tissue."""
        return self.read(maps.material_x_mm, maps.material_z_mm)

    def smooth(self, x_mm: Array, z_mm: Array, cell_mm: float, shift: float = 0.0) -> Array:
        """Smooth noise of about unit variance and cells of `cell_mm`; another `shift`, another field."""
        x, z = x_mm * np.float32(1 / cell_mm) + np.float32(17.3 * shift), z_mm * np.float32(1 / cell_mm)
        z = z + np.float32(7.1 * shift)
        floor_x, floor_z = np.floor(x), np.floor(z)
        u, v = x - floor_x, z - floor_z
        u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
        wrap = self.table.shape[0] - 1  # a power of two: & is a cheap remainder
        row, column = floor_z.astype(np.int32), floor_x.astype(np.int32)
        above, below = (row & wrap) * (wrap + 1), (row + 1 & wrap) * (wrap + 1)
        left, right = column & wrap, column + 1 & wrap
        take = self.table.ravel().take
        top, low = take(above + left), take(below + left)
        top += (take(above + right) - top) * u
        low += (take(below + right) - low) * u
        return (top + (low - top) * v) * np.float32(1.35)


@lru_cache(maxsize=4)
def lattice(seed: int, blur_mm: float = 0.3) -> Lattice:
    """The texture of all patients of a seed (each reads it at a place of its own)."""
    return Lattice(stream(seed, -1, f"texture/{blur_mm}"), blur_mm)


# --- the chain --------------------------------------------------------------------------------------------


def band(size: int, sigma: float, *, energy: bool) -> sparse.csr_array:
    """Size size: Gaussian rows, cut at 1e-3 of the peak, of unit energy or (smoothing) of unit sum."""
    reach = math.ceil(sigma * math.sqrt(-2 * math.log(1e-3)))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel[kernel < 1e-3] = 0
    matrix = sparse.diags_array(list(kernel), offsets=list(offsets), shape=(size, size), format="csr")
    matrix.eliminate_zeros()
    norm = np.sqrt(matrix.power(2).sum(axis=1)) if energy else matrix.sum(axis=1)
    return sparse.csr_array(sparse.diags_array(1 / norm) @ matrix, dtype=np.float32)


def _power_of_correlated(sigma: float, pitch_mm: Array, blur_mm: float) -> Array:
    """Power, relative to white noise, of lattice scatter after a unit-energy Gaussian of `sigma` samples.

    Both the kernel's and the lattice's autocorrelation are Gaussian: a sum in closed form, for each depth.
    """
    lags = np.arange(-int(8 * sigma) - 1, int(8 * sigma) + 2)
    kernel = np.exp(-(lags**2) / (4 * sigma**2))
    field = np.exp(-((lags * pitch_mm[:, None]) ** 2) / (4 * blur_mm**2))
    return (kernel * field).sum(1).astype(np.float32)


class Machine:
    """A vendor's scanner set to one depth: maps in, frames out.

    Args:
        vendor: the machine.
        depth_mm: of the deepest sample.
        size: height and width of the frame in pixels.
        rng: of the noise and clutter of this acquisition.
        texture: the scatter.
        span_mm: height and width of the view; None shows all of the field. Larger fields are cropped.
    """

    def __init__(
        self,
        vendor: Vendor,
        depth_mm: float,
        *,
        size: int,
        rng: np.random.Generator,
        texture: Lattice,
        span_mm: float | None = None,
    ) -> None:
        self.vendor, self.texture, self.gain_db = vendor, texture, 0.0
        rows = int(np.clip(1.25 * size, 144, 400))
        self.grid = Grid(vendor, depth_mm, rows)
        self.screen = Screen(self.grid, size, span_mm)
        self._point_spread()
        lines = vendor.lines
        self._static = np.float32(0.66) * rng.standard_normal((rows, 2, lines), dtype=np.float32)
        self._moving = np.float32(0.75) * rng.standard_normal((rows, 2, lines), dtype=np.float32)
        clutter = np.clip(
            1 + 0.6 * texture.smooth(self.grid.x_mm, self.grid.z_mm, 20.0, rng.uniform(0, 60)), 0.1, None
        )
        r = self.grid.r_mm[:, None]
        self._noise_power = clutter * np.exp(-r / 16) * 10 ** (vendor.clutter_db / 10)
        self._noise_power = self._noise_power + 10 ** ((vendor.noise_db + r / depth_mm * 14 - 6) / 10)

    def _point_spread(self) -> None:
        vendor, grid = self.vendor, self.grid
        wavelength_mm, r = SOUND_MM_PER_US / vendor.f_mhz, grid.r_mm
        axial = max(0.55, vendor.cycles * wavelength_mm / 2 / FWHM / grid.step_mm)
        diffraction = 0.85 * wavelength_mm * r / vendor.aperture_mm
        defocus = 0.12 * vendor.aperture_mm * np.abs(r - vendor.focus_mm) / vendor.focus_mm
        width_mm = np.hypot(diffraction, np.minimum(defocus, 0.1 * vendor.aperture_mm))
        lateral = np.clip(width_mm / FWHM / grid.line_pitch_mm, 0.6, 8)
        edges = [0, *(grid.samples // part for part in (8, 4, 2, 1))]
        self.sigma_axial = axial
        self._axial = band(grid.samples, axial, energy=True)
        self._zones: list[tuple[slice, float, sparse.csr_array]] = []
        power, blur_mm = np.empty_like(r), self.texture.blur_mm
        for start, stop in pairwise(edges):
            rows, sigma = slice(start, stop), float(lateral[start:stop].mean())
            self._zones.append((rows, sigma, band(vendor.lines, sigma, energy=True)))
            power[rows] = _power_of_correlated(sigma, grid.line_pitch_mm[rows], blur_mm)
        power *= _power_of_correlated(axial, np.array([grid.step_mm], np.float32), blur_mm)
        self._flat = (1 / np.sqrt(power))[:, None, None]  # R 1 1: the same speckle power at every depth
        # half of its entries are not 0: dense
        self._wide = np.ascontiguousarray(band(vendor.lines, vendor.lines * 0.085, energy=False).toarray().T)
        smooth = max(vendor.smooth, 0.3)
        self._smooth = band(grid.samples, smooth, energy=False), band(vendor.lines, smooth, energy=False)

    @property
    def lateral_sigmas(self) -> list[tuple[slice, float]]:
        """Rows and standard deviation (lines) of the lateral point spread of each depth zone."""
        return [(rows, sigma) for rows, sigma, _ in self._zones]

    def power(self, maps: Maps, frame: int = 0, *, noise: bool = True) -> Array:
        """R L: the squared envelope, before gain and logarithm ("iq stage")."""
        vendor, grid = self.vendor, self.grid
        left = maps.through if maps.through is not None else through(grid, maps.att, maps.loss)
        amp, spec = maps.amp * left, maps.spec * left

        field = self.texture.scatter_of(maps)  # R 2 L
        field *= self._flat * amp[:, None]
        field[:, 0] += np.float32(0.9) * spec
        field[:, 1] += np.float32(0.45) * spec
        if noise:
            rolled = np.roll(self._moving, (37 * frame, 11 * frame), (0, 2))
            deviation = np.sqrt(self._haze(amp, spec) + self._noise_power)
            rolled += self._static
            rolled *= deviation[:, None]
            field += rolled

        lines = vendor.lines
        for rows, _, lateral in self._zones:
            block = field[rows].reshape(-1, lines)
            field[rows] = (lateral @ block.T).T.reshape(-1, 2, lines)
        field = (self._axial @ field.reshape(grid.samples, -1)).reshape(-1, 2, lines)
        return field[:, 0] ** 2 + field[:, 1] ** 2 + np.float32(1e-7)

    def _haze(self, amp: Array, spec: Array) -> Array:
        expected = np.minimum(2 * amp**2 + spec**2, 30)[::4]
        wide = expected @ self._wide
        late = max(1, len(wide) // 22)
        wide[late:] += 0.5 * wide[:-late].copy()
        haze = np.repeat(wide, 4, axis=0)[: len(amp)]
        return haze * np.float32(10 ** (self.vendor.haze_db / 10))

    def auto_gain(self, maps: Maps, *, quantile: float, level: float, operator_db: float = 0.0) -> None:
        """Set the gain of a plane: `quantile` of the dB below the near field comes to `level` × range."""
        db = 10 * np.log10(self.power(maps)[self.grid.samples // 8 :])
        self.gain_db = level * self.vendor.range_db - float(np.quantile(db, quantile)) + operator_db

    def clip(self, frames: Iterable[Maps], *, first: int = 0) -> Frame:
        """T H W: the frames numbered `first`, `first` + 1, …, those below 0 only to settle persistence."""
        shown, before = [], None
        for number, maps in enumerate(frames, start=first):
            db = 10 * np.log10(self.power(maps, number)) + np.float32(self.gain_db)
            if before is not None:
                db += (before - db) * np.float32(self.vendor.persistence)
            before = db
            if number >= 0:
                shown.append(self.screen.image(self._grey(db)))
        return np.stack(shown)

    def _grey(self, db: Array) -> Array:
        """R L in 0 to 1."""
        bright = db * np.float32(1 / self.vendor.range_db)
        bright += 1
        np.clip(bright, 0, 1, out=bright)
        along, across = self._smooth
        bright = np.clip(along @ (across @ bright.T).T, 0, 1)
        bright **= np.float32(self.vendor.gamma)
        bright *= np.float32(1 - self.vendor.floor)
        bright += np.float32(self.vendor.floor)
        return np.asarray(bright)


class Screen:
    """Scan conversion to a square frame of equal mm per pixel in both directions."""

    def __init__(self, grid: Grid, size: int, span_mm: float | None = None) -> None:
        vendor = grid.vendor
        if grid.linear:
            top, width = 0.0, vendor.width_mm
        else:
            half = math.radians(vendor.half_angle_deg)
            top = vendor.radius_mm * (math.cos(half) - 1)
            width = 2 * (grid.depth_mm + vendor.radius_mm) * math.sin(half)
        whole = max(width, grid.depth_mm - top)
        span = whole if span_mm is None else span_mm
        self.size, self.mm_per_px = size, span / (size - 1)
        self.x0_mm = -span / 2
        self.z0_mm = (top + grid.depth_mm - span) / 2 if span_mm is None or grid.linear else top
        x = self.x0_mm + self.mm_per_px * np.arange(size)[None]
        z = self.z0_mm + self.mm_per_px * np.arange(size)[:, None]
        row, column = grid.index_of(x, z)
        rows, columns = grid.samples - 1, vendor.lines - 1
        self.inside = (row >= 0) & (row <= rows) & (column >= 0) & (column <= columns)
        row, column = np.clip(row, 0, rows - 1e-3), np.clip(column, 0, columns - 1e-3)
        row, column = row[self.inside], column[self.inside]  # P: pixels within the field
        above, left = row.astype(np.int32), column.astype(np.int32)
        self._v, self._u = (row - above).astype(np.float32), (column - left).astype(np.float32)
        self._corner, self._lines = above * vendor.lines + left, vendor.lines
        self._nearest = np.rint(row).astype(np.int32) * vendor.lines + np.rint(column).astype(np.int32)

    def to_px(self, x_mm: float, z_mm: float) -> tuple[float, float]:
        """(x, y) in pixels; (0, 0) is the centre of the top-left pixel."""
        return (x_mm - self.x0_mm) / self.mm_per_px, (z_mm - self.z0_mm) / self.mm_per_px

    def seen_px(self, x_mm: float, z_mm: float) -> tuple[float, float]:
        """(x, y) in pixels; NaN where the machine shows nothing."""
        x, y = self.to_px(x_mm, z_mm)
        column, row = round(x), round(y)
        shown = 0 <= row < self.size and 0 <= column < self.size and bool(self.inside[row, column])
        return (x, y) if shown else (math.nan, math.nan)

    def image(self, grey: Array) -> Frame:
        """H W, 8 bit, bilinear from R L values in 0 to 1; black outside the field."""
        flat, corner, u = np.ascontiguousarray(grey, dtype=np.float32).ravel(), self._corner, self._u
        below = corner + self._lines
        top, low = flat.take(corner), flat.take(below)
        top += (flat.take(corner + 1) - top) * u
        low += (flat.take(below + 1) - low) * u
        low -= top
        low *= self._v
        top += low
        top *= 255
        top += 0.5  # values are not negative: cutting off rounds
        return self._spread(top.astype(np.uint8))

    def _spread(self, values: Labels) -> Labels:
        """H W from the P pixels within the field; 0 outside."""
        whole = np.zeros(self.inside.shape, np.uint8)
        whole[self.inside] = values
        return whole

    def labels(self, label: Labels) -> Labels:
        """H W, nearest sample; 0 outside the field."""
        return self._spread(np.ascontiguousarray(label).ravel()[self._nearest])
