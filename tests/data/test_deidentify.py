"""De-identification: nothing planted comes through, names are stable, measurements and colour stay."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import suppress

import numpy as np
import planted
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from insonate.cli import main
from insonate.data.deidentify import deidentify
from insonate.data.dicom_profile import EMPTY, NUMBERS, known_vendor, profile_tags
from insonate.data.media import probe, read_frames, write_dicom, write_video
from insonate.data.spacing import Spacing
from insonate.errors import InsonateError

TOKEN = "ZZPHIZZ"


def echoes(frames=1, seed=0):
    """T 96 128: a moving rectangle of speckle with black around it, and a bright mark in a corner."""
    rng = np.random.default_rng(seed)
    clip = np.zeros((frames, 96, 128), np.uint8)
    clip[:, 20:84, 24:104] = rng.integers(40, 125, (frames, 64, 80))
    clip[:, 2:10, 2:40] = 255
    return clip


def dicom(path, frames=3, **tags):
    write_dicom(
        path, echoes(frames), spacing=Spacing(row_mm=0.2, col_mm=0.3), frame_time_ms=40.0,
        patient_id=TOKEN + "1", study_id="s", series_id="r",
        vendor="Philips Medical Systems " + TOKEN, item_id=str(path),
    )  # fmt: skip
    header = pydicom.dcmread(path)
    header.PatientName = TOKEN + "^ANNA"
    header.add_new(Tag("OtherPatientIDs"), "LO", TOKEN)
    header.add_new(0x00091001, "LO", TOKEN)
    header.add_new(0x00090010, "LO", "ACME")
    nested = Dataset()
    nested.PatientName = TOKEN
    header.RequestAttributesSequence = [nested]
    header.SequenceOfUltrasoundRegions[0].add_new(0x00091001, "LO", TOKEN)
    header.SequenceOfUltrasoundRegions[0].PatientComments = TOKEN
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.preamble = TOKEN.encode().ljust(128, b"\0")
    header.save_as(path)
    return path


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "in"
    (folder / TOKEN).mkdir(parents=True)
    dicom(folder / TOKEN / f"{TOKEN}.dcm")
    note = PngInfo()
    note.add_text("Comment", TOKEN)
    Image.fromarray(echoes()[0]).save(folder / f"{TOKEN}.png", pnginfo=note)
    write_video(folder / "clip.mp4", echoes(6), 25.0)
    with (folder / "clip.mp4").open("ab") as file:
        file.write((8 + len(TOKEN)).to_bytes(4, "big") + b"free" + TOKEN.encode())
    return folder


def everything(folder):
    """All bytes and names, streams inflated, of a folder."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.read_bytes()
            yield from inflated(path.read_bytes())


def inflated(data):
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(data[match.start() :])


def assert_absent(folder, *texts):
    for found in everything(folder):
        for text in (*texts, TOKEN):
            assert text.encode() not in found
            assert text.encode("utf-16-le") not in found


def left_no_trace(out, capfd):
    """Run the command into `out`: nothing planted is there or told, the broken file is. What was told."""
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert_absent(out)
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err
    errors = (out.with_name(f"{out.name}.private") / "errors.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in errors] == [f"broken_{TOKEN}.dcm"]
    return told.err


def test_what_was_planted_is_in_no_byte_name_or_line(archive, tmp_path, monkeypatch, capfd):
    (archive / f"broken_{TOKEN}.dcm").write_bytes((archive / TOKEN / f"{TOKEN}.dcm").read_bytes()[:3000])
    monkeypatch.setattr(sys, "argv", ["insonate", "data", "deidentify", str(archive), str(tmp_path / "out")])
    assert "1 files were left out" in left_no_trace(tmp_path / "out", capfd)


def test_calibration_times_and_echoes_stay_and_the_rest_is_black(archive, tmp_path):
    result = deidentify(archive, tmp_path / "out")
    row = next(row for row in result.manifest.rows if row["kind"] == "dicom")
    path = tmp_path / "out" / row["path"]
    info, header = probe(path), pydicom.dcmread(path)
    assert info.spacing == Spacing(row_mm=0.2, col_mm=0.3)
    assert (info.frames, info.fps, info.vendor) == (3, 25.0, "Philips")
    before, after = echoes(3), read_frames(path)
    assert np.array_equal(after[:, 22:82, 26:102], before[:, 22:82, 26:102])
    assert not after[:, :12, :44].any()
    assert (header.PatientIdentityRemoved, header.BurnedInAnnotation) == ("YES", "NO")
    assert [code.CodeValue for code in header.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert path.read_bytes()[:128] == bytes(128)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize(
    ("frames", "changes"),
    [
        (1, {"FrameTime": None, "NumberOfFrames": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.6"}),
        (3, {"SeriesNumber": None, "InstanceNumber": None, "PixelAspectRatio": ["1", "1"]}),
        (3, {"FrameTime": None, "CineRate": 25, "FrameIncrementPointer": None}),
    ],
)
def test_headers_hold_what_the_standard_wants(tmp_path, frames, changes):
    (tmp_path / "in").mkdir()
    path = dicom(tmp_path / "in" / "a.dcm", frames)
    header = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    header.save_as(path)
    result = deidentify(tmp_path / "in", tmp_path / "out", workers=1)
    made = tmp_path / "out" / result.manifest.rows[0]["path"]
    told = subprocess.run(["dciodvfy", "-new", made], capture_output=True, text=True, check=False)
    assert "Error" not in told.stdout + told.stderr


def test_doppler_colour_stays(tmp_path):
    clip = np.repeat(echoes(2)[..., None], 3, -1)
    clip[:, 40:60, 50:70] = (200, 30, 20)
    (tmp_path / "in").mkdir()
    write_dicom(
        tmp_path / "in" / "a.dcm", clip, spacing=None, frame_time_ms=40.0, patient_id="1", study_id="1",
        series_id="1", vendor="", item_id="1",
    )  # fmt: skip
    result = deidentify(tmp_path / "in", tmp_path / "out")
    after = read_frames(tmp_path / "out" / result.manifest.rows[0]["path"])
    assert (after[:, 42:58, 52:68] == (200, 30, 20)).all()


def test_a_key_gives_the_same_names_and_another_key_others(archive, tmp_path):
    first = deidentify(archive, tmp_path / "one")
    key = tmp_path / "one.private" / "key"
    again = deidentify(archive, tmp_path / "two", key=key)
    other = deidentify(archive, tmp_path / "three")
    names = [
        [(row["path"], row["patient_id"], row["study_id"]) for row in r.manifest.rows]
        for r in (first, again, other)
    ]
    assert names[0] == names[1]
    assert not set(names[0]) & set(names[2])
    assert key.stat().st_mode & 0o077 == 0


def test_patients_stay_together_and_apart(tmp_path):
    (tmp_path / "in").mkdir()
    for number, patient in enumerate(("A7", "a7 ", "B2", "")):
        dicom(tmp_path / "in" / f"{number}.dcm", frames=2, PatientID=patient)
    dicom(tmp_path / "in" / "5.dcm", frames=2, PatientID="")
    result = deidentify(tmp_path / "in", tmp_path / "out")
    assert len(set(result.manifest.column("patient_id"))) == 4


def test_a_second_run_makes_only_what_is_new(archive, tmp_path):
    deidentify(archive, tmp_path / "out")
    dicom(archive / "new.dcm")
    gone = next((tmp_path / "out" / "media").rglob("*.png"))
    gone.unlink()
    with (tmp_path / "out.private" / "done.jsonl").open("a") as journal:
        journal.write('{"path": "cut by a ki')
    result = deidentify(archive, tmp_path / "out")
    assert (len(result.manifest), result.kept) == (4, 2)
    assert gone.is_file()


def test_another_key_for_the_same_folder_is_refused(archive, tmp_path):
    deidentify(archive, tmp_path / "out")
    with pytest.raises(InsonateError, match="another key"):
        deidentify(archive, tmp_path / "out", key=tmp_path / "other")


@pytest.mark.parametrize(("out", "private"), [("in/out", None), ("out", "out/private"), (".", None)])
def test_folders_within_each_other_are_refused(archive, tmp_path, out, private):
    with pytest.raises(InsonateError, match="would lie in"):
        deidentify(archive, tmp_path / out, private=private and tmp_path / private)


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_what_shows_no_echoes_is_blanked_entirely(tmp_path, grey):
    (tmp_path / "in").mkdir()
    Image.new("L", (80, 60), grey).save(tmp_path / "in" / "a.png")
    result = deidentify(tmp_path / "in", tmp_path / "out")
    assert result.errors == []
    assert not read_frames(tmp_path / "out" / result.manifest.rows[0]["path"]).any()
    assert "1 files show no area of echoes" in result.notes[0]


@pytest.mark.parametrize("kind", ["media", "dicom"])
def test_hostile_files_give_no_identity_away(shared_data, tools, tmp_path, monkeypatch, capfd, kind):
    hostile, archive = tmp_path / "hostile", tmp_path / "in"
    command = [sys.executable, tools / "hostile.py", shared_data / "pocus_lung_videos", hostile]
    subprocess.run([*command, "--kinds", kind, "--count", "330", "--small"], check=True, capture_output=True)
    with (hostile / "index.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cases = [case for case in csv.DictReader(file) if case["check"] == "no-phi"]
    assert len(cases) >= 4
    archive.mkdir()
    for number, case in enumerate(cases):  # the names of some are hostile too: another test has those
        shutil.copyfile(hostile / case["file"], archive / f"{number}")
    monkeypatch.setattr(sys, "argv", ["insonate", "data", "deidentify", str(archive), str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        main()
    assert_absent(tmp_path / "out")
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err
    done = map(json.loads, (tmp_path / "out.private" / "done.jsonl").read_text().splitlines())
    assert {entry["path"] for entry in done} >= {
        f"{number}" for number, case in enumerate(cases) if case["expected"] == "ok"
    }


def test_nothing_that_the_profile_names_is_in_the_outputs(tmp_path):
    planted.make_archive(tmp_path / "in", 20)
    assert {text for _, text in planted.found_in(tmp_path / "in")} >= set(planted.PLANTED)  # the search finds
    result = deidentify(tmp_path / "in", tmp_path / "one")
    assert (len(result.manifest), result.errors) == (20, [])
    assert planted.found_in(tmp_path / "one") == []
    deidentify(tmp_path / "in", tmp_path / "two", key=tmp_path / "one.private" / "key")
    assert planted.digests(tmp_path / "one") == planted.digests(tmp_path / "two")


def test_writing_beside_the_echoes_is_blank_and_most_within():
    rng = np.random.default_rng(1)
    frames = [Image.fromarray(planted.echoes(1, seed)[0]).resize((320, 256)) for seed in range(2)]
    shares = np.array([planted.blanked_ink(np.asarray(frames[i % 2]), rng) for i in range(4)])
    assert np.nanmin(shares[:, 0]) == 1
    assert np.nanmean(shares[:, 1]) > 0.8


def test_nothing_that_stays_is_named_by_the_profile():
    assert not profile_tags() & {Tag(keyword) for keyword in NUMBERS}
    assert {
        Tag(keyword) for keyword in ("PatientBirthDate", "StudyDate", "AccessionNumber")
    } <= profile_tags()
    assert "PatientSex" in EMPTY


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("GE Healthcare", "GE"),
        ("SIEMENS", "Siemens"),
        ("St. George Hospital", ""),
        ("Hewlett Packard", "Hewlett-Packard"),
    ],
)
def test_only_known_makers_are_named(text, vendor):
    assert known_vendor(text) == vendor
