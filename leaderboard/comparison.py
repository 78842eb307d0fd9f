"""How the order of methods depends on the recipe, the draw of seen classes, and their number.

A comparison holds the same methods under several conditions that differ in one thing only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboard.statistics import LEVEL
from leaderboard.task_ranks import without_rounding_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_METHODS = 2  # an order needs two
MIN_METHODS_OF_INTERVAL = 10


@dataclass(frozen=True)
class Comparison:
    """Overall accuracy of methods under several conditions.

    Attributes:
        title: heading of its table.
        conditions: their names; the order under the first is the reference.
        overall: accuracy in per cent under each condition, by label; the best under the first
            condition first, oracles last.
        column: the key of the column that the accuracies are from.
        oracles: labels that are not ranked.
        incomplete: labels without a value under some condition; they are not in ``overall``.
    """

    title: str
    conditions: tuple[str, ...]
    overall: Mapping[str, tuple[float, ...]]
    oracles: frozenset[str]
    incomplete: tuple[str, ...]
    column: str

    @property
    def ranked(self) -> list[str]:
        """The labels that have a rank."""
        return [label for label in self.overall if label not in self.oracles]

    def ranks(self, label: str) -> tuple[int, ...]:
        """1 + the number of ranked methods that are better, under each condition."""
        own = without_rounding_errors(np.array(self.overall[label]))
        return tuple((1 + (self._values() > own).sum(axis=0)).tolist())

    def taus(self) -> tuple[float, ...]:
        """Kendall's tau-b between the order under the first condition and each other's.

        1 is the same order and -1 the reverse. NaN with fewer than two ranked methods, and where
        all of them are equal.
        """
        from scipy.stats import kendalltau

        first, *others = self._values().T
        if len(first) < MIN_METHODS:
            return (math.nan,) * len(others)
        return tuple(float(kendalltau(first, other).statistic) for other in others)

    def flips(self) -> tuple[int, int]:
        """Pairs of ranked methods whose order differs between two conditions, and all pairs."""
        pairs = list(itertools.combinations(self._values(), 2))
        signs = (np.sign(a - b) for a, b in pairs)
        return sum(bool((s > 0).any() and (s < 0).any()) for s in signs), len(pairs)

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON."""
        flipped, pairs = self.flips()
        return {
            "title": self.title,
            "conditions": list(self.conditions),
            "column": self.column,
            "methods": [
                {
                    "label": label,
                    "overall": list(values),
                    "ranks": None if label in self.oracles else list(self.ranks(label)),
                }
                for label, values in self.overall.items()
            ],
            "kendall_tau": {
                name: None if math.isnan(tau) else tau
                for name, tau in zip(self.conditions[1:], self.taus(), strict=True)
            },
            "flipped_pairs": flipped,
            "pairs": pairs,
            "incomplete": list(self.incomplete),
        }

    def _values(self) -> NDArray[np.float64]:
        """Float64 array of shape (ranked methods, conditions), in which ties are exact."""
        rows = [self.overall[label] for label in self.ranked]
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.conditions))
        return without_rounding_errors(values)


def tau_interval(tau: float, methods: int) -> tuple[float, float]:
    """An approximate confidence interval of Kendall's tau, if the methods were a random sample.

    The inverse hyperbolic tangent of tau is about normal with variance 0.437 / (n - 4) (Fieller,
    Hartley and Pearson, Biometrika 1957).

    Args:
        tau: between -1 and 1.
        methods: their number n.

    Returns:
        Lower and upper end. NaN with fewer than 10 methods, for which the approximation is poor,
        and where tau is NaN.
    """
    from scipy.stats import norm

    if methods < MIN_METHODS_OF_INTERVAL or math.isnan(tau):
        return math.nan, math.nan
    if abs(tau) == 1:
        return tau, tau
    half = norm.ppf((1 + LEVEL) / 2) * math.sqrt(0.437 / (methods - 4))
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)


def compare(
    title: str, conditions: Mapping[str, Mapping[str, float]], oracles: set[str], column: str
) -> Comparison | None:
    """Compare methods under conditions.

    Args:
        title: heading of the table.
        conditions: by name, the overall accuracy of each method that has one, by label.
        oracles: labels that are not ranked.
        column: the key of the column that the accuracies are from.

    Returns:
        None with fewer than two conditions, or fewer than two methods that have all of them.
    """
    labels = dict.fromkeys(label for values in conditions.values() for label in values)
    complete = [label for label in labels if all(label in v for v in conditions.values())]
    if len(conditions) < 2 or len(complete) < MIN_METHODS:
        return None
    overall = {label: tuple(v[label] for v in conditions.values()) for label in complete}
    order = sorted(complete, key=lambda label: (label in oracles, -overall[label][0], label))
    return Comparison(
        title,
        tuple(conditions),
        {label: overall[label] for label in order},
        frozenset(oracles.intersection(complete)),
        tuple(sorted(labels.keys() - overall.keys())),
        column,
    )
