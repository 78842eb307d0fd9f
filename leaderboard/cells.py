"""The cells of a board: every method on every task, and its mean over tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from leaderboard import columns, gamma_star
from leaderboard.grid import Grid
from leaderboard.row_columns import Rows
from leaderboard.rows import FAILED, MEAN, POOLED

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from leaderboard.intervals import Statistics

    Counts = NDArray[np.int64]


def cells_of(
    suite: Suite, rows: Rows, runs: Mapping[tuple[str, str], int], grid: Grid
) -> pd.DataFrame:
    """The cells of a table: every label on every task, then every label's mean.

    Args:
        suite: the suite.
        rows: those that the table shows.
        runs: how many exist of a label and task, shown or not.
        grid: the values of the rows with scores.

    Returns:
        ``columns.CELL``, and for each of ``columns.COLUMNS`` its mean and sample standard
        deviation over seeds; NaN if a seed has no value.
    """
    import pandas as pd

    every = Grid.of_rows(rows, suite.tasks, suite.seeds)
    labels, tasks, n_seeds = every.labels, suite.tasks, len(suite.seeds)
    counts = {status: _counted(every, rows, status) for status in ("ok", FAILED, NOT_APPLICABLE)}
    position = {label: i for i, label in enumerate(labels)}
    for row in gamma_star.unscored_rows(rows):
        counts[row["status"]][position[row["label"]], tasks.index(row["task"])] += 1
    totals = {status: of_status.sum(axis=1) for status, of_status in counts.items()}
    of_tasks = cell_states(counts, n_seeds)
    of_means = cell_states(totals, len(tasks) * n_seeds)
    # Never an average over the runs that are left when one has failed.
    is_shown = np.isin(of_tasks, ("ok", "partial")) & (counts["ok"] > 0)
    exist = np.array([[runs.get((label, task), 0) for task in tasks] for label in labels])
    other = exist - every.present.sum(axis=2).T
    first = {label: i for i, label in reversed(list(enumerate(rows.texts("label"))))}
    heads = rows.take(np.array([first[label] for label in labels], dtype=np.intp))
    names = ("track", "provenance", "method_code")
    heads_of = {name: np.array(heads.texts(name), dtype=object) for name in names}

    def each(of_tasks: NDArray[Any], of_means: NDArray[Any]) -> list[object]:
        return [*of_tasks.ravel().tolist(), *of_means.tolist()]

    def of_labels(values: NDArray[Any]) -> list[object]:
        return each(np.repeat(values, len(tasks)), values)

    complete = of_means == "ok"
    facts = {
        "label": of_labels(np.array(labels, dtype=object)),
        "task": [*tasks] * len(labels) + [MEAN] * len(labels),
        "tasks": each(is_shown.astype(int), np.where(complete, len(tasks), 0)),
        "seeds": each(counts["ok"] * is_shown, np.where(complete, n_seeds, 0)),
        "state": each(of_tasks, of_means),
        **{name: of_labels(heads_of[name]) for name in names},
        "runs": each(exist, exist.sum(axis=1)),
        "other_runs": each(other, other.sum(axis=1)),
    }
    values = _values(grid, position, is_shown, complete)
    return pd.DataFrame({**{name: facts[name] for name in columns.CELL}, **values})


def with_pooled(cells: pd.DataFrame, statistics: Statistics) -> pd.DataFrame:
    """The cells with one of the pooled test samples of each label, if the suite has pooled values.

    Args:
        cells: of the tasks and their means.
        statistics: of the same rows.
    """
    import pandas as pd

    if POOLED not in statistics.labels:
        return cells
    pooled = cells[cells["task"] == MEAN].assign(task=POOLED)
    at = {label: i for i, label in enumerate(statistics.labels[POOLED])}
    for column in columns.COLUMNS:
        by_seed = statistics.estimates[POOLED, column.key].by_seed
        values = [_over_seeds(of_label) for of_label in by_seed.T]
        for suffix, of_labels in zip(("", "_std"), zip(*values, strict=True), strict=True):
            pooled[f"{column.key}{suffix}"] = [
                of_labels[at[label]] if label in at else math.nan for label in pooled["label"]
            ]
    return pd.concat([cells, pooled], ignore_index=True)


def cell_states(counts: Mapping[str, Counts], expected: int) -> NDArray[np.str_]:
    """The states of cells.

    Args:
        counts: how many runs of each cell have a status, by status.
        expected: the number of runs that the suite has for a cell.

    Returns:
        ``failed`` or ``not-applicable`` if one of the runs is, ``ok`` if all expected runs
        succeeded, else ``partial``.
    """
    conditions = [counts[FAILED] > 0, counts[NOT_APPLICABLE] > 0, counts["ok"] == expected]
    return np.select(conditions, [FAILED, NOT_APPLICABLE, "ok"], "partial")


def _counted(grid: Grid, rows: Rows, status: str) -> Counts:
    """(L, T) how many runs of each cell have a status."""
    has = np.zeros(grid.shape, dtype=bool)
    has.reshape(-1)[grid.cells[rows.equal("status", status)]] = True
    return np.ascontiguousarray(has.sum(axis=2).T)


def _values(
    grid: Grid,
    position: Mapping[str, int],
    is_shown: NDArray[np.bool_],
    complete: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
    """The columns of values, of all tasks of all labels and then of the means of all labels."""
    n_labels, n_tasks = is_shown.shape
    of_label = np.array([position[label] for label in grid.labels], dtype=np.intp)
    task, label = np.nonzero(grid.complete & is_shown[of_label].T)
    whole = of_label[label] * n_tasks + task
    parts = [
        (int(of_label[i] * n_tasks + t), t, i)
        for t, i in np.argwhere(grid.present.any(axis=2) & ~grid.complete).tolist()
        if is_shown[of_label[i], t]
    ]
    means = [
        (n_labels * n_tasks + of_label[i], i) for i in range(len(of_label)) if complete[of_label[i]]
    ]
    values = {}
    for column in columns.COLUMNS:
        of_runs = grid.values(column.key)
        mean, std = np.full((2, n_labels * (n_tasks + 1)), math.nan)
        of_seeds = of_runs[task, label]
        mean[whole] = of_seeds.mean(axis=1)
        if len(grid.seeds) > 1:
            std[whole] = of_seeds.std(axis=1, ddof=1)
        for at, t, i in parts:
            mean[at], std[at] = _over_seeds(of_runs[t, i][grid.present[t, i]])
        for at, i in means:
            # As `statistics.fmean`, which takes three times as long.
            by_seed = [math.fsum(of_tasks) / n_tasks for of_tasks in of_runs[:, i].T.tolist()]
            mean[at], std[at] = _over_seeds(np.array(by_seed))
        values[column.key], values[f"{column.key}_std"] = mean, std
    return values


def _over_seeds(values: NDArray[np.float64]) -> Sequence[float]:
    """Mean and sample standard deviation; NaN if a seed has no value."""
    return values.mean(), values.std(ddof=1) if len(values) > 1 else math.nan
