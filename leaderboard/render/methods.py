"""Render a table of methods, with their papers and mean accuracies on a suite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.manifest.suite import Suite
from benchmark.text import plural
from leaderboard import columns
from leaderboard.board import MEAN, Board, BoardCell
from leaderboard.render.cells import literal, pipe_table, rounded

SHOWN = ("seen", "missing", "overall")


@dataclass(frozen=True)
class MethodLine:
    """One row of the table.

    Attributes:
        name: name of the method.
        summary: what it does, in one line.
        paper: a short citation, or empty.
        link: URL of the paper, if known.
        track: ``standard`` or ``oracle``.
    """

    name: str
    summary: str
    paper: str
    link: str | None
    track: str


def means(boards: Sequence[Board], method: str) -> dict[str, float | None]:
    """Seen, missing and overall accuracy of a method with its default settings.

    Args:
        boards: the leaderboards of a suite. Only the first is used: the newest one of the
            manifest's own network.
        method: its name.

    Returns:
        Mean over the suite's tasks and seeds, in per cent; None if a run is missing or failed.
    """
    cell = _own_means(boards).get(method, {})
    values = {name: float(cell.get(name, math.nan)) for name in SHOWN}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _own_means(boards: Sequence[Board]) -> dict[str, BoardCell]:
    """The mean cells of the first board, if it is one of the manifest's own network."""
    return boards[0].of_task(MEAN) if boards and boards[0].is_main else {}


def methods_table(
    lines: Sequence[MethodLine], suite: Suite | None = None, boards: Sequence[Board] = ()
) -> str:
    """A Markdown table of methods, in the order given, with a suite's means if there is one.

    Args:
        lines: the methods.
        suite: adds the means on its tasks, and a caption that says so.
        boards: the suite's.
    """
    headers = ["method", "what it does", "source", "track"]
    rows = [[literal(line.name), literal(line.summary), _paper(line), line.track] for line in lines]
    if suite is None:
        return pipe_table(headers, rows, left=4)
    by_key = {column.key: column for column in columns.COLUMNS}
    for line, row in zip(lines, rows, strict=True):
        values = means(boards, line.name)
        row += [rounded(by_key[name], values[name]) for name in SHOWN]
    headers += [by_key[name].heading for name in SHOWN]
    name = boards[0].name if boards and boards[0].is_main else suite.name
    caption = (
        f"Mean accuracies over {plural(len(suite.tasks), 'task')} and "
        f"{plural(len(suite.seeds), 'seed')} of the suite `{name}`, in per cent, "
        "predicting among all classes. Oracles are not ranked."
    )
    return f"{caption}\n\n{pipe_table(headers, rows, left=4)}"


def _paper(line: MethodLine) -> str:
    text = literal(line.paper) or "-"
    return f"[{text}]({line.link})" if line.link else text
