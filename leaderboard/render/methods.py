"""The table of methods for a README: one line each, with its source and its means on a suite."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.manifest import Suite
from leaderboard.board import COLUMNS, MEAN, Board
from leaderboard.render.markdown import literal, pipe_table, rounded

SHOWN = ("seen", "missing", "overall")


@dataclass(frozen=True)
class MethodLine:
    """What is said of a method.

    Attributes:
        name: its name; ``summary``: what it does, in a line.
        source: its paper in a few words, or empty; ``link``: where that can be read, if known.
        track: ``standard`` or ``oracle``.
    """

    name: str
    summary: str
    source: str
    link: str | None
    track: str


def means(boards: Sequence[Board], method: str) -> dict[str, float | None]:
    """Seen, missing and overall accuracy of a method with its default settings.

    Args:
        boards: of a suite; the newest of the manifest's own network is the one that counts, and
            it comes first.
        method: its name.

    Returns:
        Per cent, mean over the suite's tasks and seeds; None where a run of these lacks or failed.
    """
    cell = _own_means(boards).get(method, {})
    values = {name: float(cell.get(name, math.nan)) for name in SHOWN}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def without_means(boards: Sequence[Board], methods: Iterable[str]) -> list[str]:
    """Those of the methods that have not all runs of a suite; a failed one has had them."""
    cells = _own_means(boards)
    return [m for m in methods if cells.get(m, {"state": "partial"})["state"] == "partial"]


def _own_means(boards: Sequence[Board]) -> dict[str, dict[Hashable, Any]]:
    """The cells of means of the first board, if it is one of the manifest's own network."""
    own = bool(boards) and boards[0].name == boards[0].suite.name
    return boards[0].of_task(MEAN) if own else {}


def methods_table(
    lines: Sequence[MethodLine], suite: Suite | None = None, boards: Sequence[Board] = ()
) -> str:
    """Markdown of the lines in their order, with means where a suite is given.

    Args:
        lines: the methods.
        suite: whose means are shown, with a caption that says so.
        boards: the suite's.
    """
    headers = ["method", "what it does", "source", "track"]
    rows = [
        [literal(line.name), literal(line.summary), _source(line), line.track] for line in lines
    ]
    if suite is None:
        return pipe_table(headers, rows, left=4)
    columns = {c.name: c for c in COLUMNS if c.name in SHOWN}
    for line, row in zip(lines, rows, strict=True):
        found = means(boards, line.name)
        row += [rounded(columns[name], found[name]) for name in SHOWN]
    headers += [columns[name].title for name in SHOWN]
    caption = (
        f"Mean over {_count(suite.tasks, 'task')} and {_count(suite.seeds, 'seed')} of the suite "
        f"`{suite.name}`, in per cent over all classes; oracles are not ranked."
    )
    return f"{caption}\n\n{pipe_table(headers, rows, left=4)}"


def _count(items: Sequence[object], what: str) -> str:
    return f"{len(items)} {what}{'s' if len(items) != 1 else ''}"


def _source(line: MethodLine) -> str:
    words = literal(line.source) or "-"
    return f"[{words}]({line.link})" if line.link else words
