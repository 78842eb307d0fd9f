"""Render the leaderboard as tables that fit the width of a terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmark.commands import command
from benchmark.text import printable, seed_list, time_of
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.columns import Column
from leaderboard.render.cells import cell_note, cell_value, rank_text
from leaderboard.render.legend import (
    ORACLE_LEGEND,
    POOLED_LEGEND,
    absent_line,
    column_legend,
    heading_of,
    interval_legend,
    no_rows,
    rank_line,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

MIN_WIDTH = 40
MIN_NAME = 8  # of a label without its note
MIN_LABEL = 18  # columns are hidden rather than labels cut below this
ALWAYS = 3  # columns that come before those that were asked for
MAX_LINES = 12  # of a list below the tables
GAP = 2  # between columns


class CommandLine(str):
    """A command on a line by itself, which is not wrapped, so that it can be pasted."""


@dataclass(frozen=True)
class Screen:
    """Where tables are shown.

    Attributes:
        width: characters in a line.
        color: a colour system of rich, such as ``standard``; None for plain text.
    """

    width: int
    color: str | None = None

    def text(self, parts: Iterable[RenderableType]) -> str:
        """Render renderables of rich, or lines of text that are wrapped at words."""
        console = self._console()
        for part in parts:
            if isinstance(part, CommandLine):
                console.print(printable(part), no_wrap=True, overflow="ignore", crop=False)
            else:
                console.print(wrapped(part) if isinstance(part, str) else part)
        file = console.file
        assert isinstance(file, io.StringIO)
        lines = file.getvalue().splitlines()
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _console(self) -> Console:
        from rich.console import Console

        return Console(
            file=io.StringIO(),
            width=max(self.width, MIN_WIDTH),
            force_terminal=self.color is not None,
            color_system=self.color,  # type: ignore[arg-type]
            no_color=self.color is None,
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
        )


@dataclass
class Grid:
    """A table whose first columns are text and whose others are numbers.

    Attributes:
        headers: headings; ``left`` of them are aligned left, the last of which is the label.
        rows: cells, and the note that follows the label.
        styles: of rows, by index.
        breaks: indices of rows below which a line is drawn.
        hidden: headings of the columns that were left out.
    """

    headers: list[str]
    left: int
    rows: list[tuple[list[str], str]] = field(default_factory=list)
    styles: dict[int, str] = field(default_factory=dict)
    breaks: set[int] = field(default_factory=set)
    hidden: list[str] = field(default_factory=list)

    def fit(self, width: int, order: Sequence[int]) -> Table:
        """The table, with columns left out until it fits.

        Args:
            width: characters in a line.
            order: indices of the columns right of the label, those to keep longest first.
        """
        from rich.cells import cell_len

        columns = zip(self.headers, *self._texts(), strict=True)
        widths = [max(cell_len(c) for c in column) for column in columns]
        at = self.left - 1
        least = max([MIN_LABEL, *(MIN_NAME + cell_len(note) for _, note in self.rows)])
        longest_label, widths[at] = widths[at], min(widths[at], least)
        shown = list(range(self.left))
        for i in order:
            if sum(widths[j] + GAP for j in [*shown, i]) - GAP > width:
                break
            shown.append(i)
        shown.sort()
        self.hidden = [h for i, h in enumerate(self.headers) if i not in shown]
        spare = width - (sum(widths[j] + GAP for j in shown) - GAP)
        widths[at] = min(longest_label, widths[at] + max(spare, 0))
        return self._table(shown, widths)

    def _texts(self) -> list[list[str]]:
        at = self.left - 1
        return [[*cells[:at], cells[at] + note, *cells[at + 1 :]] for cells, note in self.rows]

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        from rich import box
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
        )
        for i in shown:
            left = i < self.left
            table.add_column(
                Text(self.headers[i]),
                width=widths[i],
                no_wrap=True,
                justify="left" if left else "right",
            )
        at = self.left - 1
        for number, (cells, note) in enumerate(self.rows):
            label = middle(cells[at], widths[at] - cell_len(note)) + note
            texts = [*cells[:at], label, *cells[at + 1 :]]
            table.add_row(
                *(Text(texts[i], overflow="crop") for i in shown),
                style=self.styles.get(number),
                end_section=number in self.breaks,
            )
        return table


def middle(text: str, width: int) -> str:
    """Text of at most so many columns of a terminal: an ellipsis replaces what is in the middle."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    if width < 3:
        return set_cell_size(text, max(width, 0))
    end = (width - 1) // 2
    tail = text
    while cell_len(tail) > end:
        tail = tail[1:]
    return f"{set_cell_size(text, width - 1 - end).rstrip()}…{tail}"


def wrapped(text: str, style: str = "") -> RenderableType:
    """Untrusted text that is wrapped at words."""
    from rich.text import Text

    return Text(printable(text), style=style, overflow="fold")


def bullets(lines: Sequence[str]) -> RenderableType:
    """A list whose lines are wrapped at words and indented."""
    from rich.table import Table

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row("-", wrapped(line))
    return table


def to_terminal(
    boards: Sequence[Board], screen: Screen, tasks: bool, arguments: Sequence[str] = ()
) -> str:
    """Render the boards of a suite.

    Args:
        boards: of a suite.
        screen: where they are shown.
        tasks: whether to show a table for each task and not only the mean.
        arguments: words of the command that shows the boards, for the commands in remarks.
    """
    parts: list[RenderableType] = []
    for board in boards:
        parts += _board(board, screen, tasks)
    if boards:
        parts += remark_lists(boards, arguments)
        if not tasks and len(boards[0].suite.tasks) > 1:
            one = command(*arguments, "--task", boards[0].suite.tasks[0])
            names = ", ".join(boards[0].suite.tasks)
            parts += [f"For the table of a task ({names}):", CommandLine(f"  {one}")]
    return screen.text(parts)


def _board(board: Board, screen: Screen, tasks: bool) -> list[RenderableType]:
    context = board.context
    facts = [f"{context['manifest']}, {context['network']}, recipe {context['recipe']}"]
    facts.append(seed_list(board.suite.seeds))
    finished = np.nan_to_num(board.rows.numbers("measured_finished")).max(initial=0.0)
    if finished and (newest := moment(finished)):
        facts.append(f"newest run {newest}")
    if "shown" in context:
        facts.append(context["shown"])
    parts: list[RenderableType] = [
        wrapped(f"{board.name} - {board.suite.title}", "bold"),
        wrapped("; ".join(facts)),
        "",
    ]
    single = len(board.suite.tasks) == 1
    hidden: dict[str, None] = {}
    visible: set[str] = set()  # in some table
    averages = [] if single else [MEAN]
    averages += [POOLED] if board.shows_pooled and board.has_pooled else []
    for task in averages + (list(board.suite.tasks) if tasks or single else []):
        parts += [wrapped(heading_of(task, board), "bold"), ""]
        grid, columns = _grid(board, task)
        if not grid.rows:
            parts += [no_rows(task), ""]
            continue
        parts.append(grid.fit(max(screen.width, MIN_WIDTH), _order(board, grid, columns)))
        hidden.update(dict.fromkeys(grid.hidden))
        visible.update(set(grid.headers) - set(grid.hidden))
        parts += [line] if (line := absent_line(board, task)) else []
        parts += [*([line] if (line := rank_line(board, task)) else []), ""]
    nowhere = hidden.keys() - visible
    legend = [line for line in column_legend(board) if line.partition(":")[0] not in nowhere]
    if any(cell["track"] == "oracle" for cell in board.of_task(MEAN).values()):
        legend.append(ORACLE_LEGEND)
    if board.shows_pooled and board.has_pooled:
        legend.append(POOLED_LEGEND)
    parts.append(bullets([*interval_legend(board), *legend]))
    if hidden:
        parts.append(
            f"Hidden at this width: {', '.join(hidden)}. To see them, widen the terminal or add "
            "--format markdown, csv or json."
        )
    return [*parts, ""]


def _grid(board: Board, task: str) -> tuple[Grid, Sequence[Column]]:
    """The table of a task, or of ``MEAN``."""
    columns = board.shown_columns
    cells = board.of_task(task)
    labels = board.shown_labels(task)
    ranked = any(not math.isnan(cells[label]["rank"]) for label in labels)
    grid = Grid(
        [*(["rank"] if ranked else []), "method", *(c.heading for c in columns)], 1 + ranked
    )
    for i, label in enumerate(labels):
        cell = cells[label]
        numbers = [cell_value(board, column, cell) for column in columns]
        is_oracle = cell["track"] == "oracle"
        note = cell_note(board, cell)
        if ranked:
            numbers = [rank_text(cell) or "oracle" * is_oracle, label, *numbers]
            note = note.replace(" (oracle)", "")
        else:
            numbers = [label, *numbers]
        grid.rows.append((numbers, note))
        if is_oracle:
            grid.styles[i] = "dim"
        elif cell["rank"] == 1:
            grid.styles[i] = "bold"
        following = cells[labels[i + 1]]["track"] if i + 1 < len(labels) else cell["track"]
        if following != cell["track"]:
            grid.breaks.add(i)
    return grid, columns


def _order(board: Board, grid: Grid, columns: Sequence[Column]) -> list[int]:
    """Which columns to keep longest: the first, those that were asked for, then the others."""

    def priority(i: int) -> tuple[bool, int]:
        asked = columns[i].key in board.optional_columns
        return not (i < ALWAYS or asked), i

    return [grid.left + i for i in sorted(range(len(columns)), key=priority)]


def remark_lists(boards: Sequence[Board], arguments: Sequence[str]) -> list[RenderableType]:
    """The lists below all tables."""
    parts: list[RenderableType] = []
    fields: Mapping[str, str] = {
        "problems": "Not in the table",
        "not_applicable": "Not applicable",
        "versions": "Other versions",
        "notes": "Notes",
    }
    for name, heading in fields.items():
        lines = [
            f"{board.name}: {line}" if len(boards) > 1 else line
            for board in boards
            for line in getattr(board, name)
        ]
        if lines:
            parts += [wrapped(heading, "bold"), bullets(lines[:MAX_LINES])]
            if more := len(lines) - MAX_LINES:
                every = command(*arguments, "--format", "markdown")
                parts += [f"and {more} more:", CommandLine(f"  {every}")] if more > 0 else []
            parts.append("")
    return parts


def moment(seconds: float) -> str:
    """A time in seconds since 1970, in UTC, to the minute; empty for one that no calendar has."""
    time = time_of(seconds)
    return "" if time is None else f"{time:%Y-%m-%d %H:%M} UTC"
