"""Untrusted text cannot forge, reorder or hide what is printed."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from benchmark.text import REPLACEMENT, plural, printable, ranges, seed_list

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, naïve 日本 👍", "plain text, naïve 日本 👍"),
        ("\x1b[2Jx", f"{REPLACEMENT}[2Jx"),
        ("\x9b2Jx", f"{REPLACEMENT}2Jx"),
        ("a\rb\nc\td", REPLACEMENT.join("abcd")),
        ("a\u2028b\u2029c\x85d", REPLACEMENT.join("abcd")),
        ("a\u202eb\u2066c\u200fd", REPLACEMENT.join("abcd")),
        ("a\u200bb\u200dc\ufeffd", REPLACEMENT.join("abcd")),
        ("a\ud800b\udfffc", REPLACEMENT.join("abc")),
        ("a\u3164b\u115fc", REPLACEMENT.join("abc")),
        ("a\u00a0b\u3000c", REPLACEMENT.join("abc")),
    ],
    ids=[
        "visible",
        "escape",
        "C1 escape",
        "C0",
        "separators",
        "bidirectional",
        "zero width",
        "surrogates",
        "fillers",
        "other spaces",
    ],
)
def test_what_is_replaced(text: str, expected: str) -> None:
    assert printable(text) == expected


class TestOfEveryCharacter:
    def test_only_visible_characters_are_left(self) -> None:
        result = printable(EVERY_CHARACTER)
        assert len(result) == len(EVERY_CHARACTER)
        assert {unicodedata.category(c)[0] for c in set(result) - {" "}} <= set("LMNPS")
        assert result.isprintable()
        assert len(result.splitlines()) == 1
        result.encode()  # no surrogate is left

    def test_a_character_is_kept_or_replaced(self) -> None:
        pairs = zip(EVERY_CHARACTER, printable(EVERY_CHARACTER), strict=True)
        assert all(after in (before, REPLACEMENT) for before, after in pairs)

    def test_twice_is_once(self) -> None:
        once = printable(EVERY_CHARACTER)
        assert printable(once) == once

    def test_ascii_is_kept(self) -> None:
        text = "".join(map(chr, range(32, 127)))
        assert printable(text) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([7], "7"),
        ([0, 1, 2], "0-2"),
        ([5, 2, 0, 1, 2], "0-2, 5"),
        ([0, 2, 4], "0, 2, 4"),
        ([0, 1, 3, 4, 2**32 - 1], "0-1, 3-4, 4294967295"),
    ],
)
def test_whole_numbers_as_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
    assert seed_list([0, 1]) == "seeds 0-1"
    assert seed_list([3, 3]) == "seed 3"


def test_keep() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == f"a\n\tb{REPLACEMENT}"


@pytest.mark.parametrize("limit", [0, 1, 3, 4, 5])
def test_limit(limit: int) -> None:
    assert printable("\x1babc", limit=limit) == f"{REPLACEMENT}abc"[:limit]


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [
        (0, "run", "0 runs"),
        (1, "run", "1 run"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (10_000, "pair", "10,000 pairs"),
        (2, "copy", "2 copies"),
        (2, "day", "2 days"),
        (2, "mismatch", "2 mismatches"),
        (1, "mismatch", "1 mismatch"),
    ],
)
def test_a_number_of_things(number: int, name: str, text: str) -> None:
    assert plural(number, name) == text
