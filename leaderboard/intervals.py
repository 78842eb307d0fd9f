"""How the values of a board vary: applies ``statistics.py`` to the rows of a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from leaderboard import columns, statistics
from leaderboard.grid import Grid
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import CountedSamples, counted_samples
from leaderboard.rows import MEAN, Row
from leaderboard.statistics import Difference, Estimates, Interval, Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The outcomes of a row; None if nothing is known but its scores.
OutcomesOf = Callable[[Row], Outcomes | None]


@dataclass(frozen=True, eq=False)
class Statistics:
    """The intervals, paired differences and ranks of a table.

    Attributes:
        estimates: of the complete methods, by task (or ``MEAN``) and column key.
        labels: of these methods, by task (or ``MEAN``), in the order of the estimates.
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

    def intervals(self, task: str, column: str) -> dict[str, Interval]:
        """The interval of each complete method of a task, or of ``MEAN``."""
        if (task, column) not in self.estimates:
            return {}
        intervals = self.estimates[task, column].intervals()
        return dict(zip(self.labels[task], intervals, strict=True))

    def difference(
        self, first: str, second: str, task: str = MEAN, column: str | None = None
    ) -> Difference | None:
        """How much the first method is above the second; None unless both are complete.

        Args:
            first, second: labels.
            task: a task, or ``MEAN``.
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
        return self._rankings.get(task)

    @cached_property
    def _rankings(self) -> dict[str, tuple[dict[str, int], Ranking]]:
        rankings = {}
        for task, labels in self.labels.items():
            ranked = [i for i, label in enumerate(labels) if label not in self.oracles]
            if len(ranked) > 1:
                ranking = statistics.rank(self.estimates[task, self.ranked_by].of(ranked))
                if math.isnan(ranking.detectable):
                    continue
                names = [labels[i] for i in ranked]
                rankings[task] = dict(zip(names, ranking.ranks.tolist(), strict=True)), ranking
        return rankings


def statistics_of(
    tasks: Sequence[str],
    seeds: Sequence[int],
    rows: Sequence[Row],
    manifest: Manifest,
    outcomes: OutcomesOf | None,
) -> Statistics:
    """Compute how the values of a table vary.

    Args:
        tasks, seeds: those of the suite, which form the grid.
        rows: with scores and with the values of all columns, one per label, task and seed.
        manifest: the suite's.
        outcomes: of the rows.
    """
    grid = Grid.of_rows(rows, tasks, seeds)
    names = np.array(grid.labels, dtype=object)
    labels = {task: tuple(names[of]) for task, of in zip(tasks, grid.complete, strict=True)}
    in_all = grid.complete.all(axis=0)
    everywhere = tuple(names[in_all])
    known, of_cell = None, {}
    if outcomes is not None and grid.complete.any():
        of_cell = {(row["task"], row["label"], row["seed"]): row for row in rows}
        known = _known_outcomes(of_cell, labels, seeds, outcomes)
    resampling = _Resampling(tasks, manifest) if known is not None else None
    keys = [column.key for column in columns.COLUMNS]
    sampled = [column for column in columns.COLUMNS if column.sampled]
    estimates: dict[tuple[str, str], Estimates] = {}
    means: dict[str, list[NDArray[np.float32]]] = {column.key: [] for column in sampled}
    for t, task in enumerate(tasks):
        replicates = (
            resampling.replicates(task, of_cell, labels[task], seeds, known, sampled)
            if resampling is not None and known is not None and labels[task]
            else {}
        )
        df = resampling.degrees_of_freedom([task]) if resampling is not None else 0.0
        for key in keys:
            by_seed = _by_seed(grid.values(key)[[t]][:, grid.complete[t]])
            estimates[task, key] = Estimates(by_seed, replicates.get(key), df)
        position = {label: i for i, label in enumerate(labels[task])}
        for key, of_column in replicates.items():
            means[key].append(of_column[:, [position[label] for label in everywhere]])
    df = resampling.degrees_of_freedom(tasks) if resampling is not None else 0.0
    for key in keys:
        by_seed = _by_seed(grid.values(key)[:, in_all])
        parts = means.get(key, [])
        mean = np.mean(parts, axis=0) if len(parts) == len(tasks) else None
        estimates[MEAN, key] = Estimates(by_seed, mean, df)
    return Statistics(
        estimates={key: e for key, e in estimates.items() if e.by_seed.size},
        labels={**labels, MEAN: everywhere},
        oracles=frozenset(row["label"] for row in rows if row["track"] == "oracle"),
        seeds=len(seeds),
        groups=None if resampling is None else resampling.n_groups,
        has_groups=resampling is not None and resampling.has_groups,
        ranked_by=columns.HEADLINES[manifest.headline][0],
        grid=grid,
    )


def with_intervals(cells: Iterable[dict[str, Any]], varying: Statistics) -> list[dict[str, Any]]:
    """The cells with the intervals of their values, and with their ranks."""
    cells = list(cells)
    tasks = dict.fromkeys(cell["task"] for cell in cells)
    halves = {
        (task, column.key): varying.intervals(task, column.key)
        for task in tasks
        for column in columns.COLUMNS
    }
    ranks = {task: ranking[0] for task in tasks if (ranking := varying.ranking(task))}
    unknown = Interval(math.nan, math.nan, math.nan)
    return [
        {
            **cell,
            "rank": ranks.get(cell["task"], {}).get(cell["label"], math.nan),
            **{
                f"{column.key}_half": halves[cell["task"], column.key]
                .get(cell["label"], unknown)
                .half
                for column in columns.COLUMNS
            },
        }
        for cell in cells
    ]


_Rows = Mapping[tuple[str, str, int], Row]


def _known_outcomes(
    rows: _Rows,
    labels: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    outcomes: OutcomesOf,
) -> dict[tuple[str, str, int], Outcomes] | None:
    """The outcomes of all complete cells; None unless all of them are known."""
    known = {}
    for task, of_task in labels.items():
        for label in of_task:
            for seed in seeds:
                if (outcome := outcomes(rows[task, label, seed])) is None:
                    return None
                known[task, label, seed] = outcome
    return known


def _by_seed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(seeds, labels) means over tasks of a (tasks, labels, seeds) array."""
    return np.asarray(np.ascontiguousarray(values.transpose(2, 1, 0)).mean(axis=2))


class _Resampling:
    """Draws of the groups of a suite's test sets. Tasks with the same target share a test set."""

    def __init__(self, tasks: Sequence[str], manifest: Manifest) -> None:
        self._samples = {task: counted_samples(manifest, task) for task in tasks}
        self._targets = {task: manifest.task(task).target for task in tasks}
        names: dict[str, set[str]] = {}
        for task, target in self._targets.items():
            names.setdefault(target, set()).update(self._samples[task].groups)
        self._names = {target: sorted(of_target) for target, of_target in names.items()}
        sizes = [len(set(sample.groups)) < len(sample.groups) for sample in self._samples.values()]
        self.has_groups = any(sizes)
        self._counts: dict[str, NDArray[np.float32]] = {}

    @property
    def n_groups(self) -> int:
        """The number of groups of all test sets."""
        return sum(map(len, self._names.values()))

    def degrees_of_freedom(self, tasks: Sequence[str]) -> float:
        """Those of the variance over samples of a mean over tasks."""
        weights = Counter(self._targets[task] for task in tasks)
        groups = [len(self._names[target]) for target in weights]
        return statistics.sample_degrees_of_freedom(groups, list(weights.values()))

    def _drawn(self, task: str, outcomes: Sequence[Outcomes]) -> _Drawn:
        target, samples = self._targets[task], self._samples[task]
        names = self._names[target]
        if target not in self._counts:  # drawn once for all tasks that share it
            seed = int(digest_json(target)[:8], 16)
            draws = statistics.draws_for(max(map(len, self._names.values())))
            self._counts[target] = statistics.draw_counts(len(names), draws, seed)
        index = {name: i for i, name in enumerate(names)}
        groups = np.array([index[name] for name in samples.groups], dtype=np.intp)
        return _Drawn(self._counts[target], groups, samples, outcomes)

    def replicates(
        self,
        task: str,
        grid: _Rows,
        labels: Sequence[str],
        seeds: Sequence[int],
        outcomes: Mapping[tuple[str, str, int], Outcomes],
        sampled: Sequence[columns.Column],
    ) -> dict[str, NDArray[np.float32]]:
        """The values of each column in each draw, means over seeds, less those of all samples.

        Returns:
            By column key, (R, labels).
        """
        cells = [(task, label, seed) for label in labels for seed in seeds]
        drawn = self._drawn(task, [outcomes[cell] for cell in cells])
        rows = {cell: _Replicated(grid[cell], drawn, i) for i, cell in enumerate(cells)}
        sums = {c.key: np.zeros((drawn.draws, len(labels))) for c in sampled}
        for seed in seeds:
            peers: dict[str, Row] = {label: rows[task, label, seed] for label in labels}
            for i, label in enumerate(labels):
                for column in sampled:
                    value = column.compute(peers[label], peers)
                    sums[column.key][:, i] += value - grid[task, label, seed][column.key]
        return {key: (total / len(seeds)).astype(np.float32) for key, total in sums.items()}


class _Drawn:
    """The metrics of some runs of a task in each draw of its groups.

    ``seen``, ``missing`` and ``overall`` are ratios of sums over the drawn samples. Sums of hits
    are whole numbers below 2^24, which float32 holds exactly in any order of summation. The two
    areas are linear in the weights of samples to first order (the infinitesimal jackknife of
    Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982, chapter 6).
    """

    def __init__(
        self,
        counts: NDArray[np.float32],
        groups: NDArray[np.intp],
        samples: CountedSamples,
        outcomes: Sequence[Outcomes],
    ) -> None:
        self._counts = counts
        self._groups = groups
        self._samples = samples
        self._outcomes = outcomes
        self._right = np.stack([outcome.right for outcome in outcomes], axis=1)
        self._seen = self._sums(self._right & samples.is_seen[:, None])
        self._missing = self._sums(self._right & ~samples.is_seen[:, None])
        sizes = np.stack([samples.is_seen, ~samples.is_seen], axis=1)
        self._sizes = self._sums(sizes)
        self._means: dict[int, dict[str, NDArray[np.float64]]] = {}
        self._areas: dict[int, NDArray[np.float64]] = {}

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self._counts)

    def _sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum (N, M) values over the samples of each draw: (R, M)."""
        by_group = statistics.sums_by_group(values, self._groups, self._counts.shape[1])
        if values.dtype == np.bool_:
            return (self._counts @ by_group.astype(np.float32)).astype(np.float64)
        return np.asarray(self._counts.astype(np.float64) @ by_group)

    def metric(self, name: str, i: int) -> NDArray[np.float64]:
        """A metric of run i in each draw: (R,); NaN where a draw has no sample of a group."""
        n_seen, n_missing = self._sizes.T
        with np.errstate(divide="ignore", invalid="ignore"):
            match name:
                case "seen":
                    return np.asarray(100 * self._seen[:, i] / n_seen)
                case "missing":
                    return np.asarray(100 * self._missing[:, i] / n_missing)
                case "overall":
                    hits = self._seen[:, i] + self._missing[:, i]
                    return np.asarray(100 * hits / (n_seen + n_missing))
                case "harmonic":
                    return _harmonic(self.metric("seen", i), self.metric("missing", i))
                case "macro_overall" | "macro_seen" | "macro_missing":
                    return self._macro(i)[name]
                case "ausuc" | "openworld_auc":
                    return self._area(i)
        raise KeyError(name)

    def _macro(self, i: int) -> dict[str, NDArray[np.float64]]:
        """The means of run i over the classes that a draw has; NaN where it has none."""
        if i not in self._means:
            per_sample, classes, numbers = self._classes
            accuracies = self._class_sums(self._right[:, i]) * per_sample
            with np.errstate(divide="ignore", invalid="ignore"):
                means = 100 * (accuracies @ classes).astype(np.float64) / numbers
            names = ("macro_overall", "macro_seen", "macro_missing")
            self._means[i] = dict(zip(names, means.T, strict=True))
        return self._means[i]

    @cached_property
    def _classes(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """What the means over classes need, computed once for all runs.

        Returns:
            1 over the number of samples of each class in each draw, (R, C), 0 where it has none;
            the classes of each mean, (C, 3); the number of these in each draw, (R, 3).
        """
        samples = self._samples
        sizes = self._class_sums(np.ones_like(samples.is_seen))
        seen = np.bincount(samples.labels, samples.is_seen) > 0
        classes = np.stack([np.ones_like(seen), seen, ~seen], axis=1).astype(np.float32)
        per_sample = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        numbers = (sizes > 0).astype(np.float32) @ classes
        return per_sample, classes, numbers.astype(np.float64)

    def _class_sums(self, keep: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The number of samples to keep of each class in each draw, (R, C)."""
        labels, n_groups = self._samples.labels, self._counts.shape[1]
        n_classes = int(labels.max()) + 1
        cells = (self._groups * n_classes + labels)[keep]
        by_group = np.bincount(cells, minlength=n_groups * n_classes)
        return self._counts @ by_group.reshape(n_groups, n_classes).astype(np.float32)

    def _area(self, i: int) -> NDArray[np.float64]:
        """The area under the curve of run i in each draw, to first order.

        Ties count half in it; they are too few to matter for an interval.
        """
        if i not in self._areas:
            influence, area = area_influence(self._outcomes[i], self._samples.is_seen)
            self._areas[i] = area + self._sums(influence[:, None])[:, 0]
        return self._areas[i]


def area_influence(
    outcomes: Outcomes, is_seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """How the area under the seen-unseen curve changes with the weight of each sample.

    The area is the share of pairs of a seen and a missing sample in which both are right within
    their group and the seen one has the larger margin (half of it at equal margins).

    Args:
        outcomes: of N samples.
        is_seen: (N,) bool.

    Returns:
        (N,) derivatives, whose sum is 0, and the area.
    """
    counted = outcomes.within
    n_seen = int(is_seen.sum())
    n_missing = is_seen.size - n_seen
    seen, missing = counted & is_seen, counted & ~is_seen
    shares = np.zeros(is_seen.size)
    for own, other in ((seen, missing), (missing, seen)):
        ordered = np.sort(outcomes.margin[other])
        margins = outcomes.margin[own]
        below = np.searchsorted(ordered, margins, "left")
        up_to = np.searchsorted(ordered, margins, "right")
        middle = (below + up_to) / 2
        shares[own] = middle if own is seen else ordered.size - middle
    area = float(shares[seen].sum() / (n_seen * n_missing))
    of_seen = (shares / n_missing - area) / n_seen
    of_missing = (shares / n_seen - area) / n_missing
    return np.where(is_seen, of_seen, of_missing), area


def _harmonic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    total = a + b
    return np.where(total > 0, 2 * a * b / np.where(total > 0, total, 1), 0.0)


class _Replicated(Mapping[str, Any]):
    """A row whose metrics are arrays of their values in each draw."""

    def __init__(self, row: Row, drawn: _Drawn, i: int) -> None:
        self._row = row
        self._drawn = drawn
        self._i = i
        self._metrics: dict[str, NDArray[np.float64]] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._metrics:
            try:
                self._metrics[name] = self._drawn.metric(name, self._i)
            except KeyError:
                return self._row[name]
        return self._metrics[name]

    def __iter__(self) -> Any:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)
