"""Intervals, tests and ranks against scipy, statsmodels, scikit-posthocs, bencheval and loops."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leaderboard import statistics, task_ranks
from leaderboard.statistics import Estimates

PROPERTY = settings(deadline=None, database=None, max_examples=50)
RNG = np.random.default_rng(7)


def estimates(seeds: int = 3, methods: int = 4, draws: int = 500, df: float = 20.0) -> Estimates:
    generator = np.random.default_rng(seeds)
    by_seed = generator.normal(50 + 2 * np.arange(methods), 1.0, (seeds, methods))
    shared = generator.normal(0, 2, (draws, 1))
    replicates = shared + generator.normal(0, 0.3, (draws, methods))
    return Estimates(by_seed, replicates.astype(np.float32), df)


class TestResampling:
    def test_each_draw_has_one_group_less_than_there_are(self) -> None:
        counts = statistics.draw_counts(7, 100, seed=3)
        assert counts.shape == (100, 7)
        assert (counts.sum(axis=1) == 6).all()
        assert (counts == statistics.draw_counts(7, 100, seed=3)).all()
        assert not (counts == statistics.draw_counts(7, 100, seed=4)).all()

    def test_blocks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = statistics.draw_counts(11, 50)
        monkeypatch.setattr(statistics, "_BLOCK", 40)
        assert (statistics.draw_counts(11, 50) == whole).all()

    def test_counts_are_multinomial(self) -> None:
        counts = statistics.draw_counts(5, 20_000)
        expected = scipy.stats.multinomial(4, [0.2] * 5)
        assert counts.mean(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.03)
        assert np.cov(counts.T) == pytest.approx(expected.cov(), abs=0.03)

    @pytest.mark.parametrize("groups", [2, 3, 6, 40])
    def test_the_variance_of_a_mean_is_not_biased(self, groups: int) -> None:
        """That of a mean over groups of equal size is the sample variance over their number."""
        values = np.random.default_rng(groups).normal(size=groups)
        counts = statistics.draw_counts(groups, 40_000)
        means = counts @ values / (groups - 1)
        assert means.mean() == pytest.approx(values.mean(), abs=0.02)
        assert means.var() == pytest.approx(values.var(ddof=1) / groups, rel=0.04)

    def test_large_test_sets_get_fewer_draws(self) -> None:
        assert statistics.draws_for(1000) == statistics.DRAWS
        assert statistics.draws_for(100_000) * 100_000 <= statistics.MAX_COUNTS
        assert statistics.draws_for(10**9) == statistics.MIN_DRAWS

    @given(st.data())
    @PROPERTY
    def test_sums_by_group_equal_a_loop(self, data: st.DataObject) -> None:
        groups = np.array(data.draw(st.lists(st.integers(0, 4), max_size=12)), dtype=np.intp)
        values = data.draw(arrays(np.int64, (len(groups), 2), elements=st.integers(-9, 9)))
        expected = np.zeros((5, 2))
        for group, row in zip(groups, values, strict=True):
            expected[group] += row
        assert (statistics.sums_by_group(values, groups, 5) == expected).all()

    def test_the_standard_error_is_that_of_a_naive_bootstrap(self) -> None:
        groups = RNG.integers(0, 12, 200)
        right = RNG.random(200) < 0.4 + 0.04 * groups
        counts = statistics.draw_counts(12, 4000)
        hits, sizes = (
            counts @ statistics.sums_by_group(v[:, None], groups, 12)
            for v in (right, np.ones(200, dtype=bool))
        )
        naive = []
        for _ in range(4000):
            drawn = RNG.integers(0, 12, 11)
            sample = np.concatenate([right[groups == group] for group in drawn])
            naive.append(sample.mean())
        assert (hits / sizes).std() == pytest.approx(np.std(naive), rel=0.06)


class TestDegreesOfFreedom:
    def test_of_one_test_set(self) -> None:
        assert statistics.sample_degrees_of_freedom([33], [1.0]) == pytest.approx(32)

    def test_of_equal_test_sets(self) -> None:
        assert statistics.sample_degrees_of_freedom([6, 6, 6], [1, 1, 1]) == pytest.approx(15)

    def test_a_small_test_set_with_a_large_weight_decides(self) -> None:
        df = statistics.sample_degrees_of_freedom([6, 26, 22], [3, 1, 1])
        assert 5 < df < 6

    def test_of_a_single_group_there_are_none(self) -> None:
        for groups in ([1], [30, 1]):
            assert statistics.sample_degrees_of_freedom(groups, [1.0] * len(groups)) == 0
        assert statistics.sample_degrees_of_freedom([2], [1.0]) == 1

    def test_the_sum_of_two_variances_is_that_of_welch(self) -> None:
        a, b = RNG.normal(0, 1, 6), RNG.normal(0, 3, 9)
        df = statistics.degrees_of_freedom(
            np.array(a.var(ddof=1) / 6), 5, np.array(b.var(ddof=1) / 9), 8
        )
        assert df == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).df)


class TestIntervals:
    def test_over_seeds_it_is_scipys_t_interval(self) -> None:
        values = np.array([40.1, 42.5, 41.0])
        low, high = scipy.stats.t.interval(0.95, 2, values.mean(), scipy.stats.sem(values))
        (interval,) = Estimates(values[:, None], None, 0.0).intervals()
        assert (interval.low, interval.high) == pytest.approx((low, high))
        assert interval.df == 2

    def test_with_one_seed_only_samples_vary(self) -> None:
        whole = estimates(seeds=3)
        assert whole.replicates is not None
        one = Estimates(whole.by_seed[:1], whole.replicates, 20.0)
        for interval, replicates in zip(one.intervals(), whole.replicates.T, strict=True):
            error = replicates.std(ddof=1, dtype=np.float64)
            assert interval.half == pytest.approx(scipy.stats.t.ppf(0.975, 20) * error)
            assert interval.df == pytest.approx(20)

    def test_nothing_is_known_of_one_seed_without_outcomes(self) -> None:
        (interval,) = Estimates(np.array([[50.0]]), None, 0.0).intervals()
        assert math.isnan(interval.half)

    def test_variances_are_added(self) -> None:
        whole = estimates()
        assert whole.replicates is not None
        sample = whole.replicates[:, 0].var(ddof=1, dtype=np.float64)
        seed = whole.by_seed[:, 0].var(ddof=1) / 3
        df = (sample + seed) ** 2 / (sample**2 / 20 + seed**2 / 2)
        interval = whole.intervals()[0]
        assert interval.df == pytest.approx(df)
        assert interval.half == pytest.approx(
            scipy.stats.t.ppf(0.975, df) * math.sqrt(sample + seed)
        )

    @pytest.mark.parametrize("seeds", [1, 3])
    def test_draws_without_a_value_are_left_out_if_they_are_few(self, seeds: int) -> None:
        """Otherwise there is no interval, and not one over seeds alone, which is narrower."""
        whole = estimates(methods=3, seeds=seeds)
        assert whole.replicates is not None
        draws = len(whole.replicates)
        few = int(draws * statistics.MAX_UNDEFINED)
        kept = Estimates(whole.by_seed, whole.replicates[few:], whole.sample_df)
        for undefined in (few, few + 1):
            replicates = whole.replicates.copy()
            replicates[:undefined, 1] = np.nan
            gaps = Estimates(whole.by_seed, replicates, whole.sample_df)
            halves = [interval.half for interval in gaps.intervals()]
            errors, _ = gaps.errors()
            if undefined == few:
                assert halves == [interval.half for interval in kept.intervals()]
                assert errors == pytest.approx(kept.errors()[0])
                assert gaps.difference(0, 1) == kept.difference(0, 1)
            else:
                assert np.isnan(halves).all()
                assert np.isnan(errors).all()
                assert np.isnan(gaps.difference(0, 1).half)
                assert gaps.difference(0, 2) == whole.difference(0, 2)

    def test_a_method_without_a_value_leaves_no_draw_out(self) -> None:
        whole = estimates(methods=3, seeds=2)
        assert whole.replicates is not None
        by_seed, replicates = whole.by_seed.copy(), whole.replicates.copy()
        by_seed[:, 1] = replicates[:, 1] = np.nan
        halves = [i.half for i in Estimates(by_seed, replicates, whole.sample_df).intervals()]
        expected = [interval.half for interval in whole.intervals()]
        assert halves == pytest.approx([expected[0], np.nan, expected[2]], nan_ok=True)

    def test_a_difference_is_paired(self) -> None:
        whole = estimates()
        assert whole.replicates is not None
        sample = (whole.replicates[:, 1] - whole.replicates[:, 0]).var(ddof=1, dtype=np.float64)
        seed = (whole.by_seed[:, 1] - whole.by_seed[:, 0]).var(ddof=1) / 3
        difference = whole.difference(1, 0)
        assert difference.value == pytest.approx(whole.values[1] - whole.values[0])
        error = math.sqrt(sample + seed)
        assert difference.half == pytest.approx(
            scipy.stats.t.ppf(0.975, difference.df) * error, rel=1e-4
        )
        t = difference.value / error
        assert difference.p == pytest.approx(2 * scipy.stats.t.sf(abs(t), difference.df), rel=1e-3)
        back = whole.difference(0, 1)
        assert (back.value, back.half) == pytest.approx((-difference.value, difference.half))

    def test_a_method_does_not_differ_from_its_twin(self) -> None:
        whole = estimates(methods=1)
        assert whole.replicates is not None
        twins = Estimates(
            np.repeat(whole.by_seed, 2, axis=1), np.repeat(whole.replicates, 2, axis=1), 20.0
        )
        difference = twins.difference(0, 1)
        assert (difference.value, difference.half, difference.p) == (0, 0, 1)
        assert statistics.rank(twins).ranks.tolist() == [1, 1]

    def test_differences_of_scores_only_are_scipys_paired_t_test(self) -> None:
        by_seed = RNG.normal(50, 1, (5, 2))
        difference = Estimates(by_seed, None, 0.0).difference(0, 1)
        reference = scipy.stats.ttest_rel(by_seed[:, 0], by_seed[:, 1])
        interval = reference.confidence_interval(0.95)
        assert difference.p == pytest.approx(reference.pvalue)
        assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))

    @given(st.floats(0.5, 0.999), st.sampled_from([1.0, 2.0, 7.5, 200.0]))
    @PROPERTY
    def test_quantiles_are_scipys(self, level: float, df: float) -> None:
        both = statistics.quantile(level, np.array([df, math.inf]))
        upper = (1 + level) / 2
        expected = [scipy.stats.t.ppf(upper, df), scipy.stats.norm.ppf(upper)]
        assert both == pytest.approx(expected, rel=1e-6)


class TestHolm:
    @given(
        st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.05, 1.0]), min_size=1, max_size=30)
    )
    @PROPERTY
    def test_rejects_what_statsmodels_rejects(self, p: list[float]) -> None:
        from statsmodels.stats.multitest import multipletests

        adjusted = multipletests(p, method="holm")[1]
        assume(np.abs(adjusted - 0.05).min() > 1e-12)  # where rounding decides
        bound = statistics.holm_bound(np.array(p), 0.05)
        assert [each < bound for each in p] == (adjusted < 0.05).tolist()


class TestRanks:
    def test_count_the_methods_that_are_significantly_better(self) -> None:
        from statsmodels.stats.multitest import multipletests

        whole = estimates(methods=6)
        ranking = statistics.rank(whole)
        pairs = list(itertools.combinations(range(6), 2))
        assert ranking.pairs == len(pairs) == 15
        adjusted = multipletests([whole.difference(i, j).p for i, j in pairs], method="holm")[1]
        expected = [1] * 6
        for (i, j), p in zip(pairs, adjusted, strict=True):
            if p < 0.05:
                expected[i if whole.values[i] < whole.values[j] else j] += 1
        assert ranking.ranks.tolist() == expected
        assert len(set(expected)) > 1

    @pytest.mark.parametrize("pairs", [1, 40, 100])
    def test_a_few_methods_at_a_time_have_the_same_ranks(
        self, pairs: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = estimates(methods=17)
        expected = statistics.rank(whole)
        monkeypatch.setattr(statistics, "_PAIRS", pairs)
        ranking = statistics.rank(whole.of(range(17)))
        assert ranking.ranks.tolist() == expected.ranks.tolist()
        assert ranking.detectable == pytest.approx(expected.detectable, rel=1e-12)
        assert len(set(ranking.ranks.tolist())) > 3

    def test_memory_grows_by_three_numbers_for_each_pair(self) -> None:
        methods = 3000
        by_seed = np.random.default_rng(0).normal(50, 5, (3, methods))
        tracemalloc.start()
        statistics.rank(Estimates(by_seed, None, 0.0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * 8 * methods**2 / 2  # two more while they are sorted, and a block

    def test_the_detectable_difference_is_detected(self) -> None:
        """A pair with exactly that difference is found in about 80 % of repeats."""
        generator = np.random.default_rng(3)
        size = statistics.rank(
            Estimates(np.zeros((1, 2)), generator.normal(0, 1, (4000, 2)).astype("f4"), 30.0)
        ).detectable
        found = 0
        for _ in range(400):
            by_seed = np.array([[0.0, size]]) + generator.normal(0, 1, (1, 2))
            replicates = generator.normal(0, 1, (400, 2)).astype("f4")
            found += statistics.rank(Estimates(by_seed, replicates, 30.0)).ranks[0] == 2
        assert 0.72 < found / 400 < 0.88

    def test_one_method_is_not_ranked_against_any(self) -> None:
        ranking = statistics.rank(estimates(methods=1))
        assert ranking.ranks.tolist() == [1]
        assert math.isnan(ranking.detectable)


class TestManyTasks:
    scores = np.random.default_rng(5).normal(50 + np.arange(5), 3, (10, 5))

    def test_friedman_p_is_that_of_scipy(self) -> None:
        p, _ = task_ranks.friedman(self.scores)
        assert p == pytest.approx(scipy.stats.friedmanchisquare(*self.scores.T).pvalue)

    def test_friedman_ranks_are_those_of_bencheval(self) -> None:
        evaluator_module = pytest.importorskip("bencheval.evaluator", reason="not for Python 3.14")
        _, ranks = task_ranks.friedman(self.scores)
        frame = pd.DataFrame(
            [
                {"task": f"t{t}", "method": f"m{m}", "metric_error": 100 - self.scores[t, m]}
                for t in range(10)
                for m in range(5)
            ]
        )
        evaluator = evaluator_module.BenchmarkEvaluator(columns_to_agg_extra=[])
        reference = evaluator.compute_rank(evaluator.compute_results_per_task(frame))
        assert ranks == pytest.approx([reference[f"m{m}"] for m in range(5)])

    def test_nemenyi_is_that_of_scikit_posthocs(self) -> None:
        """The critical difference has the p-value 0.05 there."""
        import scikit_posthocs

        difference = task_ranks.nemenyi_difference(5, 10)
        p = scikit_posthocs.posthoc_nemenyi_friedman(self.scores).to_numpy()
        _, ranks = task_ranks.friedman(self.scores)
        for i, j in itertools.combinations(range(5), 2):
            assert (abs(ranks[i] - ranks[j]) > difference) == (p[i, j] < 0.05)
        # Demsar, JMLR 2006, table 5: q = 2.728 for five classifiers.
        assert difference == pytest.approx(2.728 * math.sqrt(5 * 6 / (6 * 10)), rel=1e-3)
