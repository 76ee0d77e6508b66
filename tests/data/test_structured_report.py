"""Structured reports: what is written reads back, in the right frame, and dciodvfy accepts it."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from pydicom import dcmread

from insonate.data.media import write_dicom, write_png
from insonate.data.spacing import Spacing
from insonate.data.structured_report import Caliper, Measurements, write_report
from insonate.errors import InsonateError, MediaError

pytest.importorskip("highdicom", reason="needs the extra sr (highdicom)")

BPD = np.array([[20.0, 30.0], [60.0, 32.0]])
HEAD = np.array([[40.0, 20.0], [40.0, 60.0], [70.0, 40.0], [10.0, 40.0]])
ANGLE = np.array([[10.0, 10.0], [30.0, 12.0], [50.0, 50.0]])


def medium(path, frames=3, study="s1"):
    images = np.random.default_rng(0).integers(0, 255, (frames, 80, 96)).astype(np.uint8)
    return write_dicom(
        path, images, spacing=Spacing(row_mm=0.2, col_mm=0.2), frame_time_ms=40.0 if frames > 1 else None,
        patient_id="p1", study_id=study, series_id="1", vendor="phantom", item_id=path.name,
    )  # fmt: skip


def measured(path, frame=0):
    lines = (("bpd_mm", "mm", "line", BPD, 8.01), ("hc_mm", "mm", "ellipse", HEAD, 32.0),
             ("aop_deg", "deg", "angle", ANGLE, 95.0))  # fmt: skip
    calipers = [
        Caliper(name=name, title=name, value=value, unit=unit, kind=kind, points_xy=points, frame=frame)
        for name, unit, kind, points, value in lines
    ]
    calipers.append(Caliper(name="ga_weeks", title="GA", value=20.1, unit="weeks"))
    return Measurements(path=path, title="HC", calipers=tuple(calipers))


def items(dataset):
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from items(item)


def test_calipers_read_back_in_their_frame_with_the_study_s_identifiers(tmp_path):
    clip, still = medium(tmp_path / "clip.dcm"), medium(tmp_path / "still.dcm", frames=1)
    report = dcmread(
        write_report(tmp_path / "sr.dcm", [measured(clip, frame=2), measured(still)], model="m", version="1")
    )
    source = dcmread(clip)
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "StudyID", "AccessionNumber"):
        assert report.get(name, "") == source.get(name, "")
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    places = [item for item in items(report) if item.get("ValueType") == "SCOORD"]
    assert [place.GraphicType for place in places] == ["POLYLINE", "ELLIPSE", "POLYLINE"] * 2
    assert np.reshape(places[0].GraphicData, (-1, 2)) == pytest.approx(BPD + 0.5)
    assert np.reshape(places[1].GraphicData, (-1, 2)) == pytest.approx(HEAD[[2, 3, 0, 1]] + 0.5)
    assert np.reshape(places[2].GraphicData, (-1, 2)) == pytest.approx(ANGLE + 0.5)
    referenced = [place.ContentSequence[0].ReferencedSOPSequence[0] for place in places]
    assert [one.get("ReferencedFrameNumber") for one in referenced] == [3] * 3 + [None] * 3
    assert referenced[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    values = [item.MeasuredValueSequence[0] for item in items(report) if item.get("ValueType") == "NUM"]
    assert [float(one.NumericValue) for one in values] == [8.01, 32.0, 95.0, 20.1] * 2
    units = [one.MeasurementUnitsCodeSequence[0].CodeValue for one in values[:4]]
    assert units == ["mm", "mm", "deg", "wk"]


def test_dciodvfy_finds_no_error(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt install dicom3tools)")
    path = write_report(
        tmp_path / "sr.dcm", [measured(medium(tmp_path / "a.dcm"), 1)], model="m", version="1"
    )
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert "ComprehensiveSR" in told
    assert "Error" not in told


@pytest.mark.parametrize("name", ["cornerstone_no-pixel-spacing_3regions", "fodicom_DIRW0007_ACUSON_65f",
                                  "orthanc_MINDRAY_RLE_YBR_FULL", "dicomparser_ACUSON_echo_8f"])  # fmt: skip
def test_dciodvfy_finds_no_error_in_reports_on_real_files(shared_data, tmp_path, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (apt install dicom3tools)")
    source = shared_data / "dicom_us" / f"{name}.dcm"
    path = write_report(tmp_path / "sr.dcm", [measured(source)], model="m", version="1")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in done.stdout + done.stderr


def test_a_header_of_another_time_is_put_right(tmp_path):
    path = medium(tmp_path / "a.dcm", frames=1)
    header = dcmread(path)
    header.StudyTime, header.StudyDate = "112501", "19941105"
    header["StudyTime"]._value = "11:25:01"
    header["StudyDate"]._value = "1994.11.05"
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6"
    header.save_as(path)
    report = dcmread(write_report(tmp_path / "sr.dcm", [measured(path)], model="m", version="1"))
    assert (report.StudyTime, report.StudyDate) == ("112501", "19941105")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.6"


def test_what_cannot_be_reported_on_is_refused(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(MediaError, match="no DICOM file"):
        write_report(tmp_path / "sr.dcm", [measured(tmp_path / "a.png")], model="m", version="1")
    first, second = medium(tmp_path / "a.dcm"), medium(tmp_path / "b.dcm", study="s2")
    with pytest.raises(InsonateError, match="2 studies"):
        write_report(tmp_path / "sr.dcm", [measured(first), measured(second)], model="m", version="1")
    with pytest.raises(InsonateError, match="no measurement"):
        write_report(tmp_path / "sr.dcm", [], model="m", version="1")
    header = dcmread(first)
    del header.StudyInstanceUID
    header.save_as(first)
    with pytest.raises(MediaError, match="StudyInstanceUID"):
        write_report(tmp_path / "sr.dcm", [measured(first)], model="m", version="1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InsonateError, match="highdicom"):
        write_report(tmp_path / "sr.dcm", [measured(second)], model="m", version="1")
    assert not (tmp_path / "sr.dcm").exists()
