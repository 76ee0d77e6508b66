"""Parameter groups and the optimiser.

Layer-wise rates: Clark et al. 2020 (arXiv 2003.10555), as BEiT and MAE use them for fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from insonate.errors import RunError
from insonate.models.trainable import Trainable
from insonate.train.settings import Settings


def parameter_groups(
    trainable: Trainable, *, layer_decay: float, backbone_lr_scale: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters by layer and kind.

    Biases and 1-D parameters get no weight decay; frozen ones are left out. With L layers of the backbone,
    layer i (from 0) gets `lr_scale` = backbone_lr_scale · layer_decay ** (L - 1 - i); all that lies outside
    the backbone (heads, predictors) gets 1. Where both are 1 there are two groups at most.

    Returns:
        Groups with `params`, `lr_scale` and `decayed`.
    """
    scales = _lr_scales(trainable, layer_decay, backbone_lr_scale)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in _module(trainable).named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim > 1 and not name.rpartition(".")[2].endswith("bias")
        scale = scales.get(id(parameter), 1.0)
        group = groups.setdefault((scale, decayed), {"params": [], "lr_scale": scale, "decayed": decayed})
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (-key[0], not key[1]))]


def build_optimizer(trainable: Trainable, settings: Settings, *, fused: bool) -> Optimizer:
    """AdamW over `parameter_groups`; `set_rates` gives it the rates of each step.

    Raises:
        RunError: nothing is trainable.
    """
    groups = parameter_groups(
        trainable, layer_decay=settings.layer_decay, backbone_lr_scale=settings.backbone_lr_scale
    )
    if not groups:
        raise RunError("optim", "every parameter is frozen", "Train a head, or set backbone.train to all")
    return AdamW(groups, lr=settings.lr, betas=settings.betas, weight_decay=0.0, fused=fused)


def set_rates(optimizer: Optimizer, *, lr: float, weight_decay: float) -> None:
    """Give every group its share of this step's rates."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


def inner_layers(trainable: Trainable) -> Iterator[nn.Module]:
    """The backbone's layers between embedding and final norm: what is compiled and sharded one by one."""
    for layer in trainable.backbone.layers()[1:-1]:
        if not isinstance(layer, (nn.ModuleList, nn.ModuleDict, nn.Identity)):
            yield layer


def _lr_scales(trainable: Trainable, layer_decay: float, backbone_lr_scale: float) -> dict[int, float]:
    """`id(parameter)` → factor on its rate, for the backbone's parameters."""
    layers = trainable.backbone.layers()
    lowest = backbone_lr_scale * layer_decay ** (len(layers) - 1)
    scales = {id(parameter): lowest for parameter in trainable.backbone.parameters()}
    for index, layer in enumerate(layers):
        scale = backbone_lr_scale * layer_decay ** (len(layers) - 1 - index)
        scales.update((id(parameter), scale) for parameter in layer.parameters())
    return scales


def _module(trainable: Trainable) -> nn.Module:
    if not isinstance(trainable, nn.Module):
        raise TypeError(f"{type(trainable).__name__} is no nn.Module")
    return trainable
