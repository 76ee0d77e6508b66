"""The model card: what a model is, what it learned from, how well it does, and what it is not for.

Everything in it comes from the recipe, the data and measured numbers; what is unknown is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from insonate.errors import one_line
from insonate.hub.plain import plain

PIPELINES = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "keypoints": "keypoint-detection",
    "biometry": "keypoint-detection",
}
NOT_CLINICAL = "For research. **Not for clinical use**: it is no medical device and was not validated as one."


def model_card(config: Mapping[str, Any], parameters: int) -> str:
    """The card (README.md) of a model folder.

    Args:
        config: content of `config.json`; from `info` it uses `recipe`, `data` (items, patients, sites,
            synthetic), `metrics` (name → number, or value, low, high), `license`, `sources` (whose data, and
            its licence) and `commands` (with which it was made).
        parameters: number of parameters.

    Returns:
        Markdown with the hub's YAML front matter.
    """
    info, backbone, task = config["info"], config["backbone"], config["task"]
    title = (
        f"{backbone['name']} for {task['name']} ({task.get('column', '')})"
        if task
        else f"{backbone['name']} encoder"
    )
    lines = [_front_matter(config), f"# {_text(title)}", ""]
    if synthetic(info):
        only = bool(info["data"].get("synthetic"))
        what = "a simulated phantom and knows no patients" if only else "a simulated phantom beside real data"
        lines += [f"> **Synthetic data.** It was trained on {what}.", ""]
    lines += [NOT_CLINICAL, "", "## Model", ""]
    size = config["input"]
    lines += [
        f"- encoder: `{_text(backbone['name'])}`, {parameters / 1e6:.2f} M parameters in all",
        f"- input: {size['height']}×{size['width']} px, {size['channels']} channels, stretched to that size",
    ]
    if task:
        lines += [f"- task: {_text(task['name'])}"]
        if task.get("classes"):
            lines += [f"- classes: {', '.join(_text(name) for name in task['classes'])}"]
    sets = _sets(task)
    if sets:
        lines += [f"- point sets, one chosen at each use: {', '.join(_text(name) for name in sets)}"]
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import insonate",
        "",
        'model = insonate.load("this/folder-or-id")',
    ]
    chosen = f', task="{_text(sets[0])}"' if sets else ""
    lines += [f'result = model.{"predict" if task else "embed"}("study.dcm"{chosen})', "```", ""]
    lines += _data(info.get("data") or {}) + _sources(info.get("sources") or ())
    lines += _metrics(info.get("metrics") or {}) + _commands(info.get("commands") or ())
    lines += _recipe(info.get("recipe"))
    return "\n".join(lines).rstrip() + "\n"


def _sets(task: Mapping[str, Any] | None) -> list[str]:
    """Names by which a task of several point sets is asked for one."""
    if task is None or not isinstance(task.get("points"), list | tuple):
        return []
    return [*task["points"], *(task.get("extra_heads") or {})]


def synthetic(info: Mapping[str, Any]) -> bool:
    """Whether `info["data"]` says that the data are synthetic, or comes from the site "phantom"."""
    data = info.get("data")
    if not isinstance(data, Mapping):
        return False
    sites = data.get("sites") or ()
    return bool(data.get("synthetic")) or (isinstance(sites, list | tuple) and "phantom" in sites)


def _front_matter(config: Mapping[str, Any]) -> str:
    info, task = config["info"], config["task"]
    matter: dict[str, Any] = {
        "library_name": "insonate",
        "tags": ["ultrasound", "medical-imaging", *(["synthetic"] if synthetic(info) else [])],
    }
    if info.get("license"):
        matter["license"] = one_line(info["license"])
    if task is None:
        matter["pipeline_tag"] = "image-feature-extraction"
    elif task["name"] in PIPELINES:
        matter["pipeline_tag"] = PIPELINES[task["name"]]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---\n"


def _data(data: Mapping[str, Any]) -> list[str]:
    shown = [
        f"- {_text(name).replace('_', ' ')}: {_text(_joined(value))}"
        for name, value in data.items()
        if value not in (None, "", [], ())
    ]
    return ["## Data", "", *shown, ""] if shown else []


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _sources(sources: Sequence[str]) -> list[str]:
    return ["## Sources and licences", "", *(f"- {_text(one)}" for one in sources), ""] if sources else []


def _commands(commands: Sequence[str]) -> list[str]:
    lines = [one_line(command).replace("```", "'''") for command in commands]
    return ["## Made with", "", "```", *lines, "```", ""] if lines else []


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            low, high = value.get("low"), value.get("high")
            known = low is not None and high is not None
            interval = f"{_number(low)} – {_number(high)}" if known else "–"
            rows.append(f"| {_text(name)} | {_number(value.get('value'))} | {interval} |")
        else:
            rows.append(f"| {_text(name)} | {_number(value)} | – |")
    if not rows:
        return []
    return [
        "## Measured", "", "| metric | value | 95 % interval (bootstrap by patient) |", "|-|-|-|", *rows, "",
    ]  # fmt: skip


def _recipe(recipe: Any) -> list[str]:
    if not recipe:
        return []
    text = yaml.safe_dump(json.loads(json.dumps(plain(recipe))), sort_keys=False, allow_unicode=True)
    return ["## Recipe", "", "```yaml", text.replace("```", "'''").rstrip(), "```", ""]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and value == value else "–"


def _text(value: object) -> str:
    """A stranger's text in Markdown: one line, without table cells, markup, links or HTML."""
    text = one_line(value)
    return "".join(f"\\{c}" if c in "\\`*[]<>|#!&" else c for c in text)
