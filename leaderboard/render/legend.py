"""The words that every format of a board shares: headings of its tables, and what is in them."""

from __future__ import annotations

from benchmark.text import plural
from leaderboard import gamma_star
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.render.cells import percent
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


# --- legends --------------------------------------------------------------------------------------


def column_legend(board: Board) -> list[str]:
    """What the columns of a board's tables show, and which are left out."""
    empty = ", ".join(column.heading for column in board.empty_columns)
    return [
        *(f"{column.heading}: {column.legend}" for column in board.shown_columns),
        *([f"not shown: {empty}, because no method has a value"] if empty else []),
    ]


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
    fixed = "tasks" if source_models(board) > 1 else "tasks and source models"
    what += f"; {fixed if seeds else 'tasks, the seed and its source models'} are fixed"
    if varying.has_single_group:
        what += "; a test set with a single group has no intervals, nor has a mean over it"
    return f"±: half the width of a 95 % interval, for the variance {what}"


def source_models(board: Board) -> int:
    """How many source models for the same domains the seeds adapt."""
    return len({seed % board.source_seeds for seed in board.suite.seeds})


def rank_line(board: Board, task: str) -> str:
    """How many pairs were tested for the ranks of a table, and what they could detect; or empty."""
    ranking = board.statistics.ranking(task) if board.statistics is not None else None
    if ranking is None:
        return ""
    pairs, detectable = ranking[1].pairs, ranking[1].detectable
    return (
        f"{plural(pairs, 'pair')} of methods tested; a difference of {detectable:.1f} points would "
        f"be found with {percent(POWER)} probability."
    )


def absent_line(board: Board, task: str) -> str:
    """How many methods a table does not show because runs are missing; or empty."""
    n_shown = len(board.shown_labels(task))
    n_absent = len(board.labels_of(task)) - n_shown
    if not n_shown or not n_absent:
        return ""
    return f"Not shown: {plural(n_absent, 'method')} without all runs."


def no_rows(task: str) -> str:
    """What replaces a table without rows; "Not in the table" names what is missing."""
    done = "completed all tasks" if task in (MEAN, POOLED) else "all of its runs"
    return f"No method has {done} yet."


# --- headings -------------------------------------------------------------------------------------


def main_task(board: Board) -> str:
    """What a board's first table shows: its only task, or its tasks' mean or pooled test images."""
    if board.shows_pooled and board.has_pooled:
        return POOLED
    return MEAN if len(board.suite.tasks) > 1 else board.suite.tasks[0]


def heading_of(task: str, board: Board) -> str:
    """The title of the table of a task, ``MEAN`` or ``POOLED``."""
    headings = {MEAN: mean_heading, POOLED: pooled_heading}
    return headings[task](board) if task in headings else task_heading(task, board)


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


def task_heading(task: str, board: Board) -> str:
    """The title of a task's table with the number of test images, if it is known."""
    counts = {name: (seen, missing) for name, seen, missing in board.counts}
    if task not in counts:
        return task
    return "{} (n_seen = {}, n_missing = {})".format(task, *counts[task])
