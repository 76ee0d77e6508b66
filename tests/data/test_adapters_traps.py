"""Traps of real data sets: ids that lie, orders of points, missing points, sectors that the frame cuts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from insonate.data.adapters import ADAPTERS
from insonate.data.media import read_frames, write_png
from insonate.data.pointorders import INTERNAL, TIE_PX, to_internal
from insonate.data.pointsets import POINT_SETS
from insonate.data.sector import find_sector


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_seven_clips_of_one_scan_are_one_patient_in_one_split(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "pocus_lung_videos"
    told = {c["file"]: c["patient_id"] for c in cells(source / "videos.csv") if "set6" in c["file"]}
    assert len(told) == len(set(told.values())) == 7  # the lie
    rows = [r for r in ADAPTERS["pocus_lung_videos"](source, tmp_path / "out").rows if "set6" in r["path"]]
    assert len(rows) == 7
    assert {r["patient_id"] for r in rows} == {"northumbria_0409_set6"}
    assert len({r["split"] for r in rows}) == 1
    assert rows[0]["split"] in {"train", "val", "test"}


def test_tongue_points_stay_where_they_were_drawn(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tongue_keypoints"
    manifest = ADAPTERS["tongue_keypoints"](source, tmp_path / "out")
    table = {f"images/{c['file']}": c for c in cells(source / "keypoints.csv")}
    missing = 0
    for row in manifest.rows:
        cell = table[row["path"]]
        drawn = [cell[c] for c in cell if c.endswith(("_x", "_y"))]
        assert len(row["keypoints_tongue"]) == len(drawn) == 28
        for value, text in zip(row["keypoints_tongue"], drawn, strict=True):
            assert np.isnan(value) if text == "" else value == float(text)
            missing += text == ""
    assert missing == 70  # 35 points


def test_tongue_points_outside_the_sector_are_kept(shared_data: Path, tmp_path: Path) -> None:
    manifest = ADAPTERS["tongue_keypoints"](shared_data / "tongue_keypoints", tmp_path / "out")
    row = next(r for r in manifest.rows if r["path"].endswith("ArticulateAnonymized_01__img217.png"))
    sector = find_sector(read_frames(manifest.file(row, "path")))
    assert sector is not None
    points = np.reshape(row["keypoints_tongue"], (14, 2)).round().astype(int)
    inside = sector.mask[points[:, 1], points[:, 0]]
    assert 0 < inside.sum() < 14
    assert not inside[0]  # the vallecula, in the shadow


TABLES = {
    "HC18_Head": ("HC18", "Head", "HC", ("bpd", "ofd"), 1, True),
    "FP_Head": ("FP", "Head", "HC", ("bpd", "ofd"), 1, False),
    "FP_Abdomen": ("FP", "Abdomen", "FA", ("apad", "tad"), None, None),
    "FP_Femur": ("FP", "Femur", "fetal_femur", ("fl",), 0, True),
}


def stated(path: Path, lines: tuple[str, ...]) -> np.ndarray:
    """Points of a source's table, N K 2, in its own order."""
    ends = [f"{line}_{end}" for line in lines for end in (1, 2)]
    return np.array([[[float(c[f"{e}_{axis}"]) for axis in "xy"] for e in ends] for c in cells(path)])


def rising(points: np.ndarray, axis: int) -> float:
    """Share of N pairs whose first point has the smaller coordinate."""
    return float((points[:, 0, axis] < points[:, 1, axis]).mean())


def test_sources_of_fetal_points_come_in_orders_of_their_own(shared_data: Path) -> None:
    folder = shared_data / "hc18_landmarks" / "mcfb_annotations"
    ofd = {name: stated(folder / f"{name}.csv", ("ofd",)) for name in ("HC18_Head", "FP_Head")}
    assert rising(ofd["HC18_Head"], 1) > 0.98
    assert rising(ofd["FP_Head"], 1) == 0  # a loader that merges them learns swapped points
    assert 0.4 < rising(stated(folder / "FP_Abdomen.csv", ("tad",)), 1) < 0.6
    assert rising(stated(folder / "FP_Femur.csv", ("fl",)), 0) > 0.99


@pytest.mark.parametrize("name", TABLES)
def test_points_of_every_source_obey_one_rule(shared_data: Path, name: str) -> None:
    _, _, points_set, lines, *_ = TABLES[name]
    drawn = stated(shared_data / "hc18_landmarks" / "mcfb_annotations" / f"{name}.csv", lines)
    given = to_internal(drawn, points_set)
    for rule in INTERNAL[points_set]:
        pair = given[:, rule.start : rule.start + 2, rule.axis]
        steps = (pair[:, 1] - pair[:, 0]) * (-1 if rule.descending else 1)
        assert (steps > -TIE_PX).all()
        assert (steps > 0).mean() > 0.97
        before, after = (np.sort(p[:, rule.start : rule.start + 2], axis=1) for p in (drawn, given))
        assert np.array_equal(before, after)  # ends of a line change places with each other only
    assert np.array_equal(to_internal(given, points_set), given)


@pytest.mark.parametrize("name", TABLES)
def test_the_adapter_puts_real_points_in_that_order(shared_data: Path, tmp_path: Path, name: str) -> None:
    source, anatomy, points_set, lines, *_ = TABLES[name]
    path = shared_data / "hc18_landmarks" / "mcfb_annotations" / f"{name}.csv"
    head, *rows = path.read_text(encoding="utf-8").splitlines()
    table = tmp_path / "in" / "annotations" / source / f"{anatomy}.csv"
    table.parent.mkdir(parents=True)
    table.write_text("\n".join([head, *rows[::40]]) + "\n", encoding="utf-8")
    folder = tmp_path / "in" / "images" / source / anatomy
    for cell in cells(table):
        write_png(folder / cell["image_name"], np.zeros((8, 8), np.uint8))
    manifest = ADAPTERS["multicentre_biometry"](tmp_path / "in", tmp_path / "out")
    assert {row["points_set"] for row in manifest.rows} == {points_set}
    found = np.reshape([row["keypoints"] for row in manifest.rows], (len(manifest), -1, 2))
    assert found.shape[1] == len(POINT_SETS[points_set].names)
    wanted = {c["image_name"]: p for c, p in zip(cells(table), stated(table, lines), strict=True)}
    for row, given in zip(manifest.rows, found, strict=True):
        assert np.array_equal(given, to_internal(wanted[Path(row["path"]).name], points_set))


@pytest.mark.parametrize("fill", [0, 8])
def test_a_camus_sector_is_cut_by_the_frame_whatever_fills_the_rest(shared_data: Path, fill: int) -> None:
    (path,) = (shared_data / "camus_4ch" / "nifti").rglob("patient0047_4CH_ED.nii.gz")
    picture = read_frames(path)[0]
    whole = find_sector(picture[None])
    assert whole is not None
    picture = np.where(whole.mask, picture, np.uint8(fill))
    sector = find_sector(picture[None])
    assert sector is not None
    assert sector.shape == "sector"
    height, width = picture.shape
    assert sector.box == pytest.approx(
        (0, 4, width, height), abs=4
    )  # its corners and arc are beyond the frame
    overlap = (sector.mask & whole.mask).sum() / (sector.mask | whole.mask).sum()
    assert overlap > 0.97
