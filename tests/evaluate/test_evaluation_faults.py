"""Writing an evaluation over an older one while the disk fails."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from faults import FaultDisk, standing_in
from test_evaluate_model import made

from insonate.data import Manifest
from insonate.data.media import write_png
from insonate.errors import InsonateError
from insonate.evaluate import evaluate_model, run

NAMES = ("report.html", "evaluation.json")


def contents(folder):
    return [(folder / name).read_bytes() for name in NAMES]


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_failing_call_of_a_report_leaves_old_or_new(tmp_path, monkeypatch, error, lasting):
    score, scored = run._evaluated, {}

    def once(*parts, split, seed):
        if split not in scored:
            scored[split] = score(*parts, split=split, seed=seed)
        return scored[split]

    monkeypatch.setattr(run, "_evaluated", once)  # resampling and drawing would take the test's time
    monkeypatch.setattr(run, "evaluation_sections", lambda *_, **__: [])
    rows = []
    for i in range(4):
        write_png(tmp_path / f"{i}.png", np.full((24, 32), 40 * i, np.uint8))
        row = {"path": f"{i}.png", "kind": "image", "patient_id": f"p{i}", "mm": 9.0 * i}
        rows.append({**row, "split": "val" if i % 2 else "test"})
    manifest, out = Manifest.from_rows(rows, tmp_path), tmp_path / "e"
    model = made({"name": "regression", "column": "mm", "mean": 12.0, "std": 6.0})

    def evaluate(split, disk):
        with standing_in(disk):
            evaluate_model(model, manifest, out=out, split=split)
        return contents(out)

    old, new = [evaluate(split, FaultDisk()) for split in ("val", "test")]
    assert all(before != after for before, after in zip(old, new, strict=True))
    for call in range(1, 50):
        evaluate("val", FaultDisk())
        told, disk = None, FaultDisk(call, error=error, lasting=lasting)
        try:
            evaluate("test", disk)
        except InsonateError as caught:
            told = caught
        assert told is None or told.where.startswith(str(out))
        found = contents(out)
        assert found in (old, new)
        if disk.failed and disk.calls[call - 1][0] in {"open", "write", "fsync"}:
            assert found == old  # a full disk changes neither
        assert told is not None or found == new
        assert evaluate("test", FaultDisk()) == new
        assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
        if not disk.failed:
            break
    assert [name for name, _ in disk.calls].count("fsync") == 2
    assert call == len(disk.calls) + 1 > 9
