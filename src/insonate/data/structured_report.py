"""DICOM structured reports: TID 1500, each caliper a coordinate (SCOORD) in its frame.

Patient, study and its identifiers are those of the source, whose header is read again; nothing else of it is
kept. Coordinates of DICOM have (0, 0) at the corner of the first pixel, ours at its centre: half a pixel is
added. Needs highdicom (extra `sr`). Checked with `dciodvfy`. Source: DICOM PS3.16 TID 1500, 1501, 300;
names of measurements from CID 12004 to 12019 and 12200 to 12215, where they have one.
Shapes: N points of a figure; (x, y) in pixels of the original.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from insonate.data.media import probe
from insonate.errors import InsonateError, MediaError
from insonate.files import atomic_write

OWN, DICOM, LOINC, UCUM, SNOMED = "99INSONATE", "DCM", "LN", "UCUM", "SCT"
NAMES = {
    "hc_mm": ("11984-2", "Head Circumference"), "bpd_mm": ("11820-8", "Biparietal Diameter"),
    "ofd_mm": ("11851-3", "Occipital-Frontal Diameter"), "ci_percent": ("11823-2", "Cephalic Index"),
    "ac_mm": ("11979-2", "Abdominal Circumference"), "fl_mm": ("11963-6", "Femur Length"),
    "ad_vertical_mm": ("11818-2", "Anterior-Posterior Abdominal Diameter"),
    "ad_horizontal_mm": ("11862-0", "Transverse Abdominal Diameter"),
    "ga_weeks": ("18185-9", "Gestational Age"), "efw_g": ("11727-5", "Estimated Weight"),
    "cl_mm": ("11961-0", "Cervix Length"), "pa_mm": ("18020-8", "Main Pulmonary Artery Diameter"),
    "ivc_mm": ("18006-7", "Inferior Vena Cava Diameter"),
    "ivc_collapse_percent": ("18050-5", "Inferior Vena Cava % Collapse"),
    "rap_mmhg": ("18070-3", "Right Atrium Systolic Pressure"),
    "lv_diastole_mm": ("29436-3", "Left Ventricle Internal End Diastolic Dimension"),
    "lv_systole_mm": ("29438-9", "Left Ventricle Internal Systolic Dimension"),
    "ivs_diastole_mm": ("18154-5", "Interventricular Septum Diastolic Thickness"),
    "lvpw_diastole_mm": ("18152-9", "Left Ventricle Posterior Wall Diastolic Thickness"),
    "lv_fs_percent": ("18051-3", "Left Ventricular Fractional Shortening"),
    "ef_percent": ("18043-0", "Left Ventricular Ejection Fraction by US"),
    "lv_mass_g": ("18087-7", "Left Ventricle Mass"),
}  # fmt: skip
"""our name → LOINC code and meaning; others are told in a scheme of our own"""
UNITS = {
    "mm": "mm", "deg": "deg", "percent": "%", "weeks": "wk", "g": "g", "ml": "ml", "cm2": "cm2",
    "sd": "{s.d.}", "mmHg": "mm[Hg]", "g/m2": "g/m2", "ml/m2": "ml/m2", "px": "{pixels}", "": "1",
}  # fmt: skip
"""our unit → UCUM"""
IDENTITY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
"""that a report takes over; empty where the source says nothing"""
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
MOMENT = {"DA": re.compile(r"\d{8}"), "TM": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")}
"""dates and times as they may stand; others lose dots and colons first, or else are left out"""
RETIRED = {"1.2.840.10008.5.1.4.1.1.6": "1.2.840.10008.5.1.4.1.1.6.1",
           "1.2.840.10008.5.1.4.1.1.3": "1.2.840.10008.5.1.4.1.1.3.1"}  # fmt: skip
"""ultrasound, and ultrasound of several frames, before 1998"""
MEND = 'pip install "insonate[sr]"'
ROOT_UID = generate_uid(entropy_srcs=["insonate"])
"""of this software as an observer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caliper:
    """One value of a report, with its place where it has one."""

    name: str
    """e.g. `bpd_mm`"""
    title: str
    """for people, where the name has no code of DICOM"""
    value: float
    unit: str
    """as `Quantity.unit` has it"""
    kind: Literal["line", "ellipse", "angle", "none"] = "none"
    """`none`: computed of others, without a place"""
    points_xy: np.ndarray | None = None
    """line 2 2; angle 3 2, its vertex in the middle; ellipse 4 2: ends of one diameter, then of the other"""
    frame: int = 0
    """counted from 0"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """The values of one DICOM file."""

    path: Path
    title: str
    """e.g. the name of the point set"""
    calipers: tuple[Caliper, ...]


def write_report(out: Path | str, groups: Sequence[Measurements], *, model: str, version: str) -> Path:
    """Write one report on media of one study.

    Args:
        out: `.dcm` file; one that is there is replaced.
        groups: one a medium, each with at least one value.
        model: what measured, as the algorithm's name.
        version: of insonate.

    Raises:
        InsonateError: highdicom is missing, there is nothing to report, or the media are of several studies.
        MediaError: a medium is no DICOM file, or lacks what identifies it.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise InsonateError(out, "structured reports need highdicom", MEND)
    if not any(group.calipers for group in groups):
        raise InsonateError(out, "there is no measurement to report", "Look at the warnings of the media")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values of the source that break a rule of their type
        told = [(group, _header(group.path)) for group in groups if group.calipers]
        studies = {str(header.StudyInstanceUID) for _, header in told}
        if len(studies) > 1:
            raise InsonateError(
                out, f"the media are of {len(studies)} studies", "Write a report for each study by itself"
            )
        buffer = io.BytesIO()
        try:
            _report(told, model, version).save_as(buffer)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            what = f"its header cannot be reported on ({type(error).__name__})"
            raise MediaError(told[0][0].path, what, "Repair the header of the source") from None
    return atomic_write(out, buffer.getvalue())


def _header(path: Path) -> Dataset:
    """The header of a DICOM file, after the door has checked it.

    Raises:
        MediaError: it is no DICOM file, or lacks an identifier.
    """
    if probe(path).kind != "dicom":
        raise MediaError(path, "is no DICOM file, a report would refer to nothing", "Leave out --sr")
    try:
        wanted = [*NEEDED, *IDENTITY, "NumberOfFrames"]  # no others, however long, are read
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=wanted)
    except Exception as error:  # noqa: BLE001  pydicom raises a dozen kinds
        raise MediaError(path, f"has no readable header ({type(error).__name__})", "Copy it again") from None
    missing = [name for name in NEEDED if not header.get(name)]
    if missing:
        raise MediaError(path, f"has no {', '.join(missing)}", "A report needs what identifies its source")
    return _kept(header)


def _kept(header: Dataset) -> Dataset:
    """What a report takes over of the source: identifiers, in UTF-8, and how many frames there are."""
    kept = Dataset()
    kept.SpecificCharacterSet = "ISO_IR 192"
    for name in NEEDED:
        setattr(kept, name, str(header.get(name)))
    for name in IDENTITY:
        element = header.get(name)
        text = "" if element is None else str(element).replace("\\", " ").strip()
        setattr(kept, name, _moment(text, header[name].VR) if element is not None else "")
    if kept.PatientSex not in {"M", "F", "O"}:
        kept.PatientSex = ""
    kept.NumberOfFrames = int(header.get("NumberOfFrames") or 1)
    return kept


def _moment(text: str, vr: str) -> str:
    """A date or time in DICOM's present form, or empty; any other text as it is."""
    if vr not in MOMENT:
        return text
    bare = text.replace(":", "") if vr == "TM" else text.replace(".", "")
    found = MOMENT[vr].match(bare)
    return found[0] if found else ""


def _report(told: Sequence[tuple[Measurements, Dataset]], model: str, version: str) -> Any:
    from highdicom import sr

    observer = sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", DICOM, "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=ROOT_UID, name="insonate", manufacturer_name="insonate", model_name=model[:64],
            serial_number=version,
        ),
    )  # fmt: skip
    algorithm = sr.AlgorithmIdentification(name=model[:64], version=version)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=Code("16310003", SNOMED, "Ultrasonography"),
        imaging_measurements=[_group(group, header, algorithm) for group, header in told],
        title=Code("126000", DICOM, "Imaging Measurement Report"),
    )
    headers = {str(header.SOPInstanceUID): header for _, header in told}
    report = sr.ComprehensiveSR(
        evidence=[_present(header) for header in headers.values()],
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=9900,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="insonate",
        series_description="Measurements by insonate, not for clinical use",
    )
    for reference in _references(report):
        reference.ReferencedSOPClassUID = headers[str(reference.ReferencedSOPInstanceUID)].SOPClassUID
    return report


def _present(header: Dataset) -> Dataset:
    """The header with the present class in the place of a retired one, which highdicom does not know."""
    changed = copy.deepcopy(header)
    changed.SOPClassUID = RETIRED.get(str(header.SOPClassUID), header.SOPClassUID)
    return changed


def _references(dataset: Dataset) -> Iterator[Dataset]:
    """All items that refer to an instance, however deep."""
    if "ReferencedSOPInstanceUID" in dataset:
        yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _references(item)


def _group(group: Measurements, header: Dataset, algorithm: Any) -> Any:
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=group.title[:64]),
        algorithm_id=algorithm,
        measurements=[_measurement(caliper, header) for caliper in group.calipers],
    )


def _measurement(caliper: Caliper, header: Dataset) -> Any:
    from highdicom import sr

    code, meaning = NAMES.get(caliper.name, (caliper.name, caliper.title[:64]))
    scheme = LOINC if caliper.name in NAMES else OWN
    unit = UNITS.get(caliper.unit, "1")
    return sr.Measurement(
        name=Code(code, scheme, meaning),
        value=float(caliper.value),
        unit=Code(unit, UCUM, "no units" if unit == "1" else unit.strip("{}")),
        tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(), identifier=caliper.name[:64]),
        referenced_coordinates=None if caliper.points_xy is None else [_coordinates(caliper, header)],
    )


def _coordinates(caliper: Caliper, header: Dataset) -> Any:
    from highdicom import sr

    frames = [caliper.frame + 1] if header.NumberOfFrames > 1 else None
    source = sr.SourceImageForRegion(
        referenced_sop_class_uid=header.SOPClassUID,
        referenced_sop_instance_uid=header.SOPInstanceUID,
        referenced_frame_numbers=frames,
    )
    points = np.asarray(caliper.points_xy, dtype=np.float64) + 0.5
    if caliper.kind == "ellipse":
        lengths = [np.linalg.norm(points[i] - points[i + 1]) for i in (0, 2)]
        points = points if lengths[0] >= lengths[1] else points[[2, 3, 0, 1]]  # the longer diameter first
        return sr.CoordinatesForMeasurement("ELLIPSE", points, source)
    return sr.CoordinatesForMeasurement("POLYLINE", points, source)
