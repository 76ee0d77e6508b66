"""Segmentation: masks on the original's grid, overlap and surface distance by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from insonate.data import InputFormat, Loader, Manifest, ManifestDataset
from insonate.tasks import build_task
from insonate.tasks.base import Outputs
from insonate.tasks.segmentation import dice, hd95
from tasks.tiny import Tiny, batch, meta


def head_mask(**options):
    torch.manual_seed(0)
    given = {"column": "mask_path", "classes": ["background", "head"], "width": 32}
    return build_task(Tiny(), {"name": "segmentation", **given, **options})


def sure(mask, classes=2):
    """Outputs that say `mask` (B H W) with certainty."""
    return Outputs(torch.nn.functional.one_hot(mask, classes).movedim(-1, 1).float(), torch.ones(len(mask)))


def test_overlap_and_surface_distance_by_hand():
    a, b = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    a[5:10, 5:15], b[5:10, 9:19] = True, True
    assert dice(a, b) == pytest.approx(0.6)
    assert hd95(a, b, (1.0, 1.0)) == pytest.approx(4.0)
    assert hd95(a, b, (1.0, 0.25)) == pytest.approx(1.0)
    assert hd95(a, a, (1.0, 1.0)) == 0.0
    empty = np.zeros_like(a)
    assert math.isnan(dice(empty, empty))
    assert dice(a, empty) == 0
    assert math.isnan(hd95(a, empty, (1.0, 1.0)))


def test_decoded_mask_has_the_size_and_place_of_the_original():
    task, given = head_mask(), batch(1)
    (found,) = task.decode(sure(given["mask"]), given)
    (truth,) = task.truth(given)
    assert found.value.shape == (64, 96)
    assert found.value.dtype == np.uint8
    assert (found.value != truth.value).sum() <= 4  # the corners lie on the line between both classes
    rows, columns = np.nonzero(truth.value)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (
        16,
        31,
        24,
        71,
    )  # mask is 8…15, 8…23 of 32
    assert truth.measurements["head_area_cm2"].value == pytest.approx(16 * 48 * 0.25 / 100)
    assert task.score(found, truth) == pytest.approx({"dice": 1.0, "dice_head": 1.0}, abs=0.01)
    assert found.to_dict()["value"] is None


def test_mirrored_image_gives_the_mirrored_mask():
    task, given = head_mask().eval(), batch()
    straight = task.predict(given, tta=True)
    mirrored = task.predict({**given, "image": given["image"].flip(-1)}, tta=True)
    assert straight.values.shape == (4, 2, 32, 32)
    assert torch.equal(mirrored.values, straight.values.flip(-1))


def test_unlabelled_pixels_give_no_loss_and_no_score():
    task, given = head_mask(), batch(2)
    task.head.final.weight.data.zero_()
    task.head.final.bias.data.zero_()
    given["mask"][:] = 255
    given["mask"][:, :2] = 1
    losses = task(given)
    assert losses.parts["cross_entropy"].item() == pytest.approx(math.log(2), rel=1e-5)
    (truth, _), (found, _) = (
        task.truth(given),
        task.decode(sure(torch.ones(2, 32, 32, dtype=torch.int64)), given),
    )
    assert task.score(found, truth)["dice"] == 1.0
    given["mask"][:] = 255
    assert task(given).total.item() == 0


def test_surface_distance_is_scored_on_request():
    task, given = head_mask(hausdorff=True), batch(1)
    (truth,) = task.truth(given)
    (found,) = task.decode(
        sure(given["mask"].roll(2, dims=-1)), given
    )  # 2 columns of the input are 6 of the original
    scores = task.score(found, truth)
    assert (scores["hd95_px"], scores["hd95_mm"]) == pytest.approx((6.0, 3.0))


def test_trivial_mask_is_the_vote_of_the_stretched_masks():
    task = head_mask()
    truths = task.truth(batch(3))
    guess = task.trivial(truths, meta(original_hw=(32, 32)))
    assert guess.value.shape == (32, 32)
    assert guess.value.sum() == 8 * 16
    assert float(guess.confidence) == 1.0


def test_outlines_are_drawn():
    task, given = head_mask(), batch(1)
    (truth,) = task.truth(given)
    (found,) = task.decode(sure(given["mask"].roll(4, dims=-1)), given)
    drawn = np.asarray(task.draw(Image.new("L", (96, 64)), found, truth))
    assert (drawn == (0, 220, 120)).all(axis=-1).sum() > 20
    assert (drawn == (255, 140, 0)).all(axis=-1).sum() > 40


def test_predictions_are_scored_against_the_label_itself_not_against_its_small_copy(tmp_path):
    rows, columns = np.mgrid[:61, :83]
    label = ((rows // 3 + columns // 5) % 2).astype(np.uint8)  # finer than the model's input
    Image.fromarray(label * 90).save(tmp_path / "a.png")
    Image.fromarray(label).save(tmp_path / "mask.png")
    manifest = Manifest.from_rows([{"path": "a.png", "mask_path": "mask.png"}], tmp_path)
    task = head_mask()
    dataset = ManifestDataset(manifest, InputFormat(height=32, width=32), task.target())
    (given,) = Loader(dataset, 1, shuffle=False, drop_last=False).epoch(0)
    (truth,) = task.truth(given)
    assert np.array_equal(truth.value, label)
