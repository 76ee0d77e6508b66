"""`config.json` of a model folder: how the model is built again, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, ValidationError, model_validator

from insonate.data import InputFormat
from insonate.errors import ModelError
from insonate.options import Options

CONFIG, PREPROCESSOR, WEIGHTS, CARD = (
    "config.json", "preprocessor_config.json", "model.safetensors", "README.md",
)  # fmt: skip
FILES = (CONFIG, PREPROCESSOR, WEIGHTS, CARD)
LARGEST_BYTES = 10_000_000
MEND = "Download or save the model again"
Side = Annotated[int, Field(ge=1, le=8192)]


class InputConfig(Options):
    """What the model takes: see `data.InputFormat`."""

    height: Side
    width: Side
    channels: int = Field(ge=1, le=64)
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]
    resize: Literal["stretch", "crop"] = "stretch"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    margin: float = Field(default=1.0, ge=1.0, le=8.0)
    standardise: bool = False
    frames: int = Field(default=1, ge=1, le=1024)
    """frames of a clip"""
    stride: int = Field(default=1, ge=1, le=64)
    """a clip takes every so many-th frame of a video"""

    @model_validator(mode="after")
    def _a_number_a_channel(self) -> InputConfig:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"{self.channels} channels need as many means and standard deviations")
        return self

    def format(self) -> InputFormat:
        """The same, as the data package takes it."""
        return InputFormat(**self.model_dump(exclude={"frames", "stride"}))

    def preprocessor(self) -> dict[str, Any]:
        """Content of `preprocessor_config.json`, in the hub's words, for other programs."""
        return {
            "image_processor_type": "insonate",
            "do_resize": True,
            "size": {"height": self.height, "width": self.width},
            "resize_rule": self.resize_rule(),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "standardise_each_image": self.standardise,
            "num_channels": self.channels,
            "num_frames": self.frames,
            "frame_stride": self.stride,
        }

    def resize_rule(self) -> str:
        """In words."""
        if self.resize == "stretch":
            return f"stretch to size, {self.interpolation}, antialiased"
        return f"scale the short side to {self.margin:g} of the input, take the middle, {self.interpolation}"


class ModelConfig(Options):
    """The whole `config.json`."""

    format: Literal[1] = 1
    insonate: str = Field(max_length=100)
    """version that wrote it"""
    backbone: dict[str, Any]
    """registry name and options"""
    task: dict[str, Any] | None
    """registry name and options; null = an encoder without a task"""
    parts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """what else came with an official encoder: name → registry name and options"""
    input: InputConfig
    weights_sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """of `model.safetensors`: tells a folder whose saving broke off between the two; empty is not checked"""
    info: dict[str, Any] = Field(default_factory=dict)
    """where it comes from: recipe, data, metrics, license"""

    @model_validator(mode="after")
    def _names(self) -> ModelConfig:
        for part in (self.backbone, *([self.task] if self.task else []), *self.parts.values()):
            if not isinstance(part.get("name"), str):
                raise ValueError("backbone, task and parts need a name")
        return self


def read_config(folder: Path) -> ModelConfig:
    """The checked `config.json` of a model folder.

    Raises:
        ModelError: it is missing, too large, no JSON, or does not fit; the message names the field.
    """
    path = folder / CONFIG
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ModelError(path, f"has {path.stat().st_size} bytes, a config has a few thousand", MEND)
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            path, f"cannot be read ({error.strerror})", "Give a model folder, as `save_pretrained` writes it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(path, f"is no JSON ({error})", MEND) from None
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole file"
        raise ModelError(f"{path}, field {field}", first["msg"], MEND) from None
