"""Transparent pixels of a Pillow image."""

from __future__ import annotations

from PIL import Image


def on_black(image: Image.Image) -> Image.Image:
    """RGB: what is transparent becomes black, as around an ultrasound sector."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return Image.alpha_composite(ground, layer).convert("RGB")
