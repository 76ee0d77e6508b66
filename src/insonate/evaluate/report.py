"""A report: one HTML file that needs nothing and can do nothing, from sections of text, tables, pictures.

Everything shown is escaped; the page's policy allows its own style sheet and embedded images only, so that
no class name, patient id or file name of a stranger's data can act in it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import jinja2
from PIL import Image

import insonate
from insonate.errors import escaped
from insonate.evaluate.statistics import Interval

STYLE = """
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h1, h2, p, th, td, caption, figcaption { overflow-wrap: anywhere }
.synthetic { background: #fff3cd; border-left: .4rem solid #b7791f; padding: .6rem 1rem }
.notice, footer { color: #566073 } nav a { margin-right: 1rem }
.parts { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start }
.parts p { flex: 0 0 100%; margin: 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #566073; padding-bottom: .3rem }
th, td { border-bottom: 1px solid #d8dde6; padding: .3rem .8rem; text-align: right }
th:first-child { text-align: left } tbody th { font-weight: 500 }
figure { margin: 0; max-width: 100% } img { max-width: 100%; height: auto }
figcaption { color: #566073; font-size: .9rem; max-width: 32rem }
"""

Cell = str | float | int | Interval | None


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; the first cell of a row is its name, an `Interval` is shown as value (low to high)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An embedded image."""

    data: bytes
    media_type: str
    """image/png or image/svg+xml"""
    caption: str
    kind: ClassVar[str] = "picture"

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"


Part = Text | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


def picture(image: Image.Image | Path | str, caption: str, *, largest_px: int = 512) -> Picture:
    """An image, or the file of one that we wrote, scaled down to `largest_px` and embedded as PNG."""
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            image = opened.convert("RGB")
    image = image.convert("RGB")
    image.thumbnail((largest_px, largest_px))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return Picture(data=buffer.getvalue(), media_type="image/png", caption=caption)


def render_report(title: str, sections: Sequence[Section], *, synthetic: bool = False) -> str:
    """The report as one HTML page.

    Args:
        title: heading and page title.
        sections: in order; sections without parts are left out.
        synthetic: put the notice "synthetic data" above everything.

    Returns:
        HTML that loads nothing and runs nothing; write it with `files.atomic_write`.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["shown"] = shown
    environment.finalize = visible
    source = resources.files("insonate.evaluate").joinpath("report.html.jinja").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return environment.from_string(source).render(
        title=title,
        sections=[section for section in sections if section.parts],
        synthetic=synthetic,
        style=_trusted(STYLE),
        style_hash=_trusted(f"sha256-{digest}"),
        version=insonate.__version__,
    )


def shown(cell: Cell) -> str:
    """A cell as text: three significant digits or so; a dash where a number is unknown."""
    if cell is None:
        return "–"
    if isinstance(cell, Interval):
        return cell.text(number)
    if isinstance(cell, str):
        return cell
    return number(cell)


def number(value: float) -> str:
    """`value` with three decimals below 10, fewer above; a dash for NaN."""
    if not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return str(value)
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:.1f}"


def visible(value: Any) -> Any:
    """A value for the page: characters that would hide or reorder text are shown as codes."""
    return value if not isinstance(value, str) or isinstance(value, _Trusted) else escaped(value)


class _Trusted(str):
    """Text of ours: put into the page as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def _trusted(text: str) -> Any:
    return _Trusted(text)
