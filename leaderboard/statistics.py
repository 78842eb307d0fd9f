"""Intervals, paired tests and ranks, from the outcomes of test samples and from scores of seeds.

The estimand is a mean over fixed tasks. Two things vary: the test samples, which are resampled in
groups (whole groups, with replacement, as in the cluster bootstrap of Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8), and the seed. Their variances are
added. A percentile of R draws can give no p-value below 1 / R, so the standard error is multiplied
by a quantile of Student's t instead, whose degrees of freedom follow Satterthwaite (Biometrics
Bulletin 2, 1946) from those of both parts: K - 1 for K seeds, and the number of groups minus 1.

Everything here works on arrays; ``intervals.py`` applies it to the rows of a board.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95  # coverage of intervals; 1 - LEVEL is the family-wise error rate of tests
POWER = 0.8  # with which the minimal detectable difference is found
DRAWS = 2000  # the standard error of a bootstrap standard error is then 1.6 % of it
MIN_DRAWS = 200
MAX_COUNTS = 1 << 26  # 256 MiB; a test set of 100,000 groups gets fewer draws
MAX_UNDEFINED = 0.01  # of the draws; others may tell too little of how an estimate varies
_BLOCK = 1 << 24  # counts that are drawn at a time
_PAIRS = 1 << 20  # pairs of methods that are compared at a time


class _Ends:
    """The ends of the interval ``value - half`` to ``value + half``."""

    value: float
    half: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.value - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.value + self.half


@dataclass(frozen=True)
class Interval(_Ends):
    """A confidence interval; NaN where nothing is known.

    Attributes:
        value: its middle.
        half: half its width.
        df: degrees of freedom of the t quantile.
    """

    value: float
    half: float
    df: float


@dataclass(frozen=True)
class Difference(_Ends):
    """The paired difference of two methods on the same tasks, seeds and samples.

    Attributes:
        value: the difference.
        half: half the width of its interval.
        p: two-sided, of the hypothesis that there is no difference; not corrected; NaN without a
            value, and where nothing is known of its variance.
        df: degrees of freedom of the t quantile.
    """

    value: float
    half: float
    p: float
    df: float


# --- resampling --------------------------------------------------------------------------------


def draws_for(groups: int) -> int:
    """How many bootstrap draws of a number of groups are made."""
    return max(MIN_DRAWS, min(DRAWS, MAX_COUNTS // groups))


def draw_counts(groups: int, draws: int, seed: int = 0) -> NDArray[np.float32]:
    """How often each group is drawn in each bootstrap draw: G - 1 draws with replacement.

    The variance over draws of G of G groups is (G - 1) / G of what it should be, which matters for
    few groups; over draws of G - 1 it is unbiased for a mean (Rao and Wu, JASA 83, 1988).

    Args:
        groups: their number G; ``draws``: that of the draws, R.
        seed: of the generator; the counts depend on nothing else.

    Returns:
        (R, G) whole numbers of the sum G - 1, as float32 because they are multiplied by matrices.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    counts = np.empty((draws, groups), dtype=np.float32)
    size = max(1, _BLOCK // groups)
    for begin in range(0, draws, size):
        rows = min(size, draws - begin)
        drawn = generator.integers(groups, size=(rows, groups - 1))
        drawn += groups * np.arange(rows)[:, None]
        of_rows = np.bincount(drawn.ravel(), minlength=rows * groups)
        counts[begin : begin + rows] = of_rows.reshape(rows, groups)
    return counts


def sums_by_group(values: NDArray[Any], groups: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Sum the rows of an (N, M) array by group: (n, M) float64.

    Args:
        values: one row per sample.
        groups: (N,) group of each sample, in [0, n).
        n: the number of groups.
    """
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    sums = np.zeros((n, values.shape[1]))
    if present.size:
        sums[present] = np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)
    return sums


def sample_degrees_of_freedom(groups: Sequence[int], weights: Sequence[float]) -> float:
    """Degrees of freedom of the variance of a weighted mean over test sets.

    Satterthwaite's, of the sum of one variance per test set: each has its number of groups minus 1
    degrees of freedom, and its variance is taken to be proportional to the square of the test set's
    weight, divided by the number of its groups.

    Args:
        groups: the number of groups of each test set.
        weights: the weight of each in the mean.

    Returns:
        G - 1 for one test set of G groups, at least 1; 0 if the variance of one is not known,
        because it has a single group.
    """
    if min(groups) < 2:
        return 0.0
    variances = np.array([weight**2 / n for weight, n in zip(weights, groups, strict=True)])
    parts = variances**2 / (np.array(groups) - 1)
    return float(max(variances.sum() ** 2 / parts.sum(), 1.0))


# --- intervals and tests -----------------------------------------------------------------------


def degrees_of_freedom(
    sample_variance: Floats, sample_df: float, seed_variance: Floats, seed_df: float
) -> Floats:
    """Satterthwaite's degrees of freedom of the sum of two variances; infinite if both are 0."""
    total = np.asarray(sample_variance + seed_variance, dtype=np.float64)
    parts = np.zeros_like(total)
    for variance, df in ((sample_variance, sample_df), (seed_variance, seed_df)):
        if df > 0:
            parts = parts + np.square(variance) / df
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(parts > 0, np.square(total) / parts, np.inf)


def quantile(level: float, df: float | Floats) -> float | Floats:
    """The quantile of Student's t that gives a two-sided interval; normal if ``df`` is infinite."""
    from scipy.special import ndtri, stdtrit

    upper = (1 + level) / 2
    distinct, where = np.unique(df, return_inverse=True)  # often the same for all methods
    finite = np.where(np.isfinite(distinct), distinct, 1.0)
    result = np.where(np.isfinite(distinct), stdtrit(finite, upper), ndtri(upper))[where]
    return float(result.item()) if np.ndim(df) == 0 else result.reshape(np.shape(df))


def p_value(t: Floats, df: Floats) -> Floats:
    """Two-sided p of a statistic that has Student's t distribution; 1 where it is NaN."""
    from scipy.special import ndtr, stdtr

    size = -np.abs(t)
    finite = np.where(np.isfinite(df), df, 1.0)
    p = 2 * np.where(np.isfinite(df), stdtr(finite, size), ndtr(size))
    return np.where(np.isnan(p), 1.0, p)


def holm_bound(p: Floats, rate: float) -> float:
    """Which hypotheses Holm's procedure rejects: those whose p-value is below the bound.

    Holm, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p: (n,) p-values.
        rate: the family-wise error rate, above 0.

    Returns:
        The smallest p-value that is not rejected; infinity if there is none.
    """
    ascending = np.sort(p)
    # Of equal p-values the first has the largest factor, so all of them are rejected or none.
    kept = ascending * np.arange(len(p), 0, -1) >= rate
    return float(ascending[kept.argmax()]) if kept.any() else math.inf


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates for several methods that share tasks, seeds and samples, and how they vary.

    Attributes:
        by_seed: (K, M) float64, the estimate of each method with each seed.
        replicates: (R, M) float32, the estimates (means over seeds) in each bootstrap draw of the
            test samples, less those of all samples; None if only scores are known.
        sample_df: degrees of freedom of the variance over samples; 0 if it is not known.
    """

    by_seed: Floats
    replicates: NDArray[np.float32] | None
    sample_df: float

    @cached_property
    def values(self) -> Floats:
        """(M,) the estimates: means over seeds."""
        return np.asarray(self.by_seed.mean(axis=0))

    @property
    def seed_df(self) -> float:
        """Degrees of freedom of the variance over seeds."""
        return len(self.by_seed) - 1

    def of(self, methods: Sequence[int]) -> Estimates:
        """The estimates of some of the methods."""
        columns = list(methods)
        replicates = None if self.replicates is None else self.replicates[:, columns]
        return Estimates(self.by_seed[:, columns], replicates, self.sample_df)

    def intervals(self, level: float = LEVEL) -> list[Interval]:
        """The interval of each method."""
        each = zip(self.values, *self.halves(level), strict=True)
        return [Interval(*map(float, of_method)) for of_method in each]

    def halves(self, level: float = LEVEL) -> tuple[Floats, Floats]:
        """(M,) half the width of the interval of each method, and its degrees of freedom."""
        seeds, methods = self.by_seed.shape
        zero = np.zeros(methods)
        sample = zero if self._defined is None else _variance(self._defined)
        seed = zero if seeds < 2 else _variance(self.by_seed) / seeds
        error, df = self._error(sample, seed)
        return np.asarray(quantile(level, df) * error), df

    def difference(self, i: int, j: int, level: float = LEVEL) -> Difference:
        """How much method i is above method j, on the same tasks, seeds and samples."""
        pair = self.of([i, j])
        errors, dfs = pair.errors()
        error, df, value = errors[0, 1], dfs[0, 1], self.values[i] - self.values[j]
        p = _p_of_differences(value, error, df) if np.isfinite(value + error) else np.nan
        return Difference(*map(float, (value, quantile(level, df) * error, p, df)))

    def errors(self, begin: int = 0, end: int | None = None) -> tuple[Floats, Floats]:
        """(B, M) standard errors of paired differences, and their degrees of freedom.

        Args:
            begin, end: the range of the B methods whose differences to all M methods are asked for.
        """
        rows, seeds = slice(begin, end), len(self.by_seed)
        shape = self.values[rows].shape + self.values.shape
        sample = seed = np.zeros(shape)
        if self._defined is not None:
            sample = self._replicate_deviations.of_differences(rows)
        if seeds >= 2:
            seed = self._seed_deviations.of_differences(rows) / seeds
        return self._error(sample, seed)

    @cached_property
    def _defined(self) -> NDArray[np.float32] | None:
        """The replicates of the draws in which every method with an estimate has one.

        A draw may lack a class, or a gap to close. NaN if that is so in too many draws, or if the
        draws are all the same, because a test set has a single group.
        """
        if self.replicates is None:
            return None
        if self.sample_df == 0:
            return np.full_like(self.replicates, np.nan)
        is_defined = np.isfinite(self.replicates)
        is_defined[:, np.isnan(self.values)] = True
        of_draws = np.asarray(is_defined.all(axis=1))
        if of_draws.all():
            return self.replicates
        if np.count_nonzero(~of_draws) > MAX_UNDEFINED * len(of_draws):
            return np.full_like(self.replicates, np.nan)
        return self.replicates[of_draws]

    @cached_property
    def _replicate_deviations(self) -> _Deviations:
        assert self._defined is not None
        return _Deviations(self._defined.astype(np.float64))

    @cached_property
    def _seed_deviations(self) -> _Deviations:
        return _Deviations(self.by_seed)

    def _error(self, sample: Floats, seed: Floats) -> tuple[Floats, Floats]:
        """Standard errors and degrees of freedom; NaN where a variance is, or none is known.

        Args:
            sample: the variance over samples; 0 without outcomes.
            seed: the variance over seeds; 0 with one seed.
        """
        error = np.sqrt(sample + seed)
        if self.replicates is None and len(self.by_seed) < 2:
            error = np.full_like(error, np.nan)
        return error, degrees_of_freedom(sample, self.sample_df, seed, self.seed_df)


def _variance(values: NDArray[Any]) -> Floats:
    """(M,) variance of the columns of an (R, M) array, with ``ddof`` 1."""
    return np.asarray(np.var(values, axis=0, ddof=1, dtype=np.float64))


class _Deviations:
    """The deviations of the columns of an (R, M) array from their means."""

    def __init__(self, values: Floats) -> None:
        self._centred = values - values.mean(axis=0)
        # Of products of the same size as the covariances, so that twins have the variance 0.
        methods = values.shape[1]
        self._variances = np.empty(methods)
        for rows in _blocks(methods):
            self._variances[rows] = self._covariances(rows, rows).diagonal()

    def of_differences(self, rows: slice) -> Floats:
        """(B, M) variances of the differences of some columns to all, with ``ddof`` 1."""
        variance = self._variances
        covariance = self._covariances(rows, slice(None))
        return np.maximum(variance[rows, None] + variance[None, :] - 2 * covariance, 0.0)

    def _covariances(self, rows: slice, columns: slice) -> Floats:
        product: Floats = self._centred[:, rows].T @ self._centred[:, columns]
        return product / (len(self._centred) - 1)


def _blocks(methods: int) -> Iterator[slice]:
    """Ranges of methods, so that an array of their pairs with all others has a bounded size."""
    size = max(1, _PAIRS // methods)
    for begin in range(0, methods, size):
        yield slice(begin, min(begin + size, methods))


def _p_of_differences(difference: Floats, error: Floats, df: Floats) -> Floats:
    """Two-sided p; 1 for no difference, also where nothing varies, and where no error is known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return p_value(np.asarray(difference / error), np.asarray(df))


# --- ranks -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ranking:
    """The order of methods as far as the data tell it.

    Attributes:
        ranks: (M,) 1 + the number of methods that are significantly better; methods of the same
            rank are a tie group.
        pairs: how many pairs were tested.
        detectable: the minimal detectable difference: the smallest true difference that the test
            of one pair finds with probability ``POWER`` at the level of the first step of Holm's
            procedure, if the pair has the median standard error and degrees of freedom of all
            pairs. Approximate: it shifts Student's t instead of using the non-central one.
    """

    ranks: NDArray[np.int64]
    pairs: int
    detectable: float


def rank(estimates: Estimates, level: float = LEVEL) -> Ranking:
    """Rank methods by paired tests of all pairs, with Holm's correction over them.

    Three numbers are kept of each pair; all else is computed for some methods at a time.
    """
    values = estimates.values
    methods = len(values)
    pairs = methods * (methods - 1) // 2
    errors, dfs, p = (np.empty(pairs) for _ in range(3))
    for rows, later, part in _pairs(methods):
        errors[part], dfs[part] = (
            of_rows[later] for of_rows in estimates.errors(rows.start, rows.stop)
        )
        difference = (values[rows, None] - values[None, :])[later]
        p[part] = _p_of_differences(difference, errors[part], dfs[part])
    detectable = _detectable(errors, dfs, level)
    del errors, dfs
    bound = holm_bound(p, 1 - level)
    ranks = np.ones(methods, dtype=np.int64)
    for rows, later, part in _pairs(methods):
        differs = np.zeros(later.shape, dtype=np.bool_)
        differs[later] = p[part] < bound
        above = values[rows, None] > values[None, :]
        ranks += (differs & above).sum(axis=0)
        ranks[rows] += (differs & (values[rows, None] < values[None, :])).sum(axis=1)
    return Ranking(ranks, pairs, detectable)


def _pairs(methods: int) -> Iterator[tuple[slice, NDArray[np.bool_], slice]]:
    """All pairs of methods, in blocks.

    Yields:
        A range of B methods; (B, M), which of all methods are their partners: those that come
        later; and where these pairs are in an array of all pairs.
    """
    end = 0
    for rows in _blocks(methods):
        later = np.arange(methods) > np.arange(rows.start, rows.stop)[:, None]
        yield rows, later, slice(end, end := end + int(later.sum()))


def _detectable(errors: Floats, dfs: Floats, level: float) -> float:
    """See :attr:`Ranking.detectable`; NaN without pairs. Puts the arrays in another order."""
    if not len(errors):
        return math.nan
    error, df = (float(np.median(each, overwrite_input=True)) for each in (errors, dfs))
    first = quantile(1 - (1 - level) / len(errors), df)
    return float((first + quantile(2 * POWER - 1, df)) * error)
