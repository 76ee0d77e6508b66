"""The data card's counts are those that were counted by hand."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from copies import recoded
from PIL import Image, ImageDraw
from test_card import speckle

from insonate.cli import main
from insonate.data import media
from insonate.data.manifest import Manifest

ROWS = """
path,      patient_id, split, view, vendor, frames, fps, spacing_row_mm, spacing_col_mm
0.png,     ann,        train, A4C,  Fern,   1,      ,    0.1,            0.2
1.png,     ANN,        train, A2C,  Fern,   1,      ,    0.1,            0.2
2.png,     bob,        train, A4C,  Slate,  1,      ,    0.3,            0.2
copy0.png, cid,        test,  A4C,  ,       1,      ,    ,
copy2.png, dee,        train, ,     Slate,  1,      ,    0.3,            0.2
text.png,  eve,        val,   A4C,  Fern,   1,      ,    0.5,            0.2
slow.mp4,  eve,        val,   PLAX, Fern,   4,      20,  0.5,            0.2
fast.mp4,  fay,        ,      PLAX, Fern,   4,      50,  ,
"""


class Page(HTMLParser):
    """The cells of a page's rows, and the heights of each plot's bars."""

    def __init__(self):
        super().__init__()
        self.rows, self.plots, self._open = [], {}, False

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr":
            self.rows.append([])
        elif tag == "svg":
            self._plot = self.plots.setdefault(found["aria-label"], [])
        elif tag == "rect":
            self._plot.append(float(found["height"]))
        self._open = tag in {"td", "th"}

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._open = False

    def handle_data(self, data):
        if self._open:
            self.rows[-1].append(data)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """A folder of eight media and the manifest of them, `m.csv`."""
    folder = tmp_path_factory.mktemp("card")
    for number in range(3):
        media.write_png(folder / f"{number}.png", speckle(number))
    media.write_png(folder / "copy0.png", recoded(speckle(0)))
    media.write_png(folder / "copy2.png", recoded(speckle(2)))
    named = Image.fromarray(speckle(7, (240, 320)))
    ImageDraw.Draw(named).text((40, 100), "DOE JOHN 1970", fill=255, font_size=20)
    media.write_png(folder / "text.png", np.asarray(named))
    for seed, name, fps in ((20, "slow", 20.0), (30, "fast", 50.0)):
        media.write_video(folder / f"{name}.mp4", np.stack([speckle(seed + t) for t in range(4)]), fps)
    (folder / "m.csv").write_text(re.sub(r", +", ",", ROWS.strip()).replace(", ", ",") + "\n")
    return folder


def test_counts_plots_pairs_and_findings(eight, monkeypatch, capsys):
    words = ["insonate", "data", "card", str(eight / "m.csv"), "-o", str(eight / "card.html"), "--strict"]
    monkeypatch.setattr(sys, "argv", [*words, "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == [
        f"{eight / 'card.html'}: 5 findings",
        "pairs of nearly equal pictures in two splits (leakage): 1",
        "pairs of nearly equal pictures of two patients: 2",
        "media without calibration, of which nothing is told in mm: 2 of 8",
        "media with writing in the picture, which may name people: 1 of 8",
        "media in no split: 1 of 8",
    ]
    page = Page()
    page.feed((eight / "card.html").read_text())
    for row in (  # split: media, rows, patients (ann and ANN are one), frames
        ["train", "4", "4", "3", "4"], ["val", "2", "2", "1", "5"], ["test", "1", "1", "1", "1"],
        ["no split", "1", "1", "1", "4"], ["all", "8", "8", "6", "14"],
        # view, vendor: media, patients, without mm
        ["A4C", "4", "4", "1"], ["A2C", "1", "1", "0"], ["PLAX", "2", "2", "1"],
        ["Fern", "5", "3", "1"], ["Slate", "2", "2", "0"], ["unknown", "1", "1", "1"],
    ):  # fmt: skip
        assert row in page.rows
    assert page.plots["frames per second, 20 to 50"] == [96, 96]
    assert page.plots["mm per pixel, down, 0.1 to 0.5"] == [96, 96, 96]  # twice each of 0.1, 0.3, 0.5
    assert page.plots["mm per pixel, across, 0.2 to 0.2"] == [96]
    assert page.plots["media a patient, 1 to 2"] == [96, 48]  # four have one, two have two


def test_nothing_found_is_no_failure(eight, monkeypatch, capsys):
    rows = [{**row, "split": "train"} for row in Manifest.read(eight / "m.csv").rows[:3]]
    Manifest.from_rows(rows, eight).write(eight / "clean.csv")
    words = [
        "insonate",
        "data",
        "card",
        str(eight / "clean.csv"),
        "-o",
        str(eight / "clean.html"),
        "--strict",
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "leakage" not in capsys.readouterr().out
