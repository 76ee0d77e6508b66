"""All families with official checkpoints: importing this registers their backbones, parts and layouts."""

from insonate.models import (
    clip,
    clip_weights,
    echoprime,
    jepa,
    panecho,
    probes,
    sonichu,
    sononet,
    timm_any,
    timm_known,
    timm_vit,
    tinyusfm,
    usfm,
    usfm_segmentation,
    videomae,
    vjepa21,
)

__all__ = [
    "clip",
    "clip_weights",
    "echoprime",
    "jepa",
    "panecho",
    "probes",
    "sonichu",
    "sononet",
    "timm_any",
    "timm_known",
    "timm_vit",
    "tinyusfm",
    "usfm",
    "usfm_segmentation",
    "videomae",
    "vjepa21",
]
