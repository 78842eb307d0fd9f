"""Resamples the groups of test samples: the values of a board's columns in each draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from leaderboard import areas, columns, statistics
from leaderboard.areas import PART_VALUES
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import CountedSamples, counted_samples
from leaderboard.row_columns import ArrayRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With more groups in a test set, areas are taken to be linear in the weights of samples, which is
# then close, and takes less time than to count the pairs of samples of each pair of groups.
MAX_PAIRED_GROUPS = 64
SAMPLED = tuple(column for column in columns.COLUMNS if column.sampled)


class Resampling:
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

    @property
    def draws(self) -> int:
        """The number of draws, which is the same for all test sets; the largest one bounds it."""
        return statistics.draws_for(max(map(len, self._names.values())))

    def groups(self, task: str) -> list[str]:
        """The groups that are drawn for a task."""
        return self._names[self._targets[task]]

    def degrees_of_freedom(self, tasks: Sequence[str], *, pooled: bool = False) -> float:
        """Those of the variance over samples of a mean over tasks, or of their pooled samples."""
        weights: Counter[str] = Counter()
        for task in tasks:
            weights[self._targets[task]] += self._samples[task].labels.size if pooled else 1
        groups = [len(self._names[target]) for target in weights]
        return statistics.sample_degrees_of_freedom(groups, list(weights.values()))

    def replicates(
        self,
        task: str,
        outcomes: Mapping[str, Sequence[Outcomes]],
        values: Mapping[str, NDArray[np.float64]],
    ) -> dict[str, NDArray[np.float32]]:
        """The values of each column in each draw, means over seeds, less those of all samples.

        Args:
            task: its id.
            outcomes: of each method's runs, one per seed, by label.
            values: (labels,) means over seeds of each sampled column, from all samples.

        Returns:
            By column key, (R, labels).
        """
        drawn = self.drawn(task, list(outcomes.values()))
        return in_draws(drawn, list(outcomes), values)

    def drawn(self, task: str, outcomes: Sequence[Sequence[Outcomes]]) -> Drawn:
        """The draws of a task's groups, as many for every task.

        Args:
            task: its id.
            outcomes: of each method's runs, one per seed.
        """
        target, samples = self._targets[task], self._samples[task]
        names = self._names[target]
        if target not in self._counts:  # drawn once for all tasks that share it
            seed = int(digest_json(target)[:8], 16)
            self._counts[target] = statistics.draw_counts(len(names), self.draws, seed)
        index = {name: i for i, name in enumerate(names)}
        groups = np.array([index[name] for name in samples.groups], dtype=np.intp)
        return Drawn(self._counts[target], groups, samples, outcomes)


class Draws(Protocol):
    """The metrics of methods in each draw."""

    @property
    def draws(self) -> int:
        """The number of draws."""

    def parts(self) -> Iterator[slice]:
        """The draws in parts in which the values of a method's runs stay in a processor's cache."""

    def sizes(self, draws: slice) -> NDArray[np.float64]:
        """The numbers of seen and missing samples in some draws, (r, 2)."""

    def hits(self, i: int, draws: slice) -> list[NDArray[np.float64]]:
        """The numbers of seen and of missing samples that each run of method i has right: (r, K)
        each."""

    def mean(self, i: int, name: str) -> NDArray[np.float64]:
        """The mean over the runs of method i of a metric that is linear in their outcomes, (R,)."""


def in_draws(
    drawn: Draws, labels: Sequence[str], values: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float32]]:
    """The values of each sampled column in each draw, means over seeds, less those of all samples.

    Args:
        drawn: the metrics of the methods.
        labels: theirs, in the same order.
        values: (labels,) means over seeds of each sampled column, from all samples.

    Returns:
        By column key, (R, labels).
    """
    of_columns = {c.key: np.empty((drawn.draws, len(labels))) for c in SAMPLED}
    of_means = {label: ArrayRow(label, partial(drawn.mean, i)) for i, label in enumerate(labels)}
    for column in (column for column in SAMPLED if column.linear):
        for i, label in enumerate(labels):
            of_columns[column.key][:, i] = column.compute(of_means[label], of_means)
    for part in drawn.parts():
        runs = DrawnRuns(drawn, part)
        of_runs = {
            label: ArrayRow(label, partial(runs.metric, i)) for i, label in enumerate(labels)
        }
        for column in (column for column in SAMPLED if not column.linear):
            for i, label in enumerate(labels):
                of_part = column.compute(of_runs[label], of_runs)
                of_columns[column.key][part, i] = np.mean(of_part, axis=1)
    return {key: (draws - values[key]).astype(np.float32) for key, draws in of_columns.items()}


class Drawn:
    """The metrics of the methods of a task in each draw of its groups.

    ``seen``, ``missing`` and ``overall`` are ratios of sums over the drawn samples. Sums of hits
    are whole numbers; below 2^24, float32 holds them exactly in any order of summation. The two
    areas are shares of pairs of samples, which are counted by pairs of groups. With more than
    ``MAX_PAIRED_GROUPS`` groups, they are linear in the weights of samples to first order instead
    (the infinitesimal jackknife of Efron, "The Jackknife, the Bootstrap and Other Resampling
    Plans", 1982, chapter 6).
    """

    def __init__(
        self,
        counts: NDArray[np.float32],
        groups: NDArray[np.intp],
        samples: CountedSamples,
        outcomes: Sequence[Sequence[Outcomes]],
    ) -> None:
        """Prepare what all methods share.

        Args:
            counts: (R, G) how often each group is drawn.
            groups: (N,) group of each sample.
            samples: the N samples.
            outcomes: of the K runs of each method.
        """
        self._counts = counts
        # Times this, a sum over the samples of a draw is one of all samples on average: a draw has
        # one group less. Shares and means of a single test set do not need it.
        self.scale = counts.shape[1] / max(1, counts.shape[1] - 1)
        self._groups = groups
        self._samples = samples
        self._outcomes = outcomes
        sizes = np.stack([samples.is_seen, ~samples.is_seen], axis=1)
        self._sizes = self._sums(sizes)  # (R, 2)
        self._hits: dict[int, list[NDArray[np.float32]]] = {}
        self._of_means: dict[int, dict[str, NDArray[np.float64]]] = {}

    @property
    def draws(self) -> int:
        """The number of draws."""
        return len(self._counts)

    def parts(self) -> Iterator[slice]:
        """The draws in parts in which the values of a method's runs stay in a processor's cache."""
        size = max(1, PART_VALUES // max(map(len, self._outcomes)))
        for begin in range(0, self.draws, size):
            yield slice(begin, min(begin + size, self.draws))

    def sizes(self, draws: slice) -> NDArray[np.float64]:
        """The numbers of seen and missing samples in some draws, (r, 2)."""
        return self._sizes[draws]

    def hits(self, i: int, draws: slice) -> list[NDArray[np.float64]]:
        """The numbers of seen and of missing samples that each run of method i has right: (r, K)
        each."""
        if i not in self._hits:
            right = np.stack([outcome.right for outcome in self._outcomes[i]], axis=1)
            is_seen = self._samples.is_seen[:, None]
            n_groups = self._counts.shape[1]
            self._hits[i] = [
                statistics.sums_by_group(part, self._groups, n_groups).astype(np.float32)
                for part in (right & is_seen, right & ~is_seen)
            ]
        counts = self._counts[draws]
        return [(counts @ of_group).astype(np.float64) for of_group in self._hits[i]]

    def mean(self, i: int, name: str) -> NDArray[np.float64]:
        """The mean over the runs of method i of a metric that is linear in their outcomes, (R,)."""
        if i not in self._of_means:
            accuracies = accuracies_of(self.mean_hits(i), self._sizes[:, :1], self._sizes[:, 1:])
            area = self._area(self._outcomes[i])
            self._of_means[i] = {
                **{key: value[:, 0] for key, value in accuracies.items()},
                **self._macro(self._mean_right(i)),
                **dict.fromkeys(("ausuc", "openworld_auc"), area),
            }
        return self._of_means[i][name]

    def mean_hits(self, i: int) -> list[NDArray[np.float64]]:
        """The means over the runs of method i of the numbers of seen and of missing samples that
        are right: (R, 1) each."""
        right, is_seen = self._mean_right(i), self._samples.is_seen
        return [self._sums((right * part)[:, None]) for part in (is_seen, ~is_seen)]

    @cached_property
    def classes(self) -> NDArray[np.intp]:
        """The C classes that have samples, ascending."""
        return np.unique(self._samples.labels)

    def class_hits(self, i: int) -> NDArray[np.float32]:
        """The means over the runs of method i of the numbers of samples of each class that are
        right, (R, C)."""
        return self._class_sums(self._mean_right(i))

    def class_sizes(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The numbers of samples of each class, (R, C), and which classes are seen, (C,)."""
        samples = self._samples
        seen = np.isin(self.classes, samples.labels[samples.is_seen])
        return self._class_sums(np.ones(samples.is_seen.size)), seen

    def _mean_right(self, i: int) -> NDArray[np.float64]:
        return np.asarray(np.mean([outcome.right for outcome in self._outcomes[i]], axis=0))

    def _sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum (N, M) values over the samples of each draw: (R, M)."""
        by_group = statistics.sums_by_group(values, self._groups, self._counts.shape[1])
        if values.dtype == np.bool_:
            return (self._counts @ by_group.astype(np.float32)).astype(np.float64)
        return np.asarray(self._wide_counts @ by_group)

    @cached_property
    def _wide_counts(self) -> NDArray[np.float64]:
        return self._counts.astype(np.float64)

    def _macro(self, right: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The means over the classes that a draw has of the share of hits; NaN if it has none."""
        per_sample, classes, numbers = self._means_over_classes
        accuracies = self._class_sums(right) * per_sample
        with np.errstate(divide="ignore", invalid="ignore"):
            means = 100 * (accuracies @ classes).astype(np.float64) / numbers
        return dict(zip(("macro_overall", "macro_seen", "macro_missing"), means.T, strict=True))

    @cached_property
    def _means_over_classes(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """What the means over classes need, computed once for all methods.

        Returns:
            1 over the number of samples of each class in each draw, (R, C), 0 where it has none;
            the classes of each mean, (C, 3); the number of these in each draw, (R, 3).
        """
        sizes, seen = self.class_sizes()
        classes = np.stack([np.ones_like(seen), seen, ~seen], axis=1).astype(np.float32)
        per_sample = np.divide(1, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        numbers = (sizes > 0).astype(np.float32) @ classes
        return per_sample, classes, numbers.astype(np.float64)

    def _class_sums(self, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """The sum of the samples' weights by class in each draw, (R, C)."""
        n_groups, n_classes = self._counts.shape[1], self.classes.size
        cells = self._groups * n_classes + np.searchsorted(self.classes, self._samples.labels)
        by_group = np.bincount(cells, weights, minlength=n_groups * n_classes)
        return self._counts @ by_group.reshape(n_groups, n_classes).astype(np.float32)

    def _area(self, runs: Sequence[Outcomes]) -> NDArray[np.float64]:
        """The mean area under the curves of some runs in each draw, (R,); NaN without samples of
        a group of classes."""
        is_seen, n_groups = self._samples.is_seen, self._counts.shape[1]
        sizes = self._sizes.prod(axis=1)
        if n_groups > MAX_PAIRED_GROUPS:
            influence, area = areas.mean_influence(runs, is_seen)
            linear = area + self.scale * self._sums(influence[:, None])[:, 0]
            return np.where(sizes > 0, linear, np.nan)
        each = [areas.pairs_in_order(run, is_seen, self._groups, n_groups) for run in runs]
        pairs = np.mean(each, axis=0)
        in_order = ((self._wide_counts @ pairs) * self._wide_counts).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(in_order / sizes)


class DrawnRuns:
    """The metrics of single runs in some of the draws."""

    def __init__(self, drawn: Draws, draws: slice) -> None:
        """Compute nothing yet.

        Args:
            drawn: all draws.
            draws: which of them.
        """
        self._drawn = drawn
        self._draws = draws
        self._metrics: dict[int, dict[str, NDArray[np.float64]]] = {}

    def metric(self, i: int, name: str) -> NDArray[np.float64]:
        """A metric of each run of method i in each draw, (r, K); NaN without samples of a group."""
        if i not in self._metrics:
            hits = self._drawn.hits(i, self._draws)
            sizes = self._drawn.sizes(self._draws)
            metrics = accuracies_of(hits, sizes[:, :1], sizes[:, 1:])
            metrics["harmonic"] = harmonic_of(metrics["seen"], metrics["missing"])
            self._metrics[i] = metrics
        return self._metrics[i][name]


def accuracies_of(
    hits: Sequence[NDArray[np.float64]],
    n_seen: NDArray[np.float64],
    n_missing: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Accuracies in per cent from the hits and the numbers of seen and of missing samples."""
    hits_seen, hits_missing = hits
    with np.errstate(divide="ignore", invalid="ignore"):
        seen, missing = 100 * hits_seen / n_seen, 100 * hits_missing / n_missing
        overall = 100 * (hits_seen + hits_missing) / (n_seen + n_missing)
    return {"seen": seen, "missing": missing, "overall": overall}


def harmonic_of(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean: 0 if both are 0, NaN if one is."""
    total = a + b
    return np.where(total == 0, 0.0, 2 * a * b / np.where(total == 0, 1, total))
