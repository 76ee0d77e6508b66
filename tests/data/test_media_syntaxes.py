"""Every transfer syntax and colour space of ultrasound DICOM gives the pixels that went in."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, itemize_fragment
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_media_formats import cine as columns
from test_media_formats import encoded, plainly

from insonate.data.limits import limited
from insonate.data.media import MediaFile, dicom_pixels, probe, read_frames, write_dicom
from insonate.errors import MediaError

JPEG_XL = UID("1.2.840.10008.1.2.4.110")


def grey(frames: int = 6, height: int = 40, width: int = 50) -> np.ndarray:
    clip = np.arange(frames * height * width, dtype=np.uint32).reshape(frames, height, width)
    return (clip * 7 // 11).astype(np.uint8)


def colour(frames: int = 6) -> np.ndarray:
    return np.stack([grey(frames), grey(frames) // 2, 255 - grey(frames)], axis=-1)  # T H W 3


def smooth(frames: int = 6) -> np.ndarray:
    """Colours that lossy coding keeps: T H W 3."""
    t, y, x = np.mgrid[:frames, :40, :50]
    return np.stack([4 * x + t, 5 * y, 120 + t * 3 + 0 * x], axis=-1).astype(np.uint8)


@pytest.fixture
def codecs() -> ModuleType:
    return pytest.importorskip("imagecodecs", reason="needs the extra dicom")


def written(path: Path, frames: np.ndarray, **changes: object) -> Path:
    write_dicom(
        path,
        frames,
        spacing=None,
        frame_time_ms=40.0,
        patient_id="p",
        study_id="s",
        series_id="q",
        vendor="v",
        item_id="i",
    )
    header = dcmread(path)
    for key, value in changes.items():
        setattr(header, key, value)
        if key.endswith("Descriptor"):
            header[key].VR = "US"
    header.save_as(path)
    return path


def encapsulated(
    path: Path, coded: list[bytes] | bytes, syntax: str, frames: np.ndarray, **changes: object
) -> Path:
    """A file of the frames' shape that holds the coded frames, or these pixel data as they are."""
    header = dcmread(written(path, frames))
    stand_in = HTJ2KLossless if syntax == JPEG_XL else UID(syntax)  # pydicom does not write JPEG XL
    header.file_meta.TransferSyntaxUID = stand_in
    header.PixelData = coded if isinstance(coded, bytes) else encapsulate(coded)
    header["PixelData"].is_undefined_length = True
    for key, value in changes.items():
        setattr(header, key, value)
    header.save_as(path)
    path.write_bytes(path.read_bytes().replace(stand_in.encode(), syntax.encode(), 1))
    return path


def jpeg(frame: np.ndarray, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=95, **options)
    return content.getvalue()


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("frames", [grey(), colour()], ids=["grey", "colour"])
def test_uncompressed_files_are_read(tmp_path: Path, syntax: UID, frames: np.ndarray) -> None:
    header = dcmread(written(tmp_path / "a.dcm", frames))
    fresh = Dataset()
    fresh.update(header)
    fresh.file_meta = header.file_meta
    fresh.file_meta.TransferSyntaxUID = syntax
    dcmwrite(tmp_path / "b.dcm", fresh, enforce_file_format=True)
    assert np.array_equal(read_frames(tmp_path / "b.dcm"), frames)
    assert np.array_equal(read_frames(tmp_path / "b.dcm", [5, 1]), frames[[5, 1]])


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_old_files_without_preamble_are_read(tmp_path: Path, syntax: UID) -> None:
    header = dcmread(written(tmp_path / "a.dcm", grey()))
    fresh = Dataset()
    fresh.update(header)
    bare = tmp_path / "bare"
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    fresh["PixelData"].VR = "OW" if implicit else "OB"
    dcmwrite(bare, fresh, implicit_vr=implicit, little_endian=little)
    assert probe(bare).kind == "dicom"
    assert np.array_equal(read_frames(bare, [5, 1]), grey()[[5, 1]])
    (tmp_path / "meta").write_bytes((tmp_path / "a.dcm").read_bytes()[132:])
    assert np.array_equal(read_frames(tmp_path / "meta", [2]), grey()[[2]])


def test_planes_one_after_another_are_read(tmp_path: Path) -> None:
    planar = colour().transpose(0, 3, 1, 2).tobytes()
    path = written(tmp_path / "a.dcm", colour(), PlanarConfiguration=1, PixelData=planar)
    assert np.array_equal(read_frames(path, [2]), colour()[[2]])


def test_uncompressed_ybr_becomes_rgb(tmp_path: Path) -> None:
    ybr = convert_color_space(smooth(), "RGB", "YBR_FULL")
    full = written(
        tmp_path / "a.dcm", smooth(), PhotometricInterpretation="YBR_FULL", PixelData=ybr.tobytes()
    )
    assert np.abs(read_frames(full).astype(int) - smooth()).max() <= 1
    pairs = ybr.reshape(6, 40, 25, 2, 3)
    halved = np.stack([pairs[..., 0, 0], pairs[..., 1, 0], pairs[..., 0, 1], pairs[..., 0, 2]], axis=-1)
    path = written(
        tmp_path / "b.dcm", smooth(), PhotometricInterpretation="YBR_FULL_422", PixelData=halved.tobytes()
    )
    assert np.abs(read_frames(path, [3]).astype(int) - smooth()[[3]]).max() <= 8


@pytest.mark.parametrize(("bits", "factor", "more"), [(8, 1, 0), (16, 256, 17), (16, 1, 0)])
def test_palettes_become_rgb(tmp_path: Path, bits: int, factor: int, more: int) -> None:
    red = np.arange(256)
    luts = [red, red // 2, 255 - red]
    changes: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, lut in zip(("Red", "Green", "Blue"), luts, strict=True):
        entries = (lut * factor + more).astype(np.uint8 if bits == 8 else "<u2")
        changes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        changes[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    path = written(tmp_path / "a.dcm", grey(), **changes)
    wanted = np.stack(luts, -1).astype(np.uint8)[grey()[[1, 4]]]
    assert np.array_equal(read_frames(path, [1, 4]), wanted)
    fresh = Dataset()
    fresh.update(dcmread(path))
    for name in ("Red", "Green", "Blue"):
        table = fresh[f"{name}PaletteColorLookupTableData"]
        table.value = np.frombuffer(table.value, np.uint8 if bits == 8 else "<u2").astype(">u2").tobytes()
        fresh[f"{name}PaletteColorLookupTableDescriptor"].value = [256, 0, 16]
    dcmwrite(tmp_path / "big", fresh, implicit_vr=False, little_endian=False)
    assert np.array_equal(read_frames(tmp_path / "big", [1, 4]), wanted)


def test_jpeg_frames_are_those_of_the_jpeg_library(tmp_path: Path) -> None:
    coded = [jpeg(frame) for frame in smooth()]
    path = encapsulated(
        tmp_path / "a.dcm", coded, JPEGBaseline8Bit, smooth(), PhotometricInterpretation="YBR_FULL_422"
    )
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(c)).convert("RGB")) for c in coded])
    assert np.array_equal(read_frames(path), wanted)
    assert np.array_equal(read_frames(path, [4, 4, 0]), wanted[[4, 4, 0]])
    luma = np.stack([np.asarray(Image.open(io.BytesIO(c)).convert("YCbCr"))[..., 0] for c in coded])
    assert np.abs(read_frames(path, grey=True).astype(int) - luma).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_grey_jpeg_frames_are_read(tmp_path: Path, photometric: str) -> None:
    coded = [jpeg(frame[..., 0]) for frame in smooth()]
    path = encapsulated(
        tmp_path / "a.dcm", coded, JPEGExtended12Bit, smooth()[..., 0], PhotometricInterpretation=photometric
    )
    wanted = np.stack([np.asarray(Image.open(io.BytesIO(c))) for c in coded])
    assert np.array_equal(read_frames(path), wanted if photometric == "MONOCHROME2" else 255 - wanted)


def test_jpeg_that_stores_rgb_is_not_converted_twice(tmp_path: Path) -> None:
    coded = [jpeg(frame, keep_rgb=True) for frame in smooth()]
    path = encapsulated(tmp_path / "a.dcm", coded, JPEGBaseline8Bit, smooth())
    assert np.abs(read_frames(path).astype(int) - smooth()).mean() < 2
    luma = smooth() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_frames(path, grey=True) - luma).mean() < 2


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments_are_put_together(tmp_path: Path, table: bool) -> None:
    coded = [jpeg(frame) for frame in smooth()]
    data = encapsulate(coded, fragments_per_frame=2, has_bot=table)
    path = encapsulated(
        tmp_path / "a.dcm", data, JPEGBaseline8Bit, smooth(), PhotometricInterpretation="YBR_FULL_422"
    )
    assert np.abs(read_frames(path, [5, 2]).astype(int) - smooth()[[5, 2]]).mean() < 2


def test_extended_offset_table_is_accepted(tmp_path: Path) -> None:
    data, offsets, lengths = encapsulate_extended([jpeg(frame) for frame in smooth()])
    path = encapsulated(
        tmp_path / "a.dcm",
        data,
        JPEGBaseline8Bit,
        smooth(),
        PhotometricInterpretation="YBR_FULL_422",
        ExtendedOffsetTable=offsets,
        ExtendedOffsetTableLengths=lengths,
    )
    assert np.abs(read_frames(path, [3]).astype(int) - smooth()[[3]]).mean() < 2


def test_compressed_frame_of_another_size_is_refused_before_decoding(tmp_path: Path) -> None:
    coded = [jpeg(frame) for frame in smooth()]
    coded[3] = jpeg(np.zeros((80, 100, 3), np.uint8))
    path = encapsulated(
        tmp_path / "a.dcm", coded, JPEGBaseline8Bit, smooth(), PhotometricInterpretation="YBR_FULL_422"
    )
    with pytest.raises(
        MediaError, match=r"frame 3 of 6 has the size \(80, 100\), the header says \(40, 50\)"
    ):
        read_frames(path)
    assert len(read_frames(path, [0, 1])) == 2


def test_compressed_frame_is_read_whole_only_within_the_limit(tmp_path: Path) -> None:
    coded = [jpeg(frame) for frame in smooth()]
    data = encapsulate(coded, fragments_per_frame=2)
    path = encapsulated(
        tmp_path / "a.dcm", data, JPEGBaseline8Bit, smooth(), PhotometricInterpretation="YBR_FULL_422"
    )
    bound = min(len(c) for c in coded) - 10
    with limited(still_bytes=bound), pytest.raises(MediaError, match=f"above the limit still_bytes={bound}"):
        read_frames(path, [0])
    with limited(still_bytes=100), pytest.raises(MediaError, match="above the limit still_bytes=100"):
        probe(path)


def test_damaged_jpeg_frame_is_named(tmp_path: Path) -> None:
    coded = [jpeg(frame) for frame in smooth()]
    coded[2] = coded[2][: len(coded[2]) // 2]
    path = encapsulated(
        tmp_path / "a.dcm", coded, JPEGBaseline8Bit, smooth(), PhotometricInterpretation="YBR_FULL_422"
    )
    with pytest.raises(MediaError, match="frame 2 of 6 cannot be decoded"):
        read_frames(path, [2])


@pytest.mark.parametrize(
    ("syntax", "plugin", "photometric"),
    [
        (RLELossless, "pydicom", "RGB"),
        (JPEGLSLossless, "pyjpegls", "RGB"),
        (JPEG2000Lossless, "pylibjpeg", "YBR_RCT"),
    ],
)
def test_lossless_syntaxes_give_the_pixels_back(
    tmp_path: Path, syntax: UID, plugin: str, photometric: str
) -> None:
    for frames in (grey(), colour()):
        path = written(tmp_path / "a.dcm", frames)
        header = dcmread(path)
        if frames.ndim == 4:
            header.PhotometricInterpretation = photometric
        header.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        header.save_as(path)
        assert np.array_equal(read_frames(path), frames)
        assert np.array_equal(read_frames(path, [4]), frames[[4]])


def test_lossy_jpeg_2000_is_read(tmp_path: Path, codecs: ModuleType) -> None:
    coded = [codecs.jpeg2k_encode(frame, level=60, codecformat="j2k", mct=True) for frame in smooth()]
    path = encapsulated(
        tmp_path / "a.dcm", coded, "1.2.840.10008.1.2.4.91", smooth(), PhotometricInterpretation="YBR_ICT"
    )
    assert np.abs(read_frames(path, [2]).astype(int) - smooth()[[2]]).mean() < 2


def htj2k(codecs: ModuleType, frame: np.ndarray) -> bytes:
    return bytes(codecs.htj2k_encode(frame))


def lossless_jpeg(codecs: ModuleType, frame: np.ndarray) -> bytes:
    return bytes(codecs.jpeg8_encode(frame, lossless=True, predictor=1))


def jpeg_xl(codecs: ModuleType, frame: np.ndarray) -> bytes:
    return bytes(codecs.jpegxl_encode(frame, lossless=True))


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [(HTJ2KLossless, htj2k), (JPEGLosslessSV1, lossless_jpeg), (JPEG_XL, jpeg_xl)],
    ids=["htj2k", "lossless", "jxl"],
)
@pytest.mark.parametrize("frames", [grey(), colour()], ids=["grey", "colour"])
def test_syntaxes_of_the_extra_give_the_pixels_back(
    tmp_path: Path,
    codecs: ModuleType,
    syntax: UID,
    encode: Callable[[ModuleType, np.ndarray], bytes],
    frames: np.ndarray,
) -> None:
    coded = [encode(codecs, frame) for frame in frames]
    rct = {"PhotometricInterpretation": "YBR_RCT"} if syntax == HTJ2KLossless and frames.ndim == 4 else {}
    path = encapsulated(tmp_path / "a.dcm", coded, syntax, frames, **rct)
    assert np.array_equal(read_frames(path), frames)
    assert np.array_equal(read_frames(path, [5, 0]), frames[[5, 0]])


def test_twelve_bit_jpeg_fills_eight_bits(tmp_path: Path, codecs: ModuleType) -> None:
    wide = np.repeat(np.linspace(0, 4095, 50).astype(np.uint16)[None], 40, axis=0)
    coded = codecs.jpeg8_encode(wide, bitspersample=12, level=98)
    frames = np.zeros((1, 40, 50), np.uint8)
    path = encapsulated(
        tmp_path / "a.dcm", [coded], JPEGExtended12Bit, frames, BitsAllocated=16, BitsStored=12, HighBit=11
    )
    assert np.abs(read_frames(path)[0].astype(int) - wide / 4095 * 255).max() <= 2


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG_XL])
def test_missing_extra_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: UID
) -> None:
    path = encapsulated(tmp_path / "a.dcm", [b"\xff\xd8\xff\xd9"] * 6, syntax, grey())
    find = importlib.util.find_spec
    monkeypatch.setattr(
        dicom_pixels.importlib.util, "find_spec", lambda name: None if name == "imagecodecs" else find(name)
    )
    with pytest.raises(MediaError, match=r"no decoder for the transfer syntax .* Install insonate\[dicom\]"):
        probe(path)


@pytest.mark.parametrize("name", ["v.mp4", "v.h264", "v.ts"])
@pytest.mark.parametrize("fragments", [1, 3])
def test_video_inside_dicom_is_read(tmp_path: Path, name: str, fragments: int) -> None:
    clip = encoded(tmp_path / name, columns(12), "libx264", g="6", bf="2")
    data = clip.read_bytes() + b"\0" * (clip.stat().st_size % 2)
    step = -(-len(data) // fragments) // 2 * 2 + 2
    items = [data[at : at + step] for at in range(0, len(data), step)]
    whole = b"".join([b"\xfe\xff\0\xe0\0\0\0\0", *map(itemize_fragment, items)])
    path = encapsulated(
        tmp_path / "a.dcm",
        whole,
        MPEG4HP41,
        np.zeros((12, 48, 64, 3), np.uint8),
        PhotometricInterpretation="YBR_PARTIAL_420",
    )
    info = probe(path)
    assert (info.kind, info.frames, info.fps) == ("dicom", 12, 25.0)
    whole = plainly(clip)
    with MediaFile(path) as file:
        assert np.abs(file.read([11, 0, 5])[..., None].astype(int) - whole[[11, 0, 5]]).max() <= 4
        for index in (7, 8, 11, 3):
            assert np.abs(file.read([index])[..., None].astype(int) - whole[[index]]).max() <= 4


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
    ],
)
def test_play_list_inside_dicom_opens_no_other_file(tmp_path: Path, text: str) -> None:
    clip = encoded(tmp_path / "v.ts", columns(12), "libx264")
    data = text.format(clip).encode()
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    path = encapsulated(
        tmp_path / "a.dcm", [data], MPEG4HP41, frames, PhotometricInterpretation="YBR_PARTIAL_420"
    )
    with pytest.raises(MediaError, match="cannot be read"):
        probe(path)


def test_video_with_fewer_frames_than_the_header_is_refused(tmp_path: Path) -> None:
    clip = encoded(tmp_path / "v.mp4", columns(12), "libx264").read_bytes()
    frames = np.zeros((13, 48, 64, 3), np.uint8)
    path = encapsulated(
        tmp_path / "a.dcm", [clip], MPEG4HP41, frames, PhotometricInterpretation="YBR_PARTIAL_420"
    )
    with pytest.raises(MediaError, match="frame 12 of 13 is missing"):
        probe(path)
    path = encapsulated(
        tmp_path / "b.dcm", [clip], MPEG4HP41, frames[:12, :40], PhotometricInterpretation="YBR_PARTIAL_420"
    )
    with pytest.raises(MediaError, match="the video is 48×64 px, the header says 40×64"):
        probe(path)


REAL_JPEG = (
    "pydicom_examples_ybr_color_PLA30f",
    "dicomparser_ACUSON_echo_8f",
    "orthanc_Issue16_HP_pediatric_echo_34f",
    "itkpocus_sonoque_phantom_anechoic",
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom tells what is odd about them
@pytest.mark.parametrize("name", REAL_JPEG)
def test_real_jpeg_frames_equal_those_of_pydicom(shared_data: Path, name: str) -> None:
    path = shared_data / "dicom_us" / f"{name}.dcm"
    last = probe(path).frames - 1
    assert np.abs(read_frames(path, [last])[0].astype(int) - pixel_array(path, index=last)).max() <= 1


def test_real_files_of_every_syntax_are_read_whole_and_by_frame(shared_data: Path) -> None:
    paths = sorted((shared_data / "dicom_us").glob("*.dcm"))
    assert len(paths) == 27
    for path in paths:
        if importlib.util.find_spec("imagecodecs") is None and (
            "jpegxl" in path.name or "Lossless" in path.name
        ):
            continue
        with MediaFile(path) as file:
            last = file.info.frames - 1
            frame = file.read([last])
            assert frame.shape[1:3] == (file.info.height, file.info.width)
            assert frame.std() > 5
            if last < 30:
                assert np.array_equal(file.read()[last], frame[0])


DCMTK = {
    "lossless": ("dcmcjpeg", "+e1", 0.0),
    "lossless_14": ("dcmcjpeg", "+el", 0.0),
    "baseline": ("dcmcjpeg", "+eb", 3.0),
    "extended": ("dcmcjpeg", "+ee", 3.0),
    "jpeg_ls": ("dcmcjpls", "+el", 0.0),
    "near_lossless": ("dcmcjpls", "+en", 3.0),
    "rle": ("dcmcrle", "+fo", 0.0),
}
"""program of dcmtk, its option, and by how much pixels may change on average"""


@pytest.mark.parametrize("name", DCMTK)
@pytest.mark.parametrize("frames", [smooth()[..., 0], smooth()], ids=["grey", "colour"])
def test_files_that_dcmtk_compressed_are_read(tmp_path: Path, name: str, frames: np.ndarray) -> None:
    program, option, most = DCMTK[name]
    if shutil.which(program) is None:
        pytest.skip("needs dcmtk")
    if name.startswith("lossless"):
        pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    written(tmp_path / "a.dcm", frames)
    subprocess.run([program, option, tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True, capture_output=True)
    got = read_frames(tmp_path / "b.dcm").astype(int)
    assert np.abs(got - frames).mean() <= most
    assert np.array_equal(read_frames(tmp_path / "b.dcm", [4, 1]), got[[4, 1]])


def test_twelve_bit_file_that_dcmtk_compressed_is_read(tmp_path: Path) -> None:
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("needs dcmtk")
    pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    wide = (smooth()[..., 0].astype(np.uint16) * 16) + 5
    written(
        tmp_path / "a.dcm",
        smooth()[..., 0],
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelData=wide.tobytes(),
    )
    for option, most in (("+e1", 0.51), ("+ee", 4)):
        subprocess.run(
            ["dcmcjpeg", option, tmp_path / "a.dcm", tmp_path / "b.dcm"], check=True, capture_output=True
        )
        assert np.abs(read_frames(tmp_path / "b.dcm") - wide / 4095 * 255).max() <= most
