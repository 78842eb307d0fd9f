"""Render the leaderboard as Markdown that is also readable in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmark.commands import command
from benchmark.text import plural, ranges
from leaderboard import gamma_star
from leaderboard.accepted import SUBMITTED, VERIFIED
from leaderboard.board import MEAN, POOLED, Board, BoardCell
from leaderboard.columns import Column
from leaderboard.render.cells import (
    coverage,
    declared_mark,
    in_brackets,
    literal,
    pipe_table,
    rank_text,
    rounded,
)
from leaderboard.render.comparison import comparison_markdown
from leaderboard.statistics import POWER

POOLED_ACCURACIES = (
    "accuracies, also those of a class, over the test images of all tasks together; an image is "
    "seen or missing as in its own task"
)
POOLED_LEGEND = (
    f"pooled: {POOLED_ACCURACIES}; areas have no pooled value, because they would compare margins "
    "of different models; costs are means over tasks"
)
ORACLE_LEGEND = (
    "oracle: not ranked, because the method uses missing-class training data or test labels "
    f"({gamma_star.LEGEND})"
)
_STATES = {"failed": " (failed)", "not-applicable": " (n/a)"}


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
    models = _source_models(board)
    if models == 1:
        return "all of which adapt the same source models, so intervals are conditional on these"
    return f"which adapt {models} source models in turn"


def _source_models(board: Board) -> int:
    """How many source models for the same domains the seeds adapt."""
    return len({seed % board.source_seeds for seed in board.suite.seeds})


def interval_line(board: Board) -> str:
    """What an interval of a board's methods, or of a pair of them, covers; empty without any.

    It also names what the interval is conditional on.
    """
    varying = board.statistics
    if varying is None or (varying.groups is None and varying.seeds <= 1):
        return ""
    seeds = f"the {plural(varying.seeds, 'seed')}" if varying.seeds > 1 else ""
    if varying.groups is None:
        what = f"over {seeds} only (a t-interval)"
    else:
        unit = plural(varying.groups, "group" if varying.has_groups else "test image")
        samples = f"{unit}{' of similar test images' * varying.has_groups}, which are resampled"
        what = f"over {samples}, and over {seeds}" if seeds else f"over {samples}"
    fixed = "tasks" if _source_models(board) > 1 else "tasks and source models"
    what += f"; {fixed if seeds else 'tasks, the seed and its source models'} are fixed"
    if varying.has_single_group:
        what += "; a test set with a single group has no intervals, nor has a mean over it"
    return f"±: half the width of a 95 % interval, for the variance {what}"


def interval_legend(board: Board) -> list[str]:
    """What the intervals and ranks in a board's tables mean, in sentences; empty without any."""
    line = interval_line(board)
    if not line or board.statistics is None or not any(board.statistics.labels.values()):
        return []  # no method is complete
    better = "overall" if board.headline[0] == "overall" else "by the mean over classes"
    return [
        line,
        f"rank: 1 + the number of methods that are significantly better {better} (paired tests, "
        "Holm's correction, 5 %); methods of the same rank are tied",
    ]


def column_legend(board: Board) -> list[str]:
    """What the columns of a board's tables show, and which are left out."""
    empty = ", ".join(column.heading for column in board.empty_columns)
    return [
        *(f"{column.heading}: {column.legend}" for column in board.shown_columns),
        *([f"not shown: {empty}, because no method has a value"] if empty else []),
    ]


def rank_line(board: Board, task: str) -> str:
    """How many pairs were tested for the ranks of a table, and what they could detect; or empty."""
    ranking = board.statistics.ranking(task) if board.statistics is not None else None
    if ranking is None:
        return ""
    pairs, detectable = ranking[1].pairs, ranking[1].detectable
    return (
        f"{plural(pairs, 'pair')} of methods tested; a difference of {detectable:.1f} points would "
        f"be found with {POWER:.0%} probability.".replace("%", " %")
    )


def mean_heading(board: Board) -> str:
    """The title of the table of means. It has no counts, because they are not weights."""
    return f"Unweighted mean over {plural(len(board.suite.tasks), 'task')}"


def pooled_heading(board: Board) -> str:
    """The title of the table of pooled test images, with their number."""
    seen, missing = (sum(counts) for counts in list(zip(*board.counts, strict=True))[1:])
    return (
        f"Test images of {plural(len(board.suite.tasks), 'task')} pooled (n_seen = {seen}, "
        f"n_missing = {missing})"
    )


def heading_of(task: str, board: Board) -> str:
    """The title of the table of a task, ``MEAN`` or ``POOLED``."""
    headings = {MEAN: mean_heading, POOLED: pooled_heading}
    return headings[task](board) if task in headings else task_heading(task, board)


def task_heading(task: str, board: Board) -> str:
    """The title of a task's table with the number of test images, if it is known."""
    counts = {name: (seen, missing) for name, seen, missing in board.counts}
    if task not in counts:
        return task
    return "{} (n_seen = {}, n_missing = {})".format(task, *counts[task])


def main_task(board: Board) -> str:
    """What a board's first table shows: its only task, or its tasks' mean or pooled test images."""
    if board.shows_pooled and board.has_pooled:
        return POOLED
    return MEAN if len(board.suite.tasks) > 1 else board.suite.tasks[0]


def board_table(board: Board, task: str) -> str:
    """The table of a task, or of ``MEAN``: one row per method."""
    if not board.shown_labels(task):
        return no_rows(task)
    headers, rows = table_cells(board, task)
    left = headers.index("method") + 1
    escaped = [[*row[: left - 1], literal(row[left - 1]), *row[left:]] for row in rows]
    return pipe_table(headers, escaped, left=left)


def no_rows(task: str) -> str:
    """What replaces a table without rows; "Not in the table" names what is missing."""
    done = "completed all tasks" if task in (MEAN, POOLED) else "all of its runs"
    return f"No method has {done} yet."


def absent_line(board: Board, task: str) -> str:
    """How many methods a table does not show because runs are missing; or empty."""
    n_shown = len(board.shown_labels(task))
    n_absent = len(board.labels_of(task)) - n_shown
    if not n_shown or not n_absent:
        return ""
    return f"Not shown: {plural(n_absent, 'method')} without all runs."


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
