"""What a method leaves for readers of a run: the rows of its training log, and its notes."""

from __future__ import annotations

import math
import warnings
from itertools import islice
from typing import Any

from benchmark.child.job import ContractError
from benchmark.jobs import MAX_LOG_ROWS, MAX_METRICS, MAX_NOTES
from benchmark.method import Run
from benchmark.numerics import one_number


def log_and_notes(run: Run) -> dict[str, Any]:
    """The training log and the notes, to which a method may also add by hand.

    What ``run.log`` would leave out is left out, with a warning.

    Returns:
        ``log``: rows of finite numbers by name; ``notes``: lines of text.

    Raises:
        ContractError: a row of the log is not a dictionary of numbers by name, or ``run.history``
            or ``run.notes`` is not a list.
    """
    history, notes = _list_of(run, "history", "run.log"), _list_of(run, "notes", "run.note")
    if len(history) > MAX_LOG_ROWS:
        warnings.warn(
            f"the training log leaves out {len(history) - MAX_LOG_ROWS} rows of run.history: it "
            f"has up to {MAX_LOG_ROWS}",
            stacklevel=2,
        )
    rows = [_row(row) for row in history[:MAX_LOG_ROWS]]
    return {
        "log": [row for row in rows if row],
        "notes": [str(note) for note in notes[:MAX_NOTES]],
    }


def _list_of(run: Run, name: str, call: str) -> list[Any]:
    value: object = getattr(run, name)
    if not isinstance(value, list):
        raise ContractError(
            f"run.{name} is of type {type(value).__name__}; it must stay a list, to which {call} "
            "adds"
        )
    return value


def _row(row: object) -> dict[str, float]:
    if not isinstance(row, dict):
        raise ContractError(
            f"a row of run.history is of type {type(row).__name__}; it must be a dictionary of "
            "numbers; add rows with run.log"
        )
    try:
        numbers = {
            str(name): one_number(f"{name} in run.history", value) for name, value in row.items()
        }
    except TypeError as error:
        raise ContractError(f"{error}; add rows with run.log") from None
    finite = {name: number for name, number in numbers.items() if math.isfinite(number)}
    kept = dict(islice(finite.items(), MAX_METRICS))
    if left_out := [name for name in numbers if name not in kept]:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        warnings.warn(
            f"the training log leaves out {', '.join(left_out[:3])}{more} of a row of run.history: "
            f"a row has up to {MAX_METRICS} finite numbers",
            stacklevel=3,
        )
    return kept
