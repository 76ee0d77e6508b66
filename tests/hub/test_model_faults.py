"""Saving a model over an older one while the disk fails."""

from __future__ import annotations

import contextlib
import copy
import errno
import json

import numpy as np
import pytest
import torch
from faults import FaultDisk, standing_in

from insonate.errors import InsonateError, ModelError
from insonate.hub import load

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)


@pytest.fixture
def newer(model):
    """The same architecture with other weights and scores: nothing but their hash tells a mixture."""
    newer = copy.deepcopy(model)
    newer.info["metrics"] = {"auroc": 0.9}
    with torch.no_grad():
        for parameter in newer.task.parameters():
            parameter.add_(0.1)
    return newer


def stored(folder):
    """What the folder gives; loading refuses one in which two saves are mixed."""
    found = load(folder)
    return found.info["metrics"], found.predict(IMAGE).value.tolist()


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_failing_call_of_a_save_leaves_old_or_new(model, newer, tmp_path, error, lasting):
    folder = tmp_path / "m"
    old = stored(model.save_pretrained(tmp_path / "old"))
    new = stored(newer.save_pretrained(tmp_path / "new"))
    assert old != new
    for call in range(1, 50):
        with standing_in(FaultDisk()):
            model.save_pretrained(folder)
        with standing_in(FaultDisk(call, error=error, lasting=lasting)) as disk:
            try:
                newer.save_pretrained(folder)
                told = None
            except InsonateError as caught:
                told = caught
        assert told is None or str(folder) in told.where
        found = stored(folder)
        assert found in (old, new)
        assert told is not None or found == new
        with standing_in(FaultDisk()):
            assert stored(newer.save_pretrained(folder)) == new
        assert len(list(folder.iterdir())) == 4  # nothing unfinished is left behind
        assert not list(tmp_path.glob(".tmp-*"))
        if not disk.failed:
            break
    assert [name for name, _ in disk.calls].count("fsync") == 4
    assert call == len(disk.calls) + 1 > 15


class NoExchange(FaultDisk):
    """Of a file system that cannot exchange folders."""

    def exchange(self, first, second):
        raise OSError(errno.EINVAL, "no such call")


def test_where_folders_cannot_be_exchanged_a_mixture_is_refused_until_the_next_save(model, newer, tmp_path):
    folder = tmp_path / "m"
    old = stored(model.save_pretrained(tmp_path / "old"))
    new = stored(newer.save_pretrained(tmp_path / "new"))
    with standing_in(NoExchange()) as disk:
        newer.save_pretrained(model.save_pretrained(folder))
    calls = len(disk.calls) - [name for name, _ in disk.calls].index("replace")  # the first save is a rename
    mixed = 0
    for call in range(1, calls):
        with standing_in(FaultDisk()):
            model.save_pretrained(folder)
        with standing_in(NoExchange(call, error=errno.EIO)) as disk, contextlib.suppress(InsonateError):
            newer.save_pretrained(folder)
        try:
            assert stored(folder) in (old, new)
        except ModelError as error:
            assert "was saved with" in str(error)  # noqa: PT017 - a whole folder is an answer too
            assert disk.calls[call - 1][0] == "replace"
            mixed += 1
        with standing_in(NoExchange()):
            assert stored(newer.save_pretrained(folder)) == new
    assert mixed == 3  # after the weights, before the config


def test_weights_without_a_hash_in_the_config_are_taken(model, tmp_path):
    path = model.save_pretrained(tmp_path / "m") / "config.json"
    config = json.loads(path.read_text())
    assert len(config.pop("weights_sha256")) == 64
    path.write_text(json.dumps(config))
    load(tmp_path / "m")
