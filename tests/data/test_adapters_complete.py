"""A folder that lacks a file is told: whichever file of whichever data set, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_adapters_points import A4C_HEADER, mha, numbered
from test_adapters_points import picture as still
from test_adapters_published import clip, ellipse, nifti, speckle, table

from insonate.data.adapters import ADAPTERS
from insonate.data.media import write_png
from insonate.errors import InsonateError

UNTOLD = {"image_folder", "image_mask_folder", "jnu_ifm"}
"""what these should hold, nothing tells; JNU-IFM has frames without a mask"""


def mask(path: Path, value: int = 1) -> None:
    write_png(path, np.full((48, 64), value, np.uint8))


def busi(root: Path) -> None:
    for label in ("benign", "malignant", "normal"):
        still(root / label / f"{label} (1).png")
        mask(root / label / f"{label} (1)_mask.png", 255)
        still(root / label / f"{label} (2).png")
        mask(root / label / f"{label} (2)_mask.png", 0)


def camus(root: Path) -> None:
    for number, phase in enumerate(("ED", "ES")):
        stem = root / "database_nifti" / "patient0001" / f"patient0001_2CH_{phase}"
        nifti(stem.with_name(stem.name + ".nii.gz"), speckle(number))
        nifti(stem.with_name(stem.name + "_gt.nii.gz"), np.ones((48, 64), np.uint8))


def covid_blues(root: Path) -> None:
    for name in ("patient_62_R1", "patient_7_R1"):
        clip(root / "lus_videos" / f"{name}.mp4", 1)
    table(root / "clinical_variables.csv", "patient_id,cov_test,pat_age", "62,1.0,70", "7,0.0,31")
    head = "video_file,Severity Score,A-lines,B-lines,comments"
    table(root / "severity.csv", head, "patient_62_R1,2.0,yes,yes,", "patient_7_R1,0,no,no,")


def echonet_dynamic(root: Path) -> None:
    for name in ("0X1", "0X2"):
        clip(root / "Videos" / f"{name}.avi", 1)
    head = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
    table(root / "FileList.csv", head, *(f"{n},60,40,101,48,64,25,4,TRAIN" for n in ("0X1", "0X2")))
    chords = ("0X1.avi,30,5,30,45,1", "0X1.avi,15,15,45,15,1", "0X1.avi,15,35,45,35,1")
    table(root / "VolumeTracings.csv", "FileName,X1,Y1,X2,Y2,Frame", *chords)


def echonet_lvh(root: Path) -> None:
    for name in ("0XA", "0XB"):
        clip(root / "Batch1" / f"{name}.avi", 1)
    head = "HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split"
    rows = (f"{n},LVIDd,4.0,2,30,30,40,20,4,25,64,48,train" for n in ("0XA", "0XB"))
    table(root / "MeasurementsList.csv", head, *rows)


def echonet_pediatric(root: Path) -> None:
    for view in ("A4C", "PSAX"):
        name = f"CR1-{view}-000001.avi"
        clip(root / view / "Videos" / name, 1)
        table(root / view / "FileList.csv", "FileName,EF,Sex,Age,Weight,Height,Split", f"{name},60,F,7,23,,3")
        corners = ((10, 10), (40, 10), (40, 30), (10, 30))
        table(
            root / view / "VolumeTracings.csv",
            "FileName,X,Y,Frame",
            *(f"{name},{x},{y},2" for x, y in corners),
        )


def fetal_planes_db(root: Path) -> None:
    names = ("Patient00001_Plane1_1_of_2", "Patient00168_Plane3_1_of_3")
    head = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
    rows = (f"{name};{number};Other;Not A Brain;Op. 1;Aloka;1" for number, name in enumerate(names))
    table(root / "FETAL_PLANES_DB_data.csv", head, *rows)
    for name in names:
        still(root / "Images" / f"{name}.png")


def fm_uia(root: Path) -> None:
    for name in ("seg", "cls"):
        still(root / "images" / f"{name}.png")
    mask(root / "masks" / "seg.png")
    head = "image_path,task_name,task_id"
    table(root / "csv_files" / "breast_lesion.csv", f"{head},mask_path",
          "../images/seg.png,segmentation,breast_lesion,../masks/seg.png")  # fmt: skip
    table(
        root / "csv_files" / "lung_2cls.csv", f"{head},mask", "../images/cls.png,classification,lung_2cls,1"
    )


def fugc(root: Path) -> None:
    for part in ("train/labeled_data", "val"):
        still(root / part / "images" / "1.png")
        mask(root / part / "labels" / "1.png")
    still(root / "train/unlabeled_data" / "images" / "2.png")


def fu_biometry(root: Path) -> None:
    levels = ",".join(f'"[{10 + i}, {20 + i}]"' for i in range(16))
    end = "48,64,Regression,16,A4C"
    names = ("PNG_IM_0331-001.png", "PNG_IM_0331-002.png")
    head = ",".join(["file_path", *A4C_HEADER, "height,width,task_name,num_classes,task_id"])
    table(
        root / "A4C" / "labeled" / "A4C_train.csv",
        head,
        *(f"../images/A4C/{n},{levels},{end}" for n in names),
    )
    for name in names:
        still(root / "A4C" / "labeled" / "images" / name)
    head = ",".join(["image_path", *numbered(2), "height,width,task_name,num_classes,task_id"])
    row = 'images/a.png,"[40, 10]","[20, 30]",48,64,Regression,2,FUGC'
    table(root / "FUGC" / "labeled" / "FUGC.csv", head, row)
    still(root / "FUGC" / "labeled" / "images" / "a.png")


def hc18(root: Path) -> None:
    rows = []
    for name in ("010_HC", "011_HC"):
        still(root / "training_set" / f"{name}.png")
        write_png(root / "training_set" / f"{name}_Annotation.png", ellipse((48, 64), (10, 8, 50, 40)))
        rows.append(f"{name}.png,0.069,44.3")
    head = "filename,pixel size(mm),head circumference (mm)"
    table(root / "training_set_pixel_size_and_HC.csv", head, *rows)
    still(root / "test_set" / "012_HC.png")
    table(root / "test_set_pixel_size.csv", "filename,pixel size(mm)", "012_HC.png,0.1")


def multicentre_biometry(root: Path) -> None:
    for source in ("FP", "UCL"):
        lines = [f"fl_{i}_{axis}" for i in (1, 2) for axis in "xy"]
        head = ",".join(["index,image_name", *lines, "SubjectID,px_to_mm_rate,Algo,Split"])
        rows = (f"0,{name}.png,50,24,10,24,s,0.1,a,Train" for name in ("a", "b"))
        table(root / "annotations" / source / "Femur.csv", head, *rows)
        for name in ("a", "b"):
            still(root / "images" / source / "Femur" / f"{name}.png")


def pocus(root: Path) -> None:
    clip(root / "pocus_videos" / "convex" / "Cov-Atlas+(44).mp4", 1)
    still(root / "pocus_images" / "linear" / "Pneu_set6_1.png")
    head = "Filename,Label,License,Probe,Source ID,,Patient ID / Name,"
    table(root / "dataset_metadata.csv", head, "Cov-Atlas+(44),COVID-19,CC BY-NC 4.0,convex,2,,36,",
          "Pneu_set6_1.png,pneumonia,,Linear,2,,99,")  # fmt: skip


def psfhs(root: Path) -> None:
    for name in ("03744.mha", "03745.mha"):
        mha(root / "image_mha" / name, np.stack([speckle(1)] * 3))
        mha(root / "label_mha" / name, np.ones((48, 64), np.uint8))


def unity_imaging(root: Path) -> None:
    names = ("01-" + "ab" * 32 + "-0012.png", "02-" + "cd" * 32 + "-0003.png")
    labels = {"lv-ivs-bottom": {"type": "point", "x": "20", "y": "10"},
              "lv-pw-top": {"type": "point", "x": "20", "y": "30"}}  # fmt: skip
    for name in names:
        site, code, _ = name.split("-")
        still(root / "png-cache" / site / code[:2] / code[2:4] / name)
    path = root / "labels" / "labels-all.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({name: {"labels": labels} for name in names}))


def keypoint_csv(root: Path) -> None:
    table(root / "keypoints.csv", "file,subject,tip_x,tip_y", "a.png,s,1,2", "b.png,t,1,2")
    for name in ("a", "b"):
        still(root / "images" / f"{name}.png")


def study_csv(root: Path) -> None:
    table(root / "studies.csv", "exam,patient_id,A4C,severity", "e1,p1,v/a.mp4,2", "e2,p2,v/b.mp4,3")
    for name in ("a", "b"):
        clip(root / "v" / f"{name}.mp4", 1)


def video_csv(root: Path) -> None:
    table(root / "videos.csv", "video,patient,ef", "v/a.mp4,p1,60", "v/b.mp4,p2,50")
    for name in ("a", "b"):
        clip(root / "v" / f"{name}.mp4", 1)


BUILT: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        busi, camus, covid_blues, echonet_dynamic, echonet_lvh, echonet_pediatric, fetal_planes_db, fm_uia,
        fugc, fu_biometry, hc18, multicentre_biometry, pocus, psfhs, unity_imaging, keypoint_csv,
        study_csv, video_csv,
    )
}  # fmt: skip
SHARED = {
    "camus_4ch": ("camus_4ch", "*.zip"), "dicom_us": ("dicom_us", "dwv_*.dcm"),
    "echo_clips": ("echo_clips", "*.mp4"), "hc18_landmarks": ("hc18_landmarks", "*.zip"),
    "hip_radoss": ("hip_radoss", "*.nii.gz"),
    "muscle_cc0": ("muscle_cc0", "*.zip"), "pocus_lung_videos": ("pocus_lung_videos", "*.mp4"),
    "raw_and_phantom": ("raw_and_phantom", "*.png"), "sononet16": ("sononet16", "3VV.png"),
    "tongue_keypoints": ("tongue_keypoints", "*.zip"), "tracked_freehand": ("tracked_freehand", "Bone*.mha"),
}  # fmt: skip
"""real ones: folder, and what is taken away"""


def test_every_data_set_is_tried() -> None:
    assert {*BUILT, *SHARED} == set(ADAPTERS) - UNTOLD


def told_of(name: str, root: Path, out: Path) -> set[str]:
    """The notes of an adapter, or its error."""
    try:
        return set(ADAPTERS[name](root, out).notes)
    except InsonateError as error:
        assert not out.exists()
        return {str(error)}


@pytest.mark.parametrize("name", BUILT)
def test_whichever_file_is_missing_is_told(tmp_path: Path, name: str) -> None:
    root = tmp_path / "in"
    BUILT[name](root)
    before = set(ADAPTERS[name](root, tmp_path / "whole").notes)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        away = path.rename(tmp_path / "away")
        told = told_of(name, root, tmp_path / f"out{number}") - before
        assert told, f"nothing is said of {path.relative_to(root)}"
        assert all("\n" not in line for line in told)
        away.rename(path)


@pytest.mark.parametrize("name", SHARED)
def test_a_file_of_the_real_folder_that_is_missing_is_told(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    folder, pattern = SHARED[name]
    root = tmp_path / "in"
    shutil.copytree(shared_data / folder, root)
    next(iter(sorted(root.rglob(pattern)))).unlink()
    told = told_of(name, root, tmp_path / "out")
    words = ("missing", "is the download complete?", "cannot be unpacked", "there", "No such file")
    assert any(word in line for line in told for word in words), told
    assert all("\n" not in line for line in told)
