"""Vetting: every file in order, with what decoding it comes to."""

from __future__ import annotations

import numpy as np

from insonate.data.limits import limited
from insonate.data.media import write_png, write_video
from insonate.data.vet import vetted


def test_files_come_in_order_with_their_errors(tmp_path):
    write_png(tmp_path / "b.png", np.zeros((8, 8), np.uint8))
    write_video(tmp_path / "a.mp4", np.zeros((40, 16, 16), np.uint8), fps=10)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    paths = [tmp_path / name for name in ("b.png", "missing.png", "a.mp4", "cut.mp4")]
    found = list(vetted(paths))
    assert [path for path, _ in found] == paths
    assert [error is None for _, error in found] == [True, False, True, False]
    assert "missing.png" in str(found[1][1])


def test_limits_hold(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    with limited(side_px=4):
        ((_, error),) = vetted([tmp_path / "a.png"])
    assert "side_px=4" in str(error)
