"""The data card: what it finds, and that nothing of the data can act in its page."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from copies import cut as cut_at
from copies import pictures, recoded
from PIL import Image, ImageDraw

from insonate.cli import main
from insonate.data import media, shards
from insonate.data.card import histogram, write_card
from insonate.data.likeness import groups, likeness, near_pairs
from insonate.data.manifest import Manifest


def speckle(seed, hw=(120, 160)):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 120, (20, 30)).astype(np.uint8))
    return np.asarray(small.resize(hw[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def archive(tmp_path):
    """Five patients; a copy of the first one's picture is in another split under another name."""
    folder = tmp_path / "in"
    rows = []
    for i in range(5):
        media.write_png(folder / f"{i}.png", speckle(i))
        split = "test" if i == 4 else "train"
        rows.append(
            {
                "path": f"{i}.png",
                "patient_id": f"p{i}",
                "split": split,
                "view": "A4C" if i % 2 else "",
                "ef": 50 + i,
            }
            | {"spacing_row_mm": 0.1 * (i + 1), "spacing_col_mm": 0.2}
        )
    media.write_png(folder / "copy.png", recoded(speckle(0)))
    rows.append(
        {"path": "copy.png", "patient_id": "p9", "split": "test", "vendor": "<script>alert(1)</script>"}
    )
    return Manifest.from_rows(rows, folder)


def test_copies_are_near_and_other_pictures_are_not():
    pictures = [speckle(0), recoded(speckle(0)), np.clip(speckle(0) * 1.2 + 5, 0, 255).astype(np.uint8)]
    pictures += [speckle(seed) for seed in range(1, 30)]
    found = [likeness(picture) for picture in pictures]
    assert near_pairs(found) == [(0, 1), (0, 2), (1, 2)]
    assert likeness(np.full((50, 50), 9, np.uint8)) is None
    assert near_pairs([]) == []
    assert groups(5, [(1, 3), (4, 3)]) == [0, 1, 2, 1, 1]


@pytest.mark.parametrize("margins", [(0.02,) * 4, (0.05,) * 4, (0.0, 0.08, 0.04, 0.0)])
@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_cut_copies_are_near(shared_data, margins, scale):
    heads = pictures(shared_data, "HC18", 24)
    cut = cut_at(heads[3], *margins)
    if scale != 1 and len(set(margins)) == 1:  # an uneven cut is found where it keeps its size
        cut = recoded(cut, scale=scale)
    assert near_pairs([likeness(picture) for picture in [*heads, cut]]) == [(3, 24)]


def test_other_patients_of_one_scanner_are_not_near(shared_data):
    assert near_pairs([likeness(picture) for picture in pictures(shared_data, "CAMUS", 100)]) == []


class Tags(HTMLParser):
    """Which tags and attributes a page has."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_card_tells_leaks_scales_and_counts(archive, tmp_path):
    card = write_card(archive, tmp_path / "card.html", workers=1)
    assert card.near == [(0, 5)]
    assert card.findings[0] == "pairs of nearly equal pictures in two splits (leakage): 1"
    assert any(f.startswith("media without calibration") and f.endswith("1 of 6") for f in card.findings)
    page = (tmp_path / "card.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.tags & {"script", "link", "iframe", "object"}
    assert not {name for name in tags.attributes if name.startswith("on")}
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"(src|href)=\"(?!data:image/)", page)
    assert page.count("<figure><img") == 2 + 6
    assert "mm per pixel, down" in page
    assert "median 0.3" in page
    assert "50: 1, 51: 1" in page


def test_shards_have_the_same_card(archive, tmp_path):
    packed = shards.shard(archive, tmp_path / "out", workers=1).manifest
    card = write_card(packed, tmp_path / "card.html", workers=1)
    assert card.near == [(0, 5)]
    assert card.errors == []


def test_writing_and_unreadable_media_are_found(tmp_path, monkeypatch, capsys):
    picture = Image.fromarray(speckle(1, (240, 320)))
    ImageDraw.Draw(picture).text((40, 100), "DOE JOHN 1970", fill=255, font_size=20)
    media.write_png(tmp_path / "a.png", np.asarray(picture))
    media.write_png(tmp_path / "c.png", speckle(2, (240, 320)))
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    rows = [{"path": name, "patient_id": name[0]} for name in ("a.png", "b.png", "c.png")]
    Manifest.from_rows(rows, tmp_path).write(tmp_path / "m.csv")
    words = ["insonate", "data", "card", str(tmp_path / "m.csv"), "--out", str(tmp_path / "card.html")]
    monkeypatch.setattr(sys, "argv", [*words, "--strict", "--workers", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr()
    assert stop.value.code == 1
    assert "may name people: 1 of 2" in told.out
    assert "media that cannot be read: 1 of 3" in told.out
    assert "b.png: " in told.err
    assert "damaged" in (tmp_path / "card.html").read_text()


def test_a_scan_writes_the_card_too(archive, tmp_path, monkeypatch, capsys):
    out = archive.root / "m.parquet"
    words = ["insonate", "data", "scan", str(archive.root), "--out", str(out), "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--card", str(tmp_path / "card.html"), "--strict", "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert findings[0] == "pairs of nearly equal pictures of two patients: 1"
    assert "Data card: in" in (tmp_path / "card.html").read_text()


def test_a_histogram_of_one_value_has_one_bar():
    plot = histogram("fps", [25.0, 25.0, None])
    assert (plot["low"], plot["most"], plot["missing"], len(plot["bars"])) == ("25", 2, 1, 1)


def test_pairs_are_found_among_many_that_are_coarsely_alike(monkeypatch):
    found = [
        likeness(picture) for picture in (speckle(0), speckle(1), recoded(speckle(0)), recoded(speckle(1)))
    ]
    alike = [replace(picture, bits=found[0].bits) for picture in found]
    few = near_pairs(alike)
    monkeypatch.setattr("insonate.data.likeness.MANY", 0)
    assert near_pairs(alike) == few == [(0, 2), (1, 3)]
