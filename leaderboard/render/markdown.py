"""Render the leaderboard as Markdown that is also readable in a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from benchmark.commands import command
from leaderboard import columns, gamma_star
from leaderboard.board import MEAN, Board
from leaderboard.columns import Column

# What Markdown treats as markup. An underscore inside a word is not.
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
STEPS = [column.key for column in columns.COLUMNS].index("total_steps")
_STATES = {"failed": " (failed)", "not-applicable": " (n/a)"}


def to_markdown(boards: Sequence[Board]) -> str:
    """All tables of a suite, each with its caption."""
    return "\n".join(_board(board) for board in boards)


def _board(board: Board) -> str:
    lines = [f"# Leaderboard: {literal(board.name)}", "", board.suite.title, ""]
    lines += [f"- {name}: {literal(value)}" for name, value in board.context.items()]
    seeds = ", ".join(map(str, board.suite.seeds))
    lines += [
        f"- seeds: {seeds}; values are mean ± sample standard deviation over seeds, "
        + _condition(board),
        *(f"- {column.heading}: {column.legend}" for column in columns.COLUMNS),
        "- oracle: not ranked, because the method uses missing-class training data or "
        f"test labels ({gamma_star.LEGEND})",
        "",
    ]
    if len(board.suite.tasks) > 1:
        lines += [_heading(f"Mean over {len(board.suite.tasks)} tasks", board, board.suite.tasks)]
        lines += ["", _table(board, MEAN), ""]
    for task in board.suite.tasks:
        lines += [_heading(task, board, [task]), "", _table(board, task), ""]
    if board.versions:
        runs = command("list", "runs", "--suite", board.suite.argument, *board.workspace_option)
        lines += [
            "## Other versions",
            "",
            f"A row shows one version of its method. `{runs}` lists all runs.",
            "",
            *(f"- {literal(line)}" for line in board.versions),
            "",
        ]
    if board.problems:
        lines += ["## Not in the table", "", *(f"- {literal(p)}" for p in board.problems), ""]
    if board.not_applicable:
        lines += ["## Not applicable", "", *(f"- {literal(p)}" for p in board.not_applicable), ""]
    if board.notes:
        lines += ["## Notes", "", *(f"- {literal(note)}" for note in board.notes), ""]
    return "\n".join(lines)


def _condition(board: Board) -> str:
    """What the deviation over seeds contains of the source models."""
    if board.source_seeds == 1:
        return "conditional on the source model"
    return f"which adapt {board.source_seeds} source models in turn"


def _heading(title: str, board: Board, tasks: Sequence[str]) -> str:
    """The title with the number of test images, if it is known for all tasks."""
    counts = {task: (seen, missing) for task, seen, missing in board.counts}
    if not all(task in counts for task in tasks):
        return f"## {title}"
    seen, missing = (sum(counts[task][group] for task in tasks) for group in (0, 1))
    return f"## {title} (n_seen = {seen}, n_missing = {missing})"


def _table(board: Board, task: str) -> str:
    cells = board.of_task(task)
    if all(cell["state"] == "partial" and math.isnan(cell["overall"]) for cell in cells.values()):
        what = "completed all tasks" if task == MEAN else "run on this task"
        return f"No method has {what} yet."  # "Not in the table" names what is missing
    rows = []
    for label in board.labels:
        cell = cells[label]
        note = _STATES.get(cell["state"], "")
        if cell["state"] == "partial" and cell["seeds"]:
            note = f" ({cell['seeds']} of {len(board.suite.seeds)} seeds)"
        if cell["track"] == "oracle":
            note += " (oracle)"
        if cell["other_runs"]:
            note += f" ({cell['runs']} runs exist)"
        values = [_value(c, cell[c.key], cell[f"{c.key}_std"]) for c in columns.COLUMNS]
        if label in board.declared:
            values[STEPS] += "*"
        rows.append([literal(label) + note, *values])
    headers = ["method", *(column.heading for column in columns.COLUMNS)]
    return pipe_table(headers, rows, left=1)


def pipe_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table, aligned for the terminal and as narrow as its cells allow.

    Args:
        headers: headings of the columns.
        rows: lists of cells, one per column. Markup in cells is not escaped.
        left: number of leading columns to align left.
    """
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        pads = [str.ljust] * left + [str.rjust] * (len(cells) - left)
        padded = [pad(cell, n) for pad, cell, n in zip(pads, cells, widths, strict=True)]
        return f"| {' | '.join(padded)} |"

    rules = [":" + "-" * (n + 1) for n in widths[:left]] + [
        "-" * (n + 1) + ":" for n in widths[left:]
    ]
    return "\n".join([line(headers), f"|{'|'.join(rules)}|", *map(line, rows)])


def rounded(column: Column, value: float | None) -> str:
    """Format a value with its column's number of decimal places, or a dash if there is no value."""
    if value is None or math.isnan(value):
        return "-"
    return f"{round(value, column.digits) + 0.0:.{column.digits}f}"  # + 0.0: no "-0.0"


def _value(column: Column, mean: float, spread: float) -> str:
    text = rounded(column, mean)
    if column.spread and not math.isnan(spread):
        text += f" ± {spread:.{column.digits}f}"
    return text


def literal(text: str) -> str:
    """Untrusted text with its Markdown escaped, so that it is shown as it is."""
    return _MARKUP.sub(r"\\\g<0>", text)
