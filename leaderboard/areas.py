"""How the area under the seen-unseen curve depends on the weights of samples and of their groups.

The area is the share of pairs of a seen and a missing sample in which both are right within their
group of classes and the seen one has the larger margin. Equal margins count half: they are too few
to matter for an interval, for which ``ausuc`` and ``openworld_auc`` are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from leaderboard.outcomes import Outcomes

if TYPE_CHECKING:
    from numpy.typing import NDArray

PART_VALUES = 1 << 15  # a few such arrays of float64 fit a second-level cache of 1 MiB


def mean_influence(
    runs: Sequence[Outcomes], is_seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    """The mean over runs of :func:`area_influences`, (N,), and of the areas."""
    influence, area = np.zeros(is_seen.size), 0.0
    size = max(1, PART_VALUES // is_seen.size)
    for begin in range(0, len(runs), size):
        influences, areas = area_influences(runs[begin : begin + size], is_seen)
        influence += influences.sum(axis=0) / len(runs)
        area += areas.sum() / len(runs)
    return influence, area


def area_influences(
    runs: Sequence[Outcomes], is_seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the area under the seen-unseen curve changes with the weight of each sample.

    Args:
        runs: the outcomes of K runs, each of the same N samples.
        is_seen: (N,) bool.

    Returns:
        (K, N) derivatives, whose sum over the samples is 0, and the (K,) areas.
    """
    within = np.stack([outcomes.within for outcomes in runs])
    margin = np.stack([outcomes.margin for outcomes in runs])
    order = margin.argsort(axis=1) + is_seen.size * np.arange(len(runs))[:, None]
    ordered = margin.take(order)
    is_first = np.ones(margin.shape, dtype=bool)  # of equal margins
    is_first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    right_seen, right_missing = ((within & group).take(order) for group in (is_seen, ~is_seen))
    n_seen, n_missing = np.count_nonzero(is_seen), np.count_nonzero(~is_seen)
    above = np.count_nonzero(right_seen, axis=1)[:, None] - _below(right_seen, is_first)
    in_order = np.where(right_seen, _below(right_missing, is_first), above * right_missing)
    areas = (in_order * right_seen).sum(axis=1) / (n_seen * n_missing)
    shares = np.empty_like(in_order)
    shares.put(order, in_order)
    if_seen = (shares / n_missing - areas[:, None]) / n_seen
    if_missing = (shares / n_seen - areas[:, None]) / n_missing
    return np.where(is_seen, if_seen, if_missing), areas


def pairs_in_order(
    run: Outcomes, is_seen: NDArray[np.bool_], groups: NDArray[np.intp], n_groups: int
) -> NDArray[np.float64]:
    """How many pairs of a seen and a missing sample are in order, by their groups.

    With w copies of each group, the area is ``w @ pairs @ w``, divided by the product of the
    numbers of seen and of missing samples.

    Args:
        run: the outcomes of N samples.
        is_seen: (N,) bool.
        groups: (N,) group of each sample, in [0, G).
        n_groups: G.

    Returns:
        (G, G): the group of the seen sample, then that of the missing one.
    """
    seen, missing = (np.flatnonzero(run.within & part) for part in (is_seen, ~is_seen))
    missing = missing[run.margin[missing].argsort()]
    ends = missing.size + 1  # of the samples with the smallest margins
    below = np.zeros((ends, n_groups))
    below[np.arange(1, ends), groups[missing]] = 1
    below.cumsum(axis=0, out=below)
    counts = np.zeros((n_groups, ends))
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    for side in sides:  # equal margins count half
        at = run.margin[missing].searchsorted(run.margin[seen], side=side)
        cells = np.bincount(groups[seen] * ends + at, minlength=counts.size)
        counts += cells.reshape(counts.shape) / 2
    return np.asarray(counts @ below)


def _below(counted: NDArray[np.bool_], is_first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many counted samples are before each in the order of margins; equal ones count half.

    Args:
        counted: (K, N) in this order.
        is_first: (K, N) whether a sample is the first of those with its margin.
    """
    up_to = counted.cumsum(axis=1)
    before = up_to - counted
    if not is_first.all():
        is_last = np.ones_like(is_first)
        is_last[:, :-1] = is_first[:, 1:]
        before = np.maximum.accumulate(np.where(is_first, before, 0), axis=1)
        up_to = np.where(is_last, up_to, counted.shape[1])[:, ::-1]
        up_to = np.minimum.accumulate(up_to, axis=1)[:, ::-1]
    return np.asarray((before + up_to) / 2)
