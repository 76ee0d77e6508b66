"""All families with official checkpoints: importing this registers their backbones, parts and layouts."""

from insonate.models import jepa, probes

__all__ = ["jepa", "probes"]
