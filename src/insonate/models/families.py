"""All families with official checkpoints: importing this registers their backbones, parts and layouts."""

from insonate.models import jepa, probes, timm_vit, tinyusfm, usfm

__all__ = ["jepa", "probes", "timm_vit", "tinyusfm", "usfm"]
