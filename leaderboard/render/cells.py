"""The cells of tables as text: numbers, ranks, and the layout and markup of Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from benchmark.text import plural
from leaderboard.accepted import SUBMITTED, VERIFIED
from leaderboard.board import MEAN, Board, BoardCell
from leaderboard.columns import Column

INCOMPLETE = "because runs are missing, failed or not applicable"
_STATES = {"failed": " (failed)", "not-applicable": " (n/a)"}
# What Markdown, with GitHub's formulas, treats as markup. An underscore inside a word is not.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?[A-Za-z0-9]+;)")


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


def rank_text(cell: BoardCell) -> str:
    """The rank of a cell, or empty."""
    return "" if math.isnan(cell["rank"]) else f"{cell['rank']:.0f}"


def table_cells(board: Board, task: str) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of the table of a task, or of ``MEAN``. Labels are not escaped."""
    shown = board.shown_columns
    cells = board.of_task(task)
    rows = []
    for label in board.shown_labels(task):
        cell = cells[label]
        values = [cell_value(board, column, cell) for column in shown]
        rows.append([rank_text(cell), label + cell_note(board, cell), *values])
    headers = ["rank", "method", *(column.heading for column in shown)]
    if not any(row[0] for row in rows):  # too few methods, or nothing is known but one seed
        headers, rows = headers[1:], [row[1:] for row in rows]
    return headers, rows


def cell_note(board: Board, cell: BoardCell) -> str:
    """What follows a label: the state of its cell, and whether other runs exist."""
    note = _STATES.get(cell["state"], "") + in_brackets(coverage(board, cell))
    if cell["track"] == "oracle":
        note += " (oracle)"
    if cell["provenance"] in (SUBMITTED, VERIFIED):
        note += f" ({cell['provenance']})"
    if cell["other_runs"]:
        note += f" ({cell['runs']} runs exist)"
    return note


def cell_value(board: Board, column: Column, cell: BoardCell) -> str:
    """The value of a column, with half the width of its interval."""
    text, half = rounded(column, cell[column.key]), cell[f"{column.key}_half"]
    if column.sampled and not math.isnan(half):
        text += f" ± {half:.{column.digits}f}"
    return text + declared_mark(board, column, cell)


def declared_mark(board: Board, column: Column, cell: BoardCell) -> str:
    """What follows a number of steps some of which the method declared itself; else empty."""
    is_declared = column.key == "total_steps" and cell["label"] in board.declared
    return "*" if is_declared and not math.isnan(cell[column.key]) else ""


def coverage(board: Board, cell: BoardCell) -> str:
    """What a partial value covers, such as ``3 of 5 tasks`` or ``1 of 3 seeds``, or empty."""
    if cell["state"] != "partial" or not cell["tasks"]:
        return ""
    tasks, seeds = len(board.suite.tasks), len(board.suite.seeds)
    if cell["task"] == MEAN and cell["tasks"] < tasks:
        return f"{cell['tasks']} of {plural(tasks, 'task')}"
    return f"{cell['seeds']} of {plural(seeds, 'seed')}"


def in_brackets(text: str) -> str:
    """What follows a name or a state: the text in brackets, or nothing if it is empty."""
    return f" ({text})" if text else ""


def percent(share: float) -> str:
    """A share as a whole number of per cent: ``95 %``."""
    return f"{100 * share:.0f} %"


def signed(value: float, digits: int) -> str:
    """A difference with its sign; ``+0.0`` if it rounds to 0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"  # + 0.0: no "-0.0"


def literal(text: str) -> str:
    """Untrusted text with its Markdown escaped, so that it is shown as it is."""
    return _MARKUP.sub(r"\\\g<0>", text)
