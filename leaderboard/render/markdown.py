"""The board as Markdown that reads well in a terminal too."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tabulate import tabulate

from leaderboard.board import COLUMNS, MEAN, Board, Column

# What Markdown would obey in text of strangers. An underscore inside a word is only itself.
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_STATES = {"failed": " (failed)", "not-applicable": " (n/a)"}


def to_markdown(boards: Sequence[Board]) -> str:
    """All tables of a suite, with captions, one after the other."""
    return "\n".join(_board(board) for board in boards)


def _board(board: Board) -> str:
    lines = [f"# Leaderboard: {board.name}", "", board.suite.title, ""]
    lines += [f"- {name}: {value}" for name, value in board.context.items()]
    seeds = ", ".join(map(str, board.suite.seeds))
    lines += [
        f"- seeds: {seeds}; mean ± sample standard deviation over seeds, given the source models",
        "- accuracies in per cent over all classes; disruption: missing accuracy of the source "
        "model less the method's; gap closed: per cent of the way from source to oracle-finetune, "
        "overall",
        "- oracle: was given missing-class training data; shown, not ranked",
        "",
    ]
    if len(board.suite.tasks) > 1:
        lines += [_heading(f"Mean over {len(board.suite.tasks)} tasks", board, board.suite.tasks)]
        lines += ["", _table(board, MEAN), ""]
    for task in board.suite.tasks:
        lines += [_heading(task, board, [task]), "", _table(board, task), ""]
    if board.problems:
        lines += ["## Not in the table", "", *(f"- {_literal(p)}" for p in board.problems), ""]
    if board.not_applicable:
        lines += ["## Not applicable", "", *(f"- {_literal(p)}" for p in board.not_applicable), ""]
    if board.notes:
        lines += ["## Notes", "", *(f"- {_literal(note)}" for note in board.notes), ""]
    return "\n".join(lines)


def _heading(title: str, board: Board, tasks: Sequence[str]) -> str:
    """The title with the numbers of test images, where they are known for all of the tasks."""
    counts = {task: (seen, missing) for task, seen, missing in board.counts}
    if not all(task in counts for task in tasks):
        return f"## {title}"
    seen, missing = (sum(counts[task][group] for task in tasks) for group in (0, 1))
    return f"## {title} (n_seen = {seen}, n_missing = {missing})"


def _table(board: Board, task: str) -> str:
    cells = board.of_task(task)
    if all(cell["state"] == "partial" and math.isnan(cell["overall"]) for cell in cells.values()):
        return "No method has run on all of it yet."  # the end of the page names what lacks
    rows = []
    for label in board.labels:
        cell = cells[label]
        note = _STATES.get(cell["state"], "")
        if cell["state"] == "partial" and cell["seeds"]:
            note = f" ({cell['seeds']} of {len(board.suite.seeds)} seeds)"
        if cell["track"] == "oracle":
            note += " (oracle)"
        values = [_value(c, cell[c.name], cell[f"{c.name}_std"]) for c in COLUMNS]
        rows.append([_literal(label) + note, *values])
    headers = ["method", *(c.title for c in COLUMNS)]
    align = ("left", *("right" for _ in COLUMNS))
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def _value(column: Column, mean: float, spread: float) -> str:
    if math.isnan(mean):
        return "-"
    text = f"{round(mean, column.digits) + 0.0:.{column.digits}f}"  # + 0.0: no "-0.0"
    if column.spread and not math.isnan(spread):
        text += f" ± {spread:.{column.digits}f}"
    return text


def _literal(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)
