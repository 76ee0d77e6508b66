"""Shards hold grey JPEG frames, of colour sources too, unless colour is asked for."""

from __future__ import annotations

import tarfile

import numpy as np
from PIL import Image
from test_card import speckle

from insonate.data import media, shards
from insonate.data.manifest import Manifest


def test_frames_are_grey_jpegs_unless_colour_is_asked_for(tmp_path):
    grey = speckle(0, (64, 96))
    coloured = np.stack([grey, grey // 2, 255 - grey], -1)
    for name, pixels in (
        ("grey", grey),
        ("as_colour", np.repeat(grey[..., None], 3, -1)),
        ("flow", coloured),
    ):
        media.write_png(tmp_path / "in" / f"{name}.png", pixels)
    rows = [{"path": f"{name}.png", "patient_id": name} for name in ("grey", "as_colour", "flow")]
    manifest = Manifest.from_rows(rows, tmp_path / "in")
    for colour, modes in ((False, ["L", "L", "L"]), (True, ["L", "RGB", "RGB"])):
        options = shards.PackOptions(size_px=None, colour=colour, quality=95)
        packed = shards.shard(manifest, tmp_path / str(colour), options, workers=1).manifest
        with tarfile.open(packed.root / "shard-00000.tar") as tar:
            frames = [Image.open(tar.extractfile(n)) for n in tar.getnames() if n.endswith(".jpg")]
            assert [(frame.format, frame.mode) for frame in frames] == [("JPEG", mode) for mode in modes]
            assert np.abs(np.asarray(frames[1].convert("L"), int) - grey).mean() < 3
