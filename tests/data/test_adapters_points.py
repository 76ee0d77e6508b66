"""Point-labelled sets in their published layouts, a few items each, with the traps of the real ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from insonate.data import media
from insonate.data.adapters import ADAPTERS
from insonate.data.adapters.chambers import four_chamber_points
from insonate.data.adapters.points import ellipse_ends
from insonate.data.pointsets import POINT_SETS
from insonate.errors import ManifestError

A4C_HEADER = [
    f"{chamber}_{axis}_p{k}_xy"
    for chamber in ("LV", "RV", "LA", "RA")
    for axis in ("上下", "左右")
    for k in (1, 2)
]


def picture(path, hw=(48, 64), seed=0):
    rng = np.random.default_rng(seed + sum(map(ord, path.name)))
    small = Image.fromarray(rng.integers(0, 255, (16, 20)).astype(np.uint8))
    return media.write_png(path, np.asarray(small.resize(hw[::-1], Image.Resampling.BICUBIC)))


def table(path, header, rows, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = [",".join(f'"{cell}"' if "," in str(cell) else str(cell) for cell in row) for row in rows]
    path.write_bytes("\r\n".join([",".join(header), *quoted, ""]).encode(encoding))


def numbered(count):
    return [f"point_{k}_xy" for k in range(1, count + 1)]


CANAL = ["[20, 20]", "[12, 20]", "[24, 26]", "[24, 36]"]
PSAX = ["RVOT_p1_xy", "RVOT_p2_xy", "PA_p1_xy", "PA_p2_xy", "RVOT", "PA"]
TAIL = ["height", "width", "task_name", "num_classes", "task_id"]


@pytest.fixture
def fu_root(tmp_path):
    """Each of the nine tasks as the organisers hand it out."""
    root = tmp_path / "in" / "Data"

    def task(folder, csv, header, rows, encoding="utf-8", pictures=None):
        table(root / folder / "labeled" / csv, header, rows, encoding)
        for row in rows if pictures is None else pictures:
            name = str(row[0]).replace("\\", "/").rpartition("/")[2]
            picture(root / folder / "labeled" / "images" / name)

    end = [48, 64, "Regression"]
    level = [f"[{10 + 5 * i}, {20 + i}]" for i in range(16)]
    task("A4C", "A4C_train.csv", ["file_path", *A4C_HEADER, *TAIL],
         [["../images/A4C/PNG_IM_0331-001.png", *level, *end, 16, "A4C"],
          [r"..\images\A4C\PNG_IM_0331-002.png", *level, *end, 16, "A4C"],
          ["../images/A4C/DCM_IM_0007_s02_11.png", *level, *end, 16, "A4C"]], "gb18030")  # fmt: skip
    task(
        "AOP",
        "key_points_xy.csv",
        ["image_path", *numbered(4), "AOP", "HSD", *TAIL],
        [[f"images/{i:05}.png", *CANAL, 104.036 if i else 90, 7.2, *end, 4, "AOP"] for i in range(84)],
    )
    swapped = [["images/fa_1.png", "[30, 5]", "[30, 40]", "[10, 22]", "[50, 22]", 110, *end, 4, "FA"]]
    right = [["images/fa_1.png", "[30, 5]", "[30, 40]", "[50, 22]", "[10, 22]", 110, *end, 4, "FA"]]
    task("FA", "FA_train.csv", ["image_path", *numbered(4), "FA", *TAIL], swapped)
    task("FA", "FA_train_new.csv", ["image_path", *numbered(4), "FA", *TAIL], right)
    task("FUGC", "FUGC.csv", ["image_path", *numbered(2), *TAIL],
         [["images/shared_name.png", "[40, 10]", "[20, 30]", *end, 2, "FUGC"]])  # fmt: skip
    task("HC", "HC.csv", ["image_path", *numbered(4), *TAIL],
         [["images/images/012_2HC.png", "[30, 5]", "[30, 40]", "[50, 22]", "[10, 22]", *end, 4, "HC"],
          ["images/images/012_HC.png", "[30, 5]", "[30, 40]", "[50, 22]", "", *end, 4, "HC"]])  # fmt: skip
    task(
        "IVC",
        "train.csv",
        ["image_path", "IVC_p1_xy", "IVC_p2_xy", "IVC", *TAIL],
        [["images/DCM_IM_0002_3.png", "[20, 30]", "[20, 20]", 10, *end, 2, "IVC"]],
    )
    lines = POINT_SETS["PLAX"].names
    task(
        "PLAX",
        "train.csv",
        ["image_path", *(f"{n}_xy" for n in reversed(lines)), *TAIL],
        [["images/shared_name.png", *(f"[{i}, 9]" for i in range(1, 22)), "[0, 0]", *end, 22, "x"]],
    )
    task(
        "PSAK",
        "train.csv",
        ["image_path", *PSAX, *TAIL],
        [["images/DCM_IM_0001_1.png", "(20, 10)", "[20, 30]", "[40, 20]", "[30, 21]", 20, 10, *end, 4, "x"]],
    )
    task(
        "fetal_femur",
        "Reg-Two_3.fetal_femur.csv",
        ["image_path", *numbered(2), *TAIL],
        [
            ["images/Patient00168_Plane5_1_of_2.png", "[40, 10]", "[20, 12]", *end, 2, "fetal_femur"],
            ["images/Patient00757_Plane5_1_of_1.png", "[40, 10]", "[20, 12]", *end, 2, "fetal_femur"],
            ["images/Patient00168_Plane5_2_of_2.png", "[20, 10]", "[40, 12]", *end, 2, "fetal_femur"],
        ],
    )
    return root


def of(manifest, name):
    return [row for row in manifest.rows if row["points_set"] == name]


def points(row):
    return np.reshape(row["keypoints"], (-1, 2))


def test_fu_biometry_reads_all_nine_tasks_with_their_traps(fu_root, tmp_path):
    manifest = ADAPTERS["fu_biometry"](fu_root.parent, tmp_path / "out")
    assert {row["points_set"] for row in manifest.rows} == set(POINT_SETS)
    for row in manifest.rows:
        assert points(row).shape == (len(POINT_SETS[row["points_set"]].names), 2)
    a4c = of(manifest, "A4C")
    assert points(a4c[0])[:2].tolist() == [[10, 20], [15, 21]]  # Chinese headers, GB18030
    assert [row["patient_id"] for row in a4c] == [
        "A4C PNG_IM_0331-001", "A4C PNG_IM_0331-002", "A4C DCM_IM_0007_s02",
    ]  # fmt: skip
    (fa,) = of(manifest, "FA")
    assert points(fa)[2, 0] > points(fa)[3, 0]
    first, second = of(manifest, "HC")
    assert first["patient_id"] == second["patient_id"] == "HC18 012"
    assert np.isnan(points(second)[3]).all()
    (plax,) = of(manifest, "PLAX")  # columns in another order; (0, 0) is a missing point
    assert np.isnan(points(plax)[0]).all()
    assert points(plax)[21].tolist() == [1, 9]
    (psax,) = of(manifest, "PSAX")
    assert psax["path"].startswith("Data/PSAK/")
    assert points(psax).tolist() == [[20, 10], [20, 30], [30, 21], [40, 20]]
    assert points(of(manifest, "IVC")[0]).tolist() == [[20, 20], [20, 30]]
    assert points(of(manifest, "FUGC")[0])[0].tolist() == [20, 30]
    femurs = of(manifest, "fetal_femur")
    assert [row["patient_id"] for row in femurs] == ["Patient00168"] * 2
    birth = of(manifest, "AOP")
    assert len({row["patient_id"] for row in birth}) == 3
    told = "\n".join(manifest.notes)
    assert "fetal_femur: 1 mirrored pictures left out" in told
    assert "AOP: 1 rows whose AOP column is not the angle of their points" in told
    assert "AOP: 8 pictures left out between stretches" in told


def test_fu_biometry_gives_the_right_order_of_fa_from_either_table(fu_root, tmp_path):
    (fu_root / "FA" / "labeled" / "FA_train_new.csv").unlink()
    (fa,) = of(ADAPTERS["fu_biometry"](fu_root, tmp_path / "out"), "FA")
    assert points(fa).tolist() == [[30, 5], [30, 40], [50, 22], [10, 22]]


def test_fu_biometry_says_what_is_wrong(fu_root, tmp_path):
    make = ADAPTERS["fu_biometry"]
    (fu_root / "HC" / "labeled" / "images" / "012_HC.png").unlink()
    assert "HC: 1 pictures are missing" in make(fu_root, tmp_path / "a").notes
    picture(fu_root / "HC" / "labeled" / "images" / "012_HC.png", (40, 64))
    with pytest.raises(ManifestError, match="another size"):
        make(fu_root, tmp_path / "b")
    picture(fu_root / "HC" / "labeled" / "images" / "012_HC.png")
    path = fu_root / "FUGC" / "labeled" / "FUGC.csv"
    path.write_text(path.read_text().replace("[40, 10]", "forty"))
    with pytest.raises(ManifestError, match="'forty' is no point"):
        make(fu_root, tmp_path / "b")
    for file in (fu_root / "FUGC" / "labeled" / "images").iterdir():
        file.unlink()
    (fu_root / "FUGC" / "labeled" / "FUGC.zip").write_bytes(b"PK")
    with pytest.raises(ManifestError, match=r"Unpack FUGC.zip"):
        make(fu_root, tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="no folder of a task"):
        make(tmp_path / "empty", tmp_path / "b")


def test_rows_of_nine_tasks_are_json_ready(fu_root, tmp_path):
    manifest = ADAPTERS["fu_biometry"](fu_root, tmp_path / "out")
    assert json.dumps([row["path"] for row in manifest.rows])
    assert all(manifest.file(row).is_file() for row in manifest.rows)


def test_multicentre_rates_are_mm_per_pixel_and_its_pool_is_not_read_twice(tmp_path):
    root = tmp_path / "in" / "data"
    names = {"Head": ("ofd", "bpd"), "Abdomen": ("tad", "apad"), "Femur": ("fl",)}
    files = {
        "Head": "Patient00168_Plane3_1_of_3.png",
        "Abdomen": "Patient00168_Plane2_1_of_2.png",
        "Femur": "x.png",
    }

    def part(source, anatomy, file, rate, split, subject="", first=50):
        lines = names[anatomy]
        header = ["index", "image_name", *(f"{n}_{i}_{a}" for n in lines for i in (1, 2) for a in "xy")]
        numbers = [first, 24, 10, 24, 30, 5, 30, 40][: 4 * len(lines)]
        path = root / "annotations" / source / f"{anatomy}.csv"
        table(path, [*header, "SubjectID", "px_to_mm_rate", "Algo", "Split"],
              [[0, file, *numbers, subject, rate, "a", split]])  # fmt: skip
        picture(root / "images" / source / anatomy / file)

    for anatomy, file in files.items():
        part("FP", anatomy, file, 0.12, "Test" if anatomy == "Femur" else "Train")
    part("UCL", "Femur", "002_FL.jpeg.png", "", "Train", "s7", first=-1)
    part("MULTICENTRE", "Head", files["Head"], 0.12, "Train")
    manifest = ADAPTERS["multicentre_biometry"](tmp_path / "in", tmp_path / "out")
    head, abdomen, femur, ucl = manifest.rows
    assert [row["points_set"] for row in manifest.rows] == ["HC", "FA", "fetal_femur", "fetal_femur"]
    assert points(head).tolist() == [[30, 5], [30, 40], [50, 24], [10, 24]]
    assert points(abdomen).tolist() == [[30, 5], [30, 40], [50, 24], [10, 24]]
    assert (femur["split"], head["spacing_row_mm"], ucl["spacing_row_mm"]) == ("test", 0.12, None)
    assert head["patient_id"] == abdomen["patient_id"] == "FP Patient00168"
    assert ucl["patient_id"] == "UCL s7"
    assert np.isnan(points(ucl)).any(axis=1).sum() == 1  # a negative number is a missing end
    assert "UCL Femur: 1 pictures without a spacing" in manifest.notes


def test_unity_reads_both_layouts_of_its_labels(tmp_path):
    root = tmp_path / "in"
    codes = [
        "01-" + "ab" * 32 + "-0012.png",
        "02-" + "cd" * 32 + "-0003.png",
        "01-" + "ef" * 32 + "-0001.png",
    ]
    for name in codes:
        site, code, _ = name.split("-")
        picture(root / "png-cache" / site / code[:2] / code[2:4] / name)

    def at(x, y):
        return {"type": "point", "x": str(x), "y": str(y)}

    off = {"type": "off", "x": "", "y": ""}
    frames = {
        codes[0]: {"labels": {"lv-ivs-bottom": at(20, 10), "lv-pw-top": at(20.5, 30), "lv-ivs-top": off}},
        codes[1]: {
            "labels": {"mv-ant-hinge": at(10, 30), "mv-post-hinge": at(30, 32), "lv-apex-endo": at(20, 5)}
        },
        codes[2]: {"labels": {"curve-lv-endo": {"type": "curve", "x": "1 2 3", "y": "1 2 3"}}},
    }
    path = root / "labels" / "labels-all.json"
    path.parent.mkdir(parents=True)
    for content in (frames, [{name: one} for name, one in frames.items()]):
        path.write_text(json.dumps(content))
        plax, a4c = ADAPTERS["unity_imaging"](root, tmp_path / f"out{type(content).__name__}").rows
        names = POINT_SETS["PLAX"].names
        assert points(plax)[[names.index("LV_p1"), names.index("LV_p2")]].tolist() == [[20, 10], [20.5, 30]]
        assert points(plax)[names.index("IVS_p2")].tolist() == [20, 10]
        assert np.isnan(points(plax)[names.index("IVS_p1")]).all()
        names = POINT_SETS["A4C"].names
        assert points(a4c)[names.index("LV_long_p2")].tolist() == [20, 31]
        assert (a4c["split"], a4c["points_set"], a4c["frame_in_source"]) == ("test", "A4C", 3)
    path.write_text(json.dumps({"../x.png": {"labels": {}}}))
    with pytest.raises(ManifestError, match="no labelled frame"):
        ADAPTERS["unity_imaging"](root, tmp_path / "more")
    path.write_text("[" * 10000)
    with pytest.raises(ManifestError, match="no readable JSON"):
        ADAPTERS["unity_imaging"](root, tmp_path / "more")


def mha(path, array):
    """A MetaImage file of uint8: planes, rows, columns."""
    size = " ".join(str(n) for n in reversed(array.shape))
    header = (
        f"ObjectType = Image\nNDims = {array.ndim}\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = False\nDimSize = {size}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + array.astype(np.uint8).tobytes())


def test_psfhs_planes_become_one_picture(tmp_path):
    root = tmp_path / "in" / "PSFHS"
    planes = np.random.default_rng(0).integers(0, 255, (3, 48, 64)).astype(np.uint8)
    mask = np.zeros((48, 64), np.uint8)
    mask[5:9, 5:20], mask[20:40, 20:50] = 1, 2
    for name in ("03744.mha", "03745.mha"):
        mha(root / "image_mha" / name, planes)
        mha(root / "label_mha" / name, mask)
    manifest = ADAPTERS["psfhs"](tmp_path / "in", tmp_path / "out")
    row = manifest.rows[0]
    assert np.array_equal(media.read_frames(manifest.file(row))[0], np.moveaxis(planes, 0, -1))
    assert np.array_equal(media.read_frames(manifest.file(row, "mask_path"))[0], mask)
    (root / "label_mha" / "03745.mha").unlink()
    with pytest.raises(ManifestError, match="is missing"):
        ADAPTERS["psfhs"](tmp_path / "in", tmp_path / "again")


def test_jnu_ifm_levels_are_ours_and_a_video_is_a_patient(tmp_path):
    root = tmp_path / "in" / "JNU-IFM"
    mask = np.zeros((48, 64), np.uint8)
    mask[5:9, 5:20], mask[20:40, 20:50] = 7, 8
    for video in ("20190909T155747", "20190916T104520"):
        for frame in (0, 12):
            picture(root / video / "image" / f"{video}_{frame}.png")
            media.write_png(root / video / "mask" / f"{video}_{frame}_mask.png", mask)
            picture(root / video / "mask_enhance" / f"{video}_{frame}_mask_enhance.png")
        (root / video / "framelabel.csv").write_text("frame_id,frame_label\n0,3\n12,6\n")
    (root / video / "mask" / f"{video}_0_mask.png").unlink()
    manifest = ADAPTERS["jnu_ifm"](tmp_path / "in", tmp_path / "out")
    assert [row["label"] for row in manifest.rows] == ["none", "symphysis and head"] * 2
    assert [row["patient_id"] for row in manifest.rows] == ["20190909T155747"] * 2 + ["20190916T104520"] * 2
    assert [bool(row["mask_path"]) for row in manifest.rows] == [True, True, False, True]
    ours = media.read_frames(manifest.file(manifest.rows[1], "mask_path"))[0]
    assert np.array_equal(ours, np.where(mask > 0, np.clip(mask, 6, 8) - 6, 0))
    (root / video / "framelabel.csv").write_text("frame_id,frame_label\n0,9\n")
    with pytest.raises(ManifestError, match="holds the label '9'"):
        ADAPTERS["jnu_ifm"](tmp_path / "in", tmp_path / "again")
    (root / video / "framelabel.csv").unlink()
    media.write_png(root / video / "mask" / f"{video}_12_mask.png", mask + 1)
    with pytest.raises(ManifestError, match="holds the level 1, not 0, 7 and 8"):
        ADAPTERS["jnu_ifm"](tmp_path / "in", tmp_path / "again")
    with pytest.raises(ManifestError, match="holds no folder of a video"):
        ADAPTERS["jnu_ifm"](root / video / "mask", tmp_path / "again")


def test_fugc_has_masks_where_it_has_labels(tmp_path):
    root = tmp_path / "in" / "dataset"
    for folder, name in (("train/labeled_data", "1"), ("train/unlabeled_data", "2"), ("val", "3")):
        picture(root / folder / "images" / f"{name}.png")
    for folder, name in (("train/labeled_data", "1"), ("val", "3")):
        media.write_png(root / folder / "labels" / f"{name}.png", np.full((48, 64), 2, np.uint8))
    rows = ADAPTERS["fugc"](tmp_path / "in", tmp_path / "out").rows
    assert [(row["split"], bool(row["mask_path"])) for row in rows] == [
        ("train", True), ("train", False), ("val", True),
    ]  # fmt: skip
    media.write_png(root / "val" / "labels" / "9.png", np.zeros((48, 64), np.uint8))
    with pytest.raises(ManifestError, match="has no picture"):
        ADAPTERS["fugc"](tmp_path / "in", tmp_path / "again")


def test_fm_uia_reads_every_kind_of_label(tmp_path):
    root = tmp_path / "in" / "train"
    for name in ("seg", "cls", "det", "iugc", "cervix"):
        picture(root / "images" / f"{name}.png")
    media.write_png(root / "masks" / "seg.png", np.ones((48, 64), np.uint8))
    tables = {
        "breast_lesion": (["mask_path"], ["../images/seg.png", "segmentation", "../masks/seg.png"]),
        "lung_2cls": (["mask"], ["../images/cls.png", "classification", 1]),
        "thyroid_nodule_det": (
            ["x_min", "y_min", "x_max", "y_max"],
            ["../images/det.png", "detection", 1, 2, 30, 40],
        ),
        "IUGC": (numbered(3), [r"..\images\iugc.png", "Regression", "[12, 20]", "[20, 20]", "[24, 36]"]),
        "FUGC": (numbered(2), ["../images/cervix.png", "Regression", "[40, 10]", ""]),
    }
    for task, (columns, (image, kind, *cells)) in tables.items():
        table(root / "csv_files" / f"{task}.csv", ["image_path", "task_name", "task_id", *columns],
              [[image, kind, task, *cells]])  # fmt: skip
    rows = {row["task"]: row for row in ADAPTERS["fm_uia"](tmp_path / "in", tmp_path / "out").rows}
    assert rows["breast_lesion"]["mask_path"] == "masks/seg.png"
    assert rows["lung_2cls"]["label"] == 1
    assert rows["thyroid_nodule_det"]["box"] == [1, 2, 30, 40]
    assert rows["IUGC"]["points_set"] == "AOP"
    assert points(rows["IUGC"])[[0, 1, 3]].tolist() == [[20, 20], [12, 20], [24, 36]]
    assert np.isnan(points(rows["IUGC"])[2]).all()
    assert np.isnan(points(rows["FUGC"])[1]).all()
    table(
        root / "csv_files" / "x.csv",
        ["image_path", "task_name", "task_id"],
        [["../images/seg.png", "pose", "x"]],
    )
    with pytest.raises(ManifestError, match="no task of this set"):
        ADAPTERS["fm_uia"](tmp_path / "in", tmp_path / "again")


def test_the_ellipse_of_real_heads_has_the_diameters_of_their_landmarks(shared_data, tmp_path):
    manifest = ADAPTERS["hc18_landmarks"](shared_data / "hc18_landmarks", tmp_path / "out")
    ratios = []
    for row in manifest.rows[::40]:
        mask = media.read_frames(manifest.file(row, "mask_path"))[0] > 0
        found = ellipse_ends(mask & ~ndimage.binary_erosion(mask, border_value=1))
        short, long = (
            np.linalg.norm(p[0] - p[1]) / np.linalg.norm(q[0] - q[1])
            for p, q in zip(
                np.reshape(list(found.values()), (2, 2, 2)), points(row).reshape(2, 2, 2), strict=True
            )
        )
        ratios.append((short, long))
        assert row["points_set"] == "HC"
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.015)
    assert np.std(ratios) < 0.02


def test_a_line_that_is_no_ellipse_has_no_ends():
    assert ellipse_ends(np.eye(20)) is None
    assert ellipse_ends(np.zeros((20, 20))) is None


def test_the_axes_of_a_drawn_ventricle_and_atrium():
    image = Image.new("L", (200, 200))
    pen = ImageDraw.Draw(image)
    pen.ellipse((80, 20, 120, 120), fill=1)
    pen.ellipse((75, 118, 125, 180), fill=3)
    mask = np.asarray(image)
    found = four_chamber_points(mask == 1, mask == 3)
    wanted = {
        "LV_long_p1": (100, 20),
        "LV_long_p2": (100, 118),
        "LA_long_p1": (100, 118),
        "LA_long_p2": (100, 180),
    }
    for name, point in wanted.items():
        assert found[name] == pytest.approx(point, abs=5)
    for chamber, width in (("LV", 40), ("LA", 50)):
        ends = np.array([found[f"{chamber}_trans_p{k}"] for k in (1, 2)])
        assert np.linalg.norm(ends[0] - ends[1]) == pytest.approx(width, abs=2)
    assert four_chamber_points(mask == 1, mask == 2) == {}


def test_masks_of_real_hearts_have_the_apex_and_valve_of_their_landmarks(shared_data, tmp_path):
    manifest = ADAPTERS["camus_4ch"](shared_data / "camus_4ch", tmp_path / "out")
    names = POINT_SETS["A4C"].names
    apart = []
    for row in manifest.rows[::60]:
        mask = media.read_frames(manifest.file(row, "mask_path"))[0]
        found = four_chamber_points(mask == 1, mask == 3)
        marked = dict(zip(names, points(row), strict=True))
        apart += [np.linalg.norm(found[name] - marked[name]) for name in ("LV_long_p1", "LV_long_p2")]
    assert np.median(apart) < 3  # px of 256
