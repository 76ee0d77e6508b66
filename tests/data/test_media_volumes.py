"""NIfTI and MetaImage: slices as frames, calibration in mm or unknown, poses of tracked sequences."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from insonate.data.limits import limited
from insonate.data.media import MediaFile, probe, read_frames, read_tracks
from insonate.data.spacing import Spacing
from insonate.errors import MediaError


def grey(frames: int = 5, height: int = 6, width: int = 8) -> np.ndarray:
    return np.arange(frames * height * width).reshape(frames, height, width).astype(np.uint8)


def nifti(
    values: np.ndarray,
    code: int,
    *,
    order: str = "<",
    version: int = 1,
    sizes: tuple[int, ...] = (),
    pixdim: tuple[float, ...] = (1, 0.3, 0.2, 1, 0.5, 1, 1, 1),
    units: int = 10,
    slope: float = 0.0,
    inter: float = 0.0,
) -> bytes:
    """T H W values as a file of `sizes` (default W H T)."""
    sizes = sizes or values.shape[::-1]
    dim = [len(sizes), *sizes, *[1] * (7 - len(sizes))]
    head = bytearray(352 if version == 1 else 544)
    if version == 1:
        struct.pack_into(f"{order}i", head, 0, 348)
        struct.pack_into(f"{order}8h", head, 40, *dim)
        struct.pack_into(f"{order}hh", head, 70, code, 8 * values.itemsize)
        struct.pack_into(f"{order}8f", head, 76, *pixdim)
        struct.pack_into(f"{order}3f", head, 108, 352, slope, inter)
        head[123], head[344:348] = units, b"n+1\0"
    else:
        struct.pack_into(f"{order}i8shh", head, 0, 540, b"n+2\0\r\n\x1a\n", code, 8 * values.itemsize)
        struct.pack_into(f"{order}8q", head, 16, *dim)
        struct.pack_into(f"{order}8d", head, 104, *pixdim)
        struct.pack_into(f"{order}q2d", head, 168, 544, slope, inter)
        struct.pack_into(f"{order}i", head, 500, units)
    return bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes()


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
def test_nifti_slices_are_frames(tmp_path: Path, name: str, order: str, version: int) -> None:
    path = saved(tmp_path / name, nifti(grey(), 2, order=order, version=version))
    info = probe(path)
    assert (info.kind, info.frames, info.height, info.width) == ("volume", 5, 6, 8)
    assert info.spacing is not None
    assert np.allclose((info.spacing.row_mm, info.spacing.col_mm), (0.2, 0.3))
    assert np.array_equal(read_frames(path), grey())
    assert np.array_equal(read_frames(path, [4, 0, 4]), grey()[[4, 0, 4]])


@pytest.mark.parametrize(("units", "row_mm"), [(1, 0.2), (2, 0.2), (3, 0.2)])
def test_nifti_spacing_goes_by_its_unit(tmp_path: Path, units: int, row_mm: float) -> None:
    factor = {1: 1e-3, 2: 1.0, 3: 1e3}[units]
    pixdim = (1, 0.3 * factor, 0.2 * factor, *[1] * 5)
    found = probe(saved(tmp_path / "a.nii", nifti(grey(), 2, units=units, pixdim=pixdim))).spacing
    assert found is not None
    assert found.row_mm == pytest.approx(row_mm)


def test_nifti_without_a_known_unit_has_unknown_spacing(tmp_path: Path) -> None:
    assert probe(saved(tmp_path / "a.nii", nifti(grey(), 2, units=0))).spacing is None
    assert probe(saved(tmp_path / "b.nii", nifti(grey(), 2, pixdim=(1,) * 8))).spacing is None


def test_nifti_cine_has_times(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", nifti(grey(), 2, sizes=(8, 6, 1, 5), units=2 | 8))
    assert probe(path).times_s == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert np.array_equal(read_frames(path, times_s=[1.1]), grey()[[2]])


@pytest.mark.parametrize("code", [2, 16])
def test_packed_volumes_are_read_on_and_back(tmp_path: Path, code: int) -> None:
    values = grey() if code == 2 else grey().astype(np.float32)
    with MediaFile(saved(tmp_path / "a.nii.gz", nifti(values, code))) as file:
        for asked in ([0, 1], [2], [4], [1, 3], [3], [0]):
            assert np.array_equal(file.read(asked), grey()[asked])


def test_class_numbers_of_wide_masks_are_kept(tmp_path: Path) -> None:
    mask = grey().astype(np.int16) % 4
    assert np.array_equal(read_frames(saved(tmp_path / "a.nii", nifti(mask, 4))), mask)
    floats = mask.astype(np.float64)
    assert np.array_equal(read_frames(saved(tmp_path / "b.nii.gz", nifti(floats, 64)), [3, 1]), mask[[3, 1]])


def test_wide_values_fill_eight_bits_by_the_range_of_the_file(tmp_path: Path) -> None:
    values = np.linspace(-1000, 3000, 5 * 6 * 8).reshape(5, 6, 8).astype(np.float32)
    path = saved(tmp_path / "a.nii.gz", nifti(values, 16))
    whole = read_frames(path)
    assert (whole.min(), whole.max()) == (0, 255)
    assert np.abs(whole - (values + 1000) * 255 / 4000).max() <= 0.51
    assert np.array_equal(read_frames(path, [2]), whole[[2]])
    scaled = saved(tmp_path / "b.nii", nifti(grey(), 2, slope=2.0, inter=10.0))
    assert np.abs(read_frames(scaled) - (grey().astype(float) * 255 / grey().max())).max() <= 0.51


def test_values_that_are_no_numbers_become_black(tmp_path: Path) -> None:
    values = np.full((1, 6, 8), np.nan, np.float32)
    assert not read_frames(saved(tmp_path / "a.nii", nifti(values, 16))).any()
    values[0, 0] = 7.5, *[-2.5] * 7
    assert read_frames(saved(tmp_path / "b.nii", nifti(values, 16)))[0, :2, 0].tolist() == [255, 0]


def test_damaged_nifti_is_refused(tmp_path: Path) -> None:
    good = nifti(grey(), 2)
    with pytest.raises(MediaError, match="frame 4 of 5 is cut short"):
        probe(saved(tmp_path / "a.nii", good[:-3]))
    packed = saved(tmp_path / "b.nii.gz", good[:-3])
    assert len(read_frames(packed, [3])) == 1
    with pytest.raises(MediaError, match="frame 4 of 5 is cut short"):
        read_frames(packed)
    with pytest.raises(MediaError, match="NIfTI data type 32"):
        probe(saved(tmp_path / "c.nii", nifti(grey(), 32)))
    with limited(inflated_bytes=500), pytest.raises(MediaError, match="limit inflated_bytes"):
        probe(packed)


def meta(
    frames: np.ndarray, *, kind: str = "MET_UCHAR", packed: bool = False, file: str = "LOCAL", **more: str
) -> bytes:
    sizes = " ".join(str(n) for n in frames.shape[::-1])
    fields = {
        "ObjectType": "Image",
        "NDims": str(frames.ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": str(packed),
        "DimSize": sizes,
        "ElementSpacing": "0.3 0.2 1",
        "ElementType": kind,
        **more,
        "ElementDataFile": file,
    }
    head = "".join(f"{key} = {value}\n" for key, value in fields.items()).encode()
    if file != "LOCAL":
        return head
    return head + (zlib.compress(frames.tobytes()) if packed else frames.tobytes())


@pytest.mark.parametrize("packed", [False, True])
def test_metaimage_frames_are_read(tmp_path: Path, packed: bool) -> None:
    path = saved(tmp_path / "a.mha", meta(grey(), packed=packed))
    info = probe(path)
    assert (info.kind, info.frames, info.height, info.width) == ("volume", 5, 6, 8)
    assert info.spacing == Spacing(row_mm=0.2, col_mm=0.3)
    assert np.array_equal(read_frames(path, [3, 0]), grey()[[3, 0]])


def test_metaimage_header_beside_its_data_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "a.raw", b"12" + grey().tobytes())
    path = saved(tmp_path / "a.mhd", meta(grey(), file="a.raw", HeaderSize="2"))
    assert np.array_equal(read_frames(path, [1]), grey()[[1]])


@pytest.mark.parametrize("name", ["../a.raw", "/etc/hostname", "LIST", "f%03d.raw", "absent.raw"])
def test_metaimage_data_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    saved(tmp_path / "a.raw", grey().tobytes())
    with pytest.raises(MediaError):
        probe(saved(folder / "a.mhd", meta(grey(), file=name)))


@pytest.mark.parametrize(
    ("letters", "stored"),
    [
        ("MF", grey()),
        ("MFA", grey()),
        ("UF", grey()[:, :, ::-1]),
        ("MN", grey()[:, ::-1]),
        ("UN", grey()[:, ::-1, ::-1]),
        ("FM", grey().swapaxes(1, 2)),
        ("NM", grey()[:, ::-1].swapaxes(1, 2)),
        ("FU", grey()[:, :, ::-1].swapaxes(1, 2)),
    ],
)
def test_sequences_come_in_one_orientation(tmp_path: Path, letters: str, stored: np.ndarray) -> None:
    spacing = "0.2 0.3 1" if letters[0] in "FN" else "0.3 0.2 1"
    data = meta(np.ascontiguousarray(stored), UltrasoundImageOrientation=letters, ElementSpacing=spacing)
    path = saved(tmp_path / "a.mha", data)
    assert np.array_equal(read_frames(path), grey())
    info = probe(path)
    assert (info.height, info.width, info.spacing) == (6, 8, Spacing(row_mm=0.2, col_mm=0.3))


def test_poses_come_with_their_status(tmp_path: Path) -> None:
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    text = " ".join(str(v) for v in pose.ravel())
    more = {
        "Seq_Frame0000_ProbeToTrackerTransform": text,
        "Seq_Frame0000_ProbeToTrackerTransformStatus": "OK",
        "Seq_Frame0001_ProbeToTrackerTransform": text,
        "Seq_Frame0001_ProbeToTrackerTransformStatus": "INVALID",
        "Seq_Frame0000_Timestamp": "10.0",
        "Seq_Frame0001_Timestamp": "10.5",
        "Seq_Frame0002_Timestamp": "10.6",
    }
    path = saved(tmp_path / "a.mha", meta(grey(3), **more))
    (track,) = read_tracks(path)
    assert (track.source, track.target) == ("Probe", "Tracker")
    assert track.valid.tolist() == [True, False, False]
    assert np.array_equal(track.matrices[0], pose)
    assert np.isnan(track.matrices[2]).all()
    assert probe(path).times_s == pytest.approx([0, 0.5, 0.6])
    broken = {**more, "Seq_Frame0000_ProbeToTrackerTransform": "1 2 nan"}
    with pytest.raises(MediaError, match="is no matrix of 16 numbers"):
        read_tracks(saved(tmp_path / "b.mha", meta(grey(3), **broken)))


def test_damaged_metaimage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="frame 4 of 5 is cut short"):
        probe(saved(tmp_path / "a.mha", meta(grey())[:-3]))
    with pytest.raises(MediaError, match="do not fit"):
        probe(saved(tmp_path / "b.mha", meta(grey(), NDims="4")))
    with pytest.raises(MediaError, match="'MET_NONE' cannot be read"):
        probe(saved(tmp_path / "c.mha", meta(grey(), kind="MET_NONE")))
    with pytest.raises(MediaError, match="Orientation 'MM' is unknown"):
        probe(saved(tmp_path / "d.mha", meta(grey(), UltrasoundImageOrientation="MM")))
    with limited(header_bytes=50), pytest.raises(MediaError, match="limit header_bytes"):
        probe(saved(tmp_path / "e.mha", meta(grey())))
    for spacing in ("nan 0 -1", "1 1 1", "0 0 0"):
        assert probe(saved(tmp_path / "f.mha", meta(grey(), ElementSpacing=spacing))).spacing is None


def test_real_camus_picture_is_upright_and_calibrated(shared_data: Path) -> None:
    folder = shared_data / "camus_4ch" / "nifti"
    info = probe(folder / "patient0027_4CH_ED.nii.gz")
    assert info.spacing is not None
    assert np.allclose((info.spacing.row_mm, info.spacing.col_mm), 0.308)
    picture = read_frames(info.path)[0]
    mask = read_frames(folder / "patient0027_4CH_ED_gt.nii.gz")[0]
    assert sorted(np.unique(mask)) == [0, 1, 2, 3]
    fill = (picture > 0).mean(axis=1)
    assert fill[: len(fill) // 10].mean() < 0.2 < fill[len(fill) // 2 :].mean()  # the sector opens downwards
    atrium, ventricle = np.nonzero(mask == 3)[0].mean(), np.nonzero(mask == 1)[0].mean()
    assert atrium > ventricle  # apical view: the atrium lies deeper


def test_real_tracked_sequences_have_rigid_poses(shared_data: Path) -> None:
    folder = shared_data / "tracked_freehand"
    with MediaFile(folder / "SpinePhantomFreehand.igs.mha") as file:
        tracks = {(t.source, t.target): t for t in file.tracks()}
        assert file.read([20]).shape == (1, 616, 820)
        assert file.info.times_s is not None
    probe_pose, reference = tracks["Probe", "Tracker"], tracks["Reference", "Tracker"]
    assert probe_pose.valid.all()
    rotation = probe_pose.matrices[:, :3, :3]
    assert np.allclose(rotation @ rotation.swapaxes(1, 2), np.eye(3), atol=1e-5)
    assert np.allclose(np.linalg.det(rotation), 1, atol=1e-5)
    places = (np.linalg.inv(reference.matrices) @ probe_pose.matrices)[:, :3, 3]
    path_mm = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert 30 < path_mm.sum() < 37
    assert np.median(path_mm) == pytest.approx(1.6, abs=0.3)
    nwire = {t.source: t for t in read_tracks(folder / "NwirePhantomFreehand.igs.mha")}
    assert nwire["Probe"].valid.all()
    assert not nwire["Stylus"].valid.any()


def test_real_echo_lines_come_with_the_probe_on_top(shared_data: Path) -> None:
    lines = read_frames(shared_data / "tracked_freehand" / "UltrasonixLinearRfData.igs.mha")[0]
    assert lines.shape == (2080, 256)
    assert lines[:200].std() > 10 * lines[-500:].std()
