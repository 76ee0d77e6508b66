"""Nothing touches the network unless the user asks: no socket, no name looked up, by any process of a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from insonate.data import Manifest

WATCH = """
import os, socket, sys

def watch(event, arguments):
    if event not in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        return
    if getattr(arguments[0], "family", None) == getattr(socket, "AF_UNIX", -1):
        return  # between processes of this machine
    told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(told, f"{event} {arguments[:2]!r}\\n".encode())
    os.close(told)

sys.addaudithook(watch)
"""
WORK = """
import sys
from insonate.cli import main

for line in (
    "data scan data --out data/manifest.csv",
    "train tiny.yaml --out run",
    "evaluate run/model data/labelled.csv --out evaluation",
    "predict data/0.png data/1.png --model run/model --out found",
):
    sys.argv = ["insonate", *line.split()]
    try:
        main()
    except SystemExit as left:
        assert not left.code, line
"""
RECIPE = """
data: {manifest: data/labelled.csv, batch: 4, val_split: null, workers: 0}
backbone: {name: vit, width: 16, depth: 1, heads: 2, patch: 8, input_size: [32, 32]}
task: {name: classification, column: label, classes: [a, b]}
optim: {epochs: 1, precision: fp32}
"""


@pytest.fixture
def watched(tmp_path):
    """Runs Python code in a process whose sockets, and those of its children, are told in a file."""
    told = tmp_path / "told"
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)

    def run(code: str) -> str:
        kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        path = os.pathsep.join(filter(None, [str(tmp_path / "watch"), kept.get("PYTHONPATH", "")]))
        env = kept | {"PYTHONPATH": path, "TOLD": str(told), "HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return told.read_text() if told.exists() else ""

    return run


def test_the_watch_sees_names_and_sockets_also_of_child_processes(watched):
    code = "import socket; socket.getaddrinfo('127.0.0.1', 9); socket.socket().connect_ex(('127.0.0.1', 9))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)"
    told = watched(child).splitlines()
    assert [line.split()[0] for line in told] == ["socket.getaddrinfo", "socket.connect"]


def test_scan_train_evaluate_and_predict_reach_for_no_network(watched, tmp_path):
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (40, 48), dtype=np.uint8)).save(tmp_path / f"data/{i}.png")
        row = {"path": f"{i}.png", "kind": "image", "patient_id": f"p{i}", "frames": 1, "height": 40}
        rows.append(row | {"width": 48, "split": "train" if i < 8 else "test", "label": "ab"[i % 2]})
    Manifest.from_rows(rows, tmp_path / "data").write(tmp_path / "data/labelled.csv")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    assert watched(WORK) == ""
    assert len(Manifest.read(tmp_path / "data/manifest.csv")) == 12
    assert (tmp_path / "run/metrics.jsonl").read_text().count('"event": "train"') == 2
    assert (tmp_path / "evaluation/report.html").is_file()
    assert len(list((tmp_path / "found").glob("*.json"))) == 2


def test_a_test_that_connects_to_the_network_fails():
    with socket.socket() as ours:
        ours.settimeout(0.1)
        with pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
            ours.connect(("192.0.2.1", 80))
