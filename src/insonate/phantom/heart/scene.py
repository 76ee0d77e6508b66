"""One plane through a beating heart: maps for the machine and truth for the labels.

Distances are computed on every other sample and line, then interpolated (leaflets are too thin for that and
are computed on their own rows); what does not move is drawn once a plane.

Shapes: R samples along the beam, L lines; r l half of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from insonate.phantom.acquire import Hand
from insonate.phantom.heart import tissue as t
from insonate.phantom.heart.chambers import Chambers, Distances
from insonate.phantom.heart.motion import EQUATOR, Moment
from insonate.phantom.heart.poses import CHEST_MM, checked, scaled_depth_mm, world_from_probe
from insonate.phantom.heart.solids import Xyz, point
from insonate.phantom.heart.truth import landmarks
from insonate.phantom.heart.valves import FAR, leaflets
from insonate.phantom.physics import FIRST_SAMPLE_MM, Array, Grid, Labels, Lattice, Maps, lost_db
from insonate.phantom.scene import Scene, Texture, Truth, decibel, first_along_beam

BLOOD_MM_PER_S = 311.0
"""how fast the scatter of blood moves on: far enough in a frame to look new"""


@dataclass(frozen=True)
class HeartCache:
    """A plane on one grid."""

    grid: Grid
    at: Xyz
    """frame H of each sample, R L"""
    coarse: Xyz
    """of every other one, r l"""
    rows: slice
    """where leaflets can be"""
    around: t.Surroundings


class Plane(Scene[HeartCache]):
    """One plane through one heart.

    Args:
        chambers: the heart.
        texture: source of its texture.
        rng: of this acquisition.
        view: one of the ten views.
        placed: 4 4, world from probe; None takes the view's exact pose.
        start: phase of the beat at time 0.

    Raises:
        InsonateError: an unknown view, or no pose for a probe.
    """

    gain = (0.93, -0.27)
    mask_labels = (t.LV, t.LVOT, t.PAPILLARY)

    def __init__(
        self,
        chambers: Chambers,
        texture: Lattice,
        rng: np.random.Generator,
        *,
        view: str,
        placed: np.ndarray | None = None,
        start: float = 0.0,
    ) -> None:
        exact = world_from_probe(chambers, view)
        self.chambers, self.name, self.start = chambers, view, start
        self.world_from_probe = checked(chambers, exact if placed is None else placed)
        self.heart_from_probe = chambers.heart_from_world @ self.world_from_probe
        self.texture, self._key = Texture(texture, rng), rng.integers(2**63)
        self.depth_mm = scaled_depth_mm(chambers.anatomy, view)
        self.chest_mm = CHEST_MM[view[0]] * chambers.anatomy.scale
        self.hand = Hand.draw(rng, chambers.anatomy.scale)
        self._breath = rng.uniform(0.2, 0.3), rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 3)

    def moment(self, t_s: float) -> Moment:
        """The heart at time `t_s`."""
        return self.chambers.beat.moment(self.chambers.beat.phase(t_s, self.start))

    def moved_mm(self, t_s: float) -> np.ndarray:
        """How far breath and hand have moved the heart against the probe since time 0, in frame H."""
        rate, phase, depth = self._breath
        swing = math.sin(2 * math.pi * rate * t_s + phase) - math.sin(phase)
        breath = self.chambers.heart_from_world[:3, :3] @ point(0, -0.33, -1) * depth * swing
        return np.asarray(breath - self.heart_from_probe[:3, :3] @ self.hand.at(t_s))

    def probe_at(self, t_s: float) -> np.ndarray:
        """4 4: world from probe at time `t_s`."""
        placed = self.world_from_probe.copy()
        placed[:3, 3] += placed[:3, :3] @ self.hand.at(t_s)
        return placed

    def places(self, x_mm: Array, z_mm: Array) -> Xyz:
        """Frame H of points of the picture's plane."""
        turn = self.heart_from_probe.astype(np.float32)
        return Xyz(*(turn[i, 0] * x_mm + turn[i, 2] * z_mm + turn[i, 3] for i in range(3)))

    def static(self, grid: Grid) -> HeartCache:
        """Coordinates and what lies around the heart."""
        rng = np.random.Generator(np.random.Philox(key=int(self._key)))
        at = self.places(grid.x_mm, grid.z_mm)
        rows, lines = grid.samples // 2 + 1, grid.vendor.lines // 2 + 1
        r = FIRST_SAMPLE_MM + 2 * grid.step_mm * np.arange(rows, dtype=np.float32)[:, None]
        angle = grid.lateral[0] + 2 * (grid.lateral[1] - grid.lateral[0]) * np.arange(lines, dtype=np.float32)
        coarse = self.places(r * np.sin(angle), r * np.cos(angle))
        rest = _full(self.chambers.distances(coarse, self.chambers.beat.moment(0)), grid)
        around = t.surroundings(
            self.chambers,
            grid,
            at,
            rest,
            view=self.name,
            chest_mm=self.chest_mm,
            texture=self.texture,
            rng=rng,
        )
        return HeartCache(grid, at, coarse, self._valve_rows(at), around)

    def _valve_rows(self, at: Xyz) -> slice:
        lay, near = self.chambers.layout(self.chambers.beat.moment(0)), np.zeros(len(at.x), dtype=bool)
        for ring in (lay.mitral, lay.tricuspid, lay.root):
            own = at.less(ring)
            reach = 26 * lay.k + 0.5 * self.chambers.anatomy.mapse_mm
            near |= (own.x**2 + own.y**2 + (own.z - reach / 3) ** 2 < reach**2).any(1)
        rows = np.flatnonzero(near)
        return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)

    def frame(self, cache: HeartCache, t_s: float) -> Maps:
        """The maps at time `t_s`."""
        now, moved, grid, around = self.moment(t_s), self.moved_mm(t_s), cache.grid, cache.around
        d = _full(self.chambers.distances(cache.coarse.less(moved), now), grid)
        at = cache.at.less(moved)
        leaflet = np.full_like(d.lv, FAR)
        if cache.rows.stop > cache.rows.start:
            leaflet[cache.rows] = leaflets(self.chambers, Xyz(*(c[cache.rows] for c in at)), now)
        label = self._labels(d, leaflet, around)
        classes = label.astype(np.intp)  # tables are read much faster by these than by bytes
        x, y, z = self._material(at, d.epi, classes, now, t_s)
        level = self._level(label, classes, d, around, grid, x, z)
        lung = first_along_beam(label == t.LUNG).astype(np.float32)
        spec = self._echoes(d, leaflet, cache)
        spec += 2 * lung
        spec *= around.shimmer
        spec += around.fixed_spec
        lung *= 14
        lung += np.float32(25) * first_along_beam(label == t.RIB)
        att = t.ATTENUATION.take(classes)
        return Maps(
            amp=decibel(level),
            spec=spec,
            att=att,
            loss=lung,
            label=label,
            material_x_mm=x,
            material_z_mm=z,
            material_y_mm=y,
            through=decibel(-lost_db(grid, att, lung)),
        )

    def _labels(self, d: Distances, leaflet: Array, around: t.Surroundings) -> Labels:
        """Later wins; shared spec phantom, section 2.5."""
        a, k = self.chambers.anatomy, self.chambers.anatomy.scale
        outer = a.effusion_mm
        label = np.full(d.lv.shape, t.AROUND, np.uint8)
        away = d.heart > outer + 3 * k
        for part, where in (
            (t.LUNG, around.lung & away),
            (t.LIVER, around.liver & away),
            (t.DESCENDING, (around.descending < 0) & (d.heart > 1)),
            (t.PERICARDIUM, d.heart < outer + 1.8 * k),
            (t.AROUND, d.heart < outer),
            (t.WALL, d.heart <= 0),
            (t.MYOCARDIUM, d.epi < 0),
            (t.RV, d.rv < 0),
            (t.LA, d.la < 0),
            (t.RA, d.ra < 0),
            (t.PULMONARY, d.pulmonary < 0),
            (t.LVOT, d.lvot < 0),
            (t.LV, d.lv < 0),
            (t.PAPILLARY, (d.papillary < 0) & (d.lv < 0)),
            (t.AORTA, d.aorta < 0),
            (t.CAVA, (d.cava < 0) & (d.heart > -2.5 * k)),
            (t.LEAFLET, leaflet < 0),
            (t.CHEST, around.chest),
            (t.RIB, around.rib),
        ):
            np.putmask(label, where, part)
        return label

    def _level(
        self,
        label: Labels,
        classes: np.ndarray,
        d: Distances,
        around: t.Surroundings,
        grid: Grid,
        x: Array,
        z: Array,
    ) -> Array:
        """R L: echogenicity in dB."""
        level = t.LEVEL_DB.take(classes)
        column, row = (
            (c * np.float32(1 / t.TABLE_PITCH_MM)).astype(np.int32) + t.TABLE // 2 & (t.TABLE - 1)
            for c in (x, z)
        )
        elsewhere, atria = label == t.AROUND, np.minimum(d.la, d.ra)
        # fibres across the beam are bright, along it dark
        wall = around.muscle.ravel().take(row * t.TABLE + column)
        wall += 9 * grid.along_beam(d.epi) ** 2 - 4.5
        np.add(level, wall, out=level, where=t.MUSCLE.take(classes))
        # trabeculae and the moderator band are muscle within the cavity: seen, but not cut out of its mask
        mouth = np.float32(4 * self.chambers.anatomy.scale)  # nothing of it where a valve opens
        rough = (np.maximum(d.moderator, d.rv) < 0) | ((d.rv > around.rough_rv) & (d.ra > mouth))
        rough &= label == t.RV
        rough |= (d.lv > around.rough_lv) & (label == t.LV) & (d.la > mouth)
        wall += t.LEVEL_DB[t.MYOCARDIUM] - 3
        np.copyto(level, wall, where=rough)
        atrium = 9 * grid.along_beam(atria) ** 2
        atrium += around.atrial_db
        np.add(level, atrium, out=level, where=(label == t.WALL) & (atria < d.rv))
        atrium += t.LEVEL_DB[t.WALL] - 3
        fringe = (label == t.LA) | (label == t.RA)
        fringe &= (atria > around.rough_atria) & (np.minimum(d.lv, d.rv) > mouth)
        np.copyto(level, atrium, where=fringe)
        # the sac shows where the beam meets it, and not as a ring
        sac = 12 * grid.along_beam(d.heart) ** 2
        sac += around.sac_db
        np.add(level, sac, out=level, where=label == t.PERICARDIUM)
        for part, own in ((elsewhere, around.around_db), (label == t.LIVER, around.liver_db),
                          (label == t.CHEST, around.chest_db)):  # fmt: skip
            np.add(level, own, out=level, where=part)
        if self.chambers.anatomy.effusion_mm:
            np.putmask(level, elsewhere & (d.heart < self.chambers.anatomy.effusion_mm), -30)
        np.add(level, around.ring_db, out=level, where=elsewhere | (label == t.LUNG))
        level += around.line_db
        return level

    def _echoes(self, d: Distances, leaflet: Array, cache: HeartCache) -> Array:
        """R L: specular echoes of surfaces that meet the beam head-on."""
        grid, rows = cache.grid, cache.rows
        # of all blood together: where it flows from one room into the next there is no surface
        ventricle = np.minimum(np.minimum(d.lv, d.rv), d.lvot)
        vessel = np.minimum(np.minimum(d.aorta, d.pulmonary), np.minimum(d.la, d.ra))
        vessel = np.minimum(vessel, d.cava)
        lumen = np.minimum(ventricle, vessel)
        cosine = grid.along_beam(lumen)
        spec = _surface(lumen, 0.7) * _power(cosine, 4)
        spec *= np.where(ventricle < vessel, np.float32(0.8), np.float32(0.55) * cosine)
        outer = d.heart - np.float32(self.chambers.anatomy.effusion_mm)
        spec += 1.9 * _surface(outer - 1, 0.9) * _power(grid.along_beam(outer), 7)
        if rows.stop > rows.start:
            own = leaflet[rows]
            spec[rows] += (
                1.3 * np.exp(-2 * np.maximum(own + 0.8, 0) ** 2) * (0.2 + 0.8 * grid.along_beam(own) ** 2)
            )
        return spec

    def _material(
        self, at: Xyz, epi: Array, classes: np.ndarray, now: Moment, t_s: float
    ) -> tuple[Array, Array, Array]:
        """Where the tissue was at end-diastole, in axes of the probe: x, y (across the plane), z."""
        a = self.chambers.anatomy
        length, mean = np.float32(a.length_mm), np.float32((1 - now.inward) ** 2)
        squared = at.x * at.x + at.y * at.y
        rest_z = length - (length - at.z) * np.float32(1 / now.shortening)
        height = (rest_z / length - np.float32(EQUATOR)) * np.float32(1 / (1 - EQUATOR))
        inner = np.float32(a.radius_mm**2) * np.maximum(1 - height * height, 0.02)
        inside = squared < mean * inner
        rest = np.where(inside, squared / mean, inner + np.float32(now.shortening) * (squared - mean * inner))
        blend = np.exp(-((np.maximum(epi, 0) / np.float32(18 * a.scale)) ** 2))
        factor = 1 + (np.sqrt(rest / np.maximum(squared, np.float32(1e-2))) - 1) * blend
        turn = (
            np.float32(now.twist_rad)
            * ((at.z - np.float32(now.base_mm)) / length * np.float32(1.6) - np.float32(0.5))
            * blend
        )
        cos, sin = np.cos(turn), np.sin(turn)
        own = Xyz(
            factor * (at.x * cos + at.y * sin),
            factor * (at.y * cos - at.x * sin),
            at.z + (rest_z - at.z) * blend,
        )
        fresh = t.BLOOD.take(classes) * np.float32(t_s * BLOOD_MM_PER_S % 1000)
        axes = self.heart_from_probe
        own = own.less(axes[:3, 3])
        x, y, z = (own.along(axes[:3, i]) for i in range(3))
        return x, y + fresh, z

    def truth(self, t_s: float) -> Truth:
        """Volumes, function, and the landmarks of the view; points are NaN where they are not visible."""
        now, beat, a = self.moment(t_s), self.chambers.beat, self.chambers.anatomy
        return Truth(
            points_mm=landmarks(self, now, t_s),
            columns={
                "phase": beat.phase(t_s, self.start), "lv_ml": now.volume_ml, "edv_ml": beat.edv_ml,
                "esv_ml": beat.esv_ml, "ef": a.ef_pct, "lv_mass_g": beat.mass_g,
                "heart_rate_bpm": a.heart_rate_bpm, "rvsp_mmhg": a.rvsp_mmhg,
                "eccentricity": a.eccentricity(1.0), "pathology": a.pathology, "sex": a.sex,
                "age_years": a.age_years, "bsa_m2": a.bsa_m2, "effusion_mm": a.effusion_mm,
            },
        )  # fmt: skip


def _surface(distance: Array, width_mm: float) -> Array:
    scaled = distance * np.float32(1 / width_mm)
    return np.exp(-scaled * scaled)


def _power(base: Array, exponent: int) -> Array:
    """By products: numpy's own power of small integers is many times slower."""
    found = base
    for _ in range(exponent - 1):
        found = found * base
    return found


def _full(d: Distances, grid: Grid) -> Distances:
    """From every other sample and line to all: R L from r l."""
    stacked = np.stack(d)  # K r l
    rows = np.empty((len(stacked), 2 * stacked.shape[1] - 1, stacked.shape[2]), np.float32)
    rows[:, ::2], rows[:, 1::2] = stacked, (stacked[:, 1:] + stacked[:, :-1]) * np.float32(0.5)
    rows = rows[:, : grid.samples]
    full = np.empty((len(stacked), grid.samples, 2 * stacked.shape[2] - 1), np.float32)
    full[:, :, ::2], full[:, :, 1::2] = rows, (rows[:, :, 1:] + rows[:, :, :-1]) * np.float32(0.5)
    return Distances(*full[:, :, : grid.vendor.lines])
