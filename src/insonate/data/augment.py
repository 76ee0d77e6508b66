"""Options of the augmentation. Imports no torch, so that recipes can check them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from insonate.options import Options

Chance = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=10)]


class Augment(Options):
    """What training may change about an item; everything is off by default."""

    crop_scale: tuple[Positive, Positive] | None = None
    """smallest and largest area of a random crop, as a fraction of the image; at most 1"""
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """largest rotation, either way"""
    scale: tuple[Positive, Positive] | None = None
    """smallest and largest zoom about the centre"""
    shift: Chance = 0.0
    """largest shift along each axis, as a fraction of the input size"""
    hflip: Chance = 0.0
    """probability of a left-right mirror"""
    brightness: Chance = 0.0
    """largest change of brightness, as a fraction of full scale"""
    contrast: Chance = 0.0
    """largest relative change of contrast"""
    gamma: tuple[Positive, Positive] | None = None
    """smallest and largest exponent"""
    noise: Chance = 0.0
    """largest standard deviation of added Gaussian noise, as a fraction of full scale"""

    @model_validator(mode="after")
    def _ordered(self) -> Augment:
        for name in ("crop_scale", "scale", "gamma"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: the smaller number comes first")
        if self.crop_scale is not None and self.crop_scale[1] > 1:
            raise ValueError("crop_scale: at most 1, the whole image")
        return self
