"""Pixels of tracked sequences in space: the calibration in the XML, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from insonate.data.limits import limited
from insonate.data.media import Track, image_poses, probe, read_calibration, read_tracks
from insonate.errors import MediaError

XML = "PlusDeviceSet_SpinePhantomFreehandReconstructionOnly.xml"
GOOD = "0.1 0 0 5 0 0.2 0 6 0 0 0.1 7 0 0 0 1"


def config(path: Path, matrix: str = GOOD, head: str = "") -> Path:
    transform = f'<Transform From="Image" To="Probe" Matrix="{matrix}" Error="1.7"/>'
    path.write_text(
        f"{head}<PlusConfiguration><CoordinateDefinitions>{transform}</CoordinateDefinitions></PlusConfiguration>"
    )
    return path


def moved(source: str, shifts_mm: list[float], quarter_turns: int = 0) -> Track:
    """Poses along x, turned about z."""
    matrices = np.tile(np.eye(4), (len(shifts_mm), 1, 1))
    matrices[:, :2, :2] = np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), quarter_turns)
    matrices[:, 0, 3] = shifts_mm
    return Track(source, "Tracker", matrices, np.ones(len(shifts_mm), bool))


def path_mm(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def test_the_reference_is_undone_before_the_probe_and_the_calibration_comes_first(tmp_path: Path) -> None:
    image_to_probe = read_calibration(config(tmp_path / "a.xml"))
    pose = image_poses(
        [moved("Probe", [10, 20]), moved("Reference", [1, 2], quarter_turns=1)], image_to_probe
    )
    assert (pose.source, pose.target) == ("Image", "Reference")
    points = pose.matrices @ [30, 40, 0, 1]  # px; in the probe's space (8, 14, 7) mm
    assert points[:, :3] == pytest.approx(np.array([[14, -17, 7], [14, -26, 7]]))


def test_frames_in_which_one_was_lost_have_no_pose() -> None:
    lost = moved("Probe", [0, 1, 2])
    lost.matrices[1], lost.valid[1] = np.nan, False
    pose = image_poses([lost, moved("Reference", [0, 0, 0])], np.eye(4))
    assert pose.valid.tolist() == [True, False, True]
    assert np.isnan(pose.matrices[1]).all()
    assert np.isfinite(pose.matrices[[0, 2]]).all()


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(MediaError, match="no poses ReferenceToTracker"):
        image_poses([moved("Probe", [0])], np.eye(4))
    with pytest.raises(MediaError, match=r"the shape \(3, 3\)"):
        image_poses([moved("Probe", [0]), moved("Reference", [0])], np.eye(3))


@pytest.mark.parametrize(
    ("matrix", "head", "word"),
    [
        ("1 2 3", "", "list of 16 numbers"),
        (GOOD.replace("0.2", "nan"), "", "list of 16 numbers"),
        (GOOD.replace("0.2", "0"), "", "no transform of space"),
        (GOOD[:-1] + "2", "", "no transform of space"),
        (GOOD, '<!DOCTYPE x [<!ENTITY a "b">]>', "defines texts of its own"),
        (GOOD, "<open>", "is no XML"),
    ],
)
def test_damaged_calibrations_are_refused(tmp_path: Path, matrix: str, head: str, word: str) -> None:
    with pytest.raises(MediaError, match=word):
        read_calibration(config(tmp_path / "a.xml", matrix, head))


def test_a_calibration_of_other_frames_or_of_any_length_is_refused(tmp_path: Path) -> None:
    path = config(tmp_path / "a.xml")
    with pytest.raises(MediaError, match="no Transform from Image to Stylus"):
        read_calibration(path, target="Stylus")
    with limited(header_bytes=50), pytest.raises(MediaError, match="limit header_bytes=50"):
        read_calibration(path)


def test_the_real_calibration_gives_pixels_of_a_twelfth_of_a_millimetre(shared_data: Path) -> None:
    folder = shared_data / "tracked_freehand"
    image_to_probe = read_calibration(folder / XML)
    assert np.linalg.norm(image_to_probe[:3, :2], axis=0) == pytest.approx([0.0854, 0.0790], abs=1e-4)
    assert read_calibration(folder / XML, "Phantom", "Reference")[1, 3] == pytest.approx(-37.1153)
    sweep = folder / "SpinePhantomFreehand.igs.mha"
    pose, info = image_poses(read_tracks(sweep), image_to_probe), probe(sweep)
    assert pose.valid.all()
    corners = np.array([[0, 0, 0, 1], [info.width - 1, 0, 0, 1]]).T  # 4 2, in px
    points = pose.matrices[:, :3] @ corners  # T 3 2, in mm
    assert np.linalg.norm(points[..., 1] - points[..., 0], axis=1) == pytest.approx(69.96, abs=0.01)
    centre = pose.matrices[:, :3] @ [info.width / 2, info.height / 2, 0, 1]
    assert path_mm(centre) == pytest.approx(33.6, abs=0.1)
    assert np.median(np.linalg.norm(np.diff(centre, axis=0), axis=1)) == pytest.approx(1.64, abs=0.01)


def test_the_probe_of_the_bone_sweep_moves_on_by_nine_millimetres(shared_data: Path) -> None:
    tracks = read_tracks(shared_data / "tracked_freehand" / "BoneUltrasound_L14.igs.mha")
    probe_poses = image_poses(tracks, np.eye(4))
    assert path_mm(probe_poses.matrices[:, :3, 3]) == pytest.approx(8.61, abs=0.01)
    alone = {track.source: track for track in tracks}["Probe"]
    assert path_mm(alone.matrices[:, :3, 3]) != pytest.approx(8.61, abs=0.05)  # the reference moves too
