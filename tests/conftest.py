"""Fixtures of the whole suite: the shared folders, and a net that catches any use of the network."""

from __future__ import annotations

import multiprocessing
import os
import socket
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = Path(os.environ.get("INSONATE_SHARED", SHARED)) / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real ultrasound media."""
    return _shared("data")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Tensors made with the original code."""
    return _shared("parity")


@pytest.fixture(scope="session")
def tools() -> Path:
    """Scripts that make hostile inputs."""
    return _shared("tools")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection but to this machine fails the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in {socket.AF_INET, socket.AF_INET6} and host not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def forked() -> ForkServerContext:
    """A server that has imported torch and the training loop once, and forks a child for each process."""
    here = Path(__file__).parent
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toys", "insonate.train.fit"])
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(here / "train"), str(here), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        child = context.Process(target=int)
        child.start()
        child.join()
    return context
