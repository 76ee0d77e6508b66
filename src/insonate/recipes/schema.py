"""The recipe: what a run is made of. The defaults stand here, once; imports no torch.

Options of a backbone, objective or task are free keys here; `load_recipe` checks them against
`insonate/catalogue.json`, so that this file does not change when a method is added.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from insonate.data.augment import Augment
from insonate.options import Options
from insonate.train.settings import Settings

Text = Field(min_length=1, max_length=4096)


class Named(BaseModel):
    """A method by its registry name; the other keys are its options."""

    model_config = ConfigDict(
        frozen=True, extra="allow", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    name: str = Field(min_length=1, max_length=100)
    """registry name; `insonate models` lists them"""

    def options(self) -> dict[str, Any]:
        """Name and options, as the registry's builders take them."""
        return {"name": self.name, **(self.model_extra or {})}


class BackboneRecipe(Named):
    """The encoder, where its weights come from and how much of it trains."""

    weights: str | None = None
    """model folder or weights file to start from; none = random"""
    train: Literal["all", "none"] | PositiveInt = "all"
    """all, none, or the number of last layers that train"""


class DataRecipe(Options):
    """What is read, and in which portions."""

    manifest: str = Text
    """manifest file (.parquet or .csv); a relative path starts at the current folder"""
    batch: int = Field(default=16, ge=1, le=65_536)
    """items per step on each device"""
    workers: int = Field(default=0, ge=0, le=256)
    """loader processes; 0 = read in the training process"""
    timeout_s: float = Field(default=600.0, gt=0)
    """without a batch from the loader processes for so long, the run ends with an error"""
    split: str = "train"
    """value of the manifest's column `split` to train on"""
    val_split: str | None = Field(default="val", validate_default=True)
    """the same for validation; null = none"""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """share of the training patients that is used"""
    balance: float = Field(default=0.5, ge=0.0, le=1.0)
    """of a task of several point sets: each has a share in proportion to its number of items to this power;
    1 = as they are, 0 = equal shares"""
    augment: Augment = Field(default_factory=Augment)
    """what training changes at random about an item; nothing by default"""

    @field_validator("val_split")
    @classmethod
    def _held_out(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("split"):
            raise ValueError(f"{value!r} is data.split too: items that are trained on validate nothing")
        return value


class Recipe(Options):
    """One run. Either `objective` (unlabelled) or `task` (labelled)."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """of initialisation, order, augmentation and masks"""
    data: DataRecipe
    backbone: BackboneRecipe
    objective: Named | None = None
    """what unlabelled data is trained with"""
    task: Named | None = None
    """what labelled data is trained with"""
    optim: Settings = Field(default_factory=Settings)
    """optimisation, precision, devices, log and checkpoints"""

    @model_validator(mode="after")
    def _one_method(self) -> Recipe:
        if (self.objective is None) == (self.task is None):
            raise ValueError("give exactly one of objective and task")
        return self

    @model_validator(mode="after")
    def _monitor_of_something(self) -> Recipe:
        if self.optim.monitor is not None and self.data.val_split is None:
            raise ValueError("optim.monitor needs a data.val_split, and there is none")
        return self
