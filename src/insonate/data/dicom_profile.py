"""A DICOM header without identity: built anew from a list of what may stay, under the PS3.15 Basic Profile.

Nothing is copied unless it is named here, so private, nested, retired and unknown elements, overlays, curves,
preamble and padding have no way through. What stays is numbers (checked, and written anew) and words of
closed lists. The profile's table, as dicom-anonymizer keeps it, is the second guard: an element that it
names is never copied, whatever this file says.

Source: DICOM PS3.15 2026c, E.1 (Basic Application Level Confidentiality Profile), E.3.1 (Clean Pixel Data).
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset
from pydicom.pixels.encoders.base import get_encoder
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from insonate.data.limits import limits
from insonate.data.media.dicom import PIXEL_TAGS
from insonate.data.media.dicom_bytes import plain
from insonate.data.media.regular import open_regular
from insonate.data.media.writing import dicom_bytes
from insonate.data.pseudonyms import Pseudonyms

NUMBERS = (
    "ActualFrameDuration", "BoneThermalIndex", "CineRate", "CranialThermalIndex", "DepthOfScanField",
    "EffectiveDuration", "FrameDelay", "FrameTime", "FrameTimeVector", "InstanceNumber", "MechanicalIndex",
    "PixelAspectRatio", "PixelSpacing", "PreferredPlaybackSequencing", "RecommendedDisplayFrameRate",
    "SeriesNumber", "SoftTissueThermalIndex", "StartTrim", "StopTrim",
)  # fmt: skip
"""elements of the data set that stay"""
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
"""that are replaced by keyed ones"""
EMPTY = (
    "AccessionNumber", "Laterality", "PatientBirthDate", "PatientOrientation", "PatientSex",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
"""attributes that the standard wants present; the profile empties them"""
REGIONS = "SequenceOfUltrasoundRegions"
NUMBER_VRS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "DS", "IS"})
MOST_VALUES = 65_536
VENDORS = (
    "Acuson", "Aloka", "ATL", "BK Medical", "Butterfly", "Canon", "Chison", "Clarius", "Esaote",
    "Fujifilm", "GE", "Hitachi", "Hewlett-Packard", "Konica Minolta", "Medison", "Medistim", "Mindray",
    "Philips", "Samsung", "Siemens", "SonoScape", "SonoSite", "Supersonic", "Telemed", "Toshiba",
    "Ultrasonix", "Verasonics", "Vinno", "Zonare",
)  # fmt: skip
"""the makers whose names may stay, since any other text in Manufacturer may be a hospital or a person"""
METHOD = "insonate: PS3.15 Basic Profile, Clean Pixel Data"
OPTIONS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
)
"""PS3.16 CID 7050"""


def cleaned_dicom(path: Path, name: str, frames: np.ndarray, names: Pseudonyms, patient: str) -> bytes:
    """The file anew: a header of what may stay, and the given pixels without loss (RLE).

    Args:
        path: the original.
        name: its path within the archive, which stands for UIDs that it lacks.
        frames: T H W or T H W 3, uint8: its pixels, already blanked.
        names: pseudonyms.
        patient: the patient's pseudonym.

    Raises:
        MediaError: the header cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's quote values, which may name people
        return dicom_bytes(_anew(_header(path), name, frames, names, patient), RLELossless)


def _anew(old: Dataset, name: str, frames: np.ndarray, names: Pseudonyms, patient: str) -> Dataset:
    new = Dataset()
    new.SpecificCharacterSet, new.Modality, new.ImageType = "ISO_IR 192", "US", ["DERIVED", "PRIMARY"]
    new.PatientName, new.PatientID = f"{patient}^", patient  # a family name alone is a retired form
    for keyword in EMPTY:
        setattr(new, keyword, "")
    for keyword in UIDS[:3]:
        setattr(new, keyword, names.uid(_text(old, keyword) or f"{keyword} of {name}"))
    if _text(old, UIDS[3]):
        new.FrameOfReferenceUID = names.uid(_text(old, UIDS[3]))
    new.SOPClassUID = _storage_class(_text(old, "SOPClassUID"), len(frames))
    new.Manufacturer = known_vendor(_text(old, "Manufacturer"))
    _copy_numbers(old, new, NUMBERS)
    _mend_numbers(new)
    regions = [_region(item) for item in list(old.get(REGIONS) or [])[: limits().regions]]
    if regions:
        setattr(new, REGIONS, regions)
    _add_flags(new, lossy=_text(old, "LossyImageCompression") == "01")
    _add_pixels(new, frames)
    return new


def known_vendor(text: str) -> str:
    """The maker that a text names, in our spelling; empty where it names none that we know."""
    words = text.casefold().replace("-", " ").split()
    for vendor in VENDORS:
        parts = vendor.casefold().replace("-", " ").split()
        if any(words[i : i + len(parts)] == parts for i in range(len(words))):
            return vendor
    return ""


@cache
def profile_tags() -> frozenset[BaseTag]:
    """All single attributes that the Basic Profile removes, empties or replaces."""
    from dicomanonymizer.dicom_anonymization_databases.dicomfields_2026c import ALL_TAGS

    return frozenset(Tag(tag[0], tag[1]) for tag in ALL_TAGS if len(tag) == 2)


def _header(path: Path) -> Dataset:
    wanted: list[BaseTag | int] = [
        Tag(keyword) for keyword in (*NUMBERS, *UIDS, REGIONS, "SOPClassUID", "Manufacturer",
                                     "LossyImageCompression", "SpecificCharacterSet")
    ]  # fmt: skip
    with open_regular(path) as opened:
        file, syntax = plain(path, opened)
        file.seek(syntax.start)
        return read_dataset(
            file, syntax.implicit, syntax.order == "<", stop_when=_at_pixels,
            defer_size=limits().element_bytes, specific_tags=wanted,
        )  # fmt: skip


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag in PIXEL_TAGS


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "")


def _storage_class(uid: str, num_frames: int) -> UID:
    """The class of what is written: current, and for so many frames."""
    name = UID(uid).name  # the UID itself where the dictionary lacks it
    if "Ultrasound" in name:
        return UltrasoundMultiFrameImageStorage if num_frames > 1 else UltrasoundImageStorage
    return UID(uid) if "Storage" in name else SecondaryCaptureImageStorage


def _mend_numbers(new: Dataset) -> None:
    """What the standard wants of the numbers that stay."""
    for keyword in ("SeriesNumber", "InstanceNumber"):
        if keyword not in new:
            setattr(new, keyword, None)
    ratio = new.get("PixelAspectRatio")
    if ratio is not None and len(set(ratio)) < 2:  # square pixels are not told
        del new.PixelAspectRatio
    rate = new.get("CineRate") or new.get("RecommendedDisplayFrameRate")
    if "FrameTime" not in new and "FrameTimeVector" not in new and rate and rate > 0:
        new.FrameTime = _short(1000 / rate)


def _region(old: Dataset) -> Dataset:
    """Every number of the region's own group: geometry, scales, Doppler settings; nothing else."""
    new = Dataset()
    keywords = [keyword_for_tag(tag) for tag in old.keys() if tag.group == 0x0018]  # noqa: SIM118  a Dataset
    _copy_numbers(old, new, [keyword for keyword in keywords if keyword])
    return new


def _copy_numbers(old: Dataset, new: Dataset, keywords: tuple[str, ...] | list[str]) -> None:
    """Copy elements that hold finite numbers and that neither profile nor dictionary keeps from staying."""
    for keyword in keywords:
        tag = Tag(keyword)
        if tag not in old or tag in profile_tags() or dictionary_VR(tag) not in NUMBER_VRS:
            continue
        values = _finite(old.get(keyword))
        if values:
            whole = dictionary_VR(tag) not in {"FL", "FD", "DS"}
            numbers = [int(v) if whole else _short(v) for v in values]
            setattr(new, keyword, numbers if len(numbers) > 1 else numbers[0])


def _finite(stored: Any) -> list[float]:
    values = stored if isinstance(stored, list | tuple) or hasattr(stored, "append") else [stored]
    try:
        numbers = [float(value) for value in list(values)[:MOST_VALUES]]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(math.isfinite(v) for v in numbers) else []


def _short(value: float) -> float:
    """A number that fits the sixteen characters of a decimal string."""
    return float(f"{value:.9g}")


def _add_flags(new: Dataset, *, lossy: bool) -> None:
    new.PatientIdentityRemoved, new.BurnedInAnnotation = "YES", "NO"
    new.LongitudinalTemporalInformationModified = "REMOVED"
    new.DeidentificationMethod = METHOD
    new.LossyImageCompression = "01" if lossy else "00"
    codes = []
    for value, meaning in OPTIONS:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    new.DeidentificationMethodCodeSequence = codes


def _add_pixels(new: Dataset, frames: np.ndarray) -> None:
    colour = frames.ndim == 4
    new.Rows, new.Columns = frames.shape[1:3]
    new.SamplesPerPixel = 3 if colour else 1
    new.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        new.PlanarConfiguration = 0
    new.BitsAllocated = new.BitsStored = 8
    new.HighBit, new.PixelRepresentation = 7, 0
    if len(frames) > 1:
        new.NumberOfFrames = len(frames)
        pointer = next((k for k in ("FrameTime", "FrameTimeVector") if k in new), None)
        if pointer:
            new.FrameIncrementPointer = Tag(pointer)
    options = {
        "rows": new.Rows, "columns": new.Columns, "samples_per_pixel": new.SamplesPerPixel,
        "bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0, "number_of_frames": 1,
        "photometric_interpretation": new.PhotometricInterpretation,
    }  # fmt: skip
    if colour:
        options["planar_configuration"] = 0
    encoder = get_encoder(RLELossless)
    coded = [encoder.encode(frame.tobytes(), **options) for frame in frames]
    new.PixelData = encapsulate(coded)
    new["PixelData"].VR = "OB"
    new["PixelData"].is_undefined_length = True
