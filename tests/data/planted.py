"""Archives in which an identity is planted wherever a file has room for one, and the search for it.

Run: python tests/data/planted.py WORK [--outputs 10000] [--data FOLDER --strings 500]

Every attribute that the PS3.15 Basic Profile names is planted in each DICOM file; comments, tags and boxes in
the others. Each output's bytes, inflated streams and name are searched, in UTF-8 and UTF-16; a second run
with the same key must give the same bytes. Of writing in the pixels all must go outside the sector; within it
the share that is found is told.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from insonate.data.deidentify import deidentify
from insonate.data.dicom_profile import profile_tags
from insonate.data.media import write_dicom
from insonate.data.overlays import find_text
from insonate.data.sector import find_sector
from insonate.data.spacing import Spacing

TOKEN = "ZZPHIZZ"
NUMBER, DATE, TIME, UID = "918273645", "19610312", "031415.926", "1.2.826.0.1.999777555"
PLANTED = (TOKEN, NUMBER, DATE, TIME, UID)
TEXTS = {
    "DA": DATE, "TM": TIME, "DT": DATE + "031415", "UI": UID, "AS": "091Y", "IS": NUMBER, "DS": NUMBER,
    "UR": f"http://x/{TOKEN}",
}  # fmt: skip
NUMBERS = {
    "US": 31415,
    "SS": 31415,
    "UL": int(NUMBER),
    "SL": int(NUMBER),
    "FL": 9.18273645e8,
    "FD": 9.18273645e8,
}
NAMES = (
    "SMITH JOHN",
    "DOE, MARY",
    "ID 1234567",
    "12.03.1961",
    "Mueller A",
    "St. Anna 4",
    "Hansen",
    "ZZPHI 77",
)
COLOURS = ((255, 255, 255), (255, 255, 0))
SIZES_PX, SMALL_PX = (8, 25), (8, 12)
"""heights of letters, the last one excluded"""
FAINT = 35
"""grey levels of faint writing above the middle of what it stands on"""
ANGLES_DEG = (0, 0, 0, 12, -12, 30, -30, 45, -45, 90)


def echoes(frames: int, seed: int) -> np.ndarray:
    """T 64 80: speckle in a rectangle, black around it."""
    rng = np.random.default_rng(seed)
    clip = np.zeros((frames, 64, 80), np.uint8)
    clip[:, 12:60, 10:70] = rng.integers(40, 125, (frames, 48, 60))
    return clip


def make_archive(folder: Path, count: int) -> None:
    """So many files, seven of ten DICOM, the rest PNG, JPEG, TIFF, GIF or MP4; their names tell too."""
    makers = (_png, _jpeg, _tiff, _gif, _mp4)
    for number in range(count):
        place = folder / f"{TOKEN}_{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        if number % 10 < 7:
            _dicom(place / f"{TOKEN}{number}.dcm", number)
        else:
            makers[number // 2 % len(makers)](place / f"{TOKEN}{number}", echoes(1, number)[0])


def _dicom(path: Path, number: int) -> None:
    write_dicom(
        path, echoes(1 + number % 2, number), spacing=Spacing(row_mm=0.2, col_mm=0.3), frame_time_ms=40.0,
        patient_id=f"{TOKEN}{number % 5}", study_id="s", series_id="r", vendor="GE " + TOKEN, item_id="i",
    )  # fmt: skip
    with _unchecked():
        header = pydicom.dcmread(path)
        for tag in sorted(profile_tags()):
            _plant(header, tag)
        header.add_new(0x00090010, "LO", TOKEN)
        header.add_new(0x00091001, "UN", TOKEN.encode())
        header.SequenceOfUltrasoundRegions[0].PatientComments = TOKEN
        header.SequenceOfUltrasoundRegions[0].add_new(0x00181FFF, "LO", TOKEN)
        header.preamble = TOKEN.encode().ljust(128, b"\0")
        header.save_as(path)


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Pydicom writes whatever value."""
    import warnings

    writing, reading = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.writing_validation_mode = writing
        config.settings.reading_validation_mode = reading


def _plant(header: Dataset, tag: pydicom.tag.BaseTag) -> None:
    """A value of the tag's kind that tells who it is."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        vr = "UN"
    if tag.group in {0x0000, 0x0002, 0x7FE0} or (tag in header and vr == "SQ"):
        return
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.PatientID = TOKEN, TOKEN
        item.add_new(0x00091001, "UN", TOKEN.encode())
        header.add_new(tag, "SQ", [item])
    elif vr in NUMBERS:
        header.add_new(tag, vr, NUMBERS[vr])
    elif vr in {"OB", "OW", "UN", "OF", "OD", "OL", "OV"}:
        header.add_new(tag, "OB" if vr != "OW" else "OW", TOKEN.encode() + b"\0")
    elif vr != "AT":
        header.add_new(tag, vr.split(" ")[0], TEXTS.get(vr, TOKEN))


def _png(path: Path, picture: np.ndarray) -> None:
    note = PngInfo()
    note.add_text("Comment", TOKEN)
    note.add_itxt("Author", TOKEN, zip=True)
    Image.fromarray(picture).save(path.with_suffix(".png"), pnginfo=note)


def _jpeg(path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = TOKEN, TOKEN
    Image.fromarray(picture).save(path.with_suffix(".jpg"), quality=95, comment=TOKEN.encode(), exif=exif)


def _tiff(path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(path.with_suffix(".tif"), tiffinfo={270: TOKEN, 315: TOKEN})


def _gif(path: Path, picture: np.ndarray) -> None:
    frames = [Image.fromarray(np.roll(picture, k, 0)) for k in range(2)]
    frames[0].save(
        path.with_suffix(".gif"), save_all=True, append_images=frames[1:], comment=TOKEN, duration=40
    )


def _mp4(path: Path, picture: np.ndarray) -> None:
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        container.metadata.update({"title": TOKEN, "comment": TOKEN, "artist": TOKEN})
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 64, 80, "yuv420p"
        for k in range(3):
            rolled = np.repeat(np.roll(picture, k, 0)[..., None], 3, -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rolled, format="rgb24")))
        container.mux(stream.encode(None))
    free = (8 + len(TOKEN)).to_bytes(4, "big") + b"free" + TOKEN.encode()
    path.with_suffix(".mp4").write_bytes(content.getvalue() + free)


# ------------------------------------------------------------------------------------------------- search


def found_in(folder: Path, planted: tuple[str, ...] = PLANTED) -> list[tuple[str, str]]:
    """Name of each file, and what of the planted texts its bytes, inflated streams or name hold."""
    needles = [text.encode(coding) for text in planted for coding in ("utf-8", "utf-16-le", "utf-16-be")]
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        data = path.read_bytes() if path.is_file() else b""
        for hay in (name.encode(), data, *_inflated(path, data)):
            found += [(name, needle.decode("latin1")) for needle in needles if needle in hay]
    return found


def _inflated(path: Path, data: bytes) -> Iterator[bytes]:
    if path.suffix in {".dcm", ".mp4"}:  # nothing there is deflated
        return
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj().decompress(data[match.start() :])


def digests(folder: Path) -> dict[str, str]:
    """Digest of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ------------------------------------------------------------------------------------------------- pixels


def written(
    frame: np.ndarray, rng: np.random.Generator, sizes: tuple[int, int] = SIZES_PX, *, faint: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A frame with a name drawn anywhere, white or yellow or of a faint grey, level or not; and its ink."""
    font = ImageFont.load_default(size=int(rng.integers(*sizes)))
    text, colour = NAMES[rng.integers(len(NAMES))], COLOURS[rng.integers(len(COLOURS))]
    _, _, right, bottom = (int(v) for v in font.getbbox(text))
    word = Image.new("L", (right + 4, bottom + 4))
    ImageDraw.Draw(word).text((2, 0), text, 255, font=font)
    word = word.rotate(int(rng.choice(ANGLES_DEG)), expand=True, resample=Image.Resampling.BICUBIC)
    picture = Image.fromarray(frame).convert("RGB")
    scale = max(1.0, 1.1 * word.width / picture.width, 1.1 * word.height / picture.height)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)))
    place = (int(rng.integers(picture.width - word.width)), int(rng.integers(picture.height - word.height)))
    ink = Image.new("L", picture.size)
    ink.paste(word, place)
    if faint:
        left, top = place
        under = np.asarray(picture)[top : top + word.height, left : left + word.width]
        colour = (int(min(255, np.median(under) + FAINT)),) * 3
    picture.paste(colour, place, word)
    return np.asarray(picture), np.asarray(ink) > 150


def blanked_ink(frame: np.ndarray, rng: np.random.Generator, **kind: Any) -> tuple[float, float]:
    """Share of the ink outside the sector, and within, that would be blanked; NaN where there is none."""
    picture, ink = written(frame, rng, **kind)
    sector = find_sector(picture[None])
    mask = np.zeros(ink.shape, bool) if sector is None else sector.mask
    keep = mask.copy()
    for left, top, right, bottom in find_text(picture[None]):
        keep[top:bottom, left:right] = False
    with np.errstate(invalid="ignore"):
        outside, within = ink & ~mask, ink & mask
        return (~keep & outside).sum() / np.float64(outside.sum()), (~keep & within).sum() / np.float64(
            within.sum()
        )


def tell_recall(folder: Path, strings: int) -> None:
    """How much of the writing that is drawn into the folder's images would be blanked."""
    paths = sorted(folder.rglob("*.png"))[:100]
    frames = [np.asarray(Image.open(path).convert("L")) for path in paths]
    kinds: dict[str, dict[str, Any]] = {
        "white or yellow, 8 to 24 px": {},
        "white or yellow, 8 to 11 px": {"sizes": SMALL_PX},
        f"grey, {FAINT} above what is below it": {"faint": True},
    }
    for name, kind in kinds.items():
        rng = np.random.default_rng(0)
        shares = [blanked_ink(frames[i % len(frames)], rng, **kind) for i in range(strings)]
        outside, within = (np.array([pair[k] for pair in shares]) for k in (0, 1))
        inner = within[~np.isnan(within)]
        tell(f"{strings} strings on {len(frames)} frames, {name}")
        tell(f"  outside the sector: at least {np.nanmin(outside):.0%} of the ink is blank")
        tell(f"  within: {len(inner)}, whole {np.mean(inner > 0.95):.0%}, of the ink {np.mean(inner):.0%}")


def tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 a program of its own


def main() -> int:
    """Plant, de-identify twice, search."""
    parser = argparse.ArgumentParser(description="Plant identities, de-identify, search what is left")
    parser.add_argument("work", type=Path)
    parser.add_argument("--outputs", type=int, default=10_000)
    parser.add_argument("--strings", type=int, default=500)
    parser.add_argument("--data", type=Path, help="folder with images that writing is drawn in")
    options = parser.parse_args()
    start = time.monotonic()
    shutil.rmtree(options.work, ignore_errors=True)
    make_archive(options.work / "in", options.outputs)
    result = deidentify(options.work / "in", options.work / "one")
    again = deidentify(options.work / "in", options.work / "two", key=options.work / "one.private" / "key")
    left = [*found_in(options.work / "one"), *found_in(options.work / "two")]
    same = digests(options.work / "one") == digests(options.work / "two")
    tell(f"{len(result.manifest)} outputs, {len(result.errors) + len(again.errors)} left out")
    tell(f"{len(left)} planted texts left, second run {'identical' if same else 'DIFFERS'}")
    for name, text in left[:20]:
        tell(f"  {name}: {text!r}")
    if options.data:
        tell_recall(options.data, options.strings)
    tell(f"{time.monotonic() - start:.0f} s")
    return int(bool(left) or not same or len(result.manifest) != options.outputs)


if __name__ == "__main__":
    sys.exit(main())
