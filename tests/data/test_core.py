"""Manifest, dataset, sampler and loader."""

from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data.augment import Augment
from insonate.data.dataset import ManifestDataset
from insonate.data.loader import Loader
from insonate.data.manifest import Manifest
from insonate.data.pointsets import POINT_SETS
from insonate.data.sampler import ItemKey
from insonate.data.split import split_by_patient
from insonate.data.targets import ClassTarget, MaskTarget, PointsTarget, ValueTarget
from insonate.data.transforms import InputFormat
from insonate.errors import InsonateError, ManifestError, RunError

FMT = InputFormat(height=16, width=24, channels=3)
ROUGH = Augment(
    crop_scale=(0.5, 1), rotate_deg=20, scale=(0.8, 1.2), shift=0.1, hflip=0.5, gamma=(0.8, 1.2), noise=0.1
)


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (20 + i, 30), np.uint8)).save(tmp_path / f"i{i}.png")
        Image.fromarray(rng.integers(0, 3, (20 + i, 30)).astype(np.uint8)).save(tmp_path / f"m{i}.png")
        rows.append({
            "path": f"i{i}.png", "patient_id": f"p{i // 2}", "mask_path": f"m{i}.png", "label": "ab"[i % 2],
            "value": i / 2 if i else None, "points": [1.0, 2.0, float("nan"), 4.0, 5.0, 6.0, 7.0, 8.0],
            "split": "train" if i < 8 else "test", "spacing_row_mm": 0.1, "spacing_col_mm": 0.2,
            "view": "=head",
        })  # fmt: skip
    return Manifest.from_rows(rows, tmp_path)


def seen(loader, epochs=(0, 1), start=0):
    return [
        (b["meta"], b["item_seed"], b["step_seed"], b["image"])
        for e in epochs
        for b in loader.epoch(e, start)
    ]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x[:3] == y[:3]
        assert torch.equal(x[3], y[3])


def test_a_text_cell_that_is_nan_is_missing_and_no_patient_of_that_name(table):
    row = {"path": "i0.png", "patient_id": float("nan"), "site": float("nan"), "mask_path": float("nan")}
    with pytest.raises(ManifestError, match="patient_id"):
        Manifest.from_rows([row, {"path": "i1.png", "patient_id": "p"}], table.root)
    (only,) = Manifest.from_rows([{**row, "patient_id": "p"}], table.root).rows
    assert (only["site"], only["mask_path"]) == ("", None)


def test_mask_pixels_of_level_255_are_unlabelled_and_others_need_a_class(table):
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 10:20], mask[:, 20:] = 2, 255
    Image.fromarray(mask).save(table.root / "m0.png")
    target = MaskTarget(column="mask_path", classes=("back", "one", "two"))
    assert set(ManifestDataset(table, FMT, target)[0]["mask"].unique().tolist()) == {0, 2, 255}
    Image.fromarray(np.where(mask == 2, 3, mask)).save(table.root / "m0.png")
    with pytest.raises(ManifestError, match="grey level 3, with 3 classes"):
        ManifestDataset(table, FMT, target)[0]


@pytest.mark.parametrize("classes", [("false", "true"), ("False", "True")])
def test_truth_values_are_classes_in_either_spelling(table, classes):
    rows = [{"path": f"i{i}.png", "patient_id": "p", "label": bool(i)} for i in (0, 1)]
    dataset = ManifestDataset(
        Manifest.from_rows(rows, table.root), FMT, ClassTarget(column="label", classes=classes)
    )
    assert dataset.labels == [0, 1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_written_manifest_reads_back_the_same(table, ending):
    back = Manifest.read(table.write(table.root / f"m.{ending}"))
    np.testing.assert_equal(back.rows, table.rows)


def test_csv_cells_are_no_formulas(table):
    lines = table.write(table.root / "m.csv").read_text().splitlines()
    assert "'=head" in lines[1]
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line.split(","))


def test_writing_elsewhere_moves_the_paths_or_says_why_not(table, tmp_path_factory):
    sub = table.root / "sub"
    sub.mkdir()
    with pytest.raises(ManifestError, match="does not lie under"):
        table.write(sub / "m.csv")
    above = table.root.parent / "above.csv"
    assert Manifest.read(table.write(above)).rows[0]["path"] == f"{table.root.name}/i0.png"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_id": "P4 "}, "splits"), ({"path": "../x.png"}, "outside"),
        ({"path": "none.png"}, "no file"),
        ({"split": "trian"}, "train"), ({"kind": "vidoe"}, "video"), ({"spacing_row_mm": -1}, "negative"),
        ({"patient_id": ""}, "patient"), ({"frames": -1}, "whole number"),
        ({"mask_path": "/etc/hosts"}, "relative"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(table, change, message):
    rows = [dict(r) for r in table.rows]
    rows[0] |= change
    with pytest.raises(ManifestError, match=message) as error:
        Manifest.from_rows(rows, table.root)
    assert "row" in str(error.value)


def test_rows_without_label_are_left_out_and_counted(table):
    dataset = ManifestDataset(table, FMT, ValueTarget(column="value"))
    assert (len(dataset), dataset.left_out) == (11, 1)
    assert dataset[0]["value"] == 0.5
    for row in table.rows:
        row["value"] = None
    with pytest.raises(ManifestError, match="all 12 rows"):
        ManifestDataset(table, FMT, ValueTarget(column="value"))


def test_each_kind_of_label_arrives_in_the_batch(table):
    names = POINT_SETS["HC"].names
    for target, key, shape in [
        (ClassTarget(column="label", classes=("a", "b")), "label", (4,)),
        (MaskTarget(column="mask_path", classes=("bg", "x", "y")), "mask", (4, 16, 24)),
        (PointsTarget(column="points", names=names, hflip=(0, 1, 3, 2)), "points_xy", (4, 4, 2)),
        (ValueTarget(column="value"), "value", (4,)),
    ]:
        batch = next(Loader(ManifestDataset(table, FMT, target, ROUGH), 4).epoch(0))
        assert batch[key].shape == shape
        assert batch["image"].shape == (4, 3, 16, 24)
        assert type(batch["image"]) is type(batch[key]) is torch.Tensor
        if key == "points_xy":
            assert not batch["visible"][:, 1].any()
            assert batch["visible"].any()
            assert torch.isfinite(batch[key]).all()


def test_an_unknown_class_is_named(table):
    with pytest.raises(ManifestError, match=r"i1\.png.*'b' is none"):
        ManifestDataset(table, FMT, ClassTarget(column="label", classes=("a", "c")))


def test_the_input_matrix_leads_back_to_the_original(table):
    dataset = ManifestDataset(table, FMT, augment=ROUGH)
    meta = dataset[ItemKey(0, 5)]["meta"]
    points = np.array([[3.0, 4.0], [10.0, 1.0]])
    np.testing.assert_allclose(meta.to_original(meta.to_input(points)), points)


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_do_not_depend_on_the_number_of_workers(table, workers):
    dataset = ManifestDataset(table, FMT, augment=ROUGH)
    same(seen(Loader(dataset, 4, workers=workers)), seen(Loader(dataset, 4)))


def test_an_epoch_goes_on_where_it_stopped(table):
    loader = Loader(ManifestDataset(table, FMT, augment=ROUGH), 2, seed=3)
    same(seen(loader, [1], 4), seen(loader, [1])[4:])
    assert [m for m, *_ in seen(loader, [0])] != [m for m, *_ in seen(loader, [1])]


def test_two_ranks_see_what_one_sees(table):
    dataset = ManifestDataset(table, FMT, augment=ROUGH)
    one = Loader(dataset, 4)
    halves = [Loader(dataset, 2) for _ in (0, 1)]
    for rank, half in enumerate(halves):
        half.sampler.rank, half.sampler.world = rank, 2
    assert len(one) == len(halves[0]) == 3
    assert one.items_per_epoch == halves[0].items_per_epoch == 12
    for whole, first, second in zip(one.epoch(2), halves[0].epoch(2), halves[1].epoch(2), strict=True):
        assert torch.equal(whole["image"], torch.cat([first["image"], second["image"]]))
        assert whole["step_seed"] == first["step_seed"] == second["step_seed"]


def test_a_last_short_step_reaches_every_item_once(table):
    loader = Loader(ManifestDataset(table, FMT), 5, shuffle=False, drop_last=False)
    assert [m.item_id for b in loader.epoch(0) for m in b["meta"]] == table.column("path")
    assert loader.items_per_epoch == 12
    with pytest.raises(ManifestError, match="12 items"):
        Loader(ManifestDataset(table, FMT), 13)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named_from_any_process(table, workers):
    (table.root / "i3.png").write_bytes(b"no picture")
    with pytest.raises(InsonateError, match=r"i3\.png"):
        list(Loader(ManifestDataset(table, FMT), 4, workers=workers).epoch(0))


class Killed(ManifestDataset):
    """Its fourth item takes too much memory."""

    def __getitem__(self, key):
        if key.index == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


class Hung(ManifestDataset):
    """The process that reads its fourth item stops, as on a disk that does not answer."""

    def __getitem__(self, key):
        if key.index == 3:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().__getitem__(key)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_hung_worker_is_one_clear_line_with_its_items(table, monkeypatch, workers):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    loader = Loader(Hung(table, FMT), 4, workers=workers, timeout_s=0.5, shuffle=False)
    with pytest.raises(RunError, match=r"epoch 1, batch 1: .* for 0\.5 s; the batch is i0\.png, .*i3\.png\."):
        list(loader.epoch(0))
    assert not multiprocessing.active_children()


# torch opens files to see whether descriptors are left; its own signal may come amid that and lose one
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_one_clear_line(table, workers):
    loader = Loader(Killed(table, FMT), 4, workers=workers)
    with pytest.raises(RunError, match="probably because memory ran out") as caught:
        list(loader.epoch(0))
    assert "data.workers" in str(caught.value)


def test_patients_stay_in_their_split_when_others_come(table):
    split = split_by_patient(table, seed=1)
    fewer = split_by_patient(table.with_rows(table.rows[::-1][:5]), seed=1)
    of = {r["patient_id"]: r["split"] for r in split.rows}
    assert all(of[r["patient_id"]] == r["split"] for r in fewer.rows)
    rows = [{"path": "i0.png", "patient_id": f"p{i}"} for i in range(2000)]
    many = split_by_patient(Manifest.from_rows(rows, table.root)).column("split")
    assert abs(many.count("train") / 2000 - 0.7) < 0.04
    with pytest.raises(ManifestError, match="sum to 1"):
        split_by_patient(table, {"train": 0.7})


@pytest.mark.parametrize("name", POINT_SETS)
def test_point_orders_are_kept_by_flipping_twice(name):
    points = POINT_SETS[name]
    for order in (points.hflip, points.vflip):
        assert sorted(order) == list(range(len(points.names)))
        assert [order[i] for i in order] == list(range(len(points.names)))
