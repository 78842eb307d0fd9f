"""The TOML writer: what it writes, ``tomllib`` reads back."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.manifest.toml import WIDTH, to_toml

# Quotes, backslashes, line ends and control characters more often than by chance.
TEXT = st.text(
    st.one_of(
        st.sampled_from("\"'\\\n\r\t\b\f\0\x1b\x7f\u2028# =[]."), st.characters(codec="utf-8")
    )
)
KEYS = st.one_of(st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), TEXT)
SCALARS = st.one_of(TEXT, st.booleans(), st.integers(), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda values: st.one_of(
        st.lists(values, max_size=5),
        st.dictionaries(KEYS, values, max_size=4),
        st.lists(st.dictionaries(KEYS, values, max_size=3), max_size=3),
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_every_document_reads_back(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == document


@given(st.dictionaries(KEYS, SCALARS, max_size=6))
def test_types_are_kept(document: dict[str, Any]) -> None:
    """1, 1.0 and true are equal in Python, but not in TOML."""
    read = tomllib.loads(to_toml(document))
    assert {key: repr(value) for key, value in read.items()} == {
        key: repr(value) for key, value in document.items()
    }


@given(TEXT)
def test_a_string_is_the_same_on_one_line_or_several(text: str) -> None:
    """At the top level a line feed starts a multi-line string, in a list it is escaped."""
    assert tomllib.loads(to_toml({"text": text, "list": [text]})) == {"text": text, "list": [text]}


@given(st.lists(st.text('abc"\\é', max_size=30), max_size=30))
def test_lists_of_short_strings_are_wrapped(names: list[str]) -> None:
    lines = to_toml({"names": names}).split("\n")
    assert max(map(len, lines)) <= WIDTH


def test_nan_is_written() -> None:
    assert math.isnan(tomllib.loads(to_toml({"value": math.nan}))["value"])


def test_layout() -> None:
    document = {
        "bare-key_1": 1,
        "tasks": [{"id": "a", "seen": ["x"], "options": {"p": 0.5}}, {"id": "b"}],
        "odd key": [],
        "text": "two\nlines",
        "table": {"nested": {"é": True}, "operations": [{"op": "flip"}], "empty": {}},
        "names": [f"name-{i}" for i in range(12)],
    }
    assert (
        to_toml(document)
        == '''bare-key_1 = 1
"odd key" = []
text = """
two
lines"""
names = [
    "name-0", "name-1", "name-2", "name-3", "name-4", "name-5", "name-6", "name-7", "name-8",
    "name-9", "name-10", "name-11",
]

[table]
operations = [{ op = "flip" }]

[table.nested]
"é" = true

[table.empty]

[[tasks]]
id = "a"
seen = ["x"]
options = { p = 0.5 }

[[tasks]]
id = "b"
'''
    )


@pytest.mark.parametrize("value", [None, (1, 2), {1}, date(2026, 1, 1), Decimal(1), b"1"])
def test_other_types_are_refused(value: object) -> None:
    for document in ({"key": value}, {"key": [value]}, {"key": [{"inner": value}]}):
        with pytest.raises(TypeError, match=f"cannot write a value of type {type(value).__name__}"):
            to_toml(document)
