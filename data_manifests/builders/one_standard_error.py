"""The one-standard-error rule that chooses an adaptation recipe on held-out seen training images.

Breiman et al., *Classification and Regression Trees* (1984), with the distance moved from the
source model as complexity: of all candidates that are not worse than the best by more than one
standard error, take the smallest rate, then the fewest steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmark.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Candidate(NamedTuple):
    """A recipe that the search tries; candidates sort from the most to the least conservative."""

    rate: float
    steps: int


class Comparison(NamedTuple):
    """A candidate compared with the best one; accuracies in percent, the rest in points.

    Attributes:
        candidate: the candidate.
        accuracy: held-out accuracy, the unweighted mean over tasks.
        deficit: accuracy of the best candidate minus this one's, never negative.
        standard_error: of the deficit, paired and resampled by group.
    """

    candidate: Candidate
    accuracy: float
    deficit: float
    standard_error: float

    @property
    def eligible(self) -> bool:
        """Whether the candidate is not worse than the best by more than one standard error."""
        return self.deficit <= self.standard_error


def compare(
    candidates: Sequence[Candidate], correct: ArrayLike, tasks: ArrayLike, groups: ArrayLike
) -> list[Comparison]:
    """Compare all candidates with the best one on the same held-out predictions.

    A prediction is one image in the run of one task and seed. The standard error is that of
    drawing whole groups with replacement, to first order in the counts (the delta method), with
    the factor G / (G - 1) of a sample variance over G groups. A group that several tasks or seeds
    share is one group, so it is drawn once for all of them.

    Args:
        candidates: K different candidates.
        correct: bool of shape (K, N): whether each candidate predicts correctly.
        tasks: the task of each prediction, shape (N,).
        groups: the group of each prediction, shape (N,); the image where the manifest has none.

    Returns:
        One comparison per candidate, in the order of ``candidates``. Of equally accurate best
        candidates the most conservative is the best.

    Raises:
        UsageError: the shapes differ, a candidate is repeated, or there are fewer than two groups.
    """
    outcomes = np.asarray(correct, dtype=np.float64)
    task_codes = np.unique(np.asarray(tasks), return_inverse=True)[1].reshape(-1)
    group_codes = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    shape = (len(candidates), len(task_codes))
    if outcomes.shape != shape or len(group_codes) != shape[1] or 0 in shape:
        raise UsageError(
            f"outcomes of shape {outcomes.shape} do not match {shape[0]} candidates, {shape[1]} "
            f"tasks and {len(group_codes)} groups of predictions; give one row per candidate and "
            "one column per prediction"
        )
    if len(set(candidates)) < len(candidates):
        raise UsageError("a candidate occurs more than once; give each candidate one row")
    if group_codes.max() == 0:
        raise UsageError("a standard error needs predictions of at least two groups")
    task_counts = np.bincount(task_codes)
    # The score of a candidate is the sum of its outcomes with these weights: a mean over tasks.
    weights = 1.0 / (len(task_counts) * task_counts[task_codes])
    accuracy = outcomes @ weights
    best = min(
        (index for index in range(shape[0]) if np.isclose(accuracy[index], accuracy.max())),
        key=lambda index: candidates[index],
    )
    rows = []
    for index, candidate in enumerate(candidates):
        difference = outcomes[best] - outcomes[index]
        deficit = max(0.0, float(weights @ difference))
        error = _standard_error(difference, weights, task_codes, group_codes)
        rows.append(Comparison(candidate, 100 * float(accuracy[index]), 100 * deficit, 100 * error))
    return rows


def _standard_error(
    values: NDArray[np.float64],
    weights: NDArray[np.float64],
    tasks: NDArray[np.intp],
    groups: NDArray[np.intp],
) -> float:
    """Standard error of the mean over tasks of the values' means, when groups are resampled."""
    means = np.bincount(tasks, values) / np.bincount(tasks)
    influence = np.bincount(groups, weights * (values - means[tasks]))
    return float(np.sqrt(len(influence) / (len(influence) - 1) * np.sum(influence**2)))


def choose(comparisons: Sequence[Comparison]) -> Comparison:
    """The most conservative eligible candidate: the smallest rate, then the fewest steps."""
    return min((row for row in comparisons if row.eligible), key=lambda row: row.candidate)


def check_grid(comparisons: Sequence[Comparison]) -> None:
    """Check that the grid of rates is wide enough: neither end of it is the best or the choice.

    Raises:
        UsageError: the best rate is the smallest or largest of the grid, or the chosen rate is the
            smallest; the message says how to extend the grid.
    """
    rates = sorted({row.candidate.rate for row in comparisons})
    best = min(comparisons, key=lambda row: (row.deficit, row.candidate)).candidate.rate
    if best == rates[-1]:
        raise UsageError(f"the best rate is the largest tried, {best:g}; add larger rates")
    if rates[0] in (best, choose(comparisons).candidate.rate):
        raise UsageError(
            f"the best or the chosen rate is the smallest tried, {rates[0]:g}; add smaller rates"
        )
