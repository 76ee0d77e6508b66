"""Lung: classes, their signs in the picture, sliding."""

from __future__ import annotations

import numpy as np
import pytest

from insonate.errors import InsonateError
from insonate.phantom.lung import AIR, B_LINE, CLASSES, CONSOLIDATION, EFFUSION, PLEURA, Lung, Pleura
from insonate.phantom.physics import Grid, Machine, lattice, stream
from insonate.phantom.vendors import VENDORS


def lung(lung_class: str, seed: int = 0) -> tuple[Lung, Grid]:
    pleura = Pleura.draw(stream(seed, 0, "anatomy"), lung_class)
    scene = Lung(pleura, lattice(0, 0.2), stream(seed, 1, "acquisition"), width_mm=42)
    return scene, Grid(VENDORS["Slate"], scene.depth_mm, 320)


def test_each_class_shows_its_own_sign():
    for lung_class, part in (("b_lines", B_LINE), ("consolidation", CONSOLIDATION), ("effusion", EFFUSION)):
        scene, grid = lung(lung_class)
        assert (scene.static(grid).still.label == part).sum() > 50
    scene, grid = lung("pneumothorax")
    assert not np.isin(scene.static(grid).still.label, (B_LINE, CONSOLIDATION, EFFUSION)).any()


def test_a_lines_are_copies_of_the_pleura_at_its_own_depth():
    scene, grid = lung("a_lines", seed=3)
    still = scene.static(grid).still
    middle = np.abs(grid.x_mm[0] - scene.middle_mm) < 3
    profile = still.spec[:, middle].mean(1)
    for number in (2, 3):
        near = np.abs(grid.r_mm - number * scene.pleura_mm) < 3
        at = grid.r_mm[near][profile[near].argmax()]
        assert at == pytest.approx(number * scene.pleura_mm, abs=2)
        assert profile[near].max() > 5 * np.median(profile)


def test_b_lines_do_not_fade():
    scene, grid = lung("b_lines")
    still = scene.static(grid).still
    ray = still.label == B_LINE
    rows = np.arange(grid.samples)[:, None] + 0 * ray
    half = (rows[ray].min() + rows[ray].max()) // 2
    upper, lower = (np.median(still.amp[ray & where]) for where in (rows < half, rows >= half))
    assert lower > 0.7 * upper
    assert upper > 2 * np.median(still.amp[still.label == AIR])


def test_the_lung_slides_and_the_chest_does_not_unless_it_has_collapsed():
    moved = {}
    for lung_class in ("a_lines", "pneumothorax"):
        scene, grid = lung(lung_class, seed=1)
        machine = Machine(
            grid.vendor, scene.depth_mm, size=128, rng=stream(0, 0, "n"), texture=lattice(0, 0.2)
        )
        cache = scene.static(machine.grid)
        times = np.linspace(0, 3, 16)
        far = times[np.argmax([abs(scene.slid_mm(t)) for t in times])]
        first, later = (machine.power(scene.frame(cache, t), noise=False) for t in (0.0, far))
        label = cache.still.label
        same = np.isclose(first, later, rtol=1e-3)
        assert same[: np.argmax((label == PLEURA).any(1)) - 12].mean() > 0.95
        below = (label == AIR) | (label == PLEURA)
        moved[lung_class] = 1 - same[below].mean()
        assert scene.truth(0.0).columns["sliding"] == ("yes" if lung_class == "a_lines" else "no")
    assert moved["a_lines"] > 0.3
    assert moved["pneumothorax"] < 0.02


def test_severity_follows_the_signs():
    drawn = [Pleura.draw(stream(0, n, "anatomy")) for n in range(300)]
    assert {p.lung_class for p in drawn} == set(CLASSES)
    assert all(p.severity == 3 for p in drawn if p.lung_class in {"consolidation", "effusion"})
    assert all(p.severity == 0 for p in drawn if p.lung_class in {"a_lines", "pneumothorax"})
    assert {p.severity for p in drawn if p.lung_class == "b_lines"} == {1, 2}


def test_an_unknown_class_is_told():
    with pytest.raises(InsonateError, match="no lung 'wet'"):
        Pleura.draw(stream(0, 0, "anatomy"), "wet")
