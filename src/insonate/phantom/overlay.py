"""What invented machines draw over their pictures: text, depth ticks, focus, grey bar, marker, ECG.

Each vendor has a style of its own, so that the graphics give the site away as real ones do. All text says
that the picture is synthetic. Drawn after scan conversion; where is truth too.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from insonate.phantom.physics import Frame, Screen

TEXT_FROM_PX = 128
"""smaller pictures show no letters"""
ECG = (
    (-0.17, 0.025, 0.12),
    (-0.03, 0.010, -0.10),
    (0.0, 0.010, 1.0),
    (0.03, 0.012, -0.22),
    (0.30, 0.040, 0.28),
)
"""P, Q, R, S, T: place and width as a share of the beat, height"""
ECG_BEATS = 2.0
"""shown across the picture"""
ECG_ROWS = (0.90, 0.985)
"""of the trace, as a share of the height"""


@dataclass(frozen=True, kw_only=True)
class Style:
    """One vendor's graphics."""

    ticks: Literal["left", "right", "none"] = "right"
    grey_bar: bool = False
    focus: bool = False
    marker: str = ""
    ecg: bool = False
    ink: int = 230
    text: tuple[str, ...] = ()
    """lines in a corner; fields in braces are filled in"""
    right: bool = False
    """text in the right corner"""


STYLES = {
    "Northlight": Style(
        ecg=True, marker="N", text=("{patient} SYNTHETIC", "{f_mhz:.1f} MHz  {fps:.0f} Hz", "MI 1.2")
    ),
    "Harbor": Style(
        ticks="left", grey_bar=True, ecg=True, ink=190, text=("PHANTOM {patient}", "{view}"), right=True
    ),
    "Quartz": Style(focus=True, marker="Q", text=("SYN {patient}", "TIS 0.8 MI 1.0", "D {depth_cm:.0f} cm")),
    "Pocketline": Style(ticks="none", marker="o"),
    "Meridian": Style(
        grey_bar=True, focus=True, ink=255, ecg=True, text=("{depth_cm:.1f}cm", "PHANTOM"), right=True
    ),
    "Oldfield": Style(
        ticks="left", ink=160, text=("PHANTOM", "{patient}", "{view} {f_mhz:.1f}M"), right=True
    ),
    "Fern": Style(grey_bar=True, focus=True, marker="F", text=("SYNTHETIC {patient}", "{view}", "TIb 0.4")),
    "Willow": Style(ticks="left", ink=180, text=("PHANTOM", "{f_mhz:.1f} MHz {depth_cm:.0f} cm"), right=True),
    "Bracken": Style(
        focus=True, ink=255, text=("SYN {patient}  {view}", "FR {fps:.0f}  MI 0.9", "{depth_cm:.1f} cm")
    ),
    "Clover": Style(marker="C", ink=210, text=("SYNTHETIC", "{view} {f_mhz:.1f} MHz")),
    "Sorrel": Style(ticks="left", grey_bar=True, ink=170, text=("PHANTOM {patient}",), right=True),
    "Slate": Style(focus=True, text=("SYNTHETIC {patient}", "{view} L{f_mhz:.0f}")),
    "Basalt": Style(ticks="left", ink=160, marker="B", text=("PHANTOM", "{depth_cm:.1f}cm"), right=True),
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the text tells."""

    patient: str
    view: str
    f_mhz: float
    fps: float
    depth_mm: float


def overlaid(
    frames: Frame, screen: Screen, style: Style, facts: Facts, phases: list[float]
) -> tuple[Frame, Frame]:
    """The clip with its graphics, and where they are.

    Args:
        frames: T H W.
        screen: that the frames were made by.
        style: of the vendor.
        facts: to write.
        phases: of the beat at each frame, for the ECG's cursor.

    Returns:
        T H W, and H W with 255 where anything was drawn.
    """
    layer = Image.new("L", (screen.size, screen.size))
    draw = ImageDraw.Draw(layer)
    _ticks(draw, screen, style, facts.depth_mm)
    if screen.size >= TEXT_FROM_PX:
        _text(draw, screen.size, style, facts)
    trace = _ecg(screen.size, phases[0]) if style.ecg else None
    if trace is not None:
        draw.line([(float(x), float(y)) for x, y in trace], fill=style.ink)
    still = np.asarray(layer)
    shown, where = np.where(still > 0, still, frames), still > 0
    if trace is not None:
        passed = np.r_[0.0, np.cumsum(np.diff(phases) % 1)]  # beats since the first frame
        for number, beats in enumerate(passed):
            column = int(min(beats / ECG_BEATS, 1) * (screen.size - 1))
            row = int(np.clip(np.rint(trace[column, 1]), 1, screen.size - 2))
            spot = slice(row - 1, row + 2), slice(max(0, column - 1), column + 2)
            shown[number][spot] = 255
            where[spot] = True
    return shown.astype(np.uint8), where.astype(np.uint8) * np.uint8(255)


def ecg_strip(style: Style, size: int, period_s: float) -> tuple[list[int], float] | None:
    """Box (x0, y0, x1, y1, the last ones within) of the trace, and seconds a pixel; None without a trace."""
    if not style.ecg:
        return None
    top, bottom = (int(share * size) for share in ECG_ROWS)
    return [0, top, size - 1, bottom], ECG_BEATS * period_s / size


def _ticks(draw: ImageDraw.ImageDraw, screen: Screen, style: Style, depth_mm: float) -> None:
    """Every centimetre along an edge, longer every five; focus; grey bar; the probe's marker."""
    size, edge = screen.size, 2 if style.ticks == "left" else screen.size - 3
    inward = 1 if style.ticks == "left" else -1
    for centimetre in range(int(depth_mm / 10) + 1 if style.ticks != "none" else 0):
        _, y = screen.to_px(0, 10 * centimetre)
        length = size // 40 * (2 if centimetre % 5 == 0 else 1)
        draw.line([(edge, y), (edge + inward * length, y)], fill=style.ink)
    if style.focus:
        _, y = screen.to_px(0, depth_mm / 2)
        draw.polygon([(size - 3, y - 3), (size - 3, y + 3), (size - 8, y)], fill=style.ink)
    if style.grey_bar:
        for step in range(size // 4):
            level = 40 + int(215 * (1 - step / (size / 4)))
            draw.line([(size - 9, size // 16 + step), (size - 5, size // 16 + step)], fill=level)
    if style.marker and size >= TEXT_FROM_PX:
        x, y = screen.to_px(0, 0)
        draw.text(
            (x + size // 24, max(0, y - 12)), style.marker, fill=style.ink, font=ImageFont.load_default()
        )


def _text(draw: ImageDraw.ImageDraw, size: int, style: Style, facts: Facts) -> None:
    fields = {
        "patient": facts.patient, "view": facts.view, "f_mhz": facts.f_mhz, "fps": facts.fps,
        "depth_cm": facts.depth_mm / 10,
    }  # fmt: skip
    font = ImageFont.load_default()
    for number, line in enumerate(style.text):
        words = line.format(**fields)
        x = size - 14 - draw.textlength(words, font=font) if style.right else 4
        draw.text((x, 3 + 11 * number), words, fill=style.ink, font=font)


def _ecg(size: int, start: float) -> np.ndarray:
    """Size 2: (x, y) of the trace along the lower edge, from the phase of the first frame on."""
    x = np.arange(size)
    phase = start + x / size * ECG_BEATS
    height = np.zeros(size)
    for place, width, tall in ECG:
        away = (phase - place + 0.5) % 1 - 0.5
        height += tall * np.exp(-((away / width) ** 2) / 2)
    return np.stack([x, size * (0.965 - 0.06 * height)], axis=1)
