"""SonoNet's published weights tell the standard planes of their own pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import insonate
from insonate.errors import WeightsError
from insonate.hub import write_official
from insonate.weights import read

SCREEN = (81, 115, 874, 734)
"""where the authors cut the picture out of the screen"""


@pytest.fixture(scope="module")
def folder(shared_data):
    return shared_data / "sononet16"


@pytest.fixture(scope="module")
def model(folder):
    return insonate.load(folder / "SonoNet16.pth")


@pytest.mark.parametrize("cut", [False, True])
def test_twelve_of_thirteen_planes_are_right(folder, model, cut) -> None:
    right = []
    for path in sorted(folder.glob("*.png")):
        picture = Image.open(path).convert("RGB")
        media = np.asarray(picture.crop(SCREEN) if cut else picture)
        found = model.predict(media, tta=False)
        right.append(found.names[int(found.value.argmax())] == path.stem)
    assert (len(right), sum(right)) == (13, 12)


def test_it_goes_back_as_it_came_and_brightness_does_not_matter(folder, model, tmp_path) -> None:
    official = read(folder / "SonoNet16.pth")
    write_official(model, tmp_path / "x.pth")
    again = read(tmp_path / "x.pth")
    assert {name for name in again if "num_batches" not in name} == official.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in official.items())
    x = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(
            model.backbone(x).patch, model.backbone(2 * x + 3).patch, rtol=1e-3, atol=1e-2
        )
    assert [tuple(m.shape[-2:]) for m in model.backbone.pyramid(x)] == [(16, 12), (8, 6), (4, 3), (2, 1)]


def test_a_damaged_file_of_the_old_format_is_refused(folder, tmp_path) -> None:
    whole = (folder / "SonoNet16.pth").read_bytes()
    for name, content in {
        "cut": whole[:-100],
        "cut in a pickle": whole[:3000],
        "code": whole.replace(b"ctorch._utils\n_rebuild_tensor\n", b"cposix\nsystem\n", 1),
        "bit": whole.replace(b"FloatStorage", b"DoubleStorag", 1),
    }.items():
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            read(tmp_path / "x.pth")
        assert "\n" not in str(caught.value), name
