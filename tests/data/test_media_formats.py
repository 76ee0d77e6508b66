"""Stills and clips of every container: the same pixels whichever way, and only what was asked for."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from insonate.data.media import MediaFile, probe, read_frames, read_tracks, write_video
from insonate.data.media import video as video_module
from insonate.errors import MediaError


def cine(frames: int = 30, height: int = 48, width: int = 64) -> np.ndarray:
    """A bright column that moves two pixels a frame, on a ramp."""
    clip = np.broadcast_to(np.linspace(20, 120, width, dtype=np.uint8), (frames, height, width)).copy()
    for t in range(frames):
        clip[t, :, 2 * t % width : 2 * t % width + 4] = 240
    return clip  # T H W


def coloured(frames: int = 30) -> np.ndarray:
    return np.stack([cine(frames), np.full_like(cine(frames), 90), 255 - cine(frames)], axis=-1)  # T H W 3


def encoded(
    path: Path,
    frames: np.ndarray,
    codec: str,
    *,
    pix_fmt: str = "yuv420p",
    stamps: list[int] | None = None,
    **options: str,
) -> Path:
    """The frames through FFmpeg, 25 a second, or at `stamps` in milliseconds."""
    rgb = np.ascontiguousarray(frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1))
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.thread_count = 1
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(rgb):
            if pix_fmt == "gray":
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[..., 0]), format="gray")
            else:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plainly(path: Path) -> np.ndarray:
    """All frames as PyAV gives them in RGB: T H W 3."""
    with av.open(path) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def colours(frames: np.ndarray) -> np.ndarray:
    return (frames if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)).astype(int)


CONTAINERS = {
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p", "qscale": "3"}),
    "raw_bgr.avi": ("rawvideo", {"pix_fmt": "bgr24"}),
    "raw_grey.avi": ("rawvideo", {"pix_fmt": "gray"}),
    "raw_yuv.avi": ("rawvideo", {"pix_fmt": "yuv420p"}),
    "b_frames.mp4": ("libx264", {"bf": "3", "g": "12"}),
    "one_key.mp4": ("libx264", {"g": "250"}),
    "intra.mov": ("libx264", {"g": "1", "bf": "0"}),
    "vp8.webm": ("libvpx", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9.webm": ("libvpx-vp9", {"g": "10", "cpu-used": "8"}),
    "mpeg4.avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "12", "bf": "2"}),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("frames", [cine(), coloured()], ids=["grey", "colour"])
def test_wanted_frames_are_those_of_a_full_decode(tmp_path: Path, name: str, frames: np.ndarray) -> None:
    codec, options = CONTAINERS[name]
    path = encoded(tmp_path / name, frames, codec, **options)
    whole = plainly(path)
    assert len(whole) == 30
    order = [29, 3, 4, 17, 3, 0]
    info = probe(path)
    assert (info.kind, info.frames, info.height, info.width) == ("video", 30, 48, 64)
    assert info.fps == pytest.approx(25)
    assert info.times_s == pytest.approx(np.arange(30) / 25)
    every = read_frames(path)
    chroma = 1 if every.ndim == 4 else 4  # that coding gave a grey clip, and its luma is without
    assert np.abs(colours(every) - whole).max() <= chroma
    for asked in (order, [11]):
        assert np.array_equal(read_frames(path, asked), every[asked])


def test_grey_planes_are_read_as_grey(tmp_path: Path) -> None:
    path = encoded(tmp_path / "raw.avi", cine(5), "rawvideo", pix_fmt="gray")
    assert np.array_equal(read_frames(path), cine(5))
    palette = Image.fromarray(cine(1)[0]).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    palette.save(tmp_path / "p.bmp")
    assert np.array_equal(read_frames(tmp_path / "p.bmp"), cine(1))


@pytest.mark.parametrize("name", ["intra.mov", "mjpeg.avi"])
def test_only_wanted_packets_of_intra_video_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    codec, options = CONTAINERS[name]
    path = encoded(tmp_path / name, cine(), codec, **options)
    calls: list[int] = []
    original = video_module.Clip._pixels

    def counted(self: video_module.Clip, frame: av.VideoFrame, index: int, *, grey: bool) -> np.ndarray:
        calls.append(index)
        return original(self, frame, index, grey=grey)

    monkeypatch.setattr(video_module.Clip, "_pixels", counted)
    with MediaFile(path) as file:
        clip = file._medium
        assert isinstance(clip, video_module.Clip)
        assert clip._intra
        file.read([2, 27])
    assert calls == [2, 27]


def test_packets_are_listed_once_for_any_number_of_reads(
    clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []
    original = video_module.Clip._list

    def counted(self: video_module.Clip) -> video_module.Stamps:
        listed.append(1)
        return original(self)

    monkeypatch.setattr(video_module.Clip, "_list", counted)
    with MediaFile(clip_path) as file:
        first, last = file.read([0]), file.read([29])
        assert file.read().shape == (30, 48, 64)
    assert len(listed) == 1
    assert not np.array_equal(first, last)
    read_frames(clip_path, [0])
    assert len(listed) == 2


@pytest.mark.parametrize("name", ["one_key.mp4", "b_frames.mp4", "vp9.webm", "mpeg4.avi"])
def test_reading_on_equals_reading_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    codec, options = CONTAINERS[name]
    path = encoded(tmp_path / name, coloured(), codec, **options)
    every = read_frames(path)

    def recounted(self: video_module.Clip, indices: list[int], *, grey: bool) -> dict[int, np.ndarray]:
        raise AssertionError("decoded from the start")

    monkeypatch.setattr(video_module.Clip, "_decode_counting", recounted)
    rng = np.random.default_rng(0)
    with MediaFile(path) as file:
        for start in range(0, 30, 7):
            asked = list(range(start, min(start + 7, 30)))
            assert np.array_equal(file.read(asked), every[asked])
        for _ in range(20):
            asked = sorted({int(i) for i in rng.integers(0, 30, 4)})
            assert np.array_equal(file.read(asked), every[asked])


def test_clip_with_one_key_frame_is_sought_once_when_read_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, options = CONTAINERS["one_key.mp4"]
    path = encoded(tmp_path / "a.mp4", cine(), codec, **options)
    made: list[int] = []
    original = video_module.Run.__init__

    def counted(self: video_module.Run, packets: object, key: int) -> None:
        made.append(key)
        original(self, packets, key)  # type: ignore[arg-type]

    monkeypatch.setattr(video_module.Run, "__init__", counted)
    with MediaFile(path) as file:
        for index in range(30):
            file.read([index])
        assert len(made) <= 4  # the decoder gives its last frames all at once
        made.clear()
        for start in range(0, 30, 10):
            file.read(range(start, start + 10))
        assert len(made) <= 2


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", cine(), 25.0)


def test_frames_are_found_by_their_times(clip_path: Path) -> None:
    whole = read_frames(clip_path)
    assert np.array_equal(read_frames(clip_path, times_s=[0.0, 0.5, 0.079, 99.0]), whole[[0, 12, 2, 29]])
    still = clip_path.with_name("s.png")
    Image.fromarray(cine(1)[0]).save(still)
    assert np.array_equal(read_frames(still, times_s=[3.0]), cine(1))


def test_frames_without_times_are_not_found_by_time(tmp_path: Path) -> None:
    pages = [Image.fromarray(frame) for frame in cine(3)]
    pages[0].save(tmp_path / "p.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(MediaError, match="does not tell the times"):
        read_frames(tmp_path / "p.tiff", times_s=[0.0])


def test_variable_frame_rate_is_kept_as_times(tmp_path: Path) -> None:
    stamps = [0, 20, 100, 140, 160, 400]
    path = encoded(tmp_path / "vfr.mp4", cine(6), "libx264", stamps=stamps, g="12")
    info = probe(path)
    assert info.times_s == pytest.approx(np.array(stamps) / 1000, abs=1e-3)
    assert info.fps == pytest.approx(5 / 0.4)
    whole = read_frames(path)
    assert np.array_equal(read_frames(path, times_s=[0.11, 0.39]), whole[[2, 5]])


def test_one_frame_video_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", cine(1), 25.0)
    info = probe(path)
    assert (info.frames, info.fps, info.times_s) == (1, None, None)
    assert np.abs(read_frames(path).astype(int) - cine(1)).mean() < 2


def test_grey_of_colour_is_its_luma(tmp_path: Path) -> None:
    path = write_video(tmp_path / "c.mp4", coloured(), 25.0)
    colour, grey = read_frames(path, [4, 9]), read_frames(path, [4, 9], grey=True)
    assert grey.shape == colour.shape[:3]
    assert np.abs(colour @ np.array([0.299, 0.587, 0.114]) - grey).mean() < 2
    Image.fromarray(coloured(1)[0]).save(tmp_path / "c.png")
    assert np.abs(read_frames(tmp_path / "c.png", grey=True)[0, 0, 0] - (0.299 * 240 + 52.83 + 1.71)) <= 1


def test_tiff_pages_are_frames_and_thumbnails_are_not(tmp_path: Path) -> None:
    pages = [Image.fromarray(frame) for frame in cine(4)]
    pages[0].save(tmp_path / "p.tiff", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    info = probe(tmp_path / "p.tiff")
    assert (info.kind, info.frames, info.times_s) == ("image", 4, None)
    assert np.array_equal(read_frames(tmp_path / "p.tiff", [3, 1]), cine(4)[[3, 1]])
    other = Image.fromarray(cine(1)[0, :10, :10])
    other.encoderinfo = {"tiffinfo": {254: 1}}  # a reduced picture
    pages[0].save(tmp_path / "t.tiff", save_all=True, append_images=[other])
    assert probe(tmp_path / "t.tiff").frames == 1
    other.encoderinfo = {}
    pages[0].save(tmp_path / "u.tiff", save_all=True, append_images=[other])
    with pytest.raises(MediaError, match="page 1 is 10×10 px"):
        read_frames(tmp_path / "u.tiff", [1])


def test_tiff_directories_that_run_in_a_circle_end(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(cine(1)[0]).save(content, "TIFF")
    data = bytearray(content.getvalue())
    at = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[at : at + 2], "little")
    data[at + 2 + 12 * entries :][:4] = data[4:8]
    data[at + 2 + 12 * entries : at + 6 + 12 * entries] = data[4:8]
    (tmp_path / "circle.tiff").write_bytes(data)
    assert np.array_equal(read_frames(tmp_path / "circle.tiff"), cine(1))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_animations_tell_the_time_of_each_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    pictures = [Image.fromarray(f) for f in cine(4)]
    options = {"lossless": True} if suffix == ".webp" else {}
    durations = [40, 100, 20, 50]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, **options)
    info = probe(path)
    assert (info.kind, info.frames) == ("video", 4)
    assert info.times_s == pytest.approx([0, 0.04, 0.14, 0.16])
    assert np.array_equal(read_frames(path, [2, 0]), cine(4)[[2, 0]])


def test_gif_delays_of_nothing_are_unknown_times(tmp_path: Path) -> None:
    pictures = [Image.fromarray(f) for f in cine(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=0)
    info = probe(tmp_path / "a.gif")
    assert (info.frames, info.fps, info.times_s) == (3, None, None)


def test_stand_in_picture_of_an_animated_png_is_no_frame(tmp_path: Path) -> None:
    pictures = [Image.fromarray(f) for f in cine(4)]
    pictures[0].save(
        tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=40, default_image=True
    )
    assert probe(tmp_path / "a.png").frames == 3
    assert np.array_equal(read_frames(tmp_path / "a.png"), cine(4)[1:])


def test_media_without_poses_have_no_tracks(clip_path: Path) -> None:
    assert read_tracks(clip_path) == ()


def test_real_clips_are_read_whole_and_by_frame(shared_data: Path) -> None:
    paths = [
        shared_data / "tongue_keypoints" / "video10.avi",
        shared_data / "echo_clips" / "mp4" / "camus_patient0001_2CH.mp4",
        shared_data / "echo_clips" / "gif_verbatim" / "camus_patient0001-2CH.gif",
    ]
    for path in paths:
        with MediaFile(path) as file:
            whole = file.read()
            assert len(whole) == file.info.frames == len(file.info.times_s or ())
            assert np.array_equal(file.read([7, 19]), whole[[7, 19]])
