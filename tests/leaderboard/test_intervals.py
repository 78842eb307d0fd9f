"""How the values of a board vary: against naive loops over draws, samples and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import areas, columns, resampling, statistics
from leaderboard.board import build_boards
from leaderboard.intervals import Statistics, statistics_of
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import CountedSamples, counted_samples
from leaderboard.render.legend import interval_line
from leaderboard.resampling import Drawn
from leaderboard.rows import MEAN, POOLED, SCHEMA, Row
from leaderboard.scoring import score, score_with_outcomes
from tests.conftest import Draft
from tests.leaderboard.grids import TASKS, row
from tests.leaderboard.pooled_cases import suite_of

SEEDS = (0, 1, 2)
LABELS = ("finetune", "oracle-finetune", "source")
Known = dict[str, tuple[dict[str, Any], Outcomes]]


@pytest.fixture(scope="module")
def known(icons: Manifest) -> Known:
    """Rows with the scores of random logits, and their outcomes, by key."""
    generator = np.random.default_rng(11)
    entries: Known = {}
    for task in TASKS:
        samples = counted_samples(icons, task)
        seen = icons.seen_mask(icons.task(task))
        for label, skill in zip(LABELS, (1.5, 2.5, 1.0), strict=True):
            for seed in SEEDS:
                logits = generator.normal(0, 1, (len(samples.labels), seen.size))
                logits[np.arange(len(logits)), samples.labels] += skill
                logits[:, seen] += skill
                scores, outcomes = score_with_outcomes(logits, samples.labels, seen)
                of_run = row(icons, label, task, seed, **scores.as_dict())
                entries[of_run["key"]] = of_run, outcomes
    return entries


@pytest.fixture(scope="module")
def varying(icons: Manifest, known: Known) -> Statistics:
    rows = _with_columns([of_run for of_run, _ in known.values()])
    return statistics_of(TASKS, SEEDS, rows, icons, lambda of_run: known[of_run["key"]][1])


def _with_columns(rows: list[dict[str, Any]]) -> list[Row]:
    result = []
    for of_run in rows:
        cell = of_run["task"], of_run["seed"]
        peers = {r["label"]: r for r in rows if (r["task"], r["seed"]) == cell}
        result.append({**of_run, **columns.column_values(of_run, peers)})
    return result


def _naive(
    icons: Manifest, known: Known, task: str, draws: int = 1500
) -> Mapping[str, Mapping[str, float]]:
    """Standard errors of means over seeds, by label and column, from a plain cluster bootstrap."""
    samples = counted_samples(icons, task)
    names = sorted(set(samples.groups))
    members = [np.flatnonzero(samples.groups == name) for name in names]
    generator = np.random.default_rng(1)
    values: dict[str, dict[str, list[float]]] = {label: {} for label in LABELS}
    for _ in range(draws):
        drawn = np.concatenate(
            [members[g] for g in generator.integers(len(names), size=len(names))]
        )
        is_seen = samples.is_seen[drawn]
        metrics: dict[tuple[str, int], dict[str, float]] = {}
        for of_run, outcomes in known.values():
            if of_run["task"] != task:
                continue
            right = outcomes.right[drawn]
            seen, missing = 100 * right[is_seen].mean(), 100 * right[~is_seen].mean()
            metrics[of_run["label"], of_run["seed"]] = {
                "overall": 100 * right.mean(),
                "seen": seen,
                "missing": missing,
                "harmonic": 2 * seen * missing / (seen + missing),
            }
        for label in LABELS:
            for name in ("overall", "missing", "harmonic", "disruption", "gap_closed"):
                of_seeds = []
                for seed in SEEDS:
                    own, source = metrics[label, seed], metrics["source", seed]
                    top = metrics["oracle-finetune", seed]["overall"]
                    of_seeds.append(
                        source["missing"] - own["missing"]
                        if name == "disruption"
                        else 100 * (own["overall"] - source["overall"]) / (top - source["overall"])
                        if name == "gap_closed"
                        else own[name]
                    )
                values[label].setdefault(name, []).append(float(np.mean(of_seeds)))
    return {
        label: {name: float(np.std(of_name)) for name, of_name in of_label.items()}
        for label, of_label in values.items()
    }


class TestSamples:
    def test_standard_errors_are_those_of_a_naive_bootstrap(
        self, icons: Manifest, known: Known, varying: Statistics
    ) -> None:
        task = TASKS[0]
        for label, errors in _naive(icons, known, task).items():
            i = varying.labels[task].index(label)
            for name, error in errors.items():
                replicates = varying.estimates[task, name].replicates
                assert replicates is not None
                assert replicates[:, i].std() == pytest.approx(error, rel=0.1, abs=1e-6), name

    def test_the_mean_is_over_the_same_draws_of_a_shared_test_set(
        self, icons: Manifest, known: Known
    ) -> None:
        """Two tasks with one target vary together, two with different targets do not."""
        rows = _with_columns([of_run for of_run, _ in known.values()])
        varying = statistics_of(TASKS, SEEDS, rows, icons, lambda of_run: known[of_run["key"]][1])
        one = varying.estimates[TASKS[0], "overall"].replicates
        other = varying.estimates[TASKS[1], "overall"].replicates
        mean = varying.estimates[MEAN, "overall"].replicates
        assert one is not None
        assert other is not None
        assert mean is not None
        assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.1
        parts = [varying.estimates[task, "overall"].replicates for task in TASKS]
        assert mean == pytest.approx(np.mean(parts, axis=0), abs=1e-5)

    def test_shared_test_sets(self, icons: Manifest) -> None:
        tasks = ("outline-color", "solid-color")
        known: Known = {}
        samples = counted_samples(icons, tasks[0])
        right = np.random.default_rng(2).random(len(samples.labels)) < 0.5
        outcomes = Outcomes(right, right, np.zeros(len(right), dtype=np.float32))
        for task in tasks:
            for seed in SEEDS:
                of_run = row(icons, "finetune", task, seed)
                known[of_run["key"]] = of_run, outcomes
        rows = _with_columns([of_run for of_run, _ in known.values()])
        varying = statistics_of(tasks, SEEDS, rows, icons, lambda _: outcomes)
        first, second = (varying.estimates[task, "overall"].replicates for task in tasks)
        assert first is not None
        assert second is not None
        assert first == pytest.approx(second)
        assert varying.groups == len(set(samples.groups))

    def test_a_mean_over_seeds_varies_as_the_mean_of_each_seed(
        self, icons: Manifest, known: Known, varying: Statistics
    ) -> None:
        """Linear columns are computed from the mean outcomes of all seeds at once."""
        rows = _with_columns([of_run for of_run, _ in known.values()])
        parts = [
            statistics_of(
                TASKS,
                [seed],
                [of_run for of_run in rows if of_run["seed"] == seed],
                icons,
                lambda of_run: known[of_run["key"]][1],
            )
            for seed in SEEDS
        ]
        for (task, key), estimates in varying.estimates.items():
            one_by_one = [part.estimates[task, key].replicates for part in parts]
            if estimates.replicates is None:
                assert one_by_one == [None] * len(SEEDS)
            else:
                expected = np.mean(one_by_one, axis=0)
                assert estimates.replicates == pytest.approx(expected, abs=1e-4, nan_ok=True), key

    @pytest.mark.parametrize("paired", [0, resampling.MAX_PAIRED_GROUPS])
    def test_the_parts_of_draws_and_runs_do_not_matter(
        self, icons: Manifest, known: Known, monkeypatch: pytest.MonkeyPatch, paired: int
    ) -> None:
        monkeypatch.setattr(resampling, "MAX_PAIRED_GROUPS", paired)
        rows = _with_columns([of_run for of_run, _ in known.values()])
        arguments = TASKS, SEEDS, rows, icons, lambda of_run: known[of_run["key"]][1]
        whole = statistics_of(*arguments)
        for module in (areas, resampling):  # 333 draws of 3 runs; one run
            monkeypatch.setattr(module, "PART_VALUES", 1000)
        parts = statistics_of(*arguments)
        for cell, estimates in whole.estimates.items():
            if estimates.replicates is not None:
                expected = pytest.approx(estimates.replicates, abs=1e-9, nan_ok=True)
                assert parts.estimates[cell].replicates == expected

    @pytest.mark.parametrize("n_groups", [6, resampling.MAX_PAIRED_GROUPS + 1])
    def test_a_draw_without_missing_samples_has_no_value(self, n_groups: int) -> None:
        """All of them are in one group, which many draws lack."""
        generator = np.random.default_rng(5)
        groups = np.repeat(np.arange(n_groups), 4)
        is_seen = groups > 0
        samples = CountedSamples((~is_seen).astype(np.int64), is_seen, groups.astype(object))
        right = generator.random(len(groups)) < 0.5
        right[:4] = True
        margin = generator.normal(size=len(groups)).astype(np.float32)
        counts = statistics.draw_counts(n_groups, 100)
        drawn = Drawn(counts, groups, samples, [[Outcomes(right, right, margin)]])
        values = {column.key: np.zeros(1) for column in resampling.SAMPLED}
        in_draws = resampling.in_draws(drawn, ["source"], values)
        lacks = counts[:, 0] == 0
        assert 10 < lacks.sum() < 90
        for key in ("missing", "macro_missing", "harmonic", "ausuc", "openworld_auc"):
            assert np.isnan(in_draws[key][:, 0]).tolist() == lacks.tolist(), key
        for key in ("overall", "seen"):
            assert np.isfinite(in_draws[key]).all(), key

    @pytest.mark.parametrize(("paired", "error"), [(resampling.MAX_PAIRED_GROUPS, 1e-9), (0, 0.1)])
    def test_an_area_is_that_of_the_drawn_samples(
        self, icons: Manifest, monkeypatch: pytest.MonkeyPatch, paired: int, error: float
    ) -> None:
        """With many groups it is so to first order only."""
        monkeypatch.setattr(resampling, "MAX_PAIRED_GROUPS", paired)
        samples = counted_samples(icons, TASKS[0])
        seen = icons.seen_mask(icons.task(TASKS[0]))
        names = sorted(set(samples.groups))
        groups = np.array([names.index(name) for name in samples.groups])
        counts = statistics.draw_counts(len(names), 20)
        generator = np.random.default_rng(4)
        logits = generator.normal(0, 1, (2, len(samples.labels), seen.size))
        logits[:, np.arange(len(samples.labels)), samples.labels] += 2
        runs = [score_with_outcomes(of_run, samples.labels, seen)[1] for of_run in logits]
        of_draws = Drawn(counts, groups, samples, [runs]).mean(0, "ausuc")
        for draw in range(20):
            drawn = np.repeat(np.arange(groups.size), counts[draw][groups].astype(int))
            each = [score(of_run[drawn], samples.labels[drawn], seen).ausuc for of_run in logits]
            assert of_draws[draw] == pytest.approx(np.mean(each), abs=error)

    @pytest.mark.parametrize("seed", range(5))
    def test_the_influence_of_a_sample_on_the_area(self, seed: int) -> None:
        """It is the derivative of the area with respect to the weight of the sample."""
        generator = np.random.default_rng(seed)
        is_seen = generator.random(40) < 0.5
        within = generator.random(40) < 0.7
        margin = np.round(generator.normal(0, 1, 40), 1).astype(np.float32)  # with ties
        outcomes = Outcomes(within, within, margin)
        other = Outcomes(within, within, generator.normal(0, 1, 40).astype(np.float32))
        influences, of_runs = areas.area_influences([other, outcomes], is_seen)
        influence, area = influences[1], of_runs[1]

        def weighted(weights: Any) -> float:
            total = 0.0
            for s in np.flatnonzero(is_seen & within):
                for m in np.flatnonzero(~is_seen & within):
                    share = (margin[m] < margin[s]) + 0.5 * (margin[m] == margin[s])
                    total += weights[s] * weights[m] * share
            return float(total / (weights[is_seen].sum() * weights[~is_seen].sum()))

        assert area == pytest.approx(weighted(np.ones(40)))
        groups = generator.integers(4, size=40)
        copies = np.array([2.0, 0.0, 1.0, 3.0])
        pairs = areas.pairs_in_order(outcomes, is_seen, groups, 4)
        weights = copies[groups]
        sizes = weights[is_seen].sum() * weights[~is_seen].sum()
        assert copies @ pairs @ copies / sizes == pytest.approx(weighted(weights))
        assert influence.sum() == pytest.approx(0, abs=1e-12)
        for i in range(40):
            up, down = np.ones(40), np.ones(40)
            up[i] += 1e-5
            down[i] -= 1e-5
            assert influence[i] == pytest.approx((weighted(up) - weighted(down)) / 2e-5, abs=1e-8)

    def test_macro_accuracies_vary_over_classes_that_a_draw_has(
        self, icons: Manifest, known: Known
    ) -> None:
        samples = counted_samples(icons, TASKS[0])
        names = sorted(set(samples.groups))
        groups = np.array([names.index(name) for name in samples.groups])
        counts = statistics.draw_counts(len(names), 3)
        outcomes = next(o for r, o in known.values() if r["task"] == TASKS[0])
        drawn = Drawn(counts, groups, samples, [[outcomes]])
        is_seen = samples.is_seen
        parts = {"overall": np.ones_like(is_seen), "seen": is_seen, "missing": ~is_seen}
        for draw, (name, part) in itertools.product(range(3), parts.items()):
            weights = counts[draw][groups]
            accuracies = [
                100 * (weights * outcomes.right)[mask].sum() / weights[mask].sum()
                for c in np.unique(samples.labels[part])
                if weights[mask := samples.labels == c].sum()
            ]
            metric = drawn.mean(0, f"macro_{name}")[draw]
            assert metric == pytest.approx(np.mean(accuracies), rel=1e-5)


class TestBoard:
    def test_cells_have_the_intervals_and_ranks(
        self, suite: Suite, icons: Manifest, known: Known, varying: Statistics
    ) -> None:
        table = pa.Table.from_pylist([of_run for of_run, _ in known.values()], schema=SCHEMA)
        (board,) = build_boards(
            suite, icons, table, outcomes=lambda of_run: known[of_run["key"]][1]
        )
        cells = board.of_task(MEAN)
        assert set(varying.intervals(MEAN, "overall")) == set(cells) == set(LABELS)
        for label, interval in varying.intervals(MEAN, "overall").items():
            assert cells[label]["overall_half"] == pytest.approx(interval.half)
            assert cells[label]["overall"] == pytest.approx(interval.value)
        ranking = varying.ranking()
        assert ranking is not None
        assert {label: cells[label]["rank"] for label in ranking[0]} == ranking[0]

    def test_oracles_and_incomplete_methods_have_no_rank(
        self, suite: Suite, icons: Manifest, known: Known
    ) -> None:
        rows = _with_columns(
            [
                {**r, "track": "oracle" if r["label"] == "oracle-finetune" else "standard"}
                for r, _ in known.values()
                if (r["label"], r["seed"]) != ("source", 2)
            ]
        )
        varying = statistics_of(TASKS, SEEDS, rows, icons, None)
        assert varying.labels[MEAN] == ("finetune", "oracle-finetune")
        assert varying.ranking() is None
        assert varying.difference("finetune", "source") is None
        assert varying.difference("finetune", "oracle-finetune") is not None

    def test_without_outcomes_only_seeds_vary(self, icons: Manifest, known: Known) -> None:
        rows = _with_columns([of_run for of_run, _ in known.values()])
        varying = statistics_of(TASKS, SEEDS, rows, icons, None)
        assert varying.groups is None
        for label, interval in varying.intervals(TASKS[0], "seen").items():
            values = [r["seen"] for r in rows if (r["label"], r["task"]) == (label, TASKS[0])]
            low, high = scipy.stats.t.interval(0.95, 2, np.mean(values), scipy.stats.sem(values))
            assert (interval.low, interval.high) == pytest.approx((low, high))

    def test_the_values_do_not_depend_on_the_order_of_rows(
        self, icons: Manifest, known: Known, varying: Statistics
    ) -> None:
        rows = _with_columns([of_run for of_run, _ in known.values()])[::-1]
        again = statistics_of(TASKS, SEEDS, rows, icons, lambda r: known[r["key"]][1])
        assert again.intervals(MEAN, "ausuc") == varying.intervals(MEAN, "ausuc")

    def test_costs_vary_over_seeds_only(self, icons: Manifest, known: Known) -> None:
        rows = [{**r, "total_steps": 100 + r["seed"]} for r, _ in known.values()]
        varying = statistics_of(
            TASKS, SEEDS, _with_columns(rows), icons, lambda r: known[r["key"]][1]
        )
        interval = varying.intervals(MEAN, "total_steps")["finetune"]
        low, high = scipy.stats.t.interval(0.95, 2, 101, scipy.stats.sem([100, 101, 102]))
        assert (interval.low, interval.high, interval.df) == pytest.approx((low, high, 2))


def test_a_board_of_one_seed_has_intervals_over_samples(
    suite: Suite, icons: Manifest, known: Known
) -> None:
    one = dataclasses.replace(suite, seeds=(0,))
    rows = _with_columns([r for r, _ in known.values() if r["seed"] == 0])
    varying = statistics_of(one.tasks, one.seeds, rows, icons, lambda r: known[r["key"]][1])
    assert all(0 < i.half < 30 for i in varying.intervals(MEAN, "overall").values())


@pytest.mark.parametrize("seeds", [(0,), SEEDS])
def test_a_test_set_of_one_group_has_no_interval_and_no_rank(
    draft: Draft, seeds: tuple[int, ...]
) -> None:
    """All of its draws are the same, which says nothing of other groups."""
    for image in draft.rows_of(domain="solid", split="test"):
        image["group"] = "alone"
    mini = draft.read()
    known: Known = {}
    generator = np.random.default_rng(3)
    for task, label, seed in itertools.product(TASKS[:2], LABELS, seeds):
        samples = counted_samples(mini, task)
        seen = mini.seen_mask(mini.task(task))
        logits = generator.normal(0, 1, (len(samples.labels), seen.size))
        scores, outcomes = score_with_outcomes(logits, samples.labels, seen)
        of_run = row(mini, label, task, seed, **scores.as_dict())
        known[of_run["key"]] = of_run, outcomes
    table = pa.Table.from_pylist([of_run for of_run, _ in known.values()], schema=SCHEMA)
    suite = suite_of(mini, TASKS[:2])
    (board,) = build_boards(
        dataclasses.replace(suite, seeds=seeds),
        mini,
        table,
        outcomes=lambda of_run: known[of_run["key"]][1],
    )
    for task, is_known in ((TASKS[0], False), (TASKS[1], True), (MEAN, False), (POOLED, False)):
        for cell in board.of_task(task).values():
            assert math.isnan(cell["overall_half"]) != is_known, task
            assert math.isnan(cell["rank"]) != is_known, task
    assert board.statistics is not None
    difference = board.statistics.difference(*LABELS[:2], task=TASKS[0])
    assert difference is not None
    assert math.isnan(difference.half)
    assert math.isnan(difference.p)
    assert "a test set with a single group has no intervals" in interval_line(board)
