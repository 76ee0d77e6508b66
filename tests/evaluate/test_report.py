from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from insonate.evaluate.charts import bland_altman_chart, confusion, intervals_chart, learning_curves
from insonate.evaluate.report import STYLE, Picture, Section, Table, Text, picture, render_report, shown
from insonate.evaluate.statistics import Interval, bland_altman

HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{0}$ $unclosed",
    "\u202egnp.exe\x1b[31m",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt;",
    "頭囲 ✓",
]


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_not_act(name):
    image = Image.new("RGB", (8, 8))
    html = render_report(
        name,
        [
            Section(name, [Text(name), Table(columns=[name, "b"], rows=[[name, name]], caption=name)]),
            Section("pictures", [picture(image, name), confusion([0, 1], [0, 0], [name, "b"])]),
        ],
    )
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "nav", "a", "main"),
        *("section", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "img"),
        *("figcaption", "footer", "strong"),
    }
    assert not any(attr.startswith("on") or attr == "style" for _, attrs in page.tags for attr in attrs)
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "49" not in page.text
    if name.isprintable() and "\u202e" not in name:
        assert name in page.text


def test_the_page_needs_nothing_from_elsewhere():
    html = render_report("t", [Section("s", [picture(Image.new("L", (900, 30)), "c")])])
    page = Page(html)
    sources = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_the_policy_allows_exactly_our_style_sheet():
    import hashlib

    html = render_report("t", [])
    style = re.search("<style>(.*?)</style>", html, re.S).group(1)
    assert style == STYLE
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in html


def test_synthetic_results_are_labelled():
    assert "Synthetic data" in render_report("t", [], synthetic=True)
    assert "Synthetic data" not in render_report("t", [])
    assert "not for clinical use" in render_report("t", [])


def test_cells_show_intervals_and_unknowns():
    interval = Interval(value=0.5, low=0.25, high=12.345, items=3, patients=2)
    assert shown(interval) == "0.500 (0.250 to 12.35)"
    assert (
        shown(Interval(value=1.0, low=np.nan, high=np.nan, items=1, patients=1))
        == "1.000 (no interval: one patient)"
    )
    assert [shown(None), shown(float("nan")), shown(7), shown("x")] == ["–", "–", "7", "x"]


def test_pictures_are_scaled_down():
    large = picture(Image.new("RGB", (2000, 1000)), "c", largest_px=100)
    import io

    assert Image.open(io.BytesIO(large.data)).size == (100, 50)


def test_learning_curve_passes_over_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"event": "train", "step": i, "loss": 1 / (i + 1), "lr": 0.1}) for i in range(1300)]
    lines += [json.dumps({"event": "eval", "step": i, "auroc": 0.5}) for i in range(0, 1300, 100)]
    path.write_text("\n".join([*lines, '{"step": 1300, "lo']))
    assert [p.caption for p in learning_curves(path)] == ["Training loss over steps", "Validation over steps"]
    assert learning_curves(tmp_path / "none.jsonl") == []


def test_equal_numbers_give_equal_bytes():
    agreement = bland_altman([1.0, 2.5, 3.0], [1.1, 2.0, 3.3])
    first, second = (bland_altman_chart(agreement, "hc_mm") for _ in range(2))
    assert isinstance(first, Picture)
    assert first == second
    assert b"<svg" in first.data
    interval = Interval(value=0.1, low=-0.1, high=0.3, items=9, patients=3)
    assert intervals_chart({"a": interval}, "c", zero=True) == intervals_chart(
        {"a": interval}, "c", zero=True
    )
