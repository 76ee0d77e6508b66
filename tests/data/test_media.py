"""One door for all media: content decides, limits hold, and nothing but a MediaError comes out."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from insonate.data.limits import limited
from insonate.data.media import is_media, probe, read_frames, write_png, write_video
from insonate.errors import InsonateError, MediaError


def cine(frames: int = 30, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright column that moves two pixels a frame, on a ramp."""
    clip = np.broadcast_to(np.linspace(20, 120, width, dtype=np.uint8), (frames, height, width)).copy()
    for t in range(frames):
        clip[t, :, 2 * t : 2 * t + 4] = 240
    return clip  # T H W


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", cine(), 25.0)


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    grey = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64).astype(np.uint8)
    colour = np.stack([grey, grey // 2, 255 - grey], axis=-1)
    assert np.array_equal(read_frames(write_png(tmp_path / "g.png", grey)), grey[None])
    assert np.array_equal(read_frames(write_png(tmp_path / "c.png", colour)), colour[None])
    info = probe(tmp_path / "c.png")
    assert (info.kind, info.frames, info.height, info.width) == ("image", 1, 48, 64)
    assert info.fps is None
    assert info.spacing is None


def test_sixteen_bit_png_keeps_its_ends_and_middle(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "w.png")
    assert read_frames(tmp_path / "w.png").tolist() == [[[0, 1, 128, 255]]]


def test_transparent_pixels_become_black(tmp_path: Path) -> None:
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[..., 3] = [0, 255, 255, 255]
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_frames(tmp_path / "a.png")[0, 0].tolist() == [[0, 0, 0]] + [[200, 200, 200]] * 3


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tiff", ".webp"])
def test_other_stills_are_read(tmp_path: Path, suffix: str) -> None:
    grey = cine(1)[0]
    Image.fromarray(grey).save(tmp_path / f"s{suffix}", quality=95)
    frames = read_frames(tmp_path / f"s{suffix}").astype(int)
    assert frames.shape[:3] == (1, 48, 64)
    assert np.abs(frames.reshape(48, 64, -1) - grey[..., None]).mean() < 4


def test_animated_gif_is_a_video_with_its_frame_rate(tmp_path: Path) -> None:
    pictures = [Image.fromarray(f) for f in cine(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    info = probe(tmp_path / "a.gif")
    assert (info.kind, info.frames, info.fps) == ("video", 5, 25.0)
    assert info.times_s == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert np.array_equal(read_frames(tmp_path / "a.gif", [3])[0], cine(5)[3])


def test_grey_video_comes_back_as_luma_with_its_range(clip_path: Path) -> None:
    info = probe(clip_path)
    assert (info.kind, info.frames, info.height, info.width, info.fps) == ("video", 30, 48, 64, 25.0)
    frames = read_frames(clip_path)
    assert frames.shape == (30, 48, 64)
    assert np.abs(frames.astype(int) - cine()).mean() < 1.5


def test_colour_video_comes_back_as_rgb(tmp_path: Path) -> None:
    colour = np.stack([cine(), np.full_like(cine(), 90), 255 - cine()], axis=-1)
    frames = read_frames(write_video(tmp_path / "c.mp4", colour, 30))
    assert frames.shape == colour.shape
    assert np.abs(frames[..., 1].astype(int) - 90).mean() < 12
    assert frames[0, 0, 1, 0] > 180
    assert frames[0, 0, 1, 2] < 90


def test_video_frames_come_in_the_order_asked(clip_path: Path) -> None:
    whole = read_frames(clip_path)
    order = [29, 0, 13, 13, 12, 25]
    assert np.array_equal(read_frames(clip_path, order), whole[order])


def test_equal_frames_give_equal_video_bytes(tmp_path: Path, clip_path: Path) -> None:
    again = write_video(tmp_path / "again.mp4", cine(), 25.0)
    assert again.read_bytes() == clip_path.read_bytes()


def test_video_with_odd_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="47×64 px has an odd side"):
        write_video(tmp_path / "odd.mp4", cine(height=47), 25)
    assert not list(tmp_path.iterdir())


def test_content_decides_not_the_name(tmp_path: Path, clip_path: Path) -> None:
    disguised = tmp_path / "clip.png"
    disguised.write_bytes(clip_path.read_bytes())
    assert probe(disguised).kind == "video"
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(MediaError, match="holds a web page"):
        probe(tmp_path / "page.mp4")


def test_is_media_asks_content_and_name(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", cine(1)[0]).rename(tmp_path / "no_suffix")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.dcm").write_text("hello")
    (tmp_path / "folder.png").mkdir()
    found = {p.name for p in tmp_path.iterdir() if is_media(p)}
    assert found == {"no_suffix", "broken.dcm"}


def test_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(MediaError, match="Git LFS pointer"):
        probe(tmp_path / "x.png")


def test_pipe_folder_empty_and_absent_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.png").touch()
    for name, what in (
        ("pipe.mp4", "is no regular file"),
        (".", "is no regular file"),
        ("empty.png", "is empty"),
        ("absent.png", "No such file"),
    ):
        with pytest.raises(MediaError, match=what):
            probe(tmp_path / name)


def test_frame_that_is_not_there_is_refused(clip_path: Path) -> None:
    for index in (30, -1):
        with pytest.raises(MediaError, match=f"frame {index} was asked for, there are 30"):
            read_frames(clip_path, [0, index])


def test_no_indices_give_no_frames(clip_path: Path) -> None:
    assert read_frames(clip_path, []).shape == (0, 48, 64)


def test_limits_name_themselves(clip_path: Path, tmp_path: Path) -> None:
    picture = write_png(tmp_path / "p.png", cine(1)[0])
    for limit, bound, path in (
        ("frames", 29, clip_path),
        ("media_px", 30 * 48 * 64 - 1, clip_path),
        ("decoded_bytes", 1000, clip_path),
        ("frame_px", 1000, picture),
        ("side_px", 63, picture),
        ("file_bytes", 50, picture),
    ):
        with limited(**{limit: bound}), pytest.raises(MediaError, match=f"above the limit {limit}={bound}"):
            read_frames(path)
    assert len(read_frames(clip_path)) == 30


@pytest.mark.parametrize("side", [9000, 30_000])
def test_png_that_claims_a_huge_size_is_refused(tmp_path: Path, side: int) -> None:
    data = write_png(tmp_path / "p.png", cine(1)[0]).read_bytes()
    header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
    (tmp_path / "p.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(MediaError, match="limit frame_px"):
        probe(tmp_path / "p.png")


def test_gif_with_endless_frames_is_refused_without_decoding(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("P", (3000, 3000)).save(content, "GIF")
    header, image = content.getvalue()[:-1], b"\x2c" + b"\0" * 4 + b"\1\0\1\0\0" + b"\2\2\x44\1\0"
    (tmp_path / "bomb.gif").write_bytes(header + image * 19_000 + b"\x3b")
    with pytest.raises(MediaError, match="limit media_px"):
        probe(tmp_path / "bomb.gif")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, clip_path: Path, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    write_png(tmp_path / "n.png", noise)
    Image.fromarray(noise).save(tmp_path / "n.jpg")
    for whole in (clip_path, tmp_path / "n.png", tmp_path / "n.jpg"):
        cut = tmp_path / f"cut{whole.suffix}"
        cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * keep)])
        with pytest.raises(MediaError, match="cut"):
            read_frames(cut)


def test_random_damage_gives_frames_or_a_media_error(tmp_path: Path, clip_path: Path) -> None:
    rng = np.random.default_rng(1)
    original = np.frombuffer(clip_path.read_bytes(), np.uint8)
    for _ in range(40):
        damaged = original.copy()
        damaged[rng.integers(0, len(damaged), 20)] = rng.integers(0, 256, 20)
        (tmp_path / "d.mp4").write_bytes(damaged.tobytes())
        try:
            frames = read_frames(tmp_path / "d.mp4")
        except InsonateError:
            continue
        assert frames.dtype == np.uint8


def test_shared_clips_are_read_whole_and_by_frame(shared_data: Path) -> None:
    paths = sorted((shared_data / "echo_clips" / "mp4").glob("*.mp4"))[:3]
    assert paths
    for path in paths:
        info = probe(path)
        frames = read_frames(path)
        assert len(frames) == info.frames
        assert np.array_equal(read_frames(path, [info.frames - 1]), frames[-1:])
