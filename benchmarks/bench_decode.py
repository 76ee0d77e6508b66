"""Frames from DICOM and video: our readers against pydicom with Pillow or GDCM, and PyAV's plain RGB path.

Run: python benchmarks/bench_decode.py --size real. Rows: all frames of a JPEG baseline cine without colour,
also against GDCM (where python-gdcm is installed), and of one with a colour bar and an ECG trace; single
frames at random, each by a call that opens the file anew; clips of 16 from 64 frames, every fourth, of video
coded frame by frame and of H.264 (one key frame in 250, as the encoder likes). The pictures are sectors of
moving speckle; in JPEG they are YBR_FULL_422, as scanners store them, of some 80 kB at 600 × 800 px.

Goals at real size: 6 × pydicom with Pillow, 12 × with GDCM, 300 random frames a second; 2.5 × PyAV for video
coded frame by frame, 1.5 × for H.264.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from compare import Absent, Sides, main_rows
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEGBaseline8Bit
from scipy.ndimage import gaussian_filter

from insonate.data.media import read_frames, write_dicom

SIZES = {"toy": (256, 256), "real": (600, 800)}
CINE, CLIP, STRIDE = 32, 16, 4
"""frames of the DICOM cine; frames of a clip, and the step between them"""
FOLDER = tempfile.TemporaryDirectory(prefix="bench-decode-")


def sectors(frames: int, height: int, width: int, seed: int) -> np.ndarray:
    """T H W, uint8: speckle that drifts within a sector."""
    rng = np.random.default_rng(seed)
    speckle = np.abs(gaussian_filter(rng.normal(size=(height, width)), (1, 2.5)))
    speckle = np.clip(speckle / speckle.max() * 400, 0, 255)
    y, x = np.mgrid[:height, :width]
    across = np.abs(x - width / 2) < 0.7 * y
    inside = across & (np.hypot(y, x - width / 2) < 0.95 * height)
    moved = [np.roll(speckle, (t // 2, t), (0, 1)) * inside for t in range(frames)]
    return np.stack(moved).astype(np.uint8)


def coloured(grey: np.ndarray) -> np.ndarray:
    """T H W → T H W 3, with a colour bar on the left and a moving trace below, as scanners draw."""
    rgb = np.repeat(grey[..., None], 3, -1)
    _, height, width = grey.shape
    shades = np.linspace(0, 255, height // 3).astype(np.uint8)
    rgb[:, 10 : 10 + len(shades), 6:14, 0] = shades[:, None]
    rgb[:, 10 : 10 + len(shades), 6:14, 2] = shades[::-1, None]
    for t, frame in enumerate(rgb):
        across = np.arange(width // 2)
        frame[height - 12 + (4 * np.sin(across / 9 + t)).astype(int), across] = (0, 220, 60)
    return rgb


def jpeg_dicom(options: argparse.Namespace, *, colour: bool = False) -> Path:
    """A cine of JPEG baseline frames."""
    grey = sectors(CINE, *SIZES[options.size], options.seed)
    frames = coloured(grey) if colour else np.repeat(grey[..., None], 3, -1)
    path = Path(FOLDER.name) / f"cine-{colour}.dcm"
    ids = dict.fromkeys(("patient_id", "study_id", "series_id", "vendor", "item_id"), "bench")
    write_dicom(path, frames, spacing=None, frame_time_ms=33.3, **ids)
    coded = []
    for number, frame in enumerate(frames):
        target = Path(FOLDER.name) / f"{number}.jpg"
        Image.fromarray(frame).save(target, quality=80, subsampling="4:2:2")
        coded.append(target.read_bytes())
    header = dcmread(path)
    header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    header.PhotometricInterpretation = "YBR_FULL_422"
    header.PixelData = encapsulate(coded)
    header["PixelData"].is_undefined_length = True
    header.save_as(path)
    return path


def by_pydicom(path: Path, index: int | None = None, plugin: str = "pillow") -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pixel_array(path, index=index, decoding_plugin=plugin)


def whole_cine(plugin: str, *, colour: bool = False) -> Callable[[argparse.Namespace], Sides]:
    def build(options: argparse.Namespace) -> Sides:
        if plugin == "gdcm" and importlib.util.find_spec("gdcm") is None:
            raise Absent("python-gdcm is not installed")
        path = jpeg_dicom(options, colour=colour)
        return Sides(
            ours=lambda: read_frames(path),
            reference=lambda: by_pydicom(path, plugin=plugin),
            difference=lambda: largest(read_frames(path), by_pydicom(path, plugin=plugin)),
            tolerance=1.0,
            items=CINE,
            about=f"pydicom.pixels.pixel_array with its plug-in {plugin}",
        )

    return build


def random_frames(*, colour: bool) -> Callable[[argparse.Namespace], Sides]:
    def build(options: argparse.Namespace) -> Sides:
        path = jpeg_dicom(options, colour=colour)
        order = [int(i) for i in np.random.default_rng(options.seed).permutation(CINE)]
        return Sides(
            ours=lambda: [read_frames(path, [i]) for i in order],
            reference=lambda: [by_pydicom(path, i) for i in order],
            difference=lambda: max(largest(read_frames(path, [i])[0], by_pydicom(path, i)) for i in order),
            tolerance=1.0,
            items=CINE,
            about="pydicom.pixels.pixel_array(index=...) with its plug-in pillow",
        )

    return build


def film(name: str, codec: str, pix_fmt: str, settings: dict[str, str], options: argparse.Namespace) -> Path:
    """A grey clip whose chroma is exactly that of grey."""
    height, width = SIZES[options.size]
    path = Path(FOLDER.name) / name
    chroma = np.full((height // 2, width), 128, np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=settings)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = 2
        for grey in sectors(CLIP * STRIDE, height, width, options.seed):
            frame = av.VideoFrame.from_ndarray(np.concatenate([grey, chroma]), format="yuv420p")
            frame.color_range = 2
            container.mux(stream.encode(frame.reformat(format=pix_fmt) if pix_fmt != "yuv420p" else frame))
        container.mux(stream.encode(None))
    return path


def by_pyav(path: Path, indices: list[int]) -> np.ndarray:
    """Every frame as RGB, then those that are wanted."""
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[i] for i in indices])


def clips(name: str, codec: str, pix_fmt: str, **settings: str) -> Callable[[argparse.Namespace], Sides]:
    indices = list(range(0, CLIP * STRIDE, STRIDE))

    def build(options: argparse.Namespace) -> Sides:
        path = film(name, codec, pix_fmt, settings, options)
        return Sides(
            ours=lambda: read_frames(path, indices),
            reference=lambda: by_pyav(path, indices),
            difference=lambda: largest(read_frames(path, indices), by_pyav(path, indices)),
            tolerance=1.0,
            items=CLIP,
            about="PyAV: to_ndarray('rgb24') of every frame, then the wanted ones",
        )

    return build


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of pixels; grey counts as grey in colour."""
    if ours.ndim < theirs.ndim:
        ours = np.repeat(ours[..., None], 3, axis=-1)
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours.astype(int) - theirs).max())


if __name__ == "__main__":
    main_rows(
        "decode",
        {
            "decode_jpeg_dicom": whole_cine("pillow"),
            "decode_jpeg_dicom_gdcm": whole_cine("gdcm"),
            "decode_jpeg_dicom_colour": whole_cine("pillow", colour=True),
            "decode_jpeg_dicom_random": random_frames(colour=False),
            "decode_jpeg_dicom_random_colour": random_frames(colour=True),
            "decode_mjpeg": clips("m.avi", "mjpeg", "yuvj420p", qmin="3", qmax="3"),
            "decode_h264_intra": clips("i.mp4", "libx264", "yuv420p", g="1", bf="0", crf="18"),
            "decode_h264": clips("h.mp4", "libx264", "yuv420p", g="250", crf="18"),
        },
    )
