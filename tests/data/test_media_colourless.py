"""JPEG frames of YCbCr come as luma where no frame has colour, and as RGB where one has the least of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit
from test_media_syntaxes import encapsulated

from insonate.data.media import dicom_jpeg, read_frames
from insonate.data.media.dicom_jpeg import Stack, bad_codes_are_told, start_of

HEIGHT, WIDTH = 96, 136
SPECKLE = np.random.default_rng(7).gamma(2.0, 30.0, (4, HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8)  # T H W
FORMS = {
    "422": {"subsampling": "4:2:2"},
    "420": {"subsampling": "4:2:0"},
    "444": {"subsampling": "4:4:4"},
    "optimised": {"subsampling": "4:2:2", "optimize": True},
    "restarts": {"subsampling": "4:2:2", "restart_marker_rows": 1},
}


def coded(ycc: np.ndarray, **options: object) -> bytes:
    """JPEG of H W 3, YCbCr."""
    content = io.BytesIO()
    Image.fromarray(ycc, "YCbCr").save(content, "JPEG", quality=85, **options)
    return content.getvalue()


def uncoloured(frame: np.ndarray) -> np.ndarray:
    """H W 3, YCbCr."""
    return np.stack([frame, np.full_like(frame, 128), np.full_like(frame, 128)], axis=-1)


def by_pillow(data: list[bytes]) -> np.ndarray:
    """T H W 3."""
    return np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data])


def stacked(data: list[bytes]) -> np.ndarray:
    stack = Stack(len(data), HEIGHT, WIDTH, luma=False)
    for one in data:
        start = start_of(one)
        assert start is not None
        stack.add(start, one)
    return stack.frames()


def test_this_libjpeg_tells_of_bad_codes() -> None:
    assert bad_codes_are_told()


@pytest.mark.parametrize("form", FORMS)
def test_frames_without_colour_come_as_luma(tmp_path: Path, form: str) -> None:
    data = [coded(uncoloured(frame), **FORMS[form]) for frame in SPECKLE]
    start = start_of(data[0])
    assert start is not None
    assert start.colourless is not None
    rgb = np.repeat(SPECKLE[..., None], 3, axis=-1)
    path = encapsulated(tmp_path / "a.dcm", data, JPEGBaseline8Bit, rgb, PhotometricInterpretation="YBR_FULL")
    for wanted in (None, [2], [3, 1, 1]):
        frames = read_frames(path, wanted)
        assert frames.ndim == 3
        expected = by_pillow(data)[slice(None) if wanted is None else wanted]
        assert np.array_equal(np.repeat(frames[..., None], 3, axis=-1), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [0, 1, 3])
def test_one_coloured_frame_makes_all_rgb(form: str, at: int) -> None:
    pictures = [uncoloured(frame) for frame in SPECKLE]
    pictures[at][-9:-5, -9:-5, 1] = 200
    data = [coded(picture, **FORMS[form]) for picture in pictures]
    assert np.array_equal(stacked(data), by_pillow(data))


@settings(max_examples=60)
@given(
    row=st.integers(0, HEIGHT - 8),
    column=st.integers(0, WIDTH - 8),
    plane=st.sampled_from([1, 2]),
    shade=st.integers(-128, 127),
    form=st.sampled_from(sorted(FORMS)),
)
def test_the_least_colour_is_kept(row: int, column: int, plane: int, shade: int, form: str) -> None:
    pictures = [uncoloured(frame) for frame in SPECKLE[:2]]
    pictures[1][row : row + 8, column : column + 8, plane] = 128 + shade
    data = [coded(picture, **FORMS[form]) for picture in pictures]
    frames, expected = stacked(data), by_pillow(data)
    frames = np.repeat(frames[..., None], 3, axis=-1) if frames.ndim == 3 else frames
    assert np.array_equal(frames, expected)


def test_chroma_without_tables_of_its_own_is_decoded_as_rgb() -> None:
    data = coded(uncoloured(SPECKLE[0]), subsampling="4:2:2")
    start = start_of(data)
    assert start is not None
    scan = start.data[-14:]
    assert scan[:2] == b"\xff\xda"
    shared = data.replace(scan, scan[:8] + b"\0" + scan[9:10] + b"\0" + scan[11:])
    found = start_of(shared)
    assert found is not None
    assert found.colourless is None


def test_without_a_libjpeg_that_tells_frames_are_decoded_as_rgb_and_come_as_luma(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dicom_jpeg, "bad_codes_are_told", lambda: False)
    data = [coded(uncoloured(frame)) for frame in SPECKLE]
    assert np.array_equal(stacked(data), by_pillow(data)[..., 0])


def test_damage_is_no_colour() -> None:
    data = [coded(uncoloured(frame), subsampling="4:2:2") for frame in SPECKLE]
    data[2] = data[2][: len(data[2]) // 2]
    with pytest.raises(ValueError, match="remature end"):
        stacked(data)


@settings(max_examples=150)
@given(
    place=st.floats(0, 1),
    value=st.integers(0, 255),
    in_header=st.booleans(),
    form=st.sampled_from(sorted(FORMS)),
)
def test_whatever_is_damaged_pixels_are_those_of_the_plain_way_or_none(
    place: float, value: int, in_header: bool, form: str
) -> None:
    good = coded(uncoloured(SPECKLE[0]), **FORMS[form])
    whole = start_of(good)
    assert whole is not None
    first, last = (2, len(whole.data)) if in_header else (len(whole.data), len(good))
    at = min(last - 1, int(first + place * (last - first)))
    damaged = good[:at] + bytes([value]) + good[at + 1 :]
    start = start_of(damaged)
    if start is None or (start.coded.height, start.coded.width) != (HEIGHT, WIDTH) or not start.coded.ycc:
        return
    try:
        expected = simplejpeg.decode_jpeg(damaged, colorspace="RGB")
    except ValueError:
        with pytest.raises(ValueError, match=r"\w"):
            stacked([good, damaged])
        return
    frames = stacked([good, damaged])
    frames = np.repeat(frames[..., None], 3, axis=-1) if frames.ndim == 3 else frames
    assert np.array_equal(frames[1], expected)
