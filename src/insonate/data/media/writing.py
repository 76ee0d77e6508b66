"""Write stills (PNG), cine clips (H.264 in MP4) and calibrated ultrasound DICOM; equal input, equal bytes.

Shapes: T frames, H W pixels, 3 = RGB; all uint8.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from insonate.data.spacing import Spacing
from insonate.errors import MediaError
from insonate.files import atomic_write

PHANTOM_NAME = "PHANTOM^SYNTHETIC"
TISSUE_2D, CENTIMETRES, SPATIAL_2D = 1, 3, 1
ECG_TRACE, SECONDS, NO_UNIT, WAVEFORM = 10, 4, 0, 4
"""DICOM codes: region data type, physical unit, region spatial format"""
ABOVE_OTHERS = 1
"""DICOM region flag: where regions overlap this one holds"""
VERSION_NAME = "INSONATE_1"
KEYFRAME_EVERY = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """An ECG trace in the picture."""

    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 in pixels, the last ones within"""
    s_per_px: float


def write_png(path: Path | str, image: np.ndarray) -> Path:
    """Write one still.

    Args:
        path: the file to write.
        image: H W (grey) or H W 3 (RGB), uint8.

    Returns:
        The path.

    Raises:
        MediaError: `image` is no uint8 picture.
    """
    return atomic_write(path, png_bytes(path, image))


def png_bytes(path: Path | str, image: np.ndarray) -> bytes:
    """The file that `write_png` writes; `path` is what errors call it.

    Raises:
        MediaError: `image` is no uint8 picture.
    """
    _check(path, np.asarray(image)[None])
    content = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(content, "PNG")
    return content.getvalue()


def write_video(path: Path | str, frames: np.ndarray, fps: float) -> Path:
    """Write a cine clip as H.264 (yuv420p, full range) in MP4: one thread and no dates, so equal bytes.

    Args:
        path: the file to write.
        frames: T H W (grey) or T H W 3 (RGB), uint8; even height and width.
        fps: frames per second, > 0.

    Returns:
        The path.

    Raises:
        MediaError: the frames or the rate cannot be written, or a side is odd (4:2:0 needs even ones, and
            padding would change the picture unasked).
    """
    return atomic_write(path, video_bytes(path, frames, fps))


def video_bytes(path: Path | str, frames: np.ndarray, fps: float) -> bytes:
    """The file that `write_video` writes; `path` is what errors call it.

    Raises:
        MediaError: as for `write_video`.
    """
    frames = _check(path, frames)
    _, height, width = frames.shape[:3]
    if height % 2 or width % 2:
        raise MediaError(
            path, f"video of {height}×{width} px has an odd side", "Crop or pad to even sides first"
        )
    if not (np.isfinite(fps) and 0 < fps <= 10_000):
        raise MediaError(path, f"frame rate {fps} is not usable", "Give frames per second above 0")
    content = io.BytesIO()
    try:
        _encode(content, frames, Fraction(fps).limit_denominator(10_000))
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(path, f"the encoder refused the frames ({error})", "Check their size") from error
    return content.getvalue()


def _encode(content: io.BytesIO, frames: np.ndarray, rate: Fraction) -> None:
    with av.open(content, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        options = {"crf": "16", "preset": "fast", "g": str(KEYFRAME_EVERY), "flags": "+bitexact+cgop"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.color_range = 2  # full range: grey 0–255 is kept, not squeezed into 16–235
        stream.codec_context.colorspace = 5  # BT.601, what the conversion from RGB uses
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(_planes(frame)))
        container.mux(stream.encode(None))


def _planes(frame: np.ndarray) -> av.VideoFrame:
    """The frame as full-range yuv420p; the grey values of a grey frame are its Y plane, unchanged."""
    if frame.ndim == 3:
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        return rgb.reformat(format="yuv420p", dst_color_range=2, dst_colorspace=5)
    height, width = frame.shape
    chroma = np.full((height // 2, width), 128, np.uint8)
    planes = av.VideoFrame.from_ndarray(np.concatenate([frame, chroma]), format="yuv420p")  # 3H/2 W
    planes.color_range = 2
    return planes


def write_dicom(  # noqa: PLR0913 each is a field of its own in the header
    path: Path | str,
    frames: np.ndarray,
    *,
    spacing: Spacing | None,
    frame_time_ms: float | Sequence[float] | None,
    patient_id: str,
    study_id: str,
    series_id: str,
    vendor: str,
    item_id: str,
    patient_name: str = PHANTOM_NAME,
    burned_in: bool = False,
    probe_xy_px: tuple[float, float] | None = None,
    strip: Strip | None = None,
) -> Path:
    """Write an Ultrasound (Multi-frame) DICOM file, explicit VR little endian, uncompressed.

    A single frame without a frame time becomes an Ultrasound Image; everything else is multi-frame.

    Args:
        path: the file to write.
        frames: T H W (grey) or T H W 3 (RGB), uint8.
        spacing: calibration, stored as a 2-D tissue region over the whole frame; `None` stores no region.
        frame_time_ms: milliseconds from frame to frame; where they differ, of each frame since the one before
            it (the first 0).
        patient_id: the patient, at most 64 characters.
        study_id: the study within the patient; its UID is hashed from both.
        series_id: the series within the study.
        vendor: the manufacturer.
        item_id: the instance within the series.
        patient_name: in DICOM form, FAMILY^GIVEN.
        burned_in: whether the pixels hold text about the patient.
        probe_xy_px: the middle of the probe's face, the reference pixel of the tissue region.
        strip: an ECG trace, stored as a region of its own.

    Returns:
        The path.

    Raises:
        MediaError: the frames cannot be written, a text is too long, or a cine clip has no frame time.
    """
    frames = _check(path, frames)
    if frames.shape[0] > 1 and frame_time_ms is None:
        raise MediaError(path, f"{frames.shape[0]} frames without a frame time", "Give frame_time_ms")
    if frame_time_ms is not None:
        _check_times(path, frame_time_ms, frames.shape[0])
    for name, text in (("patient_id", patient_id), ("vendor", vendor), ("patient_name", patient_name)):
        if len(text) > 64 or "\\" in text or not text.isprintable():
            raise MediaError(
                path, f"{name} {text!r} does not fit a DICOM text", "Use at most 64 plain characters"
            )
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName, header.PatientID = patient_name, patient_id
    header.Manufacturer = vendor
    header.StudyInstanceUID = uid_from(patient_id, study_id)
    header.SeriesInstanceUID = uid_from(patient_id, study_id, series_id)
    header.SOPInstanceUID = uid_from(patient_id, study_id, series_id, item_id)
    multi_frame = frame_time_ms is not None
    header.SOPClassUID = UltrasoundMultiFrameImageStorage if multi_frame else UltrasoundImageStorage
    _add_fixed(header)
    header.BurnedInAnnotation = "YES" if burned_in else "NO"
    _add_pixels(header, frames)
    if frame_time_ms is not None:
        _add_times(header, frame_time_ms, frames.shape[0])
    regions = [] if spacing is None else [_tissue_region(frames[0], spacing, probe_xy_px)]
    regions += [] if strip is None else [_ecg_region(strip)]
    if regions:
        header.SequenceOfUltrasoundRegions = regions
    return atomic_write(path, dicom_bytes(header, ExplicitVRLittleEndian))


def uid_from(*ids: str) -> str:
    """A DICOM UID (2.25. and 128 bits of a SHA-256) that depends on the ids alone."""
    digest = hashlib.sha256("\0".join(ids).encode("utf-8", "surrogatepass")).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _add_fixed(header: Dataset) -> None:
    """The attributes that the standard asks for and that say nothing here; no dates, so that bytes repeat."""
    header.Modality = "US"
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.LossyImageCompression = "00"
    header.InstanceNumber, header.SeriesNumber = 1, 1
    for empty in (
        "AccessionNumber",
        "Laterality",
        "PatientBirthDate",
        "PatientOrientation",
        "PatientSex",
        "ReferringPhysicianName",
        "StudyDate",
        "StudyID",
        "StudyTime",
    ):
        setattr(header, empty, "")


def _add_pixels(header: Dataset, frames: np.ndarray) -> None:
    header.Rows, header.Columns = frames.shape[1:3]
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit, header.PixelRepresentation = 7, 0
    header.SamplesPerPixel = 3 if frames.ndim == 4 else 1
    header.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        header.PlanarConfiguration = 0
    raw = frames.tobytes()
    header.PixelData = raw + b"\0" * (len(raw) % 2)
    header["PixelData"].VR = "OB"


def _check_times(path: Path | str, frame_time_ms: float | Sequence[float], frames: int) -> None:
    """Refuse what is no time.

    Raises:
        MediaError: not above 0, or not one for each frame.
    """
    vector = isinstance(frame_time_ms, Sequence)
    steps = np.array(frame_time_ms[1:] if isinstance(frame_time_ms, Sequence) else [frame_time_ms])
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise MediaError(path, f"frame time {frame_time_ms} ms is not usable", "Give milliseconds above 0")
    if vector and len(steps) + 1 != frames:
        raise MediaError(path, f"{len(steps) + 1} frame times of {frames} frames", "Give one for each")


def _add_times(header: Dataset, frame_time_ms: float | Sequence[float], frames: int) -> None:
    header.NumberOfFrames = frames
    if isinstance(frame_time_ms, Sequence):
        header.FrameTimeVector = ["0", *(f"{step:.10g}" for step in frame_time_ms[1:])]
        header.FrameIncrementPointer = Tag("FrameTimeVector")
        return
    header.FrameTime = f"{frame_time_ms:.10g}"
    header.FrameIncrementPointer = Tag("FrameTime")


def _tissue_region(frame: np.ndarray, spacing: Spacing, probe_xy_px: tuple[float, float] | None) -> Dataset:
    height, width = frame.shape[:2]
    region = _region((0, 0, width - 1, height - 1), SPATIAL_2D, TISSUE_2D, flags=0)
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETRES
    region.PhysicalDeltaX, region.PhysicalDeltaY = spacing.col_mm / 10, spacing.row_mm / 10
    if probe_xy_px is not None:
        region.ReferencePixelX0, region.ReferencePixelY0 = (round(value) for value in probe_xy_px)
        region.ReferencePixelPhysicalValueX = region.ReferencePixelPhysicalValueY = 0.0
    return region


def _ecg_region(strip: Strip) -> Dataset:
    region = _region(strip.box, WAVEFORM, ECG_TRACE, flags=ABOVE_OTHERS)
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = SECONDS, NO_UNIT
    region.PhysicalDeltaX, region.PhysicalDeltaY = strip.s_per_px, 1.0
    return region


def _region(box: tuple[int, int, int, int], form: int, kind: int, *, flags: int) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = form, kind, flags
    region.RegionLocationMinX0, region.RegionLocationMinY0 = box[:2]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = box[2:]
    return region


def dicom_bytes(header: Dataset, syntax: UID) -> bytes:
    """A DICOM file of a data set whose pixels are in the transfer syntax already."""
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.ImplementationClassUID = UID(uid_from("insonate"))
    header.file_meta.ImplementationVersionName = VERSION_NAME
    content = io.BytesIO()
    dcmwrite(content, header, enforce_file_format=True)
    return content.getvalue()


def _check(path: Path | str, frames: np.ndarray) -> np.ndarray:
    """`frames` as a contiguous uint8 array T H W or T H W 3.

    Raises:
        MediaError: it is none.
    """
    frames = np.ascontiguousarray(frames)
    pictures = frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)
    if frames.dtype != np.uint8 or not pictures or 0 in frames.shape:
        what = f"frames of shape {frames.shape} and type {frames.dtype} cannot be written"
        raise MediaError(path, what, "Give uint8, grey (T H W) or RGB (T H W 3)")
    return frames
