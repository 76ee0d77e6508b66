"""Writing a manifest over an older one while the disk fails."""

from __future__ import annotations

import errno

import pytest
from faults import FaultDisk, standing_in

from insonate.data.manifest import Manifest
from insonate.errors import InsonateError


def table(root, count):
    rows = [{"path": f"{i}.png", "kind": "image", "patient_id": f"p{i}"} for i in range(count)]
    return Manifest.from_rows(rows, root, check_files=False)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_each_failing_call_of_a_write_leaves_old_or_new(tmp_path, ending, error, lasting):
    path = tmp_path / f"manifest.{ending}"
    old, new = table(tmp_path, 3), table(tmp_path, 5)
    for call in range(1, 200):
        with standing_in(FaultDisk()):
            old.write(path)
        told = None
        with standing_in(FaultDisk(call, error=error, lasting=lasting)) as disk:
            try:
                new.write(path)
            except InsonateError as caught:
                told = caught
        assert told is None or told.where == str(path)
        rows = Manifest.read(path, check_files=False).rows
        assert rows in (old.rows, new.rows)
        assert told is not None or rows == new.rows
        with standing_in(FaultDisk()):
            new.write(path)
        assert Manifest.read(path, check_files=False).rows == new.rows
        assert list(tmp_path.iterdir()) == [path]
        if not disk.failed:
            break
    assert call > 5
