"""Metrics of the test samples of all tasks together, beside their mean over tasks.

A sample is seen or missing as in its own task. Every task has the same number of votes in the mean,
and every sample in the pooled value. Test sets that share images are not pooled: these would count
several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from benchmark.manifest.manifest import Manifest
from leaderboard import columns
from leaderboard.grid import Grid
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import counted_samples
from leaderboard.resampling import Drawn, Resampling, accuracies_of, harmonic_of, in_draws
from leaderboard.row_columns import ArrayRow
from leaderboard.scoring import AREAS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MACRO = ("macro_overall", "macro_seen", "macro_missing")
# The outcomes of a label's runs on a task, one per seed.
OutcomesOfRuns = Callable[[str, str], Sequence[Outcomes]]


def is_pooled(tasks: Sequence[str], manifest: Manifest) -> bool:
    """Whether a suite has pooled values: it has several tasks, and no two share a test set."""
    targets = {manifest.task(task).target for task in tasks}
    return 1 < len(tasks) == len(targets)


def micro_metrics(grid: Grid, labels: Sequence[str]) -> dict[str, Floats]:
    """Overall, seen and missing accuracy and their harmonic mean, in per cent, from those of tasks.

    Args:
        grid: the values of the runs.
        labels: complete on every task.

    Returns:
        By metric, (seeds, labels).
    """
    at = [grid.labels.index(label) for label in labels]
    groups = ("seen", "missing")
    sizes = [grid.values(f"n_{group}")[:, at] for group in groups]  # (tasks, labels, seeds) each
    # An accuracy is 100 times a whole number over another, so this finds the first one.
    hits = [
        np.rint(grid.values(group)[:, at] * sizes_of_group / 100)
        for group, sizes_of_group in zip(groups, sizes, strict=True)
    ]
    of_group = [counts.sum(axis=0).T for counts in sizes]
    metrics = accuracies_of([counts.sum(axis=0).T for counts in hits], *of_group)
    return {**metrics, "harmonic": harmonic_of(metrics["seen"], metrics["missing"])}


def macro_metrics(
    tasks: Sequence[str], labels: Sequence[str], manifest: Manifest, outcomes: OutcomesOfRuns
) -> dict[str, Floats]:
    """Means over classes of overall, seen and missing accuracy, in per cent: (seeds, labels) each.

    The accuracy of a class is that of its samples in all tasks; ``macro_seen`` takes those of tasks
    in which it is seen, and ``macro_missing`` the others.
    """
    n_classes = len(manifest.classes)
    sizes, hits = np.zeros((2, n_classes)), [np.zeros((1, 2, n_classes))] * len(labels)
    for task in tasks:
        samples = counted_samples(manifest, task)
        cells = samples.labels + np.where(samples.is_seen, 0, n_classes)
        sizes += np.bincount(cells, minlength=2 * n_classes).reshape(2, -1)
        for i, label in enumerate(labels):
            of_runs = [
                np.bincount(cells[one.right], minlength=2 * n_classes).reshape(2, -1)
                for one in outcomes(task, label)
            ]
            hits[i] = hits[i] + np.stack(of_runs)
    return macro_of_classes(np.stack(hits, axis=1), sizes)


def macro_of_classes(hits: Floats, sizes: Floats) -> dict[str, Floats]:
    """Means over classes in per cent, from numbers of samples.

    Args:
        hits: (..., 2, C) how many samples of each class are right where it is seen, and where it is
            missing.
        sizes: the same of all samples; its leading axes may be left out.

    Returns:
        By metric, (...,). A class without samples in a group does not count there; NaN if none has
        any.
    """
    parts = (
        (hits.sum(axis=-2), sizes.sum(axis=-2)),
        *((hits[..., group, :], sizes[..., group, :]) for group in (0, 1)),
    )
    means = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, (right, total) in zip(MACRO, parts, strict=True):
            shares = np.where(total > 0, 100 * right / total, 0.0)
            means[name] = np.asarray(shares.sum(axis=-1) / np.count_nonzero(total > 0, axis=-1))
    return means


def column_values(
    metrics: Mapping[str, Floats], labels: Sequence[str], means: Mapping[str, Floats]
) -> dict[str, Floats]:
    """The values of the board's columns, (seeds, labels).

    Args:
        metrics: by name, (seeds, labels).
        labels: theirs.
        means: of tasks by column key, (seeds, labels), which are those of columns that are not
            computed from test samples, such as costs; without them these are left out.
    """
    unknown = np.full_like(metrics["overall"], np.nan)

    def of_label(i: int, name: str) -> Floats:
        return metrics.get(name, unknown)[:, i]

    peers = {label: ArrayRow(label, partial(of_label, i)) for i, label in enumerate(labels)}
    values = {}
    for column in columns.COLUMNS:
        if column.sampled:
            of_labels = [column.compute(peers[label], peers) for label in labels]
            values[column.key] = np.stack(of_labels, axis=1)
        elif column.key in means:
            values[column.key] = means[column.key]
    return values


def pooled_replicates(
    resampling: Resampling,
    tasks: Sequence[str],
    labels: Sequence[str],
    outcomes: OutcomesOfRuns,
    values: Mapping[str, Floats],
) -> dict[str, NDArray[np.float32]]:
    """As ``Resampling.replicates``, with the test samples of all tasks pooled.

    The groups of every test set are drawn as for the mean over tasks, and the set keeps its part in
    the pooled value on average.
    """
    drawn = [resampling.drawn(task, [outcomes(task, label) for label in labels]) for task in tasks]
    return in_draws(PooledDrawn(drawn), labels, values)


class PooledDrawn:
    """The metrics of methods in each draw, with the test samples of several tasks pooled.

    The two areas are NaN: their pairs would compare margins of models that were adapted to
    different tasks.
    """

    def __init__(self, tasks: Sequence[Drawn]) -> None:
        """Prepare what all methods share.

        Args:
            tasks: each has the same methods, in the same order, and as many draws.
        """
        self._tasks = tasks
        self._of_means: dict[int, dict[str, Floats]] = {}

    @property
    def draws(self) -> int:
        """The number of draws."""
        return self._tasks[0].draws

    def parts(self) -> Iterator[slice]:
        """As :meth:`Drawn.parts`."""
        return self._tasks[0].parts()

    def sizes(self, draws: slice) -> Floats:
        """As :meth:`Drawn.sizes`."""
        return np.asarray(sum(task.scale * task.sizes(draws) for task in self._tasks))

    def hits(self, i: int, draws: slice) -> list[Floats]:
        """As :meth:`Drawn.hits`; run k of a method is its run on every task with seed k."""
        return self._of_groups([task.hits(i, draws) for task in self._tasks])

    def mean(self, i: int, name: str) -> Floats:
        """As :meth:`Drawn.mean`."""
        if i not in self._of_means:
            hits = self._of_groups([task.mean_hits(i) for task in self._tasks])
            sizes = self.sizes(slice(None))
            accuracies = accuracies_of(hits, sizes[:, :1], sizes[:, 1:])
            of_classes = self._by_group([task.class_hits(i) for task in self._tasks])
            self._of_means[i] = {
                **{key: value[:, 0] for key, value in accuracies.items()},
                **macro_of_classes(of_classes, self._class_sizes),
                **dict.fromkeys(AREAS, np.full(self.draws, np.nan)),
            }
        return self._of_means[i][name]

    def _of_groups(self, of_tasks: Sequence[Sequence[Floats]]) -> list[Floats]:
        """The sums over tasks of numbers of seen and of missing samples."""
        scales = [task.scale for task in self._tasks]
        return [
            np.asarray(sum(scale * values for scale, values in zip(scales, of_group, strict=True)))
            for of_group in zip(*of_tasks, strict=True)
        ]

    @cached_property
    def _class_sizes(self) -> Floats:
        return self._by_group([sizes for sizes, _ in self._classes])

    @cached_property
    def _classes(self) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        return [task.class_sizes() for task in self._tasks]

    def _by_group(self, of_tasks: Sequence[NDArray[np.float32]]) -> Floats:
        """The sums of (R, C) numbers over tasks, of seen and of missing samples: (R, 2, C').

        Args:
            of_tasks: C classes in the order of ``Drawn.classes``; C' is 1 + the largest class.
        """
        classes = [task.classes for task in self._tasks]
        n_classes = 1 + max(int(of_task[-1]) for of_task in classes)
        total = np.zeros((self.draws, 2, n_classes))
        scales = [task.scale for task in self._tasks]
        for of_task, at, (_, seen), scale in zip(
            of_tasks, classes, self._classes, scales, strict=True
        ):
            total[:, 0, at[seen]] += scale * of_task[:, seen]
            total[:, 1, at[~seen]] += scale * of_task[:, ~seen]
        return total
