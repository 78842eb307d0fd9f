"""The board as Markdown that reads well in a terminal too."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from leaderboard.board import COLUMNS, MEAN, Board, Column

# What Markdown would obey in text of strangers. An underscore inside a word is only itself.
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_STATES = {"failed": " (failed)", "not-applicable": " (n/a)"}


def to_markdown(boards: Sequence[Board]) -> str:
    """All tables of a suite, with captions, one after the other."""
    return "\n".join(_board(board) for board in boards)


def _board(board: Board) -> str:
    lines = [f"# Leaderboard: {literal(board.name)}", "", board.suite.title, ""]
    lines += [f"- {name}: {literal(value)}" for name, value in board.context.items()]
    seeds = ", ".join(map(str, board.suite.seeds))
    lines += [
        f"- seeds: {seeds}; mean ± sample standard deviation over seeds, given the source models",
        "- accuracies in per cent over all classes; disruption: missing accuracy of the source "
        "model less the method's; H: harmonic mean of seen and missing; gap %: how much of the way "
        "from source to oracle-finetune, overall",
        "- cost, with that of the run that a method starts from: gradient steps in all, those one "
        "after the other (depth), seconds of adapting, peak memory of the process",
        "- oracle: was given missing-class training data, or looks at test labels (gamma-star: "
        "finetune with the best constant on its missing-class logits); shown, not ranked",
        "",
    ]
    if len(board.suite.tasks) > 1:
        lines += [_heading(f"Mean over {len(board.suite.tasks)} tasks", board, board.suite.tasks)]
        lines += ["", _table(board, MEAN), ""]
    for task in board.suite.tasks:
        lines += [_heading(task, board, [task]), "", _table(board, task), ""]
    if board.problems:
        lines += ["## Not in the table", "", *(f"- {literal(p)}" for p in board.problems), ""]
    if board.not_applicable:
        lines += ["## Not applicable", "", *(f"- {literal(p)}" for p in board.not_applicable), ""]
    if board.notes:
        lines += ["## Notes", "", *(f"- {literal(note)}" for note in board.notes), ""]
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
        rows.append([literal(label) + note, *values])
    headers = ["method", *(c.title for c in COLUMNS)]
    return pipe_table(headers, rows, left=1)


def pipe_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table, aligned for the terminal and as narrow as its cells allow.

    Args:
        headers: headings; ``rows``: as many cells each, with nothing that Markdown would obey.
        left: how many of the first columns are aligned to the left.
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
    """A number of a column for people; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return f"{round(value, column.digits) + 0.0:.{column.digits}f}"  # + 0.0: no "-0.0"


def _value(column: Column, mean: float, spread: float) -> str:
    text = rounded(column, mean)
    if column.spread and not math.isnan(spread):
        text += f" ± {spread:.{column.digits}f}"
    return text


def literal(text: str) -> str:
    """Text of strangers as Markdown shows it and does not obey it."""
    return _MARKUP.sub(r"\\\g<0>", text)
