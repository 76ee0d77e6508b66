"""DICOM: what is written comes back, calibration is right or unknown, damage names its frame."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from insonate.data.limits import limited
from insonate.data.media import probe, read_frames, write_dicom
from insonate.data.media.calibration import pixel_spacing
from insonate.data.media.timing import frame_times
from insonate.data.spacing import Spacing
from insonate.errors import MediaError

SPACING = Spacing(row_mm=0.3, col_mm=0.2)


def cine(frames: int = 6, height: int = 40, width: int = 50) -> np.ndarray:
    clip = np.arange(frames * height * width, dtype=np.uint32).reshape(frames, height, width)
    return (clip * 7 // 11).astype(np.uint8)


def write(path: Path, frames: np.ndarray, **changes: object) -> Path:
    fields: dict[str, object] = {
        "spacing": SPACING,
        "frame_time_ms": 40.0,
        "patient_id": "p01",
        "study_id": "s1",
        "series_id": "q1",
        "vendor": "Phantom Works",
        "item_id": "i1",
    }
    return write_dicom(path, frames, **(fields | changes))  # type: ignore[arg-type]


def edited(path: Path, edit: Callable[[Dataset], object]) -> Path:
    """The file, changed with pydicom."""
    header = dcmread(path)
    edit(header)
    header.save_as(path)
    return path


def region(
    box: tuple[int, int, int, int] = (0, 0, 49, 39), kind: int = 1, unit: int = 3, **deltas: float
) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = 1, kind
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[:2]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2:]
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = unit
    item.PhysicalDeltaX, item.PhysicalDeltaY = deltas.get("x", 0.02), deltas.get("y", 0.03)
    return item


def spacing_of(*regions: Dataset) -> Spacing | None:
    header = Dataset()
    header.SequenceOfUltrasoundRegions = list(regions)
    return pixel_spacing(header, 40, 50)


def near(found: Spacing | None, wanted: Spacing = SPACING) -> bool:
    return found is not None and np.allclose(
        [found.row_mm, found.col_mm], [wanted.row_mm, wanted.col_mm], rtol=1e-9
    )


@pytest.mark.parametrize("colour", [False, True])
def test_frames_and_facts_come_back(tmp_path: Path, colour: bool) -> None:
    frames = np.stack([cine(), cine() // 2, 255 - cine()], axis=-1) if colour else cine()
    path = write(tmp_path / "a.dcm", frames)
    info = probe(path)
    assert (info.kind, info.frames, info.height, info.width) == ("dicom", 6, 40, 50)
    assert info.fps == 25.0
    assert near(info.spacing)
    assert (info.patient_id, info.vendor) == ("p01", "Phantom Works")
    assert np.array_equal(read_frames(path), frames)
    assert np.array_equal(read_frames(path, [5, 0, 5]), frames[[5, 0, 5]])


def test_written_file_is_valid_calibrated_ultrasound(tmp_path: Path) -> None:
    header = dcmread(write(tmp_path / "a.dcm", cine()))
    assert header.SOPClassUID == "1.2.840.10008.5.1.4.1.1.3.1"
    assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert str(header.PatientName) == "PHANTOM^SYNTHETIC"
    assert header.BurnedInAnnotation == "NO"
    item = header.SequenceOfUltrasoundRegions[0]
    assert (item.PhysicalDeltaY, item.PhysicalDeltaX, item.RegionDataType) == (0.03, 0.02, 1)
    assert (header.FrameTime, header.FrameIncrementPointer) == (40, 0x00181063)
    assert np.array_equal(header.pixel_array, cine())


def test_equal_ids_give_equal_bytes_and_other_ids_other_uids(tmp_path: Path) -> None:
    first, again = write(tmp_path / "a.dcm", cine()), write(tmp_path / "b.dcm", cine())
    other = write(tmp_path / "c.dcm", cine(), study_id="s2")
    assert first.read_bytes() == again.read_bytes()
    assert probe(first).study_id == probe(again).study_id != probe(other).study_id


def test_still_without_frame_time_is_a_single_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", cine(1), frame_time_ms=None, spacing=None)
    assert dcmread(path).SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1"
    info = probe(path)
    assert (info.frames, info.fps, info.spacing) == (1, None, None)


def test_cine_without_frame_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="6 frames without a frame time"):
        write(tmp_path / "a.dcm", cine(), frame_time_ms=None)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_files_are_read(tmp_path: Path, syntax: str) -> None:
    frames = np.stack([cine(), cine() // 2, 255 - cine()], axis=-1)
    path = write(tmp_path / "a.dcm", frames)
    header = dcmread(path)
    if syntax == RLELossless:
        header.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    else:
        header.PhotometricInterpretation = "YBR_RCT"
        header.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    header.save_as(path)
    assert np.array_equal(read_frames(path), frames)
    assert np.array_equal(read_frames(path, [4, 1]), frames[[4, 1]])


def deflate(path: Path, content: bytes | None = None) -> None:
    header = dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, header)
    if content is not None:
        data = buffer.getvalue()
        end = data.index(header.file_meta[0x00020013].value.encode()) + len("INSONATE_1")
        data = data[:end] + zlib.compress(content, wbits=-15)
        buffer = io.BytesIO(data)
    path.write_bytes(buffer.getvalue())


def test_deflated_file_is_inflated_up_to_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", cine())
    deflate(path)
    assert np.array_equal(read_frames(path), cine())
    deflate(write(path, cine()), b"\0" * 3_000_000)
    with limited(inflated_bytes=2**20), pytest.raises(MediaError, match="limit inflated_bytes"):
        probe(path)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = edited(
        write(tmp_path / "a.dcm", cine()), lambda h: setattr(h, "PhotometricInterpretation", "MONOCHROME1")
    )
    assert np.array_equal(read_frames(path), 255 - cine())


def test_twelve_bit_grey_fills_eight_bits(tmp_path: Path) -> None:
    wide = np.array([[[0, 2048, 4095, 16]]], np.uint16)

    def widen(header: Dataset) -> None:
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
        header.PixelData = wide.tobytes()

    path = edited(write(tmp_path / "a.dcm", np.zeros((1, 1, 4), np.uint8)), widen)
    assert read_frames(path).tolist() == [[[0, 128, 255, 1]]]


def test_negative_deltas_and_dummy_regions_are_understood() -> None:
    dummy = region(kind=0, unit=0, x=1.0, y=1.0)
    assert near(spacing_of(dummy, region(x=-0.02, y=0.03)))


def test_doppler_and_trace_regions_do_not_calibrate_and_colour_only_alone() -> None:
    assert spacing_of(region(kind=3), region(kind=10, unit=4)) is None
    assert near(spacing_of(region(), region(kind=10, unit=4, x=0.5, y=0.0)))
    assert near(spacing_of(region(), region(kind=2, x=0.5)))
    assert near(spacing_of(region(kind=2)))  # a colour image of tissue that is named as colour alone


def test_region_outside_the_frame_is_unknown() -> None:
    assert spacing_of(region(box=(10, 10, 80, 35))) is None
    assert near(spacing_of(region(box=(0, 0, 50, 40))))  # ends one past the last pixel


def test_two_tissue_regions_must_agree() -> None:
    left, right = (0, 0, 24, 39), (25, 0, 49, 39)
    assert near(spacing_of(region(box=left), region(box=right)))
    assert spacing_of(region(box=left), region(box=right, x=0.04)) is None


@pytest.mark.parametrize("delta", [0.0, float("nan"), float("inf"), 1e9, 1e-9])
def test_senseless_deltas_are_unknown(delta: float) -> None:
    assert spacing_of(region(x=delta)) is None


def test_pixel_spacing_counts_only_without_regions() -> None:
    header = Dataset()
    header.PixelSpacing = [0.3, 0.2]
    assert near(pixel_spacing(header, 40, 50))
    header.SequenceOfUltrasoundRegions = [region(box=(0, 0, 500, 500))]
    assert pixel_spacing(header, 40, 50) is None
    placeholder = Dataset()
    placeholder.PixelSpacing = [1, 1]
    assert pixel_spacing(placeholder, 40, 50) is None


def test_frame_times_from_time_vector_and_cine_rate() -> None:
    header = Dataset()
    assert frame_times(header, 3) is None
    header.CineRate = 20
    assert frame_times(header, 3) == (0.0, 0.05, 0.1)
    header.FrameTimeVector = [0, 40, 60]
    assert frame_times(header, 3) == pytest.approx((0, 0.04, 0.1))
    assert frame_times(header, 4) == pytest.approx((0, 0.05, 0.1, 0.15))  # a vector of another length
    header.FrameTime = 10
    assert frame_times(header, 3) == (0.0, 0.01, 0.02)
    header.FrameIncrementPointer = Tag("FrameTimeVector")
    assert frame_times(header, 3) == pytest.approx((0, 0.04, 0.1))
    assert frame_times(header, 1) is None


@pytest.mark.parametrize("vector", [[0, -33, 33], [0, 33, float("nan")], [0, 0, 0]])
def test_senseless_frame_times_are_unknown(vector: list[float]) -> None:
    header = Dataset()
    header["FrameTimeVector"] = DataElement(0x00181065, "FD", vector)  # a DS element would not hold them
    assert frame_times(header, 3) is None


def test_truncated_dicom_names_file_and_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.dcm", cine())
    path.write_bytes(path.read_bytes()[: -(40 * 50 + 100)])
    with pytest.raises(MediaError, match=r"cut\.dcm: frame 4 of 6 has 1900 of 2000 bytes"):
        probe(path)


def test_header_that_lies_about_the_size_is_refused(tmp_path: Path) -> None:
    path = edited(write(tmp_path / "a.dcm", cine()), lambda h: setattr(h, "Rows", 20))
    with pytest.raises(MediaError, match="12000 bytes of pixel data where the header asks for 6000"):
        probe(path)


def test_missing_compressed_frame_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", cine())
    header = dcmread(path)
    header.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    header.NumberOfFrames = 8
    header.save_as(path)
    with pytest.raises(MediaError, match="frame 6 of 8 is missing"):
        probe(path)


def test_colour_on_one_sample_is_refused(tmp_path: Path) -> None:
    path = edited(write(tmp_path / "a.dcm", cine()), lambda h: setattr(h, "PhotometricInterpretation", "RGB"))
    with pytest.raises(MediaError, match="'RGB' pixels of 1 samples"):
        probe(path)


def test_errors_do_not_name_the_patient(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", cine(), patient_id="ZZPHI", patient_name="ZZPHI^X")
    header = dcmread(path)
    header.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    header.save_as(path)
    data = bytearray(path.read_bytes())
    data[-4000:-100] = b"\x7f" * 3900
    path.write_bytes(bytes(data))
    with pytest.raises(MediaError) as caught:
        read_frames(path)
    assert "ZZPHI" not in str(caught.value)
