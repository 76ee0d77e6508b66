"""All families with official checkpoints: importing this registers their backbones, parts and layouts."""

from insonate.models import clip, clip_weights, jepa, probes, sononet, timm_vit, tinyusfm, usfm

__all__ = ["clip", "clip_weights", "jepa", "probes", "sononet", "timm_vit", "tinyusfm", "usfm"]
