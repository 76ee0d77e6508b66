"""Each limit of `data.limits` is passed by a file, and the error tells its name and number."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from test_media_dicom import deflate
from test_media_syntaxes import encapsulated, grey, jpeg, smooth, written
from test_media_volumes import meta, saved

from insonate.data.limits import Limits, limited
from insonate.data.media import read_frames, write_png, write_video
from insonate.errors import MediaError

YBR = {"PhotometricInterpretation": "YBR_FULL_422"}


def still(path: Path) -> Path:
    return write_png(path, grey(1)[0])


def clip(path: Path) -> Path:
    return write_video(path, grey(), 25.0)


def native(path: Path) -> Path:
    return written(path, grey(1))


def many_elements(path: Path) -> Path:
    """Sixty elements that nobody needs, within a private block."""
    header = dcmread(native(path))
    for k in range(60):
        header.add_new((0x0009, 0x1001 + k), "UN", b"\0\0")
    header.save_as(path)
    return path


def many_behind(path: Path) -> Path:
    """Sixty elements behind the pixels."""
    more = Dataset()
    for k in range(60):
        more.add_new((0xFFFD, 0x1001 + k), "UN", b"\0\0")
    content = io.BytesIO()
    more.save_as(content, implicit_vr=False, little_endian=True)
    path.write_bytes(native(path).read_bytes() + content.getvalue())
    return path


def palette(path: Path) -> Path:
    changes: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        changes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        changes[f"{name}PaletteColorLookupTableData"] = bytes(range(256)) * 2
    return written(path, grey(1), **changes)


def in_fragments(path: Path) -> Path:
    data = encapsulate([jpeg(frame) for frame in grey()], fragments_per_frame=3)
    return encapsulated(path, data, JPEGBaseline8Bit, grey())


def one_fragment(path: Path) -> Path:
    return encapsulated(path, [jpeg(grey(1)[0])], JPEGBaseline8Bit, grey(1))


def progressive(path: Path) -> Path:
    Image.fromarray(smooth(1)[0]).save(path, "JPEG", progressive=True)
    return path


def progressive_dicom(path: Path) -> Path:
    return encapsulated(path, [jpeg(smooth(1)[0], progressive=True)], JPEGBaseline8Bit, smooth(1), **YBR)


def deflated(path: Path) -> Path:
    deflate(native(path))
    return path


def packed(path: Path) -> Path:
    return saved(path, meta(grey(), packed=True))


CASES: list[tuple[str, int, Callable[[Path], Path]]] = [
    ("file_bytes", 50, still), ("still_bytes", 50, still), ("still_bytes", 100, one_fragment),
    ("side_px", 49, still), ("frame_px", 1999, still), ("frames", 5, clip), ("media_px", 11_999, clip),
    ("decoded_bytes", 1000, clip), ("jpeg_scans", 5, progressive), ("jpeg_scans", 5, progressive_dicom),
    ("inflated_bytes", 1000, deflated), ("elements", 70, many_elements), ("elements", 40, many_behind),
    ("fragments", 10, in_fragments), ("header_bytes", 50, packed), ("element_bytes", 500, palette),
]  # fmt: skip


@pytest.mark.parametrize(("limit", "bound", "make"), CASES, ids=[f"{n}-{m.__name__}" for n, _, m in CASES])
def test_the_error_names_the_limit_that_was_passed(
    tmp_path: Path, limit: str, bound: int, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path / "a")
    with (
        limited(**{limit: bound}),
        pytest.raises(MediaError, match=f"above the limit {limit}={bound}") as met,
    ):
        read_frames(path)
    assert "\n" not in str(met.value)
    read_frames(path)  # within the limits as they are


def test_every_limit_is_tried() -> None:
    known = {field.name for field in dataclasses.fields(Limits)}
    assert {limit for limit, _, _ in CASES} == known - {"regions"}  # more of them are not looked at


def test_a_long_element_that_nobody_needs_is_passed_over(tmp_path: Path) -> None:
    header = dcmread(native(tmp_path / "a.dcm"))
    header.add_new((0x0009, 0x1001), "UN", bytes(2000))
    header.save_as(tmp_path / "a.dcm")
    with limited(element_bytes=500):
        assert read_frames(tmp_path / "a.dcm").shape == (1, 40, 50)
