"""The rarer transfer syntaxes of each family: near-lossless, other predictors, other orders, other videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless
from test_media_formats import cine as columns
from test_media_formats import encoded, plainly
from test_media_syntaxes import codecs, encapsulated, jpeg, smooth, written

from insonate.data.media import read_frames

assert codecs  # a fixture
Encode = Callable[[ModuleType, np.ndarray], bytes]
CASES: dict[str, tuple[str, Encode, int]] = {
    "lossless-jpeg-predictor-4": (
        "1.2.840.10008.1.2.4.57", lambda c, f: c.jpeg8_encode(f, lossless=True, predictor=4), 0,
    ),
    "jpeg-ls-near-lossless": ("1.2.840.10008.1.2.4.81", lambda c, f: c.jpegls_encode(f, level=2), 2),
    "htj2k-rpcl": ("1.2.840.10008.1.2.4.202", lambda c, f: c.htj2k_encode(f), 0),
    "htj2k": ("1.2.840.10008.1.2.4.203", lambda c, f: c.htj2k_encode(f), 0),
    "jpeg-xl-of-jpeg": ("1.2.840.10008.1.2.4.111", lambda c, f: c.jpegxl_encode_jpeg(jpeg(f)), 1),
    "jpeg-xl": ("1.2.840.10008.1.2.4.112", lambda c, f: c.jpegxl_encode(f, level=95), 2),
}  # fmt: skip
"""transfer syntax, its encoder, mean difference of a pixel"""
VIDEOS = {
    "1.2.840.10008.1.2.4.100": "mpeg2video",
    "1.2.840.10008.1.2.4.101": "mpeg2video",
    "1.2.840.10008.1.2.4.103": "libx264",
    "1.2.840.10008.1.2.4.104": "libx264",
    "1.2.840.10008.1.2.4.107": "libx265",
}


@pytest.mark.parametrize("frames", [smooth()[..., 0], smooth()], ids=["grey", "colour"])
@pytest.mark.parametrize("case", CASES)
def test_frames_come_back(tmp_path: Path, codecs: ModuleType, case: str, frames: np.ndarray) -> None:
    uid, encode, tolerance = CASES[case]
    path = written(tmp_path / "a.dcm", frames)
    header = dcmread(path)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless  # pydicom does not write all of them
    header.PixelData = encapsulate([bytes(encode(codecs, np.ascontiguousarray(f))) for f in frames])
    header["PixelData"].is_undefined_length = True
    if case.startswith("htj2k") and frames.ndim == 4:
        header.PhotometricInterpretation = "YBR_RCT"
    header.save_as(path)
    path.write_bytes(
        path.read_bytes().replace(HTJ2KLossless.encode(), uid.ljust(len(HTJ2KLossless), "\0").encode(), 1)
    )
    for wanted in ([4], [5, 0], list(range(6))):
        assert np.abs(read_frames(path, wanted).astype(int) - frames[wanted]).mean() <= tolerance


@pytest.mark.parametrize("uid", VIDEOS)
def test_videos_are_read(tmp_path: Path, uid: str) -> None:
    options = {"x265-params": "log-level=none"} if VIDEOS[uid] == "libx265" else {}
    clip = encoded(tmp_path / "v.ts", columns(12), VIDEOS[uid], **options)
    data = clip.read_bytes()
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    path = encapsulated(
        tmp_path / "a.dcm",
        [data + b"\0" * (len(data) % 2)],
        uid,
        frames,
        PhotometricInterpretation="YBR_PARTIAL_420",
    )
    whole = plainly(clip)
    assert np.abs(read_frames(path, [11, 3])[..., None].astype(int) - whole[[11, 3]]).max() <= 4


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int8])
def test_uncompressed_grey_of_any_type_fills_eight_bits(tmp_path: Path, kind: type[np.generic]) -> None:
    bounds = np.iinfo(kind)
    stored = np.linspace(bounds.min, bounds.max, 3 * 6 * 10).round().astype(kind).reshape(3, 6, 10)
    bits = stored.itemsize * 8
    path = written(
        tmp_path / "a.dcm",
        np.zeros(stored.shape, np.uint8),
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(bounds.min < 0),
        PixelData=stored.tobytes(),
    )
    shown = np.rint((stored.astype(float) - bounds.min) * 255 / (2**bits - 1))
    assert np.array_equal(read_frames(path), shown)
    assert np.array_equal(read_frames(path, [2, 0]), shown[[2, 0]])
