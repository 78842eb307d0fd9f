"""The log and the notes of a method, to which it may add by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.child.job import ContractError
from benchmark.child.notes import log_and_notes
from benchmark.jobs import MAX_LOG_ROWS, MAX_METRICS
from benchmark.method import Run


@pytest.fixture
def run() -> Run:
    unused: Any = None
    return Run(torch.device("cpu"), unused, unused, unused, Path())


def test_numbers_and_lines(run: Run) -> None:
    run.log(step=1)
    run.history.append({"loss": torch.tensor(0.5), 3: 4})  # type: ignore[dict-item]
    run.history.append({})
    run.note("a fallback was used")
    rows = [{"step": 1.0}, {"loss": 0.5, "3": 4.0}]
    assert log_and_notes(run) == {"log": rows, "notes": ["a fallback was used"]}


def test_what_the_log_cannot_hold_is_left_out_with_a_warning(run: Run) -> None:
    run.history.append({"bad": float("nan"), **{f"v{i}": i for i in range(MAX_METRICS + 2)}})
    with pytest.warns(UserWarning, match="leaves out bad, v50, v51 of a row of run.history"):
        (row,) = log_and_notes(run)["log"]
    assert list(row) == [f"v{i}" for i in range(MAX_METRICS)]
    run.history[:] = [{"a": 1}] * (MAX_LOG_ROWS + 7)
    with pytest.warns(UserWarning, match="leaves out 7 rows of run.history"):
        assert len(log_and_notes(run)["log"]) == MAX_LOG_ROWS


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("notes", None, r"run\.notes is of type NoneType; .* list, to which run\.note adds"),
        ("notes", "text", r"run\.notes is of type str"),
        ("history", None, r"run\.history is of type NoneType; .* list, to which run\.log adds"),
        ("history", [5], r"a row of run\.history is of type int; .* add rows with run\.log"),
        ("history", [{"a": "b"}], r"a in run\.history is 'b'; .* add rows with run\.log"),
    ],
)
def test_anything_else_breaks_the_contract(run: Run, name: str, value: Any, message: str) -> None:
    setattr(run, name, value)
    with pytest.raises(ContractError, match=message):
        log_and_notes(run)
