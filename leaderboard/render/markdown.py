"""Render the leaderboard as Markdown that is also readable in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.commands import command
from benchmark.text import ranges
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.render.cells import literal, pipe_table, table_cells
from leaderboard.render.comparison import comparison_markdown
from leaderboard.render.legend import (
    ORACLE_LEGEND,
    POOLED_LEGEND,
    absent_line,
    column_legend,
    interval_legend,
    mean_heading,
    no_rows,
    pooled_heading,
    rank_line,
    source_models,
    task_heading,
)


def to_markdown(boards: Sequence[Board]) -> str:
    """All tables of a suite, each with its caption, and one list of remarks below them."""
    return "\n".join([*(_board(board) for board in boards), *remark_lists(boards)])


def remark_lists(boards: Sequence[Board]) -> Iterator[str]:
    """The lists under the tables; with several tables, each line begins with its table's name."""
    if not boards:
        return
    first = boards[0]
    versions = "A row shows one version of its method."
    if not first.is_published:
        runs = command("list", "runs", "--suite", first.suite.argument, *first.workspace_option)
        versions += f" `{runs}` lists all runs."
    s = "s" if len(boards) > 1 else ""
    for heading, text, field in (
        ("Other versions", versions, "versions"),
        (f"Not in the table{s}", "", "problems"),
        ("Not applicable", "", "not_applicable"),
        ("Notes", "", "notes"),
    ):
        lines = [
            f"- {literal(f'{board.name}: {line}' if s else line)}"
            for board in boards
            for line in getattr(board, field)
        ]
        if lines:
            yield "\n".join([f"## {heading}", "", *([text, ""] if text else []), *lines, ""])


def _board(board: Board) -> str:
    lines = [f"# Leaderboard: {literal(board.name)}", "", literal(board.suite.title), ""]
    lines += [f"- {name}: {literal(value)}" for name, value in board.context.items()]
    lines += [
        f"- seeds: {ranges(board.suite.seeds)}, {_condition(board)}",
        *(f"- {line}" for line in interval_legend(board)),
        *(f"- {line}" for line in column_legend(board)),
        f"- {ORACLE_LEGEND}",
        *([f"- {POOLED_LEGEND}"] if board.has_pooled else []),
        "",
    ]
    if len(board.suite.tasks) > 1:
        lines += [f"## {mean_heading(board)}", "", *_table(board, MEAN), ""]
    if board.has_pooled:
        lines += [f"## {pooled_heading(board)}", "", *_table(board, POOLED), ""]
    for task in board.suite.tasks:
        lines += [f"## {task_heading(task, board)}", "", *_table(board, task), ""]
    for comparison in board.comparisons:
        lines += [comparison_markdown(comparison), ""]
    return "\n".join(lines)


def _table(board: Board, task: str) -> list[str]:
    """A table between what its ranks are worth and how many methods it does not show."""
    tests, absent = rank_line(board, task), absent_line(board, task)
    lines = [*([tests, ""] if tests else []), board_table(board, task)]
    return [*lines, *(["", absent] if absent else [])]


def _condition(board: Board) -> str:
    """What the variance over seeds contains of the source models."""
    seeds = board.suite.seeds
    if len(seeds) == 1:
        return "so intervals are conditional on this seed and its source models"
    models = source_models(board)
    if models == 1:
        return "all of which adapt the same source models, so intervals are conditional on these"
    return f"which adapt {models} source models in turn"


def board_table(board: Board, task: str) -> str:
    """The table of a task, or of ``MEAN``: one row per method."""
    if not board.shown_labels(task):
        return no_rows(task)
    headers, rows = table_cells(board, task)
    left = headers.index("method") + 1
    escaped = [[*row[: left - 1], literal(row[left - 1]), *row[left:]] for row in rows]
    return pipe_table(headers, escaped, left=left)
