"""The safe part of YAML: what it reads, what it refuses, and that writing and reading agree."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insonate.errors import RecipeError
from insonate.recipes.plain_yaml import parse, read_text, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1.0e-4", 1e-4), ("-2E5", -2e5), (".5", 0.5), ("5.", 5.0), ("3", 3), ("-7", -7),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("True", "True"), ("010", "010"), ("0x10", "0x10"),
        ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), (".nan", ".nan"), (".inf", ".inf"),
        ('"1e-3"', "1e-3"), ("[1, [a, 2.5]]", [1, ["a", 2.5]]), ("{a: {b: 1}}", {"a": {"b": 1}}), ("=", "="),
    ],
)  # fmt: skip
def test_plain_values_are_read_as_written(text, value):
    got = parse(text, "x")
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: 1\nb: 2\na: 3", "twice"), ("a: &x 1", "anchor"), ("a: *x", "anchor"), ("<<: {a: 1}", "merge"),
        ("a: !!python/name:os.system", "tag"), ("a: !x 1", "tag"), ("a: !!binary R0lGOA==", "tag"),
        ("1: 2", "key"), ("true: 2", "key"), ("? [a]\n: 1", "key"), ("a: 1\n---\nb: 2", "YAML"),
        ("a: 'x", "YAML"), ("a: " + "9" * 5000, "digits"), ("a: 1e999", "large"), ("a: \x00", "YAML"),
        ('a: "\\ud800"', "surrogate"), ("a: " + "[" * 65 + "]" * 65, "deep"), ("- a\n" * 20_001, "values"),
    ],
)  # fmt: skip
def test_what_recipes_do_not_use_is_refused_with_the_reason(text, word):
    with pytest.raises(RecipeError, match=word) as caught:
        parse(text, "file.yaml")
    assert str(caught.value).startswith("file.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{a: " * 3000,
        "&a " * 5000,
        "? " * 3000,
        "- " * 5000,
        "x: " + "a" * 900_000,
        "#" * 900_000,
    ],
)
def test_hostile_texts_take_no_time(text):
    start = time.monotonic()
    with contextlib.suppress(RecipeError):
        parse(text, "x")
    assert time.monotonic() - start < 3


ODD = [
    "yes",
    "1e-3",
    "1e3",
    "010",
    "0x1",
    "null",
    "~",
    "true",
    "1:30",
    "=",
    "<<",
    "*a",
    "!x",
    "- a",
    "1.",
    "",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["C"]), max_size=12)
    | st.sampled_from(ODD)
)
KEYS = st.from_regex("[a-z_]{1,8}", fullmatch=True) | st.sampled_from(["on", "true", "1e3"])
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_what_is_written_reads_back_the_same(value):
    assert parse(write(value), "x") == value


def test_files_that_are_no_recipe_are_refused(tmp_path):
    big, latin, folder = tmp_path / "big.yaml", tmp_path / "latin.yaml", tmp_path / "folder.yaml"
    big.write_bytes(b"#" * 1_000_001)
    latin.write_bytes(b"a: \xff")
    folder.mkdir()
    for path, word in [
        (big, "1 MB"),
        (latin, "UTF-8"),
        (folder, "no recipe file"),
        (tmp_path / "none.yaml", "no recipe file"),
    ]:
        with pytest.raises(RecipeError, match=word):
            read_text(path)
