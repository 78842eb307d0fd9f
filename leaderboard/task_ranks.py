"""Compare methods by their ranks on several tasks, without a model of how scores vary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from leaderboard.statistics import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


DIGITS = 9  # decimal places in which accuracies in per cent can differ


def without_rounding_errors(accuracies: Floats) -> Floats:
    """Accuracies in per cent, of which equal ones are exactly equal.

    They are means of ratios of counts, which depend on the order of summation in their last digits.
    """
    return np.asarray(np.round(accuracies, DIGITS))


def mean_ranks(scores: Floats) -> Floats:
    """(M,) mean ranks over tasks of (tasks, M) scores, where larger is better; ties are halved."""
    from scipy.stats import rankdata

    scores = without_rounding_errors(scores)
    order = np.argsort(-scores, axis=1)
    descending = np.take_along_axis(scores, order, axis=1)
    if (descending[:, 1:] < descending[:, :-1]).all():  # no ties: faster by a factor of 4
        ranks = np.empty_like(scores)
        np.put_along_axis(ranks, order, np.arange(1.0, scores.shape[1] + 1)[None, :], axis=1)
    else:
        ranks = rankdata(-scores, axis=1)
    return np.asarray(ranks.mean(axis=0))


def friedman(scores: Floats) -> tuple[float, Floats]:
    """Friedman's test of whether methods differ, and their mean ranks.

    Args:
        scores: (tasks, M), larger is better.

    Returns:
        p, and the (M,) mean ranks over tasks; 1 is the best, ties get their mean rank. p is NaN
        with fewer than three methods, and 1 if all are equal on every task.
    """
    from scipy.stats import friedmanchisquare

    scores = without_rounding_errors(scores)
    if scores.shape[1] < 3:
        p = math.nan
    elif (scores == scores[:, :1]).all():
        p = 1.0
    else:
        p = float(friedmanchisquare(*scores.T).pvalue)
    return p, mean_ranks(scores)


def nemenyi_difference(methods: int, tasks: int) -> float:
    """The critical difference of mean ranks (Nemenyi; Demsar, JMLR 7, 2006, section 3.2.2).

    The family-wise error rate is 1 - ``LEVEL``.

    Args:
        methods: how many are compared.
        tasks: how many tasks the ranks are means of.
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(LEVEL, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * tasks)))
