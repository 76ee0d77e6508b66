"""Options of a training run: the `optim` part of a recipe. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from insonate.options import Options


class Settings(Options):
    """How to train: rates, length, precision, devices, saving."""

    epochs: int = Field(default=10, ge=1)
    """passes over the training items"""
    lr: float = Field(default=1e-3, gt=0)
    """highest learning rate"""
    start_lr: float = Field(default=0.0, ge=0)
    """learning rate before the first step of the warm-up"""
    final_lr: float = Field(default=0.0, ge=0)
    """learning rate after the last step"""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """length of the linear warm-up; fractions are allowed"""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """after the warm-up: half a cosine, or warm-up, stable, then a linear decay"""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """part of all steps over which "wsd" decays"""
    stretch: float = Field(default=1.0, gt=0)
    """schedules are laid out for this many times the steps: above 1, the run ends before they do"""
    weight_decay: float | tuple[float, float] = 0.05
    """constant, or [first, last] of half a cosine"""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """factor on the learning rate from each layer of the backbone to the one before it"""
    backbone_lr_scale: float = Field(default=1.0, gt=0, le=1)
    """factor on the learning rate of the whole backbone, beside heads and predictors"""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's"""
    clip: float | None = Field(default=None, gt=0)
    """highest norm of all gradients together"""
    accumulate: int = Field(default=1, ge=1)
    """batches whose gradients are averaged into one step"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """"auto": what `insonate doctor` says this machine is fast at: bf16 on a GPU (fp16 on older ones) and on
    a CPU with a unit for it, else fp32"""
    compile: bool = False
    """compile the backbone's blocks"""
    devices: int = Field(default=1, ge=1)
    """processes on each machine, each with one device"""
    nodes: int = Field(default=1, ge=1)
    """machines; they share the run folder, and torchrun or SLURM's srun starts `devices` processes on each"""
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    """"auto": plain on one device, "ddp" on several; "fsdp2" splits parameters too"""
    seed: int = 0
    """of everything random"""
    log_every: int = Field(default=10, ge=1)
    """steps from one row of metrics.jsonl to the next"""
    save_every: int | None = Field(default=None, ge=1)
    """steps from one checkpoint to the next; each epoch's end is saved too"""
    keep: int = Field(default=2, ge=1)
    """newest checkpoints that are kept, besides the best"""
    monitor: str | None = None
    """value of the validation that chooses the best checkpoint"""
    mode: Literal["min", "max"] | None = None
    """whether a lower or a higher `monitor` is better"""

    @field_validator("warmup_epochs")
    @classmethod
    def _warmup_ends(cls, value: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs")
        if epochs is not None and value >= epochs:
            raise ValueError(f"the warm-up would fill all {epochs} epochs; make it shorter than optim.epochs")
        return value

    @model_validator(mode="after")
    def _better_is_said(self) -> Settings:
        if self.monitor is not None and self.mode is None:
            raise ValueError(f"is a lower or a higher {self.monitor!r} better? Say mode=min or mode=max")
        return self
