"""Saving a model over an older one while the disk fails."""

from __future__ import annotations

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
    """What the folder gives, or None where loading says that two saves are mixed in it."""
    try:
        found = load(folder)
    except ModelError as error:
        assert "was saved with" in str(error)  # noqa: PT017 - None is an answer too
        return None
    return found.info["metrics"], found.predict(IMAGE).value.tolist()


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_failing_call_of_a_save_leaves_old_or_new(model, newer, tmp_path, error, lasting):
    folder = tmp_path / "m"
    old = stored(model.save_pretrained(tmp_path / "old"))
    new = stored(newer.save_pretrained(tmp_path / "new"))
    assert old != new
    mixed = 0
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
        if disk.failed and disk.calls[call - 1][0] == "replace":
            mixed += found is None  # never taken for a whole one
        else:
            assert found in (old, new)
        assert told is not None or found == new
        with standing_in(FaultDisk()):
            assert stored(newer.save_pretrained(folder)) == new
        assert len(list(folder.iterdir())) == 4  # nothing unfinished is left behind
        if not disk.failed:
            break
    assert call > 20
    assert mixed == 3  # after the weights, before the config


def test_weights_without_a_hash_in_the_config_are_taken(model, tmp_path):
    path = model.save_pretrained(tmp_path / "m") / "config.json"
    config = json.loads(path.read_text())
    assert len(config.pop("weights_sha256")) == 64
    path.write_text(json.dumps(config))
    load(tmp_path / "m")
