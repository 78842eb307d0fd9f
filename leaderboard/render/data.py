"""Render the leaderboard as unrounded, machine-readable CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.text import printable_json
from leaderboard.board import Board
from leaderboard.columns import file_columns

if TYPE_CHECKING:
    import pandas as pd


def to_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """One row per table, method and task; ``mean`` and ``pooled`` are over all tasks."""
    import pandas as pd

    if not boards:
        return pd.DataFrame()
    frame = pd.concat(
        [ordered_cells(board).assign(table=board.name) for board in boards], ignore_index=True
    )
    return frame[list(file_columns())]


def to_csv(boards: Sequence[Board]) -> str:
    """Return the rows of :func:`to_frame` as CSV."""
    return to_frame(boards).to_csv(index=False, lineterminator="\n") if boards else ""


def to_json(boards: Sequence[Board]) -> str:
    """Return the tables, their context, counts, cells and remarks as JSON. NaN becomes null."""
    tables = [
        {
            "table": board.name,
            "suite": board.suite.name,
            "tasks": list(board.suite.tasks),
            "seeds": list(board.suite.seeds),
            **board.context,
            "counts": {
                task: {"n_seen": seen, "n_missing": missing} for task, seen, missing in board.counts
            },
            "cells": [
                {name: nan_to_none(value) for name, value in cell.items()}
                for cell in ordered_cells(board).to_dict("records")
            ],
            "comparisons": [comparison.as_dict() for comparison in board.comparisons],
            "versions": list(board.versions),
            "problems": list(board.problems),
            "not_applicable": list(board.not_applicable),
            "notes": list(board.notes),
        }
        for board in boards
    ]
    return printable_json(tables) + "\n"


def ordered_cells(board: Board) -> pd.DataFrame:
    """The cells with the methods in the order of the board."""
    order = {label: i for i, label in enumerate(board.labels)}
    return board.cells.sort_values("label", key=lambda s: s.map(order), kind="stable")


def nan_to_none(value: Any) -> Any:
    """Return the value, or None for NaN, which JSON cannot represent."""
    return None if isinstance(value, float) and math.isnan(value) else value
