"""The part of YAML that recipes use, read safely and written so that it reads back the same.

Plain maps, lists, text, numbers, `true`, `false` and `null`. Refused: tags, anchors and aliases, merge keys,
a key twice, keys that are no text, nesting over 64, more than 20,000 values, files over 1 MB. Unlike in
YAML 1.1, `1e-3` is a number, while `yes`, `010`, `1:30` and dates are text.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from insonate.errors import RecipeError

MAX_BYTES, MAX_DEPTH, MAX_VALUES, MAX_DIGITS = 1_000_000, 64, 20_000, 30
RESOLVERS = [
    ("null", re.compile(r"(?:~|null|)$"), ["~", "n", ""]),
    ("bool", re.compile(r"(?:true|false)$"), ["t", "f"]),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")),
    (
        "float",
        re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    ),
]
PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """SafeLoader on the pure parser, with limits that hold while it parses."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (a class table of PyYAML)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._refuse(event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, event: Any) -> None:
        line = event.start_mark.line + 1
        self.values += 1
        if getattr(event, "anchor", None) is not None:
            raise _Refused(line, "an anchor or alias (& or *) is not allowed", "Write the value out")
        if getattr(event, "tag", None) is not None:
            raise _Refused(
                line, "a tag (!) is not allowed", "Write plain values; quote text that starts with !"
            )
        if self.depth >= MAX_DEPTH:
            raise _Refused(line, f"values are nested over {MAX_DEPTH} deep", "Flatten it")
        if self.values > MAX_VALUES:
            raise _Refused(
                line, f"there are over {MAX_VALUES} values", "A recipe is short; data belong in the manifest"
            )

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or key_node.tag != f"{PREFIX}str":
                raise _Refused(line, "a key is no text", "Use a plain word as key")
            key = self.construct_text(key_node)
            if key == "<<":
                raise _Refused(line, "a merge key (<<) is not allowed", "Write the keys out")
            if key in mapping:
                raise _Refused(line, f"the key {key!r} stands twice", "Remove one")
            mapping[key] = self.construct_object(value_node, deep=True)
        return mapping

    def construct_text(self, node: ScalarNode) -> str:
        text = str(node.value)
        if not text.isprintable() and re.search(r"[\x00\ud800-\udfff]", text):
            raise _Refused(node.start_mark.line + 1, "text holds a zero or surrogate character", "Remove it")
        return text

    def construct_int(self, node: ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise _Refused(
                node.start_mark.line + 1, f"a number has over {MAX_DIGITS} digits", "Use a smaller one"
            )
        return int(node.value)

    def construct_float(self, node: ScalarNode) -> float:
        number = float(node.value)
        if not math.isfinite(number):
            raise _Refused(node.start_mark.line + 1, "a number is too large", "Use a smaller one")
        return number


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which either YAML 1.1 or `_Loader` would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Refused(Exception):
    """What `read` turns into a RecipeError once the file is known."""


def _install() -> None:
    for name, pattern, first in RESOLVERS:
        _Loader.add_implicit_resolver(f"{PREFIX}{name}", pattern, first)
        _Dumper.add_implicit_resolver(f"{PREFIX}{name}", pattern, first)
    _Loader.add_constructor(f"{PREFIX}str", _Loader.construct_text)
    _Loader.add_constructor(f"{PREFIX}int", _Loader.construct_int)
    _Loader.add_constructor(f"{PREFIX}float", _Loader.construct_float)
    _Loader.add_constructor(f"{PREFIX}map", _Loader.construct_mapping)


_install()


def parse(text: str, where: object) -> Any:
    """The value of a YAML text.

    Args:
        text: one document.
        where: named in errors.

    Raises:
        RecipeError: it is no YAML, or uses what recipes do not.
    """
    try:
        return _Loader(text).get_single_data()
    except _Refused as refused:
        line, what, mend = refused.args
        raise RecipeError(f"{where} line {line}", what, mend) from None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1  # type: ignore[union-attr]
        raise RecipeError(f"{where} line {line}", f"is no YAML: {error.problem}", "Mend that line") from None
    except yaml.YAMLError as error:
        what = f"is no YAML: {getattr(error, 'reason', 'unreadable')}"
        raise RecipeError(where, what, "Write the recipe as plain UTF-8 text") from None


def read_text(path: Path) -> str:
    """The text of a small regular file.

    Raises:
        RecipeError: it is missing, no regular file, over 1 MB, or not UTF-8.
    """
    try:
        if not path.is_file():
            raise RecipeError(
                path, "is no recipe file", "Check the path; `insonate recipes list` names the shipped ones"
            )
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise RecipeError(path, f"cannot be read ({error})", "Check the path and its permissions") from None
    if len(data) > MAX_BYTES:
        raise RecipeError(path, "is over 1 MB", "A recipe is short; data belong in the manifest")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(path, f"is not UTF-8 (byte {error.start})", "Save it as UTF-8 text") from None


def write(value: object) -> str:
    """`value` (maps, lists, text, numbers, bool, None) as YAML that `parse` reads back the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
