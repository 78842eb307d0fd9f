"""How the values of a board vary: applies ``statistics.py`` to the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmark.manifest.manifest import Manifest
from leaderboard import columns, pooled, statistics
from leaderboard.grid import Grid
from leaderboard.outcome_files import COLUMNS, INPUTS
from leaderboard.outcomes import Outcomes
from leaderboard.pooled import is_pooled
from leaderboard.replicate_files import ReplicateFiles
from leaderboard.resampling import SAMPLED, Resampling
from leaderboard.row_columns import Rows
from leaderboard.rows import MEAN, POOLED, Row
from leaderboard.statistics import Difference, Estimates, Interval, Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The outcomes of a row, of which it sees ``COLUMNS``; None if nothing is known but its scores.
OutcomesOf = Callable[[Row], Outcomes | None]
# The values in each draw, (R, labels), by task and by the key of a column.
Replicates: TypeAlias = "Mapping[str, Mapping[str, NDArray[np.float32]]]"


@dataclass(frozen=True, eq=False)
class Statistics:
    """The intervals, paired differences and ranks of a table.

    Attributes:
        estimates: of the complete methods, by task (``MEAN``, ``POOLED``) and column key.
        labels: of these methods, by task (``MEAN``, ``POOLED``), in the order of the estimates.
        oracles: labels that are not ranked.
        seeds: how many.
        groups: how many groups of test samples were resampled; None if only scores are known.
        has_groups: whether a group may have several samples.
        ranked_by: key of the column that ranks the methods.
        grid: the values of the runs with scores.
    """

    estimates: Mapping[tuple[str, str], Estimates]
    labels: Mapping[str, tuple[str, ...]]
    oracles: frozenset[str]
    seeds: int
    groups: int | None
    has_groups: bool
    ranked_by: str
    grid: Grid

    @property
    def has_single_group(self) -> bool:
        """Whether a test set has a single group, so that its values have no intervals."""
        return any(e.replicates is not None and e.sample_df == 0 for e in self.estimates.values())

    def intervals(self, task: str, column: str) -> dict[str, Interval]:
        """The interval of each complete method of a task, or of ``MEAN``."""
        if (task, column) not in self.estimates:
            return {}
        intervals = self.estimates[task, column].intervals()
        return dict(zip(self.labels[task], intervals, strict=True))

    def value(self, label: str, task: str = MEAN, column: str | None = None) -> float:
        """The mean over seeds of a complete method; the arguments are those of ``difference``."""
        values = self.estimates[task, column or self.ranked_by].values
        return float(values[self.labels[task].index(label)])

    def difference(
        self, first: str, second: str, task: str = MEAN, column: str | None = None
    ) -> Difference | None:
        """How much the first method is above the second; None unless both are complete.

        Args:
            first, second: labels.
            task: a task, ``MEAN`` or ``POOLED``.
            column: its key; by default that of the column that ranks the methods.
        """
        labels = self.labels.get(task, ())
        if first not in labels or second not in labels:
            return None
        i, j = labels.index(first), labels.index(second)
        return self.estimates[task, column or self.ranked_by].difference(i, j)

    def ranking(self, task: str = MEAN) -> tuple[dict[str, int], Ranking] | None:
        """Ranks of the complete methods that are not oracles.

        None with fewer than two, and where nothing is known but the scores of one seed.
        """
        if task not in self._rankings:
            self._rankings[task] = self._rank(self.labels.get(task, ()), task)
        return self._rankings[task]

    def halves(self, task: str, column: str) -> dict[str, float]:
        """Half the width of the interval of each complete method of a task, or of ``MEAN``."""
        if (task, column) not in self.estimates:
            return {}
        halves, _ = self.estimates[task, column].halves()
        return dict(zip(self.labels[task], halves.tolist(), strict=True))

    def _rank(self, labels: Sequence[str], task: str) -> tuple[dict[str, int], Ranking] | None:
        ranked = [i for i, label in enumerate(labels) if label not in self.oracles]
        if len(ranked) < 2:
            return None
        ranking = statistics.rank(self.estimates[task, self.ranked_by].of(ranked))
        if math.isnan(ranking.detectable):
            return None
        return dict(zip((labels[i] for i in ranked), ranking.ranks.tolist(), strict=True)), ranking

    @cached_property
    def _rankings(self) -> dict[str, tuple[dict[str, int], Ranking] | None]:
        """By task, as far as they were asked for: they take long with many methods."""
        return {}


def statistics_of(
    tasks: Sequence[str],
    seeds: Sequence[int],
    rows: Iterable[Row],
    manifest: Manifest,
    outcomes: OutcomesOf | None,
    files: ReplicateFiles | None = None,
) -> Statistics:
    """Compute how the values of a table vary.

    Args:
        tasks, seeds: those of the suite, which form the grid.
        rows: with scores and with the values of all columns, one per label, task and seed.
        manifest: the suite's.
        outcomes: of the rows.
        files: where values are kept that are computed from the outcomes.
    """
    rows = Rows.of(rows)
    grid = Grid.of_rows(rows, tasks, seeds)
    names = np.array(grid.labels, dtype=object)
    labels = {
        task: tuple(names[complete]) for task, complete in zip(tasks, grid.complete, strict=True)
    }
    everywhere = tuple(names[grid.complete_on_all])
    cells = None if outcomes is None else _Cells(grid, rows, outcomes)
    resampling, replicates = _resampled(grid, labels, manifest, cells, files)
    estimates = _task_estimates(grid, resampling, replicates)
    estimates |= _mean_estimates(grid, resampling, replicates)
    if everywhere and is_pooled(tasks, manifest):
        labels[POOLED] = everywhere
        means_by_seed = {c.key: estimates[MEAN, c.key].by_seed for c in columns.COLUMNS}
        of_pooled = _pooled_estimates(
            grid, everywhere, means_by_seed, manifest, resampling, cells, files
        )
        estimates |= {(POOLED, key): estimate for key, estimate in of_pooled.items()}
    return Statistics(
        estimates={key: e for key, e in estimates.items() if e.by_seed.size},
        labels={**labels, MEAN: everywhere},
        oracles=frozenset(rows.where(rows.equal("track", "oracle")).codes("label").names),
        seeds=len(seeds),
        groups=None if resampling is None else resampling.n_groups,
        has_groups=resampling is not None and resampling.has_groups,
        ranked_by=columns.HEADLINES[manifest.headline][0],
        grid=grid,
    )


def _resampled(
    grid: Grid,
    labels: Mapping[str, Sequence[str]],
    manifest: Manifest,
    cells: _Cells | None,
    files: ReplicateFiles | None,
) -> tuple[Resampling | None, Replicates]:
    """The draws of the test samples, and the values in them; none if only scores are known."""
    if cells is None or not grid.complete.any():
        return None, {}
    resampling = Resampling(grid.tasks, manifest)
    replicates = _replicates(resampling, grid, labels, cells, files)
    return (None, {}) if replicates is None else (resampling, replicates)


def _task_estimates(
    grid: Grid, resampling: Resampling | None, replicates: Replicates
) -> dict[tuple[str, str], Estimates]:
    """The estimates of the complete methods of each task, by task and column key."""
    estimates = {}
    for t, task in enumerate(grid.tasks):
        in_draws = replicates.get(task, {})
        df = resampling.degrees_of_freedom([task]) if resampling is not None else 0.0
        for key in (column.key for column in columns.COLUMNS):
            by_seed = _by_seed(grid.values(key)[[t]][:, grid.complete[t]])
            estimates[task, key] = Estimates(by_seed, in_draws.get(key), df)
    return estimates


def _mean_estimates(
    grid: Grid, resampling: Resampling | None, replicates: Replicates
) -> dict[tuple[str, str], Estimates]:
    """The estimates of means over tasks, of the methods that are complete on all of them."""
    in_all = grid.complete_on_all
    df = resampling.degrees_of_freedom(grid.tasks) if resampling is not None else 0.0
    estimates = {}
    for key in (column.key for column in columns.COLUMNS):
        in_draws = [
            replicates[task][key][:, in_all[complete]]
            for task, complete in zip(grid.tasks, grid.complete, strict=True)
            if key in replicates.get(task, {})
        ]
        mean = np.mean(in_draws, axis=0) if len(in_draws) == len(grid.tasks) else None
        estimates[MEAN, key] = Estimates(_by_seed(grid.values(key)[:, in_all]), mean, df)
    return estimates


class _Cells:
    """The runs of a grid's cells, and their outcomes, of which each is read once."""

    def __init__(self, grid: Grid, rows: Rows, outcomes: OutcomesOf) -> None:
        """Read nothing yet.

        Args:
            grid: the values of the rows.
            rows: those of the grid.
            outcomes: of the rows.
        """
        self._at = np.zeros(grid.shape, dtype=np.intp)  # positions of rows
        self._at.reshape(-1)[grid.cells] = np.arange(len(rows))
        self._tasks = {task: t for t, task in enumerate(grid.tasks)}
        self._labels = {label: i for i, label in enumerate(grid.labels)}
        self._rows, self._outcomes = rows, outcomes
        self._inputs = [np.array(rows.texts(name), dtype=object) for name in INPUTS]
        self._known: dict[tuple[str, str], list[Outcomes] | None] = {}

    def inputs(self, tasks: Sequence[str], labels: Sequence[str]) -> list[list[Any]]:
        """What the outcomes of some cells depend on: lists by input, task, label and seed."""
        at = np.ix_(
            [self._tasks[task] for task in tasks], [self._labels[label] for label in labels]
        )
        return [of_input[self._at[at]].tolist() for of_input in self._inputs]

    def outcomes(self, task: str, labels: Sequence[str]) -> dict[str, list[Outcomes]] | None:
        """Those of the runs of each label, one per seed; None if any is unknown."""
        of_labels = {}
        for label in labels:
            if (task, label) not in self._known:
                self._known[task, label] = self._read(task, label)
            of_runs = self._known[task, label]
            if of_runs is None:
                return None
            of_labels[label] = of_runs
        return of_labels

    def _read(self, task: str, label: str) -> list[Outcomes] | None:
        runs = self._rows.take(self._at[self._tasks[task], self._labels[label]])
        known = [self._outcomes(row) for row in runs.dicts(COLUMNS)]
        complete = [one for one in known if one is not None]
        return complete if len(complete) == len(known) else None


def _replicates(
    resampling: Resampling,
    grid: Grid,
    labels: Mapping[str, Sequence[str]],
    cells: _Cells,
    files: ReplicateFiles | None,
) -> Replicates | None:
    """The values in each draw of the complete methods, by task; None if an outcome is unknown.

    Args:
        resampling: of the grid's tasks.
        grid: the values of the rows.
        labels: of the complete methods, by task.
        cells: of the grid.
        files: where the values are kept.
    """
    replicates: dict[str, Mapping[str, NDArray[np.float32]]] = {}
    new, paths = {}, {}
    for t, task in enumerate(grid.tasks):
        if not labels[task]:
            continue
        values = {c.key: grid.values(c.key)[t, grid.complete[t]].mean(axis=1) for c in SAMPLED}
        if files is not None:
            of_runs = cells.inputs([task], labels[task])
            scores = {key: of_column.tobytes().hex() for key, of_column in values.items()}
            groups = resampling.groups(task)
            paths[task] = files.path([labels[task], resampling.draws, groups, of_runs, scores])
            if (kept := files.read(paths[task], len(labels[task]))) is not None:
                replicates[task] = kept
                continue
        outcomes = cells.outcomes(task, labels[task])
        if outcomes is None:
            return None
        new[task] = outcomes, values
    for task, (outcomes, values) in new.items():
        replicates[task] = resampling.replicates(task, outcomes, values)
        if files is not None:
            files.write(paths[task], replicates[task])
    return replicates


def _pooled_estimates(
    grid: Grid,
    labels: Sequence[str],
    means_by_seed: Mapping[str, NDArray[np.float64]],
    manifest: Manifest,
    resampling: Resampling | None,
    cells: _Cells | None,
    files: ReplicateFiles | None,
) -> dict[str, Estimates]:
    """The estimates of pooled samples by column.

    Args:
        grid: the values of the runs.
        labels: of the methods that are complete on every task.
        means_by_seed: of the tasks, by column.
        manifest: the suite's.
        resampling: of the grid's tasks; None if only scores are known.
        cells: of the grid; likewise.
        files: where the values are kept.
    """
    metrics = pooled.micro_metrics(grid, labels)
    of_draws: Mapping[str, NDArray[np.float32]] = {}
    df = 0.0
    if resampling is not None and cells is not None:
        macro, of_draws = _pooled(resampling, grid, labels, metrics, manifest, cells, files)
        metrics = {**metrics, **macro}
        df = resampling.degrees_of_freedom(grid.tasks, pooled=True)
    values = pooled.column_values(metrics, labels, means_by_seed)
    return {key: Estimates(values[key], of_draws.get(key), df) for key in means_by_seed}


def _pooled(
    resampling: Resampling,
    grid: Grid,
    labels: Sequence[str],
    micro: Mapping[str, NDArray[np.float64]],
    manifest: Manifest,
    cells: _Cells,
    files: ReplicateFiles | None,
) -> tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float32]]]:
    """The macro metrics of pooled samples, and the values in each draw; empty if any is unknown.

    Args:
        resampling: of the grid's tasks.
        grid: the values of the runs.
        labels: of the methods that are complete on every task.
        micro: their other metrics, (seeds, labels) each.
        manifest: the suite's.
        cells: of the grid.
        files: where the values are kept.
    """
    path = None
    if files is not None:
        scores = {name: values.tobytes().hex() for name, values in micro.items()}
        groups = [resampling.groups(task) for task in grid.tasks]
        path = files.path([POOLED, labels, groups, cells.inputs(grid.tasks, labels), scores])
        if (kept := files.read_pooled(path, (len(grid.seeds), len(labels)))) is not None:
            return kept
    known = {}
    for task in grid.tasks:
        if (of_labels := cells.outcomes(task, labels)) is None:
            return {}, {}
        known[task] = of_labels

    def of_cell(task: str, label: str) -> list[Outcomes]:
        return known[task][label]

    macro = pooled.macro_metrics(grid.tasks, labels, manifest, of_cell)
    values = pooled.column_values({**micro, **macro}, labels, {})
    means = {key: of_column.mean(axis=0) for key, of_column in values.items()}
    result = macro, pooled.pooled_replicates(resampling, grid.tasks, labels, of_cell, means)
    if files is not None and path is not None:
        files.write_pooled(path, result)
    return result


def _by_seed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(seeds, labels) means over tasks of a (tasks, labels, seeds) array."""
    return np.asarray(np.ascontiguousarray(values.transpose(2, 1, 0)).mean(axis=2))
