"""How each family wants its media: the values of the specifications, in models and in what they are given."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from insonate.hub import Model
from insonate.models import build_backbone
from insonate.models.conventions import Conventions
from insonate.recipes.catalogue import read_published

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ECHOPRIME = (
    tuple(value / 255 for value in (29.110628, 28.076836, 29.096405)),
    tuple(value / 255 for value in (47.989223, 46.456997, 47.20083)),
)
STRETCH = ("stretch", "bilinear", 1.0)
VIDEO_CROP = ("crop", "bilinear", 256 / 224)
PUBLISHED = {
    "BiomedCLIP image tower": (CLIP, (224, 224), 1, 1, ("crop", "bicubic", 1.0)),
    "DINOv2 ViT-S/14": (IMAGENET, (518, 518), 1, 1, STRETCH),
    "DINOv3 ViT-S/16": (IMAGENET, (256, 256), 1, 1, STRETCH),
    "EchoCLIP image tower": (CLIP, (224, 224), 1, 1, ("crop", "bicubic", 1.25)),
    "EchoJEPA-L": (IMAGENET, (224, 224), 16, 2, VIDEO_CROP),
    "EchoPrime": (ECHOPRIME, (224, 224), 16, 2, ("crop", "bicubic", 1.25)),
    "I-JEPA ViT-H/14": (IMAGENET, (224, 224), 1, 1, STRETCH),
    "MAE ViT-B/16": (IMAGENET, (224, 224), 1, 1, STRETCH),
    "PanEcho": (IMAGENET, (224, 224), 16, 1, STRETCH),
    "SAM ViT-B": (IMAGENET, (1024, 1024), 1, 1, STRETCH),
    "SONICHU encoder": (IMAGENET, (256, 256), 1, 1, STRETCH),
    "SonoNet-16": (HALF, (288, 224), 1, 1, STRETCH),
    "TinyUSFM": (IMAGENET, (224, 224), 1, 1, STRETCH),
    "USFM": (IMAGENET, (224, 224), 1, 1, STRETCH),
    "V-JEPA 2 ViT-H": (IMAGENET, (256, 256), 16, 4, VIDEO_CROP),
    "V-JEPA 2 ViT-L": (IMAGENET, (256, 256), 16, 4, VIDEO_CROP),
    "V-JEPA 2 ViT-g/384": (IMAGENET, (384, 384), 16, 4, VIDEO_CROP),
    "V-JEPA 2.1 ViT-L/384": (IMAGENET, (384, 384), 16, 4, VIDEO_CROP),
    "VideoMAE ViT-B": (IMAGENET, (224, 224), 16, 4, STRETCH),
    "VideoMAE ViT-L": (IMAGENET, (224, 224), 16, 4, STRETCH),
}
"""mean and std of grey levels 0 … 1, size in pixels, frames, stride, (resize, interpolation, margin)"""
BY_NAME = {
    "imagenet": IMAGENET, "half": HALF, "clip": CLIP, "echoclip": CLIP, "vjepa": IMAGENET,
    "echojepa": IMAGENET, "echoprime": ECHOPRIME, "panecho": IMAGENET, "videomae": IMAGENET, "sononet": HALF,
}  # fmt: skip


def test_every_published_encoder_is_in_the_table() -> None:
    assert PUBLISHED.keys() == read_published().keys()
    assert BY_NAME.keys() | {"standardised"} == set(get_args(Conventions))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_encoder_takes_what_its_authors_gave_it(name) -> None:
    (mean, std), size, frames, stride, resize = PUBLISHED[name]
    with torch.device("meta"):
        spec = build_backbone(read_published()[name]["options"]).spec
    assert (spec.mean, spec.std) == (pytest.approx(mean), pytest.approx(std))
    assert (spec.input_size, spec.frames, spec.stride, spec.channels) == (size, frames, stride, 3)
    assert (spec.resize, spec.interpolation, spec.margin) == (*resize[:2], pytest.approx(resize[2]))
    assert not spec.standardise


@pytest.mark.parametrize("name", BY_NAME)
def test_grey_levels_reach_the_encoder_scaled_to_one_and_normed(name) -> None:
    options = {"name": "vit", "width": 24, "depth": 1, "heads": 3, "input_size": [32, 48]}
    model = Model(build_backbone(options | {"conventions": name}))
    mean, std = (torch.tensor(values) for values in BY_NAME[name])
    for level in (0, 51, 255):
        for shape in [(40, 70), (40, 70, 3)]:
            image, _ = model.preprocess(np.full(shape, level, np.uint8))
            assert image.shape == (3, 32, 48)
            expected = ((level / 255 - mean) / std)[:, None, None].expand(3, 32, 48)
            torch.testing.assert_close(image.as_subclass(torch.Tensor), expected, rtol=1e-4, atol=1e-4)
    reloaded = model.config().input
    spec = model.backbone.spec
    assert (reloaded.resize, reloaded.interpolation, reloaded.stride) == (
        spec.resize, spec.interpolation, spec.stride,
    )  # fmt: skip
