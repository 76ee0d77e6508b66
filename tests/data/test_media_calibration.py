"""Regions, scales and spacing from DICOM headers: right by geometry, or unknown."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from insonate.data.dataset import ManifestDataset
from insonate.data.limits import limited
from insonate.data.manifest import Manifest
from insonate.data.media import probe, write_dicom
from insonate.data.media.calibration import frame_spacings, pixel_spacing, regions
from insonate.data.scan import scan
from insonate.data.spacing import Region, Spacing, Step
from insonate.data.transforms import InputFormat

from test_media_dicom import cine, region, write  # isort: skip

MM, SECONDS, HZ, CM_PER_S = 3, 4, 5, 7


def item(  # one region, as in the header
    kind: int,
    form: int = 1,
    units: tuple[int, int] = (MM, MM),
    steps: tuple[float, float] = (0.02, 0.03),
    box: tuple[int, int, int, int] = (0, 0, 49, 39),
) -> Dataset:
    found = region(box=box, kind=kind, x=steps[0], y=steps[1])
    found.RegionSpatialFormat = form
    found.PhysicalUnitsXDirection, found.PhysicalUnitsYDirection = units
    return found


def found_in(*items: Dataset) -> tuple[Region, ...]:
    header = Dataset()
    header.SequenceOfUltrasoundRegions = list(items)
    return regions(header, 40, 50)


def test_pictures_are_named_and_scaled_by_their_kind() -> None:
    found = found_in(
        item(1),
        item(2, box=(10, 5, 29, 24)),
        item(1, form=2, units=(SECONDS, MM), steps=(0.01, 0.05)),
        item(3, form=3, units=(SECONDS, CM_PER_S), steps=(0.004, -1.5)),
        item(4, form=3, units=(SECONDS, HZ), steps=(0.004, 20.0)),
        item(10, form=4, units=(SECONDS, 0), steps=(0.005, 0.0)),
        item(13, form=5, units=(0, 0), steps=(0.0, 0.0)),
    )
    assert [r.name for r in found] == ["2d", "colour", "m-mode", "spectral", "spectral", "ecg", "bar"]
    assert found[0].spacing == Spacing(row_mm=pytest.approx(0.3), col_mm=pytest.approx(0.2))
    assert found[1].box == (10, 5, 30, 25)
    assert (found[2].across, found[2].down) == (Step(per_px=0.01, unit="s"), Step(per_px=0.5, unit="mm"))
    assert found[2].spacing is None
    assert found[3].down == Step(per_px=1.5, unit="cm/s")
    assert found[4].down == Step(per_px=20.0, unit="hz")
    assert (found[5].across, found[5].down) == (Step(per_px=0.005, unit="s"), None)
    assert (found[6].across, found[6].down) == (None, None)


def test_m_mode_alone_does_not_calibrate_the_picture() -> None:
    header = Dataset()
    header.SequenceOfUltrasoundRegions = [item(1, form=2, units=(SECONDS, MM))]
    assert pixel_spacing(header, 40, 50) is None


def test_placeholders_alone_leave_the_answer_to_pixel_spacing() -> None:
    header = Dataset()
    header.PixelSpacing = [0.2, 0.3]
    header.SequenceOfUltrasoundRegions = [item(0)]
    assert pixel_spacing(header, 40, 50) == Spacing(row_mm=0.2, col_mm=0.3)
    header.SequenceOfUltrasoundRegions = [item(0), item(1, box=(10, 10, 90, 90))]
    assert pixel_spacing(header, 40, 50) is None  # resized after calibration


def test_placeholders_empty_and_distant_regions_are_left_out() -> None:
    assert found_in(item(0), item(1, box=(5, 5, 5, 20)), item(1, box=(60, 0, 90, 30))) == ()
    cut = found_in(item(1, box=(10, 10, 90, 90)))[0]
    assert (cut.box, cut.across, cut.down) == ((10, 10, 50, 40), None, None)


def test_only_so_many_regions_are_looked_at() -> None:
    with limited(regions=3):
        assert len(found_in(*[item(1)] * 20)) == 3


@given(
    steps=st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 2),
    units=st.tuples(*[st.integers(0, 20)] * 2),
    corner=st.tuples(*[st.integers(0, 2**32 - 1)] * 4),
    kind=st.integers(0, 40),
    form=st.integers(0, 9),
)
def test_whatever_a_header_claims_scales_are_sound(
    steps: tuple[float, float],
    units: tuple[int, int],
    corner: tuple[int, int, int, int],
    kind: int,
    form: int,
) -> None:
    for found in found_in(item(kind, form, units, steps, corner)):
        x0, y0, x1, y1 = found.box
        assert 0 <= x0 < x1 <= 50
        assert 0 <= y0 < y1 <= 40
        for step in (found.across, found.down):
            assert step is None or (math.isfinite(step.per_px) and step.per_px > 0)
        spacing = found.spacing
        assert spacing is None or (1e-4 <= spacing.row_mm <= 100 and 1e-4 <= spacing.col_mm <= 100)


def measures(*values: float) -> Dataset:
    inner, groups = Dataset(), Dataset()
    inner.PixelSpacing = list(values)
    groups.PixelMeasuresSequence = [inner]
    return groups


def test_spacing_that_changes_on_the_way_is_told_for_each_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", cine(3), spacing=None)
    header = dcmread(path)
    header.PerFrameFunctionalGroupsSequence = [measures(0.3, 0.2), measures(0.3, 0.2), measures(0.15, 0.1)]
    header.save_as(path)
    info = probe(path)
    assert info.spacing is None
    assert info.spacing_at(1) == Spacing(row_mm=0.3, col_mm=0.2)
    assert info.spacing_at(2) == Spacing(row_mm=0.15, col_mm=0.1)


def test_spacing_that_stays_is_that_of_the_clip() -> None:
    header = Dataset()
    header.SharedFunctionalGroupsSequence = [measures(0.3, 0.2)]
    assert frame_spacings(header, 2) == (Spacing(row_mm=0.3, col_mm=0.2),) * 2
    header.PerFrameFunctionalGroupsSequence = [Dataset(), measures(0.1, 0.1)]
    assert frame_spacings(header, 2)[1] == Spacing(row_mm=0.1, col_mm=0.1)
    header.PerFrameFunctionalGroupsSequence = [Dataset()] * 5  # of another length than the frames
    assert frame_spacings(header, 2) == (Spacing(row_mm=0.3, col_mm=0.2),) * 2
    assert frame_spacings(Dataset(), 2) == ()


def test_sample_knows_the_regions_and_the_spacing_of_its_frame(tmp_path: Path) -> None:

    path = write(tmp_path / "a.dcm", cine(3))
    header = dcmread(path)
    header.SequenceOfUltrasoundRegions = [item(1), item(10, units=(SECONDS, 0))]
    header.save_as(path)
    manifest: Manifest = scan(tmp_path).manifest
    fmt = InputFormat(height=32, width=32, channels=1, mean=(0.5,), std=(0.5,))
    meta = ManifestDataset(manifest, fmt)[0]["meta"]
    assert [r.name for r in meta.regions] == ["2d", "ecg"]
    assert meta.spacing == Spacing(row_mm=pytest.approx(0.3), col_mm=pytest.approx(0.2))
    header.PerFrameFunctionalGroupsSequence = [measures(0.3, 0.2), measures(0.6, 0.5), measures(0.3, 0.2)]
    header.save_as(path)
    assert ManifestDataset(manifest, fmt)[0]["meta"].spacing == Spacing(row_mm=0.6, col_mm=0.5)


def test_manifest_columns_calibrate_what_files_do_not(tmp_path: Path) -> None:

    write_dicom(
        tmp_path / "a.dcm",
        cine(1),
        spacing=None,
        frame_time_ms=None,
        patient_id="p",
        study_id="s",
        series_id="q",
        vendor="v",
        item_id="i",
    )
    manifest = scan(tmp_path).manifest
    fmt = InputFormat(height=32, width=32, channels=1, mean=(0.5,), std=(0.5,))
    assert ManifestDataset(manifest, fmt)[0]["meta"].spacing is None
    rows = [row | {"spacing_row_mm": 0.4, "spacing_col_mm": 0.5} for row in manifest.rows]
    filled = Manifest.from_rows(rows, tmp_path)
    assert ManifestDataset(filled, fmt)[0]["meta"].spacing == Spacing(row_mm=0.4, col_mm=0.5)
