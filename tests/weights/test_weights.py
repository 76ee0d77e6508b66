"""Weights files: good ones are read, any other is refused in one line and never run."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from insonate.errors import WeightsError
from insonate.weights import load_into, read


def test_archives_and_safetensors_give_back_their_tensors(tmp_path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save({"model": module.state_dict(), "epoch": 3, "lr": [0.1, 1e-3], "note": None}, tmp_path / "a.pt")
    content = read(tmp_path / "a.pt")
    assert content["epoch"] == 3
    again = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    report = load_into(again, content["model"], "a.pt")
    assert (report.tensors, report.numbers, report.converted) == (7, 17, ())
    assert torch.equal(again[0].weight, module[0].weight)
    safetensors.torch.save_file({"w": torch.arange(6.0).reshape(2, 3).half()}, tmp_path / "b.safetensors")
    assert read(tmp_path / "b.safetensors")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_parameters_views_and_optimiser_states_are_read(tmp_path) -> None:
    module = nn.Linear(4, 4)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 4)).sum().backward()
    optimiser.step()
    content = {
        "p": module.weight,
        "view": torch.arange(12.0)[2:8].reshape(2, 3).T,
        "opt": optimiser.state_dict(),
    }
    torch.save(content, tmp_path / "a.pt")
    again = read(tmp_path / "a.pt")
    assert again["view"].tolist() == content["view"].tolist()
    assert torch.equal(again["opt"]["state"][0]["exp_avg"], optimiser.state[module.weight]["exp_avg"])


def test_official_layouts_are_read(parity) -> None:
    content = read(parity / "ijepa_checkpoint_layout.pt")
    assert content["epoch"] == 1
    assert len(content["target_encoder"]) == 29


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(tmp_path, value) -> None:
    torch.save({"model": {"head.bias": torch.tensor([1.0, value])}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"model\.head\.bias has values that are not finite"):
        read(tmp_path / "a.pt")


def test_a_pointer_a_folder_and_a_missing_file_are_told_apart(tmp_path) -> None:
    (tmp_path / "a.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    for name, words in [("a.pt", "Git LFS pointer"), ("", "is a folder"), ("b.pt", "is no file")]:
        with pytest.raises(WeightsError, match=words):
            read(tmp_path / name)


def test_a_storage_that_claims_too_much_is_refused_before_torch_reads_it(tmp_path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="outside its storage"):
        read(tmp_path / "a.pt")


def test_loading_is_all_or_nothing_and_names_what_differs() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    state = OrderedDict(weight=torch.zeros(2, 4), extra=torch.zeros(1))
    with pytest.raises(WeightsError) as caught:
        load_into(module, state, "x.pt")
    for words in ("1 missing: bias", "1 unexpected: extra", "weight 2×4 float32 for 2×3 float32"):
        assert words in str(caught.value)
    assert torch.equal(module.weight, before)
    prefixed = {f"module.{name}": value for name, value in module.state_dict().items()}
    with pytest.raises(WeightsError, match=r"start with 'module\.'"):
        load_into(module, prefixed, "x.pt")
    with pytest.raises(WeightsError, match="str for 2 float32"):
        load_into(module, {"weight": torch.zeros(2, 3), "bias": "x"}, "x.pt")
    assert load_into(module, {"weight": torch.zeros(2, 3).half(), "bias": torch.zeros(2)}, "x").converted == (
        "weight",
    )


@pytest.fixture(scope="module")
def hostile(tools, shared_data, tmp_path_factory) -> tuple[Path, list[dict[str, str]]]:
    out = tmp_path_factory.mktemp("hostile") / "x"
    command = [tools / "hostile.py", shared_data, out, "--kinds", "weights", "--small", "--count", "400"]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True)
    with (out / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return out, list(csv.DictReader(file))


def test_every_hostile_file_is_read_or_refused_cleanly(hostile) -> None:
    out, rows = hostile
    assert len(rows) > 150
    wrong = []
    for row in rows:
        start, told = time.monotonic(), "ok"
        try:
            read(out / row["file"])
        except WeightsError as error:
            told = "error" if "\n" not in str(error) else "more than one line"
        if row["expected"] not in {told, "either"} or time.monotonic() - start > 2:
            wrong.append(
                (row["file"], row["done"], row["expected"], told, round(time.monotonic() - start, 1))
            )
    assert not wrong
    assert not list((out / "MARKER").iterdir())
