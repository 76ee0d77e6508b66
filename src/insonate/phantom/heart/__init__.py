"""A beating heart in 4-D, cut by a probe: ten standard views, any pose, truth for every label.

anatomy.py: the patient · motion.py: the beat, exact volumes, regional wall motion · solids.py: distances ·
chambers.py: chambers and vessels · valves.py: leaflets · poses.py: the views · texture.py: scatter in 3-D ·
tissue.py: classes, levels, what lies around · scene.py: maps for the machine · section.py: measuring in the
plane · truth.py: landmarks · items.py: clips, masks and rows of a study.
"""

from insonate.phantom.heart.anatomy import EF_RANGE, PATHOLOGIES, Anatomy
from insonate.phantom.heart.chambers import Chambers
from insonate.phantom.heart.items import HeartItem, HeartOrder, render_heart, views_of_study
from insonate.phantom.heart.poses import VIEWS, known_view, world_from_probe
from insonate.phantom.heart.scene import Plane
from insonate.phantom.heart.texture import volume
from insonate.phantom.heart.tissue import LABELS

__all__ = [
    "EF_RANGE",
    "LABELS",
    "PATHOLOGIES",
    "VIEWS",
    "Anatomy",
    "Chambers",
    "HeartItem",
    "HeartOrder",
    "Plane",
    "known_view",
    "render_heart",
    "views_of_study",
    "volume",
    "world_from_probe",
]
