"""Text towers of torch's own modules, with the names of open_clip's files and the vectors they give."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

TEXT = torch.tensor([[3, 7, 49, 0, 0, 0, 0, 0, 0], [5, 4, 8, 9, 2, 1, 6, 11, 49]])
"""two texts of at most 9 of 50 tokens; the largest number ends them"""
Tower = tuple[dict[str, Tensor], Callable[[Tensor], Tensor]]


def randomised(module: nn.Module) -> nn.Module:
    """Its parameters shaken, so that no norm is plain."""
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def torch_blocks(depth: int, width: int, eps: float, *, norm_first: bool) -> nn.ModuleList:
    """Blocks of torch with two heads."""
    return randomised(
        nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 2, 4 * width, 0.0, "gelu", eps, batch_first=True, norm_first=norm_first
            )
            for _ in range(depth)
        )
    )


def causal_tower(vocabulary: int = 50) -> Tower:
    """CLIP's text tower: 32 wide, 16 out."""
    blocks, norm = torch_blocks(2, 32, 1e-5, norm_first=True), randomised(nn.LayerNorm(32))
    embed, places, projection = torch.randn(vocabulary, 32), torch.randn(9, 32), torch.randn(32, 16)
    state = {
        "token_embedding.weight": embed, "positional_embedding": places, "text_projection": projection,
        "logit_scale": torch.tensor(4.6), **{f"ln_final.{n}": t for n, t in norm.state_dict().items()},
    }  # fmt: skip
    names = [
        ("self_attn.", "attn."), ("norm", "ln_"), ("linear1", "mlp.c_fc"), ("linear2", "mlp.c_proj"),
    ]  # fmt: skip
    for name, tensor in blocks.state_dict().items():
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        state[f"transformer.resblocks.{name}"] = tensor

    def vectors(text: Tensor) -> Tensor:
        x = embed[text] + places
        mask = nn.Transformer.generate_square_subsequent_mask(9)
        for block in blocks:
            x = block(x, src_mask=mask)
        return norm(x)[torch.arange(len(text)), text.argmax(1)] @ projection

    return state, vectors


def bert_tower() -> Tower:
    """BERT with its projection: 64 wide, 16 out."""
    width, blocks = 64, torch_blocks(2, 64, 1e-12, norm_first=False)
    norm = randomised(nn.LayerNorm(width, eps=1e-12))
    embed, places, types = torch.randn(50, width), torch.randn(9, width), torch.randn(2, width)
    first, second = torch.randn(40, width) / 8, torch.randn(16, 40) / 8
    tower = {
        "embeddings.word_embeddings.weight": embed, "embeddings.position_embeddings.weight": places,
        "embeddings.token_type_embeddings.weight": types,
        "embeddings.LayerNorm.weight": norm.weight, "embeddings.LayerNorm.bias": norm.bias,
    }  # fmt: skip
    names = {
        "self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm",
    }  # fmt: skip
    for i, block in enumerate(blocks):
        for name, tensor in block.state_dict().items():
            if "in_proj" in name:
                end = name.rpartition("_")[2]
                three = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
                tower |= {f"encoder.layer.{i}.attention.self.{n}.{end}": part for n, part in three}
                continue
            layer, end = name.rsplit(".", 1)
            tower[f"encoder.layer.{i}.{names[layer]}.{end}"] = tensor
    state = {f"text.transformer.{name}": tensor.detach() for name, tensor in tower.items()}
    state |= {"text.proj.0.weight": first, "text.proj.2.weight": second, "logit_scale": torch.tensor(4.6)}

    def vectors(text: Tensor) -> Tensor:
        x = norm(embed[text] + places + types[0])
        for block in blocks:
            x = block(x, src_key_padding_mask=text == 0)
        return nn.functional.gelu(x[:, 0] @ first.T) @ second.T

    return state, vectors
