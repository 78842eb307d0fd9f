"""What a child reports of an exception."""

from __future__ import annotations

import pytest

from benchmark.child.job import ContractError, failure
from benchmark.errors import NotApplicable
from benchmark.jobs import MAX_TEXT
from benchmark.records import NOT_APPLICABLE


def failure_of(error: Exception) -> dict[str, str]:
    try:
        raise error
    except Exception as raised:
        return failure(raised)


def test_the_kinds_of_failures() -> None:
    assert failure_of(ContractError("x"))["kind"] == "contract"
    assert failure_of(ValueError("x"))["kind"] == "exception"
    assert failure_of(ValueError("x"))["message"] == "ValueError: x"
    assert failure_of(NotApplicable("no BatchNorm")) == {
        "kind": NOT_APPLICABLE,
        "message": "no BatchNorm",
    }


def test_an_exception_without_a_text() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "its message cannot be shown" in failure_of(Mute())["message"]


def test_an_exception_with_an_empty_text_names_its_line() -> None:
    assert failure_of(AssertionError())["message"] == "AssertionError: raised by `raise error`"


def test_an_exception_with_neither_text_nor_line() -> None:
    with pytest.raises(StopIteration) as raised:
        exec(compile("next(iter(()))", "<no file>", "exec"), {})
    assert failure(raised.value)["message"] == "StopIteration: it has no message"


def test_long_texts_are_cut_and_keep_both_ends() -> None:
    report = failure_of(ValueError("a" * MAX_TEXT + "end"))
    assert len(report["message"]) == MAX_TEXT
    assert len(report["traceback"]) <= MAX_TEXT
    assert report["traceback"].startswith("Traceback")
    assert report["traceback"].rstrip().endswith("end")
