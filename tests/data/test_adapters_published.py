"""Data sets in their published layouts, two or three items each, with the traps of the real ones."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from PIL import Image, ImageDraw

from insonate.cli import main
from insonate.data import media
from insonate.data.adapters import ADAPTERS
from insonate.data.adapters.gather import filled
from insonate.data.dataset import ManifestDataset
from insonate.data.pointsets import POINT_SETS
from insonate.data.targets import MaskTarget, ValueTarget
from insonate.data.transforms import InputFormat
from insonate.errors import InsonateError, ManifestError

FMT = InputFormat(height=48, width=64, channels=1)


def speckle(seed, hw=(48, 64)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (16, 20)).astype(np.uint8))
    return np.asarray(small.resize(hw[::-1], Image.Resampling.BICUBIC))


def clip(path, seed, frames=4, fps=25.0):
    media.write_video(path, np.stack([speckle(100 * seed + t) for t in range(frames)]), fps)
    if path.suffix == ".avi":  # the content decides, not the name
        assert media.probe(path).frames == frames


def table(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def nifti(path, array):
    """Uint8, as the source has it: x first."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 2, *array.shape[::-1], 1, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 0.3, 0.3, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[123] = 2
    header[344:348] = b"n+1\0"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(bytes(header) + array.tobytes()))


def masks_of(manifest, classes=("bg", "a", "b", "c")):
    dataset = ManifestDataset(manifest, FMT, MaskTarget(column="mask_path", classes=classes))
    return [np.asarray(dataset[i]["original_mask"]) for i in range(len(dataset))]


def test_camus_has_two_views_and_the_official_split(tmp_path):
    folder = tmp_path / "in" / "database_nifti"
    for patient in ("patient0001", "patient0002"):
        for view in ("2CH", "4CH"):
            for k, phase in enumerate(("ED", "ES")):
                stem = folder / patient / f"{patient}_{view}_{phase}"
                nifti(stem.with_name(stem.name + ".nii.gz"), speckle(k))
                nifti(stem.with_name(stem.name + "_gt.nii.gz"), np.full((48, 64), k + 1, np.uint8))
            table(folder / patient / f"Info_{view}.cfg", "ED: 1", "EF: 54.5", "ImageQuality: Good", "Age: 71")
    for name, patient in (("training", "patient0001"), ("validation", ""), ("testing", "patient0002")):
        table(tmp_path / "in" / "database_split" / f"subgroup_{name}.txt", patient)
    manifest = ADAPTERS["camus"](tmp_path / "in", tmp_path / "out")
    assert len(manifest) == 8
    assert [len(manifest.select(split=s)) for s in ("train", "test")] == [4, 4]
    assert {row["view"] for row in manifest.rows} == {"A2C", "A4C"}
    assert (manifest.rows[0]["ef"], manifest.rows[0]["age_years"]) == (54.5, 71)
    assert manifest.rows[0]["spacing_row_mm"] == pytest.approx(0.3)
    assert [int(mask.max()) for mask in masks_of(manifest)][:4] == [1, 2, 1, 2]
    assert "the whole data set has 2000" in manifest.notes[-1]
    (folder / "patient0002" / "patient0002_4CH_ES_gt.nii.gz").unlink()
    with pytest.raises(ManifestError, match="mask is missing"):
        ADAPTERS["camus"](tmp_path / "in", tmp_path / "again")


def test_echonet_dynamic_has_clips_and_traced_frames(tmp_path):
    root = tmp_path / "in" / "EchoNet-Dynamic"
    for k, name in enumerate(("0X1", "0X2")):
        clip(root / "Videos" / f"{name}.avi", k)
    table(
        root / "FileList.csv", "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split",
        "0X1,60.5,40,101,48,64,25,4,TRAIN", "0X2,30,90,130,48,64,25,4,TEST", "0X3,30,90,130,48,64,25,4,VAL",
    )  # fmt: skip
    lines = ["FileName,X1,Y1,X2,Y2,Frame"]
    for frame, half in ((1, 15), (3, 8), (9, 8)):
        lines += [f"0X1.avi,30,5,30,45,{frame}"]  # the long axis
        lines += [f"0X1.avi,{30 - half},{y},{30 + half},{y},{frame}" for y in range(10, 41, 5)]
    table(root / "VolumeTracings.csv", *lines)
    manifest = ADAPTERS["echonet_dynamic"](tmp_path / "in", tmp_path / "out")
    clips = ManifestDataset(manifest, FMT, ValueTarget(column="ef"))
    assert len(clips) == 2
    traced = [row for row in manifest.rows if row["mask_path"]]
    assert [(row["frame"], row["phase"]) for row in traced] == [(1, "ED"), (3, "ES")]
    first, second = masks_of(manifest)
    assert first.sum() == pytest.approx(31 * 31, rel=0.03)
    assert second.sum() == pytest.approx(17 * 31, rel=0.03)
    assert [note for note in manifest.notes if "1 of 3 files are missing" in note]
    assert [note for note in manifest.notes if "1 tracings name frames" in note]


def test_echonet_pediatric_keeps_a_patient_in_one_split(tmp_path):
    root = tmp_path / "in" / "pediatric_echo_avi" / "pediatric_echo_avi"
    for view, fold in (("A4C", 3), ("PSAX", 9)):
        clip(root / view / "Videos" / f"CR1-{view}-000001.avi", fold)
        table(
            root / view / "FileList.csv", "FileName,EF,Sex,Age,Weight,Height,Split",
            f"CR1-{view}-000001.avi,61.5,F,7,23.5,,{fold}",
        )  # fmt: skip
        table(
            root / view / "VolumeTracings.csv", "FileName,X,Y,Frame",
            *[f"CR1-{view}-000001.avi,{x},{y},2" for x, y in ((10, 10), (40, 10), (40, 30), (10, 30))],
            f"CR1-{view}-000001.avi,0,0,No Systolic",
        )  # fmt: skip
    manifest = ADAPTERS["echonet_pediatric"](tmp_path / "in", tmp_path / "out")
    assert {row["split"] for row in manifest.rows} == {"train"}
    assert [note for note in manifest.notes if "2 items moved" in note]
    assert [mask.sum() for mask in masks_of(manifest)] == [31 * 21] * 2
    assert manifest.rows[0]["height_cm"] is None


def test_echonet_lvh_points_are_in_one_order_and_give_the_scale(tmp_path):
    root = tmp_path / "in"
    clip(root / "Batch2" / "0XA.avi", 1)
    table(
        root / "MeasurementsList.csv",
        "HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split",
        "0XA,LVIDd,4.0,2,30,30,40,20,4,25,64,48,train", "0XA,IVSd,1.0,2,30,30,15,20,4,25,64,48,train",
        "0XA,LVIDs,3.0,3,30,30,15,30,4,25,64,48,train",
    )  # fmt: skip
    manifest = ADAPTERS["echonet_lvh"](root, tmp_path / "out")
    first, second = manifest.rows
    assert (first["keypoints_lvidd"], first["keypoints_ivsd"]) == ([30, 20, 30, 40], [30, 15, 30, 20])
    assert (second["keypoints_lvidd"], second["lvids_cm"], second["frame"]) == (None, 3.0, 3)
    assert first["spacing_row_mm"] == pytest.approx(2.0)
    plax = dict(zip(POINT_SETS["PLAX"].names, np.reshape(first["keypoints"], (22, 2)).tolist(), strict=True))
    assert (first["points_set"], plax["LV_p1"], plax["IVS_p2"]) == ("PLAX", [30, 20], [30, 20])
    assert np.isnan(plax["LVPW_p1"]).all()


def ellipse(hw, box):
    image = Image.new("L", hw[::-1])
    ImageDraw.Draw(image).ellipse(box, outline=255)
    return np.asarray(image)


def test_hc18_outlines_are_filled_even_past_the_border(tmp_path):
    root = tmp_path / "in"
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for name, box in (("010_HC", (10, 8, 50, 40)), ("010_2HC", (-12, 8, 50, 40))):
        media.write_png(root / "training_set" / f"{name}.png", speckle(1))
        media.write_png(root / "training_set" / f"{name}_Annotation.png", ellipse((48, 64), box))
        lines.append(f"{name}.png,0.069,44.3")
    table(root / "training_set_pixel_size_and_HC.csv", *lines)
    media.write_png(root / "test_set" / "011_HC.png", speckle(2))
    table(root / "test_set_pixel_size.csv", "filename,pixel size(mm)", "011_HC.png,0.1")
    manifest = ADAPTERS["hc18"](root, tmp_path / "out")
    assert [row["patient_id"] for row in manifest.rows] == ["010", "010", "011"]
    assert manifest.rows[2]["split"] == "test"
    for row, ofd in zip(manifest.rows[:2], ((50, 24, 10, 24), (50, 24, -12, 24)), strict=True):
        assert row["points_set"] == "HC"
        assert row["keypoints"][4:] == pytest.approx(ofd, abs=0.3)
    whole, cut = masks_of(manifest, ("bg", "head"))
    assert whole.sum() == pytest.approx(np.pi / 4 * 41 * 33, rel=0.03)
    assert cut.sum() == pytest.approx(np.pi / 4 * 63 * 33 - 270, rel=0.05)
    assert cut[24, 0]
    with pytest.raises(ManifestError, match="not closed"):
        filled(np.pad(np.ones((1, 9), np.uint8), 9), "a line")
    assert not filled(np.zeros((5, 5), np.uint8), "empty").any()


def test_busi_masks_are_joined_and_doubles_are_one_patient(tmp_path):
    root = tmp_path / "in" / "Dataset_BUSI_with_GT"
    for label, number, seed in (("benign", 1, 1), ("benign", 2, 2), ("malignant", 1, 2), ("normal", 1, 3)):
        image = speckle(seed, (96, 128))
        media.write_png(root / label / f"{label} ({number}).png", np.repeat(image[..., None], 3, 2))
        mask = np.zeros((96, 128), np.uint8)
        mask[10:20, 10:20] = 255 * (label != "normal")
        media.write_png(root / label / f"{label} ({number})_mask.png", mask)
    second = np.zeros((96, 128), np.uint8)
    second[50:60, 50:60] = 255
    media.write_png(root / "benign" / "benign (1)_mask_1.png", second)
    manifest = ADAPTERS["busi"](tmp_path / "in", tmp_path / "out")
    assert [row["label"] for row in manifest.rows] == ["benign", "benign", "malignant", "normal"]
    assert [int(mask.sum()) for mask in masks_of(manifest, ("bg", "lesion"))] == [200, 100, 100, 0]
    assert [row["patient_id"] for row in manifest.rows][1] == manifest.rows[2]["patient_id"]
    assert len({row["patient_id"] for row in manifest.rows}) == 3
    assert [note for note in manifest.notes if "1 of these pairs have two labels" in note]
    (root / "normal" / "normal (1)_mask.png").unlink()
    with pytest.raises(ManifestError, match="has no mask"):
        ADAPTERS["busi"](tmp_path / "in", tmp_path / "again")


def test_fetal_planes_reads_semicolons_and_a_header_with_blanks(tmp_path):
    root = tmp_path / "in"
    table(
        root / "FETAL_PLANES_DB_data.csv",
        "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train ",
        "Patient00001_Plane1_1_of_2;1;Other;Not A Brain;Op. 1;Voluson E6;1",
        "Patient00168_Plane3_1_of_3;168;Fetal brain;Trans-thalamic;Op. 2;Aloka;0",
    )
    for name in ("Patient00001_Plane1_1_of_2", "Patient00168_Plane3_1_of_3"):
        media.write_png(root / "Images" / f"{name}.png", speckle(1))
    first, second = ADAPTERS["fetal_planes_db"](root, tmp_path / "out").rows
    assert (first["label"], first["brain_plane"], first["vendor"]) == ("Other", None, "Voluson E6")
    assert (second["split"], second["patient_id"], second["brain_plane"]) == ("test", "168", "Trans-thalamic")


def test_covid_blues_mends_spellings_and_joins_the_test(tmp_path):
    root = tmp_path / "in" / "COVID-BLUES"
    names = ("patient_62_R1", "patient_62_L3_2", "patient_7_R1")
    for k, name in enumerate(names):
        clip(root / "lus_videos" / f"{name}.mp4", k)
    table(root / "clinical_variables.csv", "patient_id,cov_test,pat_age", "62,1.0,70", "7,0.0,31")
    lines = (
        "video_file,Severity Score,A-lines,B-lines,comments", 'patient_62_R1,2.0,yes,yes ,"broken, thick"',
        "patient_62_L3_2,0,no,no ,", "patient_7_R1,,yes,,", "patient_9_R2,1.0,no,yes,",
    )  # fmt: skip
    table(root / "severity.csv", *lines)
    manifest = ADAPTERS["covid_blues"](tmp_path / "in", tmp_path / "out")
    rows = manifest.rows
    assert [(r["patient_id"], r["view"], r["frames"]) for r in rows] == [
        ("62", "R1", 4), ("62", "L3", 4), ("7", "R1", 4),
    ]  # fmt: skip
    assert [(r["severity"], r["a_lines"], r["b_lines"], r["covid"]) for r in rows] == [
        (2, True, True, True), (0, False, False, True), (None, True, None, False),
    ]  # fmt: skip
    assert len({(r["patient_id"], r["study_id"], r["split"]) for r in rows}) == 2
    assert [note for note in manifest.notes if "1 of 4 files are missing" in note]
    assert "the whole data set has 362" in manifest.notes[-1]
    clip(root / "lus_videos" / "scan_1.mp4", 1)
    table(root / "severity.csv", lines[0], "scan_1,2.0,yes,yes,")
    with pytest.raises(ManifestError, match="no clip of this set"):
        ADAPTERS["covid_blues"](tmp_path / "in", tmp_path / "again")
    table(root / "severity.csv", lines[0], "patient_7_R1,2.0,perhaps,yes,")
    with pytest.raises(ManifestError, match="neither yes nor no"):
        ADAPTERS["covid_blues"](tmp_path / "in", tmp_path / "again")


def test_pocus_counts_a_source_as_one_patient(tmp_path):
    root = tmp_path / "in" / "data"
    clip(root / "pocus_videos" / "convex" / "Cov-Atlas+(44).mp4", 1)
    media.write_png(root / "pocus_images" / "linear" / "Pneu_set6_1.png", speckle(2))
    table(
        root / "dataset_metadata.csv", "Filename,Label,License,Probe,Source ID,,Patient ID / Name,",
        "Cov-Atlas+(44),COVID-19,CC BY-NC 4.0,convex,2,,36,", "Pneu_set6_1.png,pneumonia,,Linear,2,,99,",
        "gone,regular,,convex,3,,,",
    )  # fmt: skip
    manifest = ADAPTERS["pocus"](tmp_path / "in", tmp_path / "out")
    assert {row["patient_id"] for row in manifest.rows} == {"source 2"}
    assert [row["kind"] for row in manifest.rows] == ["video", "image"]
    assert [note for note in manifest.notes if "1 of 3 files" in note]


def test_tables_of_ones_own(tmp_path):
    root = tmp_path / "in"
    for k, name in enumerate(("a", "b", "c")):
        clip(root / "v" / f"{name}.mp4", k)
    table(
        root / "videos.csv", "video,patient,ef,fps,grade",
        r"v\a.mp4,p1,60,,mild", "v/b.mp4,p2,,50,severe",
    )  # fmt: skip
    first, second = ADAPTERS["video_csv"](root, tmp_path / "out").rows
    assert (first["patient_id"], first["ef"], first["fps"], first["frames"]) == ("p1", 60, 25, 4)
    assert (second["ef"], second["fps"], second["grade"]) == (None, 50, "severe")
    table(
        root / "studies.csv",
        "exam,patient_id,A4C,PLAX,severity",
        "e1,p1,v/a.mp4,v/b.mp4,2",
        "e2,p2,v/c.mp4,,3",
    )
    rows = ADAPTERS["study_csv"](root, tmp_path / "studies").rows
    assert [(r["study_id"], r["view"], r["severity"]) for r in rows] == [
        ("e1", "A4C", 2), ("e1", "PLAX", 2), ("e2", "A4C", 3),
    ]  # fmt: skip
    table(root / "studies.csv", "exam,A4C", "e1,v/gone.mp4", "e2,v/a.mp4")
    with pytest.raises(ManifestError, match="1 of 2 files are missing"):
        ADAPTERS["study_csv"](root, tmp_path / "more")
    table(root / "videos.csv", "file,ef", "../../etc/passwd,1")
    with pytest.raises(InsonateError, match="outside"):
        ADAPTERS["video_csv"](root, tmp_path / "more")


@pytest.mark.parametrize(
    ("name", "folder", "items", "patients"),
    [
        ("covid_blues", "covid_blues_lung", 98, 16),
        ("echo_clips", "echo_clips", 20, 4),
        ("hip_radoss", "hip_radoss", 16, 3),
        ("muscle_cc0", "muscle_cc0", 163, 9),
        ("raw_and_phantom", "raw_and_phantom", 9, 9),
        ("sononet16", "sononet16", 13, 13),
        ("tongue_keypoints", "tongue_keypoints", 404, 13),
        ("tracked_freehand", "tracked_freehand", 3, 3),
    ],
)
def test_the_shared_data(shared_data, tmp_path, name, folder, items, patients):
    manifest = ADAPTERS[name](shared_data / folder, tmp_path / "out")
    assert (len(manifest), len({row["patient_id"] for row in manifest.rows})) == (items, patients)
    if "mask_path" in manifest.rows[0]:
        masks = [media.read_frames(manifest.file(row, "mask_path"))[0] for row in manifest.rows]
        assert {int(mask.max()) for mask in masks} == {0, 2, 3}  # some frames are unmarked


def test_the_shared_dicom_files_are_a_patient_each(shared_data, tmp_path):
    manifest = ADAPTERS["dicom_us"](shared_data / "dicom_us", tmp_path / "out")
    assert 24 <= len(manifest) <= 27  # as decoders are installed
    assert len({row["patient_id"] for row in manifest.rows}) == len(manifest)
    assert len(manifest) == 27 or "cannot be decoded here" in manifest.notes[0]


def test_every_data_set_tells_its_licence_and_place(monkeypatch, capsys):
    generic = {"image_folder", "image_mask_folder", "keypoint_csv", "study_csv", "video_csv"}
    for name, adapter in ADAPTERS.items():
        told = (adapter.licence, adapter.citation, adapter.where, adapter.size)
        assert adapter.about
        assert all(told) or name in generic
    monkeypatch.setattr("sys.argv", ["insonate", "data", "datasets"])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert "CC BY-NC-ND 4.0" in out
    assert "https://echonet.github.io/dynamic/" in out
