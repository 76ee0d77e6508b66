"""One transformer for all families, on fused kernels; every tensor of the original code is compared."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import insonate
from insonate.models import build_backbone, rope

SOURCES = Path(insonate.__file__).parent
TESTS = Path(__file__).resolve().parents[1]
ATTENTION = {
    ("models/transformer.py", "Attention"),
    ("models/probes.py", "CrossAttention"),  # queries of their own, and no projection after it
    ("models/heads.py", "AttentiveHead"),
}
WITH_LOGITS = {("models/usfm_segmentation.py", "CrossAttention")}
"""its masks are the logits, which fused kernels do not give"""
THEIRS = {"MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder", "TransformerDecoder"}
FOR_OTHER_METHODS = {
    "ffl", "usfm_masks_small", "vjepa_mask_generator", "vjepa_perturbations", "vjepa_probe_schedules",
    "vjepa_schedules", "vjepa_temporal_sampling", "vjepa_v21_mask_distance",
}  # fmt: skip
"""numbers of trainings that this package does not have: masks, losses, schedules and sampling of clips"""
KERNEL = "aten::_scaled_dot_product_flash_attention_for_cpu"
SMALL = {"name": "vit", "width": 48, "depth": 2, "heads": 3, "input_size": [64, 64]}
LOOKS = {
    "plain": {}, "learned": {"position": "learned", "class_token": True},
    "relative": {"position": "relative", "class_token": True},
    "relative_per_block": {"position": "relative_per_block", "class_token": True},
    "rope": {"position": "rope", "frames": 4, "tubelet": 2},
    "rope_paired": {"position": "rope_paired", "frames": 4, "tubelet": 2},
}  # fmt: skip


def places(found, word: str) -> set[tuple[str, str]]:
    """File and class of each node that `found` says yes to, in the files that have `word`."""
    where = set()
    for path in SOURCES.rglob("*.py"):
        text = path.read_text("utf-8")
        for owner in ast.parse(text).body if word in text else ():
            if any(map(found, ast.walk(owner))):
                where.add((path.relative_to(SOURCES).as_posix(), getattr(owner, "name", "")))
    return where


def called(node: ast.AST) -> str:
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def test_no_second_transformer() -> None:
    fused = "scaled_dot_product_attention"
    assert places(lambda node: called(node) == fused, fused) == ATTENTION
    for theirs in THEIRS:
        assert not places(lambda node, name=theirs: called(node) == name, theirs)


def test_no_attention_by_hand() -> None:
    def by_hand(node: ast.AST) -> bool:
        """Whether something that went through a softmax is multiplied as a matrix."""
        product = isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)
        return product and any(called(inner) == "softmax" for inner in ast.walk(node))

    assert places(by_hand, "softmax") == WITH_LOGITS


def test_every_tensor_of_the_original_code_is_compared(parity) -> None:
    words = {
        node.value
        for path in TESTS.rglob("*.py")
        if path != Path(__file__).resolve()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    files = [path for path in parity.iterdir() if path.suffix in {".pt", ".json"}]
    unused = {
        path.stem
        for path in files
        if not {path.stem, path.name, path.stem.partition("_")[2] or path.name} & words
    }  # in `f"vjepa_{name}"` the names stand without their first word
    assert unused == FOR_OTHER_METHODS


def kernels(look: str, *, keep: torch.Tensor | None) -> int:
    model = build_backbone(SMALL | LOOKS[look]).eval()
    clip = (4,) if "frames" in LOOKS[look] else ()
    x = torch.randn(2, *clip, 3, 64, 64)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        model(x, keep)
    return sum(event.count for event in seen.key_averages() if event.key == KERNEL)


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("look", LOOKS)
def test_every_kind_of_positions_stays_on_the_fused_kernel(look, kept) -> None:
    keep = torch.tensor([[0, 3, 5, 9], [1, 2, 12, 15]]) if kept else None
    assert kernels(look, keep=keep) == SMALL["depth"]


@pytest.mark.parametrize("look", ["rope", "rope_paired"])
def test_rotary_tables_are_made_once_a_size_and_picked_once_a_forward(look, monkeypatch) -> None:
    model = build_backbone(SMALL | LOOKS[look]).eval()
    picked = []
    at = rope.Rope.at
    monkeypatch.setattr(rope.Rope, "at", lambda self, index: picked.append(1) or at(self, index))
    rope.rope_tables.cache_clear()
    keep = torch.tensor([[0, 3, 5, 9]])
    with torch.inference_mode():
        for size in (64, 96, 64, 96):
            model(torch.randn(1, 4, 3, size, size))
            model(torch.randn(1, 4, 3, size, size), keep)
    assert rope.rope_tables.cache_info().misses == 2  # two sizes
    assert len(picked) == 4  # one of each forward that looks at some tokens
