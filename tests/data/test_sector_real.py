"""The sector on real files: its box is the one that a person read off the picture, for every source."""

from __future__ import annotations

import pytest
import sector_boxes

from insonate.data.sector import find_sector

BOXES = sector_boxes.drawn_boxes()
EMPTY = "cornerstone_no-pixel-spacing_3regions.dcm"
"""a picture of a scanner whose probe was in the air"""


@pytest.mark.parametrize(
    "drawn", [d for d in BOXES if not d.known_fault], ids=lambda drawn: drawn.file.split("/")[-1]
)
def test_the_box_is_the_one_that_a_person_drew(shared_data, drawn):
    if "Lossless" in drawn.file:
        pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    sector = find_sector(sector_boxes.looked_at(shared_data, drawn.file))
    assert sector_boxes.box_overlap(sector.box, drawn.box) >= 0.9


def test_boxes_were_drawn_for_every_source(shared_data):
    """All folders of pictures, and all projects that DICOM files are from."""
    drawn = {d.file for d in BOXES}
    folders = {path.name for path in shared_data.iterdir() if path.is_dir()}
    assert folders == {file.split("/")[0] for file in drawn}
    dicoms = {path.name.split("_")[0] for path in (shared_data / "dicom_us").glob("*.dcm")}
    assert dicoms - {EMPTY.split("_")[0]} == {
        file.split("/")[1].split("_")[0] for file in drawn if file.startswith("dicom_us/")
    }


def test_a_scanners_screen_without_echoes_has_no_sector(shared_data):
    assert find_sector(sector_boxes.looked_at(shared_data, f"dicom_us/{EMPTY}")) is None
