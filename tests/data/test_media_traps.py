"""The traps that the catalogue of the shared data names, each on the real file that sets it.

Trap → its test; without a file it is here:

- CAMUS: pictures lie transposed, 0.308 mm
  → test_media_volumes::test_real_camus_picture_is_upright_and_calibrated
- CAMUS: the frame cuts the sector, its fill is not zero
  → test_adapters_traps::test_a_camus_sector_is_cut_by_the_frame_whatever_fills_the_rest
- CAMUS: an official split; areas of its masks → test_adapters::test_camus_masks_and_official_split
- BUSI: one picture with two labels, several masks an image, empty masks
  → test_adapters_published::test_busi_masks_are_joined_and_doubles_are_one_patient
- BUSI: near copies → test_card::test_copies_are_near_and_other_pictures_are_not
- HC18: outlines to fill, past the border, several pictures a subject
  → test_adapters_published::test_hc18_outlines_are_filled_even_past_the_border
- HC18: outlines are a pixel thin → test_outlines_are_read_as_outlines
- HC18: scale, circumference and points agree
  → test_adapters::test_hc18_points_are_in_canonical_order_and_give_the_circumference
- order of points differs → test_adapters_traps::test_sources_of_fetal_points_come_in_orders_of_their_own
- order of points, mended → test_adapters_traps::test_the_adapter_puts_real_points_in_that_order
- a mirrored picture swaps points → test_pointorders::test_both_flips_keep_the_internal_order
- FM_UIA: cells of JSON, GB18030, PSAK, mirrored femurs
  → test_adapters_points::test_fu_biometry_reads_all_nine_tasks_with_their_traps
- FM_UIA: tables of its tasks → test_adapters_points::test_fm_uia_reads_every_kind_of_label
- FM_UIA: split screens → test_shards::test_points_of_either_half_of_a_split_screen_stay_on_their_pixels
- multi-centre: mm per px of the original size
  → test_adapters_points::test_multicentre_rates_are_mm_per_pixel_and_its_pool_is_not_read_twice
- tongue: missing points are empty cells → test_adapters_traps::test_tongue_points_stay_where_they_were_drawn
- tongue: points outside the sector → test_adapters_traps::test_tongue_points_outside_the_sector_are_kept
- COVID-BLUES: four spellings, second clips, missing points of the lung
  → test_adapters_published::test_covid_blues_mends_spellings_and_joins_the_test
- COVID-BLUES: 25 frames a second → test_lung_clips_tell_their_rate
- POCUS: patient ids that lie → test_adapters_traps::test_seven_clips_of_one_scan_are_one_patient_in_one_split
- sonocrop: borders of the screen → test_sector_motion::test_borders_of_the_scanners_screen_are_left_out
- CAMUS GIF: three panels → test_three_panels_of_a_gif_come_whole
- DICOM: resized after calibration → test_image_that_was_downscaled_after_calibration_has_unknown_spacing
- DICOM: region below the last row → test_region_below_the_last_row_has_unknown_spacing
- DICOM: negative deltas → test_negative_deltas_are_a_direction
- DICOM: dummy region first → test_dummy_region_before_the_real_one_is_passed_over
- DICOM: dummy regions alone
  → test_media_calibration::test_placeholders_alone_leave_the_answer_to_pixel_spacing
- DICOM: anisotropic → test_pixels_that_are_not_square_keep_both_sides
- DICOM: colour region → test_colour_region_calibrates_where_it_is_the_only_image
- DICOM: physio regions → test_physio_regions_and_one_without_width_do_not_calibrate
- DICOM: negative step of a trace → test_trace_that_falls_has_a_positive_step
- DICOM: FrameTimeVector without FrameTime → test_frame_time_vector_without_frame_time_gives_times
- DICOM: palettes, of sixteen bits too → test_two_pictures_of_one_scale_and_a_palette_of_sixteen_bits
- DICOM: syntaxes and colour models
  → test_media_syntaxes::test_real_files_of_every_syntax_are_read_whole_and_by_frame
- DICOM: JPEG XL → test_jpeg_xl_decodes_frame_by_frame
- DICOM: single-frame class with two frames → test_single_frame_class_with_two_frames_has_both
- DICOM: burned-in names → test_burned_in::test_a_burned_in_name_is_blanked
- hips: masks of a clip, by a model → test_masks_of_a_cine_have_its_frames
- tracked: key names, packed, orientation → test_media_volumes::test_real_tracked_sequences_have_rigid_poses
- tracked: Image-to-Probe
  → test_media_poses::test_the_real_calibration_gives_pixels_of_a_twelfth_of_a_millimetre
- tracked: path of the probe → test_media_poses::test_the_probe_of_the_bone_sweep_moves_on_by_nine_millimetres
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from insonate.data.media import MediaInfo, probe, read_frames
from insonate.data.spacing import Spacing, Step

NAMES = {
    "resized": "pydicom_examples_ybr_color_PLA30f",
    "cut": "pydicom_examples_palette",
    "negative": "fodicom_DIRW0007_ACUSON_65f",
    "negative_8": "dicomparser_ACUSON_echo_8f",
    "dummy": "dcm4che_YBR_FULL-RLE_ACUSON",
    "anisotropic": "orthanc_Issue16_HP_pediatric_echo_34f",
    "colour": "dcm4che_GE_27f_jpegxl",
    "falling": "pylibjpeg_JPEGLossless_Medistim_2f",
    "three": "cornerstone_no-pixel-spacing_3regions",
    "palette16": "pydicomdata_US_ALOKA_palette16",
    "two_frames": "pydicomdata_OB_palette_rle_2frame",
}
EXTRA = ("colour", "falling")


@pytest.fixture
def dicom(shared_data: Path, request: pytest.FixtureRequest) -> MediaInfo:
    if request.param in EXTRA:
        pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    return probe(shared_data / "dicom_us" / f"{NAMES[request.param]}.dcm")


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dicom", [name], indirect=True)


def spacing(row_mm: float, col_mm: float) -> Spacing:
    return Spacing(row_mm=pytest.approx(row_mm, abs=1e-4), col_mm=pytest.approx(col_mm, abs=1e-4))


@of("resized")
def test_image_that_was_downscaled_after_calibration_has_unknown_spacing(dicom: MediaInfo) -> None:
    assert (dicom.height, dicom.width) == (240, 320)
    (only,) = dicom.regions
    assert dicom.spacing is None
    assert (only.name, only.box, only.spacing) == ("2d", (84, 31, 320, 240), None)


@of("cut")
def test_region_below_the_last_row_has_unknown_spacing(dicom: MediaInfo) -> None:
    assert dicom.height == 350
    assert dicom.spacing is None
    assert [region.name for region in dicom.regions] == ["2d"]  # the trace lies wholly outside


@of("negative")
def test_negative_deltas_are_a_direction(dicom: MediaInfo) -> None:
    assert dicom.spacing == spacing(0.5248, 0.5248)


@of("negative_8")
def test_negative_deltas_behind_a_dummy_region_are_found(dicom: MediaInfo) -> None:
    assert dicom.spacing == spacing(2.2938, 2.2938)
    assert [region.name for region in dicom.regions] == ["2d"]


@of("dummy")
def test_dummy_region_before_the_real_one_is_passed_over(dicom: MediaInfo) -> None:
    assert dicom.spacing == spacing(0.0954, 0.0954)
    assert [(region.name, region.box) for region in dicom.regions] == [("2d", (84, 48, 484, 416))]


@of("anisotropic")
def test_pixels_that_are_not_square_keep_both_sides(dicom: MediaInfo) -> None:
    assert dicom.spacing == spacing(0.2286, 0.2857)
    assert [region.name for region in dicom.regions] == ["2d", "ecg"]
    trace = dicom.regions[1]
    assert trace.across == Step(per_px=pytest.approx(0.00502, abs=1e-5), unit="s")
    assert (trace.down, trace.spacing) == (None, None)


@of("colour")
def test_colour_region_calibrates_where_it_is_the_only_image(dicom: MediaInfo) -> None:
    assert [region.name for region in dicom.regions] == ["colour"]
    assert dicom.spacing == spacing(0.2724, 0.2724)


@of("falling")
def test_trace_that_falls_has_a_positive_step(dicom: MediaInfo) -> None:
    assert dicom.spacing == spacing(0.0277, 0.0277)
    assert [region.name for region in dicom.regions] == ["2d", "ecg"]
    assert dicom.regions[1].across == Step(per_px=pytest.approx(0.00562, abs=1e-5), unit="s")


@of("three")
def test_physio_regions_and_one_without_width_do_not_calibrate(dicom: MediaInfo) -> None:
    assert [region.name for region in dicom.regions] == ["2d", "ecg"]
    assert dicom.spacing == spacing(0.3305, 0.3305)


@of("palette16")
def test_two_pictures_of_one_scale_and_a_palette_of_sixteen_bits(dicom: MediaInfo) -> None:
    assert [region.name for region in dicom.regions] == ["2d", "2d", "bar"]
    assert dicom.spacing == spacing(0.3827, 0.3827)
    frame = read_frames(dicom.path)[0].astype(int)
    assert frame.shape == (480, 640, 3)
    assert frame.max() > 240
    grey = np.ptp(frame, axis=-1) == 0
    assert 0.7 < grey.mean() < 1  # B-mode is grey, the marks on it are coloured
    x0, y0, x1, y1 = dicom.regions[0].box
    assert frame[y0:y1, x0:x1].std() > 30


@of("two_frames")
def test_two_frames_without_times_are_read(dicom: MediaInfo) -> None:
    frames = read_frames(dicom.path)
    assert (dicom.frames, frames.shape) == (2, (2, 600, 800, 3))
    assert dicom.times_s is None


def test_single_frame_class_with_two_frames_has_both(shared_data: Path) -> None:
    path = shared_data / "hip_radoss" / "56568.dcm"
    assert dcmread(path, stop_before_pixels=True).SOPClassUID == "1.2.840.10008.5.1.4.1.1.1"
    assert probe(path).frames == len(read_frames(path)) == 2


@pytest.mark.parametrize("name", ["negative", "negative_8"])
def test_frame_time_vector_without_frame_time_gives_times(shared_data: Path, name: str) -> None:
    path = shared_data / "dicom_us" / f"{NAMES[name]}.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a misspelt character set
        header = dcmread(path, stop_before_pixels=True)
    assert "FrameTime" not in header
    info = probe(path)
    assert info.times_s is not None
    steps_ms = [float(v) for v in header.FrameTimeVector][1:]
    assert np.allclose(np.diff(info.times_s) * 1000, steps_ms)
    assert info.fps == pytest.approx(1000 * len(steps_ms) / sum(steps_ms))
    assert np.array_equal(read_frames(path, times_s=[info.times_s[3]]), read_frames(path, [3]))


def test_jpeg_xl_decodes_frame_by_frame(shared_data: Path) -> None:
    pytest.importorskip("imagecodecs", reason="needs the extra dicom")
    path = shared_data / "dicom_us" / "dcm4che_GE_27f_jpegxl.dcm"
    assert probe(path).frames == 27
    frames = read_frames(path, [26, 3])
    assert frames.shape == (2, 708, 1016, 3)
    assert (frames[0] != frames[1]).mean() > 0.01


def test_palette_cine_agrees_between_codecs(shared_data: Path) -> None:
    folder = shared_data / "dicom_us"
    rle = read_frames(folder / "dcm4che_US-PAL-8-10x-echo_rle.dcm", [0, 9])
    jpegls = read_frames(folder / "dcm4che_US-PAL-8-10x-echo_jpegls.dcm", [0, 9])
    assert rle.shape == (2, 430, 600, 3)
    assert np.array_equal(rle, jpegls)


def test_jpeg_that_calls_its_colours_rgb_is_grey_as_it_looks(shared_data: Path) -> None:
    frame = read_frames(shared_data / "dicom_us" / "itkpocus_sonoque_phantom_anechoic.dcm")[0]
    assert np.ptp(frame.astype(int), axis=-1).mean() < 3  # YCbCr taken for RGB would be green


def test_outlines_are_read_as_outlines(shared_data: Path) -> None:
    ring = read_frames(shared_data / "hc18_landmarks" / "original" / "000_HC_Annotation.png")[0]
    assert ring.shape == (540, 800)
    assert set(np.unique(ring)) == {0, 255}
    assert (ring > 0).mean() < 0.01


def test_masks_of_a_cine_have_its_frames(shared_data: Path) -> None:
    folder = shared_data / "hip_radoss"
    for name, frames in (("167857", 4), ("171554", 10), ("56568", 2)):
        picture, mask = probe(folder / f"{name}.dcm"), probe(folder / f"{name}.nii.gz")
        assert picture.frames == mask.frames == frames
        assert (picture.height, picture.width) == (mask.height, mask.width)
        assert set(np.unique(read_frames(mask.path))) <= {0, 1, 2, 3}


def test_lung_clips_tell_their_rate(shared_data: Path) -> None:
    path = next(iter(sorted((shared_data / "covid_blues_lung").rglob("*.mp4"))))
    info = probe(path)
    assert (info.height, info.width, info.fps) == (350, 350, 25.0)
    assert 60 <= info.frames <= 100


def test_three_panels_of_a_gif_come_whole(shared_data: Path) -> None:
    path = shared_data / "echo_clips" / "gif_verbatim" / "camus_patient0001-2CH.gif"
    assert probe(path).frames == 25
    assert read_frames(path, [24]).shape == (1, 214, 640, 3)


@of("anisotropic")
def test_maker_and_model_are_told(dicom: MediaInfo) -> None:
    assert dicom.vendor == "Hewlett-Packard"
    assert probe(dicom.path.with_name("cornerstone_no-pixel-spacing_3regions.dcm")).model == "CX50"


def test_the_view_that_the_scanner_was_told_is_kept(shared_data: Path) -> None:
    folder = shared_data / "dicom_us"
    assert probe(folder / "deid_SIEMENS_RGB_burnedin.dcm").view == "Sag Liver L-M"
    assert probe(folder / "deid_Philips_greyscale_burnedin.dcm").view == ""


def test_every_trap_of_the_table_has_its_test() -> None:
    assert __doc__ is not None
    named = re.findall(r"→ (?:(test_\w+)::)?(test_\w+)", __doc__)
    assert len(named) == __doc__.count("\n- ") > 40
    for module, test in named:
        path = Path(__file__).with_name(f"{module}.py") if module else Path(__file__)
        assert f"\ndef {test}(" in path.read_text(encoding="utf-8"), test
