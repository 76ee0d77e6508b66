"""What the packaged model learns from: open pictures alone, each patient on one side, points that fit."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

from insonate.data import Manifest
from insonate.data.pointsets import POINT_SETS
from insonate.errors import InsonateError
from insonate.experiments import shipped_data as making
from insonate.experiments.shipped_data import LICENCES, echo_row, head_row, shipped_data, window
from insonate.phantom.cast import HEARTS, KINDS, ROLES

HEADER = (
    "file,subject,mcfb_split,width,height,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,"
    "bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,mm_per_px,hc_mm"
)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def ellipse(centre=(60.0, 40.0), axes=(40.0, 25.0), hw=(80, 120)):
    mask = Image.new("L", hw[::-1])
    (x, y), (a, b) = centre, axes
    ImageDraw.Draw(mask).ellipse([x - a, y - b, x + a, y + b], fill=1)
    return np.asarray(mask)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out") / "set"
    folder = data / "hc18_landmarks"
    folder.mkdir()
    names = [f"{n:03d}_HC.png" for n in range(12)] + ["000_2HC.png"]
    with zipfile.ZipFile(folder / "hc18_half.zip", "w") as archive:
        for name in names:
            archive.writestr(f"images/{name}", png(np.full((80, 120), 90, np.uint8)))
            archive.writestr(f"masks/{name}", png(ellipse()))
    marks = "1,1,2,2,3,3,4,4"  # of the other licence: nothing may come of them
    lines = [f"{name},{name[:3]},Train,120,80,{marks},0.5,104.0" for name in names]
    (folder / "landmarks.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "KIND", "fetal")  # hearts take long
        yield shipped_data(data, out, patients=5, images=1, size=64)


def test_phantoms_are_of_all_nine_sets():
    kind = KINDS[making.KIND]
    sets = {ROLES[name].points if name in ROLES else HEARTS[name] for name in kind.scenes}
    assert sets == set(POINT_SETS)


def test_training_mixes_phantoms_with_real_heads(made):
    rows = Manifest.read(made).rows
    assert {row["points_set"] for row in rows if row["synthetic"]} == {"HC", "FA", "fetal_femur"}
    assert {(row["synthetic"], row["licence"]) for row in rows} == {
        (True, LICENCES["phantom"]), (False, "CC BY 4.0"),
    }  # fmt: skip
    assert {row["split"] for row in rows if row["synthetic"]} == {"train", "val", "test"}


def test_real_heads_stand_alone_beside_it_with_the_same_subjects_held_out(made):
    real = Manifest.read(made.with_name("real.parquet")).rows
    mixed = [row for row in Manifest.read(made).rows if not row["synthetic"]]
    assert real == mixed
    splits = {}
    for row in real:
        splits.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(one) == 1 for one in splits.values())
    assert len(splits) == 12


def test_points_of_real_heads_come_from_the_ellipse_not_from_the_landmarks(made):
    row = next(row for row in Manifest.read(made).rows if not row["synthetic"])
    points = np.array(row["keypoints"]).reshape(-1, 2)
    np.testing.assert_allclose(points, [(60, 15), (60, 65), (100, 40), (20, 40)], atol=0.6)


def test_a_set_that_is_there_is_not_made_again(made):
    before = made.read_bytes(), (made.parent / "hc18" / "manifest.parquet").stat().st_mtime_ns
    shipped_data(made.parent / "nowhere", made.parent, patients=5, images=1, size=64)
    assert before == (made.read_bytes(), (made.parent / "hc18" / "manifest.parquet").stat().st_mtime_ns)


def test_without_the_heads_it_says_what_it_needs(tmp_path):
    with pytest.raises(InsonateError, match="holds no folder 'hc18_landmarks'"):
        shipped_data(tmp_path, tmp_path / "out", patients=1)


def test_a_head_that_runs_off_the_picture_keeps_its_axes():
    whole = head_row(ellipse(centre=(60.0, 60.0), hw=(130, 120)))["keypoints"]
    cut = head_row(ellipse(centre=(60.0, 60.0), hw=(130, 120))[:78])["keypoints"]
    np.testing.assert_allclose(cut, whole, atol=0.7)


def test_an_empty_mask_gives_no_points():
    assert head_row(np.zeros((40, 40), np.uint8)) == {}
    assert echo_row(np.zeros((40, 40), np.uint8)) == {}


@pytest.mark.parametrize("draw", np.linspace(0, 0.999, 9))
@pytest.mark.parametrize("ys", [(20.0, 90.0), (2.0, 60.0), (70.0, 127.0), (0.0, 127.0)])
def test_a_cut_phantom_keeps_its_points_and_is_no_taller(draw, ys):
    points = np.array([(10.0, ys[0]), (np.nan, np.nan), (90.0, ys[1])])
    top, height = window(points, (128, 128), draw)
    assert top >= 0
    assert top + height <= 128
    assert top <= ys[0]
    assert ys[1] <= top + height - 1


def test_phantoms_are_cut_to_many_shapes_and_some_are_not():
    points = np.array([(10.0, 60.0), (90.0, 68.0)])
    heights = [window(points, (128, 128), draw)[1] for draw in np.linspace(0, 0.999, 50)]
    assert heights.count(128) >= 14
    assert min(heights) < 80
