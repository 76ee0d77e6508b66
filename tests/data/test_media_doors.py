"""No way to pixels passes the limits by: one place opens and decodes, and every format is held there."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.encaps import itemize_fragment
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_media_dicom import deflate
from test_media_formats import encoded
from test_media_syntaxes import JPEG_XL, encapsulated, grey, jpeg, written
from test_media_volumes import meta, nifti, saved

import insonate
from insonate.data.limits import limited
from insonate.data.media import MediaFile, probe, read_frames, write_png
from insonate.errors import MediaError

FRAMES, HEIGHT, WIDTH = 6, 40, 50
SOURCE = Path(insonate.__file__).parent
DECODERS = {
    "Image.open", "av.open", "dcmread", "read_dataset", "np.fromfile", "np.memmap", "pixel_array",
    "read_image", "simplejpeg.decode_jpeg", "simplejpeg.decode_jpeg_header", "iio.imread", "cv2.imread",
    "cv2.VideoCapture",
}  # fmt: skip
ELSEWHERE = {
    ("data/dicom_profile.py", "read_dataset"): "a header, through open_regular and element_bytes",
    ("data/structured_report.py", "dcmread"): "a few elements of a file that `probe` has let pass",
    ("data/review.py", "Image.open"): "pictures that we wrote",
    ("evaluate/report.py", "Image.open"): "pictures that we wrote",
}
"""outside `data/media`, with the reason"""


def calls_of_decoders() -> Iterator[tuple[str, str]]:
    """Files below the package with the decoders that they call."""
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(f"{name}(" in text for name in DECODERS):
            yield from ((path.relative_to(SOURCE).as_posix(), call) for call in calls(text) & DECODERS)


def calls(text: str) -> set[str]:
    """Names of what a module calls, as far as they are names."""
    nodes = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


def test_media_are_decoded_in_one_place() -> None:
    found = set(calls_of_decoders())
    assert {call for name, call in found if name.startswith("data/media/")} >= {"Image.open", "av.open"}
    assert {pair for pair in found if not pair[0].startswith("data/media/")} == set(ELSEWHERE)


def test_files_are_opened_through_one_function_in_the_readers() -> None:
    """`open_regular` knows pipes, devices and sizes; a plain `open` does not."""
    for path in (SOURCE / "data" / "media").glob("*.py"):
        called = calls(path.read_text(encoding="utf-8"))
        opened = {name for name in called if name.split(".")[-1] in {"open", "read_bytes", "read_text"}}
        assert opened <= {"Image.open", "av.open", "os.open"}, path.name
        assert "os.open" not in opened or path.name == "regular.py"


def paged(form: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        first, *others = [Image.fromarray(frame) for frame in distinct()]
        first.save(path, form, save_all=True, append_images=others)

    return make


def distinct() -> np.ndarray:
    """T H W whose frames differ by more than a codec drops."""
    frames = grey(FRAMES).copy()
    for t in range(FRAMES):
        frames[t, :, 8 * t : 8 * t + 6] = 255
    return frames


def still(form: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(grey(1)[0]).save(path, form)


def film(ending: str, codec: str, **options: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        clip = encoded(path.with_name(f"film.{ending}"), distinct(), codec, **options)
        clip.rename(path)

    return make


def native(path: Path) -> None:
    written(path, grey(FRAMES))


def big_endian(path: Path) -> None:
    header = dcmread(written(path, grey(FRAMES)))
    header.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(path, header)


def deflated(path: Path) -> None:
    deflate(written(path, grey(FRAMES)))


def compressed(syntax: UID, plugin: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        header = dcmread(written(path, grey(FRAMES)))
        header.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        header.save_as(path)

    return make


def baseline(path: Path) -> None:
    encapsulated(path, [jpeg(frame) for frame in grey(FRAMES)], JPEGBaseline8Bit, grey(FRAMES))


def lossless(path: Path) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    coded = [bytes(codecs.jpeg8_encode(frame, lossless=True, predictor=1)) for frame in grey(FRAMES)]
    encapsulated(path, coded, JPEGLosslessSV1, grey(FRAMES))


def jpeg_xl(path: Path) -> None:
    codecs = pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    coded = [bytes(codecs.jpegxl_encode(frame, lossless=True)) for frame in grey(FRAMES)]
    encapsulated(path, coded, JPEG_XL, grey(FRAMES))


def film_in_dicom(path: Path) -> None:
    clip = encoded(path.with_name("v.mp4"), distinct(), "libx264")
    data = clip.read_bytes() + b"\0" * (clip.stat().st_size % 2)
    whole = b"\xfe\xff\0\xe0\0\0\0\0" + itemize_fragment(data)
    shape = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    encapsulated(path, whole, MPEG4HP41, shape, PhotometricInterpretation="YBR_PARTIAL_420")


def volume(path: Path) -> None:
    saved(path, nifti(grey(FRAMES), 2))


def packed_volume(path: Path) -> None:
    saved(path.with_name("v.nii.gz"), nifti(grey(FRAMES), 2)).rename(path)


def sequence(path: Path) -> None:
    saved(path, meta(grey(FRAMES)))


def packed_sequence(path: Path) -> None:
    saved(path, meta(grey(FRAMES), packed=True))


STILLS: dict[str, Callable[[Path], object]] = {
    "png": lambda path: write_png(path, grey(1)[0]), "jpeg": still("JPEG"), "bmp": still("BMP"),
    "tiff": still("TIFF"), "webp": still("WEBP"),
}  # fmt: skip
CLIPS: dict[str, Callable[[Path], None]] = {
    "tiff pages": paged("TIFF"), "gif": paged("GIF"), "apng": paged("PNG"), "animated webp": paged("WEBP"),
    "mp4": film("mp4", "libx264"), "mov": film("mov", "mjpeg", pix_fmt="yuvj420p"),
    "avi": film("avi", "rawvideo"), "mkv": film("mkv", "libx264"), "webm": film("webm", "libvpx-vp9"),
    "native": native, "big endian": big_endian, "deflated": deflated,
    "rle": compressed(RLELossless, "pydicom"),
    "jpeg-ls": compressed(JPEGLSLossless, "pyjpegls"), "jpeg 2000": compressed(JPEG2000Lossless, "pylibjpeg"),
    "jpeg dicom": baseline, "lossless jpeg": lossless, "jpeg xl": jpeg_xl, "film in dicom": film_in_dicom,
    "nifti": volume, "nifti.gz": packed_volume, "mha": sequence, "packed mha": packed_sequence,
}  # fmt: skip


@pytest.mark.parametrize("name", [*STILLS, *CLIPS])
def test_every_format_is_held_to_the_limits(tmp_path: Path, name: str) -> None:
    path, count = tmp_path / "a", 1 if name in STILLS else FRAMES
    (STILLS | CLIPS)[name](path)
    info = probe(path)
    assert (info.frames, info.height, info.width) == (count, HEIGHT, WIDTH)
    assert len(read_frames(path)) == count
    bounds = {
        "file_bytes": path.stat().st_size - 1, "side_px": WIDTH - 1, "frame_px": HEIGHT * WIDTH - 1,
        "media_px": count * HEIGHT * WIDTH - 1,
    }  # fmt: skip
    if count > 1:
        bounds["frames"] = count - 1
    for limit, bound in bounds.items():
        for read in (probe, read_frames):
            with limited(**{limit: bound}), pytest.raises(MediaError, match=f"the limit {limit}={bound}"):
                read(path)
    check_decoded(path, count)


def check_decoded(path: Path, count: int) -> None:
    """Each way to ask for frames is held to what a call may return."""
    most = count * HEIGHT * WIDTH * 3 - 1
    ways: list[dict[str, object]] = [{}, {"grey": True}, {"indices": range(count)}]
    for way in ways:
        with limited(decoded_bytes=most), pytest.raises(MediaError, match=f"the limit decoded_bytes={most}"):
            read_frames(path, **way)
    with limited(decoded_bytes=most), MediaFile(path) as file:
        if count > 1:
            assert len(file.read([0])) == 1
