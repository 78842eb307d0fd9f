"""The ranking table of a page: the methods of one table on one task, or their mean over tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from leaderboard import columns
from leaderboard.accepted import SUBMITTED, VERIFIED
from leaderboard.board import MEAN, POOLED, Board, BoardCell
from leaderboard.columns import REFERENCES, Column, column_of
from leaderboard.render import svg
from leaderboard.render.cells import coverage, declared_mark, rank_text, rounded

REFERENCE = columns.SOURCE  # the row that a thin line in every interval shows
# What pages call the pseudo-tasks.
AVERAGES = {MEAN: "mean over tasks", POOLED: "pooled test images"}
STATES = {
    "failed": "a run failed",
    "not-applicable": "does not apply",
    "partial": "runs are missing",
}


@dataclass(frozen=True)
class Table:
    """A board, with its cells and the order of its methods by task (and ``MEAN``, ``POOLED``).

    Attributes:
        board: the board.
        cells: by task and label.
        numbers: the numbers of each cell, one for each column of the table, by task and label.
        labels: by task, the best first and oracles last.
    """

    board: Board
    cells: Mapping[str, Mapping[str, BoardCell]]
    numbers: Mapping[str, Mapping[str, tuple[Cell, ...]]]
    labels: Mapping[str, Sequence[str]]

    @classmethod
    def of_board(cls, board: Board) -> Table:
        """Look everything up once: there is a page for every method and every task."""
        tasks = (MEAN, *([POOLED] if board.has_pooled else []), *board.suite.tasks)
        cells = {task: board.of_task(task) for task in tasks}
        shown = board.shown_columns
        numbers = {
            task: {
                label: tuple(_cell(column, cell, board) for column in shown)
                for label, cell in of_task.items()
            }
            for task, of_task in cells.items()
        }
        return cls(board, cells, numbers, {task: board.labels_of(task) for task in tasks})

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Keys of the columns of overall, seen and missing accuracy that are shown first."""
        return self.board.headline

    @property
    def axes(self) -> tuple[str, str]:
        """Headings of the columns of seen and missing accuracy that are shown first."""
        _, seen, missing = (column_of(key).heading for key in self.accuracies)
        return seen, missing

    @property
    def both(self) -> str:
        """What a drawing of them shows, at the beginning of a sentence."""
        return f"{' and '.join(self.axes)} accuracy".capitalize()


@dataclass(frozen=True)
class Cell:
    """A number: rounded for people, with six digits for sorting and CSV, and its interval."""

    column: Column
    text: str
    value: str
    half: str  # of the interval, rounded; empty if there is none
    exact_half: str


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        label: the method.
        page: the path of its page.
        rank: empty where there is none.
        tie: 0 or 1, which changes from one rank to the next; -1 without a rank.
        badges: short remarks, such as ``verified`` or ``2 of 3 seeds``.
        cells: one per column.
        intervals: the drawing of each metric, by the key of its column.
    """

    label: str
    page: str
    rank: str
    tie: int
    badges: tuple[str, ...]
    cells: tuple[Cell, ...]
    intervals: Mapping[str, Markup]


@dataclass(frozen=True)
class Ranking:
    """The table of a page.

    Attributes:
        columns: in order.
        metrics: the columns whose intervals can be drawn: those computed from test samples. The
            others are costs, which are hidden until the reader asks for them.
        axes: the heading of each metric's drawings, by key.
        ranked: the lines of ranked methods, best first.
        oracles: the lines of methods that are not ranked.
        absent: the methods without a value, each with its page, by reason.
        has_ranks: whether any method has a rank.
    """

    columns: tuple[Column, ...]
    metrics: tuple[Column, ...]
    axes: Mapping[str, Markup]
    ranked: tuple[Line, ...]
    oracles: tuple[Line, ...]
    absent: Mapping[str, Mapping[str, str]]
    has_ranks: bool


def build_ranking(table: Table, task: str, pages: Mapping[str, str]) -> Ranking:
    """The table of a board on a task, or on ``MEAN``.

    Args:
        table: the board.
        task: the task.
        pages: the path of each method's page, by label.
    """
    board, cells = table.board, table.cells[task]
    shown = board.shown_columns
    labels = [label for label in table.labels[task] if _is_shown(cells[label])]
    metrics = tuple(column for column in shown if column.sampled)
    scales = {column.key: _scale(column, [cells[label] for label in labels]) for column in metrics}
    source = cells.get(REFERENCE)
    ranks = [rank_text(cells[label]) for label in labels]
    lines = [
        Line(
            label=label,
            page=pages[label],
            rank=rank,
            tie=tie,
            badges=_badges(board, cells[label]),
            cells=table.numbers[task][label],
            intervals={
                key: svg.interval(
                    scale,
                    cells[label][key],
                    half_of(cells[label], key),
                    source[key] if source else math.nan,
                )
                for key, scale in scales.items()
            },
        )
        for label, rank, tie in zip(labels, ranks, _ties(ranks), strict=True)
    ]
    return Ranking(
        columns=shown,
        metrics=metrics,
        axes={key: svg.axis(scale) for key, scale in scales.items()},
        ranked=tuple(line for line in lines if not _is_oracle(cells[line.label])),
        oracles=tuple(line for line in lines if _is_oracle(cells[line.label])),
        absent=_absent(table.labels[MEAN], cells, pages),
        has_ranks=any(ranks),
    )


def _absent(
    labels: Sequence[str], cells: Mapping[str, BoardCell], pages: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    absent: dict[str, dict[str, str]] = {}
    for label in labels:
        if not _is_shown(cells[label]):
            state = str(cells[label]["state"])
            absent.setdefault(STATES.get(state, state), {})[label] = pages[label]
    return absent


def half_of(cell: BoardCell, key: str) -> float:
    """Half the width of a value's interval; NaN if there is none."""
    return float(cell.get(f"{key}_half", math.nan))


def number(column: Column, value: float | None) -> str:
    """A rounded value with a true minus sign, or an en dash."""
    text = rounded(column, value)
    return "–" if text == "-" else text.replace("-", "−")


def exact(value: float) -> str:
    """Six significant digits, or empty for NaN."""
    return f"{value:.6g}" if math.isfinite(value) else ""


def _is_shown(cell: BoardCell) -> bool:
    return not math.isnan(cell["overall"])


def _is_oracle(cell: BoardCell) -> bool:
    return bool(cell["track"] == "oracle")


def _ties(ranks: Sequence[str]) -> list[int]:
    """0 or 1 for each line, which changes where the rank does; -1 without a rank."""
    ties: list[int] = []
    shade, previous = 1, ""
    for rank in ranks:
        if rank and rank != previous:
            shade, previous = 1 - shade, rank
        ties.append(shade if rank else -1)
    return ties


def _scale(column: Column, cells: Sequence[BoardCell]) -> svg.Scale:
    values = [(cell[column.key], half_of(cell, column.key)) for cell in cells]
    halves = [0.0 if math.isnan(half) else half for _, half in values]
    return svg.axis_of(
        [value - half for (value, _), half in zip(values, halves, strict=True)],
        [value + half for (value, _), half in zip(values, halves, strict=True)],
    )


def _badges(board: Board, cell: BoardCell) -> tuple[str, ...]:
    badges = [cell["provenance"]] if cell["provenance"] in (SUBMITTED, VERIFIED) else []
    state = state_badge(board, cell)
    return (*badges, *([state] if state else []))


def state_badge(board: Board, cell: BoardCell) -> str:
    """What is missing of a cell, such as ``2 of 3 seeds`` or ``3 of 5 tasks``; or empty."""
    if cell["state"] == "ok":
        return ""
    return coverage(board, cell) or STATES.get(cell["state"], str(cell["state"]))


def _cell(column: Column, cell: BoardCell, board: Board) -> Cell:
    value = cell[column.key]
    half = half_of(cell, column.key) if column.sampled else math.nan
    text = number(column, value) + declared_mark(board, column, cell)
    return Cell(
        column=column,
        text=text,
        value=exact(value),
        half=number(column, half) if math.isfinite(half) and math.isfinite(value) else "",
        exact_half=exact(half),
    )


def as_points(table: Table, task: str, pages: Mapping[str, str], this: str = "") -> list[svg.Point]:
    """Every method as a dot of seen against missing accuracy.

    Args:
        table: the board.
        task: the task, or ``MEAN``.
        pages: the path of each method's page from the page that shows the plot, by label.
        this: the method whose page shows the plot.
    """
    cells, (_, seen, missing) = table.cells[task], table.accuracies
    labels = [label for label in table.labels[MEAN] if _is_shown(cells[label])]
    few = len(labels) <= 16
    points = [
        svg.Point(
            label=label,
            link=pages[label],
            x=cells[label][seen],
            y=cells[label][missing],
            kind=_kind(cells[label], label, this),
            named=label in REFERENCES or label == this or (few and not this),
        )
        for label in labels
    ]
    return sorted(points, key=lambda point: point.kind == "this")


def _kind(cell: BoardCell, label: str, this: str) -> str:
    if label == this:
        return "this"
    if _is_oracle(cell):
        return "oracle"
    return "reference" if label in REFERENCES else "ranked"
