"""I-JEPA's official checkpoints: names of their parts and of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from insonate.errors import WeightsError
from insonate.models.vit import VisionTransformer


def weights_from_ijepa(
    checkpoint: Mapping[str, Any],
    backbone: VisionTransformer,
    *,
    which: Literal["target_encoder", "encoder"] = "target_encoder",
    where: object = "I-JEPA checkpoint",
) -> dict[str, Tensor]:
    """The weights of an official I-JEPA checkpoint, under our names.

    Args:
        checkpoint: the whole file, as `weights.read` gives it.
        backbone: whose native grid the checkpoint must have.
        which: the EMA target encoder, which the paper evaluates, or the context encoder.
        where: the file, for errors.

    Returns:
        A state dict for `backbone`.

    Raises:
        WeightsError: the part is missing, or its position table is not that of the backbone's grid.
    """
    part = checkpoint.get(which)
    if not isinstance(part, Mapping):
        raise WeightsError(where, f"has no {which!r}", "Give a checkpoint of the I-JEPA authors' code")
    weights = {str(key).removeprefix("module."): value for key, value in part.items()}
    if backbone.pos_embed is None or isinstance(backbone.pos_embed, nn.Parameter):
        return weights
    stored, ours = weights.pop("pos_embed", None), backbone.pos_embed
    if stored is not None and (
        stored.shape != ours.shape or float((stored.float() - ours.cpu()).abs().max()) > 1e-3
    ):
        raise WeightsError(
            where,
            f"pos_embed {tuple(stored.shape)} is not the sine-cosine table of the grid {backbone.grid}",
            "Build the backbone with the checkpoint's input_size and patch, or position: learned",
        )
    return weights


def official_weights(
    checkpoint: Mapping[str, Any], backbone: nn.Module, *, where: object
) -> Mapping[str, Any]:
    """The weights in a checkpoint of a known project's code; any other checkpoint as it is.

    Raises:
        WeightsError: it is recognised, but not of this backbone.
    """
    if isinstance(backbone, VisionTransformer) and {"target_encoder", "predictor"} <= checkpoint.keys():
        return weights_from_ijepa(checkpoint, backbone, where=where)
    return checkpoint
