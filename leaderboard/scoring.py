"""Metrics from predictions and labels: seen and missing accuracy, and the AUSUC sweep.

Notation: S are the seen classes, U the missing ones, z the logits, and Acc_{A/B} the accuracy over
the test samples of the classes A with the argmax taken over the columns B (Y is S and U together).

Every metric follows from four facts about each sample (:mod:`leaderboard.picks`): whether its best
seen and its best missing column is its label, which of the two has the lower index, and the margin
between their logits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmark.errors import ScoringError, first
from benchmark.text import plural
from leaderboard.outcomes import Outcomes
from leaderboard.picks import Picks, pick
from leaderboard.scoring_input import (
    BoolArray,
    FloatArray,
    IntArray,
    Truth,
    check_logits,
    checked_truth,
)

AREAS = ("ausuc", "openworld_auc")  # the metrics in [0, 1]; all others are in per cent


@dataclass(frozen=True)
class Scores:
    """The metrics of one run: accuracies in per cent, ``ausuc`` and ``openworld_auc`` in [0, 1].

    Accuracies without a prefix are micro averages (every test sample has the same weight).
    ``macro_`` is the unweighted mean over the classes that have test samples. ``_within`` means
    that the columns of the other group are masked out. ``harmonic`` is the harmonic mean of seen
    and missing, 0 when either is 0. ``openworld_auc`` is the share of the pairs of a seen and a
    missing test sample in which both are right within their group and the seen one has the larger
    margin. It differs from ``ausuc`` only in ties: a pair of equal margins counts half there (as
    the rule for ties decides where both are 0), and not at all here. The invariant ``overall =
    (n_seen * seen + n_missing * missing) / (n_seen + n_missing)`` holds up to floating-point
    rounding.
    """

    overall: float  # Acc_{Y/Y}
    seen: float  # Acc_{S/Y}
    missing: float  # Acc_{U/Y}
    seen_within: float  # Acc_{S/S}
    missing_within: float  # Acc_{U/U}
    harmonic: float
    macro_overall: float
    macro_seen: float
    macro_missing: float
    macro_seen_within: float
    macro_missing_within: float
    macro_harmonic: float
    ausuc: float
    openworld_auc: float
    n_seen: int  # test samples of seen classes
    n_missing: int  # test samples of missing classes

    def as_dict(self) -> dict[str, float | int]:
        """The metrics by name, in the order of the fields, as plain Python numbers."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """The trade-off between seen and missing accuracy as a constant gamma is added to the
    missing-class logits.

    The prediction is ``argmax_c z_c + gamma * [c in U]``. A sample's prediction changes only where
    gamma crosses its margin ``m = max_S z - max_U z``, so the accuracies are constant on the open
    intervals between neighbouring distinct margins. The curve has one point per interval. If a
    margin is exactly 0, the curve also has a point for gamma = 0, between the two adjacent
    intervals. No point is repeated, and gamma = 0 is always one of them.

    ``gamma`` is a value inside the point's interval: 0 if the interval contains 0, else the
    midpoint, else (in an unbounded interval) the outermost margin less or plus 1. All values are
    finite. Adding one to the missing-class logits in float64 reproduces the point's accuracies,
    unless neighbouring margins are closer than the rounding error.

    Attributes:
        gamma: (P,) float64, ascending, in logits.
        seen: (P,) float64 in [0, 1], Acc_{S/Y} at each gamma: falls from Acc_{S/S} to 0.
        missing: (P,) float64 in [0, 1], Acc_{U/Y} at each gamma: rises from 0 to Acc_{U/U}.
    """

    gamma: FloatArray
    seen: FloatArray
    missing: FloatArray


class BestGamma(NamedTuple):
    """Gamma* in logits, and the scores with it."""

    gamma: float
    scores: Scores


def score(
    logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], seen: BoolArray
) -> Scores:
    """Compute every metric of one run.

    Exact ties go to the lowest class index. Runs in O(N log N + N C) time.

    Args:
        logits: (N, C) float16, float32 or float64, finite.
        labels: (N,) integers in [0, C).
        seen: (C,) bool, true for the seen classes; every other class is missing.

    Returns:
        The scores: accuracies in per cent, ``ausuc`` and ``openworld_auc`` in [0, 1].

    Raises:
        ScoringError: The input has the wrong type, shape or range, contains NaN or infinite logits,
            or one of the two groups has no classes or no test samples.

    ``ausuc`` is the area under the seen-unseen accuracy curve (Chao et al., "An Empirical Study and
    Analysis of Generalized Zero-Shot Learning for Object Recognition in the Wild", ECCV 2016), as
    used for fine-tuning by Mai et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024
    (arXiv 2409.16223). ``openworld_auc`` is OpenworldAUC (arXiv 2505.05180) of a single classifier,
    whose margin takes the place of the detector's score.
    """
    truth = checked_truth(logits, labels, seen)
    return _scores(pick(logits, truth), truth, gamma=0.0)


def score_with_outcomes(
    logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], seen: BoolArray
) -> tuple[Scores, Outcomes]:
    """As :func:`score`, and the outcomes of the samples."""
    truth = checked_truth(logits, labels, seen)
    return score_picks(pick(logits, truth), truth)


def checked_picks(logits: npt.NDArray[np.floating[Any]], truth: Truth) -> Picks:
    """What :func:`score_picks` needs, for one of many runs with the same labels and groups."""
    check_logits(logits, truth)
    return pick(logits, truth)


def score_picks(picks: Picks, truth: Truth) -> tuple[Scores, Outcomes]:
    """As :func:`score_with_outcomes`, from what was found in the logits."""
    return _scores(picks, truth, gamma=0.0), _outcomes(picks, gamma=0.0)


def outcomes_at(
    logits: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    seen: BoolArray,
    gamma: float,
) -> Outcomes:
    """The outcomes with ``gamma`` added to the logits of missing classes.

    Args:
        logits, labels, seen: as for :func:`score`.
        gamma: in logits.

    Raises:
        ScoringError: As for ``score``.
    """
    return _outcomes(pick(logits, checked_truth(logits, labels, seen)), gamma)


def _outcomes(picks: Picks, gamma: float) -> Outcomes:
    with np.errstate(over="ignore"):  # a margin beyond float32 becomes infinite
        margin = (picks.margin - gamma).astype(np.float32)
    return Outcomes(picks.right(gamma), picks.right_seen | picks.right_missing, margin)


def score_at_best_gamma(
    logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], seen: BoolArray
) -> BestGamma:
    """Compute every metric at gamma*, the best constant to add to the missing-class logits.

    Gamma* is chosen with the test labels, so it is an upper bound on calibration, not a method (Mai
    et al., "Fine-Tuning is Fine, if Calibrated", NeurIPS 2024, arXiv 2409.16223). It maximises the
    overall accuracy over the points of :func:`calibration_curve`; ties go to the value nearest to
    0. Gamma changes neither the two areas nor the ``_within`` metrics.

    Args:
        logits: (N, C) float16, float32 or float64, finite.
        labels: (N,) integers in [0, C).
        seen: (C,) bool, true for the seen classes; every other class is missing.

    Returns:
        Gamma* in logits, and the scores there.

    Raises:
        ScoringError: As for ``score``.
    """
    truth = checked_truth(logits, labels, seen)
    return score_picks_at_best_gamma(pick(logits, truth), truth)[0]


def score_picks_at_best_gamma(picks: Picks, truth: Truth) -> tuple[BestGamma, Outcomes]:
    """As :func:`score_at_best_gamma`, and the outcomes of the samples there."""
    sweep = _sweep(picks)
    hits = sweep.seen_hits + sweep.missing_hits
    best = sweep.gamma[hits == hits.max()]
    gamma = float(best[np.abs(best).argmin()])
    return BestGamma(gamma, _scores(picks, truth, gamma)), _outcomes(picks, gamma)


def _scores(picks: Picks, truth: Truth, gamma: float) -> Scores:
    n_seen, n_missing = truth.n_seen, truth.n_missing
    every, seen, missing = truth.groups
    full = _hits_by_class(picks.right(gamma), truth)
    within = _hits_by_class(picks.right_seen | picks.right_missing, truth)
    overall_micro, overall_macro = _accuracy(full, truth.totals, every, n_seen + n_missing)
    seen_micro, seen_macro = _accuracy(full, truth.totals, seen, n_seen)
    missing_micro, missing_macro = _accuracy(full, truth.totals, missing, n_missing)
    seen_within = _accuracy(within, truth.totals, seen, n_seen)
    missing_within = _accuracy(within, truth.totals, missing, n_missing)
    ausuc, openworld_auc = _areas(picks, n_seen * n_missing)
    return Scores(
        overall=overall_micro,
        seen=seen_micro,
        missing=missing_micro,
        seen_within=seen_within.micro,
        missing_within=missing_within.micro,
        harmonic=_harmonic_mean(seen_micro, missing_micro),
        macro_overall=overall_macro,
        macro_seen=seen_macro,
        macro_missing=missing_macro,
        macro_seen_within=seen_within.macro,
        macro_missing_within=missing_within.macro,
        macro_harmonic=_harmonic_mean(seen_macro, missing_macro),
        ausuc=ausuc,
        openworld_auc=openworld_auc,
        n_seen=n_seen,
        n_missing=n_missing,
    )


def calibration_curve(
    logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], seen: BoolArray
) -> CalibrationCurve:
    """Compute the exact seen-unseen accuracy curve; the area under it is ``Scores.ausuc``.

    Args:
        logits: (N, C) float16, float32 or float64, finite.
        labels: (N,) integers in [0, C).
        seen: (C,) bool, true for the seen classes; every other class is missing.

    Returns:
        The curve, at most N + 2 points, ordered by gamma; accuracies in [0, 1].

    Raises:
        ScoringError: As for ``score``.
    """
    truth = checked_truth(logits, labels, seen)
    sweep = _sweep(pick(logits, truth))
    return CalibrationCurve(
        gamma=sweep.gamma,
        seen=sweep.seen_hits / truth.n_seen,
        missing=sweep.missing_hits / truth.n_missing,
    )


def match_samples(
    sample_ids: Sequence[Hashable] | npt.NDArray[Any],
    expected_ids: Sequence[Hashable] | npt.NDArray[Any],
) -> IntArray:
    """Find the order that puts predictions into the manifest's order.

    Args:
        sample_ids: N ids in the order of the predictions.
        expected_ids: N ids in the order of the manifest.

    Returns:
        (N,) integers such that ``sample_ids[order]`` equals ``expected_ids``.

    Raises:
        ScoringError: An id is unknown (not expected), missing, or repeated.
    """
    positions = _unique_ids(sample_ids, "the predictions")
    expected = _unique_ids(expected_ids, "the expected samples")
    problems = []
    if unknown := [i for i in positions if i not in expected]:
        problems.append(f"{plural(len(unknown), 'unknown sample id')}: {first(unknown)}")
    if missing := [i for i in expected if i not in positions]:
        problems.append(f"{plural(len(missing), 'missing sample id')}: {first(missing)}")
    if problems:
        raise ScoringError(
            "the sample ids of the predictions do not match the task: "
            f"{' and '.join(problems)}; there must be exactly one row per test sample "
            "of the task"
        )
    return np.fromiter((positions[i] for i in expected), dtype=np.intp, count=len(expected))


def _unique_ids(ids: Sequence[Hashable] | npt.NDArray[Any], where: str) -> dict[Hashable, int]:
    """Map each id to its position, or name those that occur more than once."""
    listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    position = {sample_id: index for index, sample_id in enumerate(listed)}
    if len(position) < len(listed):
        repeated = [sample_id for sample_id, times in Counter(listed).items() if times > 1]
        raise ScoringError(
            f"{plural(len(repeated), 'sample id')} repeated in {where}: {first(repeated)}; "
            "keep one row per sample"
        )
    return position


class _Sweep(NamedTuple):
    """The curve as counts of samples, which keeps it exact; each (P,)."""

    gamma: FloatArray
    seen_hits: IntArray
    missing_hits: IntArray


class _Accuracy(NamedTuple):
    """Per cent."""

    micro: float
    macro: float


def _hits_by_class(right: BoolArray, truth: Truth) -> IntArray:
    return np.bincount(_taken(truth.labels, right), minlength=truth.seen.size)


def _taken(values: npt.NDArray[Any], mask: BoolArray) -> npt.NDArray[Any]:
    """``values[mask]``, in a fifth of the time if the mask has no pattern."""
    return values[np.flatnonzero(mask)]


def _accuracy(hits: IntArray, totals: IntArray, classes: IntArray, samples: int) -> _Accuracy:
    """Accuracy of a group, from (C,) hits and test samples of each class."""
    of_group = hits[classes]
    shares = 100 * of_group / totals[classes]
    # Less overhead than `sum` and `mean`, which matters for thousands of small test sets.
    return _Accuracy(
        micro=float(100 * np.add.reduce(of_group) / samples),
        macro=float(np.add.reduce(shares) / shares.size),
    )


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0


def _sweep(picks: Picks) -> _Sweep:
    """Count the hits of both groups in each interval of gamma between distinct margins.

    Passing a margin flips all samples that have it, from their best seen to their best missing
    column: correct seen samples are lost, missing samples whose column is correct are won.
    """
    margins, which = np.unique(picks.margin, return_inverse=True)
    lost = np.bincount(which[picks.right_seen], minlength=margins.size)
    won = np.bincount(which[picks.right_missing], minlength=margins.size)
    seen_hits = lost.sum() - np.append(0, np.cumsum(lost))
    missing_hits = np.append(0, np.cumsum(won))
    # Halved before the sum: margins near the end of float64 would overflow.
    gamma = np.concatenate(
        ([margins[0] - 1], margins[:-1] / 2 + margins[1:] / 2, [margins[-1] + 1])
    )
    zero = int(np.searchsorted(margins, 0.0))  # the interval that contains 0, or ends there
    if zero == margins.size or margins[zero] != 0:
        gamma[zero] = 0.0
        return _Sweep(gamma, seen_hits, missing_hits)
    wins = picks.seen_wins(0.0)
    return _Sweep(
        np.insert(gamma, zero + 1, 0.0),
        np.insert(seen_hits, zero + 1, np.count_nonzero(picks.right_seen & wins)),
        np.insert(missing_hits, zero + 1, np.count_nonzero(picks.right_missing & ~wins)),
    )


def _areas(picks: Picks, n_pairs: int) -> tuple[float, float]:
    """``ausuc`` and ``openworld_auc``: shares of the pairs of a seen and a missing sample.

    Of the pairs in which both are right within their group, ``openworld_auc`` counts those whose
    seen sample has the larger margin. ``ausuc`` also counts half of those with equal margins: the
    trapezoidal rule at a step of the curve where both accuracies change. At a margin of 0, the
    curve has the point gamma = 0 between two steps, where ties go to the lower index. The counts
    are integers, so the order of summation cannot change the result.
    """
    # Both sorted, so that neighbouring searches read the same memory.
    losing = np.sort(_taken(picks.margin, picks.right_seen))
    winning = np.sort(_taken(picks.margin, picks.right_missing))
    smaller = winning.searchsorted(losing, side="left")  # how many, for each
    larger = int(smaller.sum())
    twice = 2 * larger
    if winning.size and (winning.take(smaller, mode="clip") == losing).any():
        twice = larger + int(winning.searchsorted(losing, side="right").sum())
    at_zero = picks.margin == 0
    if at_zero.any():
        lost, won = picks.right_seen & at_zero, picks.right_missing & at_zero
        n_lost, n_won = int(lost.sum()), int(won.sum())
        n_kept = int((lost & picks.seen_first).sum())
        n_early = int((won & ~picks.seen_first).sum())
        twice += n_lost * n_early + n_kept * n_won - n_lost * n_won
    return twice / (2 * n_pairs), larger / n_pairs
