"""Messages are bounded, whatever they quote."""

from __future__ import annotations

import pytest

from benchmark import errors
from benchmark.errors import MAX_ITEM, MAX_MESSAGE, HTBenchError, RecordError, first

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, HTBenchError)])
@pytest.mark.parametrize("text", ["x" * 10**6, "é" * 5000, "\ud800" * 5000, "日" * 700])
def test_a_message_takes_at_most_two_kilobytes(kind: type[HTBenchError], text: str) -> None:
    message = str(kind(f"the beginning {text}; delete it"))
    assert len(message.encode()) <= MAX_MESSAGE
    assert message.startswith("the beginning ")
    assert message.endswith("; delete it"), "the remedy is kept"


def test_a_short_message_is_as_it_was() -> None:
    text = "a\n\x1b é \ud800"
    assert str(RecordError(text)) == text
    assert RecordError(text).args == (text,)


def test_the_names_in_a_message_are_bounded() -> None:
    assert first(["a", 1]) == "'a', 1"
    assert first("abcdefghij") == "'a', 'b', 'c' and 7 more"
    assert len(first(["x" * 10**6] * 10).encode()) < 4 * MAX_ITEM
