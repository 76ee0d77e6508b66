"""Labelled ultrasound out of physics: pictures with known truth, for tests, examples and trials.

physics.py: polar maps to 8-bit frames · vendors.py: the machines · overlay.py: what they write over it ·
acquire.py: hand, contact, tracker · scene.py: what an anatomy must answer, shared geometry · painting.py:
scenes painted once and moved · fetus.py: a fetus and its womb, seen in head.py, abdomen.py, femur.py ·
cervix.py · pelvis.py: symphysis and head in labour · cava.py: inferior vena cava over the breath · lesion.py,
organs.py: lesions of breast, thyroid, liver · lung.py · heart/: beating hearts in ten views · cast.py: all
scenes by name · items.py: one item of them · orders.py: a set of them · parts.py: one that goes on after
an end · write.py: `generate` and `samples`. Page: docs/phantom.md.

Every picture is a pure function of (seed, patient, item). May import measure, data, files, errors; only cli
and experiments may import it.
"""

from insonate.phantom.abdomen import Abdomen
from insonate.phantom.cast import KINDS, ROLES
from insonate.phantom.cava import Breathing, Cava
from insonate.phantom.cervix import Cervix, Neck
from insonate.phantom.femur import Femur
from insonate.phantom.fetus import Fetus
from insonate.phantom.head import Head
from insonate.phantom.heart import VIEWS, Anatomy, Chambers, Plane
from insonate.phantom.items import Item, Order, render, staged
from insonate.phantom.lesion import Lesion
from insonate.phantom.lung import Lung, Pleura
from insonate.phantom.orders import PhantomSet
from insonate.phantom.organs import Breast, Liver, Thyroid
from insonate.phantom.painting import Canvas, Painted
from insonate.phantom.pelvis import Labour, Pelvis
from insonate.phantom.physics import Grid, Lattice, Machine, Maps, lattice, stream
from insonate.phantom.scene import Scene, Truth
from insonate.phantom.vendors import VENDORS, Vendor
from insonate.phantom.write import generate, samples

__all__ = [
    "KINDS",
    "ROLES",
    "VENDORS",
    "VIEWS",
    "Abdomen",
    "Anatomy",
    "Breast",
    "Breathing",
    "Canvas",
    "Cava",
    "Cervix",
    "Chambers",
    "Femur",
    "Fetus",
    "Grid",
    "Head",
    "Item",
    "Labour",
    "Lattice",
    "Lesion",
    "Liver",
    "Lung",
    "Machine",
    "Maps",
    "Neck",
    "Order",
    "Painted",
    "Pelvis",
    "PhantomSet",
    "Plane",
    "Pleura",
    "Scene",
    "Thyroid",
    "Truth",
    "Vendor",
    "generate",
    "lattice",
    "render",
    "samples",
    "staged",
    "stream",
]
