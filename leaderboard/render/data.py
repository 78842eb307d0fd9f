"""The board as CSV and JSON, unrounded, for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from leaderboard.board import Board


def to_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """One row per table, method and task; the task ``mean`` is the mean over tasks."""
    if not boards:
        return pd.DataFrame()
    frame = pd.concat(
        [_ordered(board).assign(table=board.name) for board in boards], ignore_index=True
    )
    return frame[["table", *(column for column in frame.columns if column != "table")]]


def to_csv(boards: Sequence[Board]) -> str:
    """The rows of :func:`to_frame`."""
    return to_frame(boards).to_csv(index=False, lineterminator="\n") if boards else ""


def to_json(boards: Sequence[Board]) -> str:
    """A list of tables with their context, counts, cells and what is said of them.

    Absent values are null.
    """
    found = [
        {
            "table": board.name,
            "suite": board.suite.name,
            "tasks": list(board.suite.tasks),
            "seeds": list(board.suite.seeds),
            **board.context,
            "counts": {task: {"n_seen": s, "n_missing": m} for task, s, m in board.counts},
            "cells": [
                {name: _plain(value) for name, value in row.items()}
                for row in _ordered(board).to_dict("records")
            ],
            "problems": list(board.problems),
            "not_applicable": list(board.not_applicable),
            "notes": list(board.notes),
        }
        for board in boards
    ]
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _ordered(board: Board) -> pd.DataFrame:
    order = {label: i for i, label in enumerate(board.labels)}
    return board.cells.sort_values("label", key=lambda s: s.map(order), kind="stable")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
