"""Scenes on the machine that an order gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from insonate.phantom.items import Order, staged
from insonate.phantom.painting import Painted, Painting
from insonate.phantom.physics import Machine

Stage = Callable[..., tuple[Painted, Machine, Painting]]


@pytest.fixture(scope="session")
def stage() -> Stage:
    """(scene, patient) → scene, its machine, and the scene painted on the machine's grid."""

    def made(scene: str, patient: int = 0, *, size: int = 192, seed: int = 7) -> tuple:
        painted, machine = staged(Order(scene=scene, seed=seed, patient=patient, item=0, size=size))
        return painted, machine, painted.static(machine.grid)

    return made
