"""Models: encoders and the parts that are built on them. May import weights, data, and what lies below.

backbone    what an encoder gives, and the facts that travel with it
registry    a map from a name to a class and its options
build       from options to a backbone
trainable   all that the training loop knows
transformer the one transformer core
rope        rotary positions
relative    relative positions
vit         vision transformers that can look at a subset of their patches
ijepa       I-JEPA's official checkpoints
conventions how each family wants its pictures
convnext    convolutional pyramids
positions   fixed position tables
masking     which patches are context and which are targets, per image
predictor   the transformer that fills in hidden patches
ema         moving average of weights
freeze      which layers learn
precision   what this machine is fast at
cached      tables that are computed once
heads       what tasks put on an encoder
heatmaps    keypoints as heat maps
"""

from insonate.models import convnext, families, vit
from insonate.models.backbone import BACKBONES, Backbone, BackboneSpec, MaskedBackbone, Tokens
from insonate.models.build import build_backbone, resolve
from insonate.models.ema import ema_update, teacher_of
from insonate.models.freeze import freeze
from insonate.models.official import Loaded, LoadReport, load_official, official_weights
from insonate.models.parts import build_part
from insonate.models.registry import Entry, Registry
from insonate.models.trainable import Losses, Trainable

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "Entry",
    "LoadReport",
    "Loaded",
    "Losses",
    "MaskedBackbone",
    "Registry",
    "Tokens",
    "Trainable",
    "build_backbone",
    "build_part",
    "convnext",
    "ema_update",
    "families",
    "freeze",
    "load_official",
    "official_weights",
    "resolve",
    "teacher_of",
    "vit",
]
