"""Labelled ultrasound out of physics: pictures with known truth, for tests, examples and trials.

physics.py: polar maps to 8-bit frames · vendors.py: the machines · overlay.py: what they write over it ·
acquire.py: hand, contact, tracker · scene.py: what an anatomy must answer, shared geometry · fetus.py: fetal
head with the head circumference's points · lesion.py: breast lesion with class and mask · heart/: beating
hearts in ten views · write.py: `generate`, media and manifest. Page: docs/phantom.md.

Every picture is a pure function of (seed, patient, item). May import data, files, errors; only cli and
experiments may import it.
"""

from insonate.phantom.fetus import Fetus, Head
from insonate.phantom.heart import VIEWS, Anatomy, Chambers, Plane
from insonate.phantom.lesion import Breast, Lesion
from insonate.phantom.physics import Grid, Lattice, Machine, Maps, lattice, stream
from insonate.phantom.scene import Scene, Truth
from insonate.phantom.vendors import VENDORS, Vendor
from insonate.phantom.write import generate

__all__ = [
    "VENDORS",
    "VIEWS",
    "Anatomy",
    "Breast",
    "Chambers",
    "Fetus",
    "Grid",
    "Head",
    "Lattice",
    "Lesion",
    "Machine",
    "Maps",
    "Plane",
    "Scene",
    "Truth",
    "Vendor",
    "generate",
    "lattice",
    "stream",
]
