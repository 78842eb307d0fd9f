"""Means over the tasks that are there, for methods without all of their runs.

They do not compare with the means of complete methods, so a board has none unless it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leaderboard.board import MEAN, POOLED, Board, BoardCell
from leaderboard.columns import COLUMNS


def with_partial_means(board: Board) -> Board:
    """The board with a mean for each method that has values on some task.

    The mean of a method with failed or missing runs is the unweighted mean of its values on the
    tasks that have one: those without a failed run. It has no interval and no rank, the state
    ``partial``, and the number of its tasks; ``seeds`` is the smallest number of seeds of a task.
    """
    cells = board.values.to_dict("records")
    of_tasks: dict[str, list[BoardCell]] = {}
    for cell in cells:
        if cell["task"] not in (MEAN, POOLED) and cell["tasks"]:
            of_tasks.setdefault(cell["label"], []).append(cell)
    changed = [
        {**cell, **_mean(of_tasks[cell["label"]])}
        if cell["task"] == MEAN and cell["state"] != "ok" and cell["label"] in of_tasks
        else cell
        for cell in cells
    ]
    frame = type(board.values)(changed, columns=board.values.columns, index=board.values.index)
    return replace(board, values=frame)


def _mean(cells: Sequence[BoardCell]) -> BoardCell:
    """What changes in the cell of a mean, from those of the tasks that it covers."""
    values: BoardCell = {c.key: float(np.mean([cell[c.key] for cell in cells])) for c in COLUMNS}
    seeds = min(cell["seeds"] for cell in cells)
    return {**values, "tasks": len(cells), "seeds": seeds, "state": "partial"}
