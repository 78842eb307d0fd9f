"""The paired differences of pooled test samples: against naive loops, and in every output."""

from __future__ import annotations

import json
import math
import re
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import pooled, resampling, statistics
from leaderboard.board import MEAN, POOLED, Board, build_boards
from leaderboard.intervals import Statistics
from leaderboard.outcomes import Outcomes
from leaderboard.pairs import Pair
from leaderboard.predictions import counted_samples
from leaderboard.render import compare_figure
from leaderboard.render.pair import pair_json, pair_latex, pair_markdown, pair_terminal
from leaderboard.render.terminal import Screen
from leaderboard.rows import SCHEMA
from tests.leaderboard.grids import TASKS, macro_board, row
from tests.leaderboard.pooled_cases import (
    KEYS,
    SEEDS,
    Known,
    all_samples,
    board_of,
    naive_metrics,
    random_runs,
    suite_of,
)

PAIR = "finetune", "bn-stats"


@pytest.fixture(scope="module")
def known(icons: Manifest) -> Known:
    return random_runs(icons)


@pytest.fixture(scope="module")
def board(icons: Manifest, known: Known) -> Board:
    return board_of(icons, known, TASKS)


def test_they_are_those_of_a_naive_loop(icons: Manifest, known: Known, board: Board) -> None:
    pair, samples = Pair(board, *PAIR), all_samples(icons)
    for key in KEYS:
        first, second = (
            [naive_metrics(icons, known, label, seed, samples)[key] for seed in SEEDS]
            for label in PAIR
        )
        difference = pair.difference(POOLED, key)
        assert difference is not None
        assert difference.value == pytest.approx(fmean(first) - fmean(second), abs=1e-9)


def test_in_draws_they_are_those_of_a_naive_loop(
    icons: Manifest, known: Known, board: Board
) -> None:
    """The same draws of each test set for both methods and all seeds."""
    assert board.statistics is not None
    found = _differences_in_draws(board.statistics, *PAIR)
    for number in range(12):
        drawn = {task: _draw(icons, task, number) for task in TASKS}
        values = {
            label: [
                naive_metrics(icons, known, label, seed, drawn, one_less=True) for seed in SEEDS
            ]
            for label in PAIR
        }
        for key in KEYS:
            first, second = (fmean(of[key] for of in values[label]) for label in PAIR)
            assert found[key][number] == pytest.approx(first - second, abs=1e-3), key


def test_their_interval_and_p_are_those_of_the_sum_of_both_variances(
    icons: Manifest, board: Board
) -> None:
    assert board.statistics is not None
    labels = board.statistics.labels[POOLED]
    i, j = map(labels.index, PAIR)
    groups = [len(set(counted_samples(icons, task).groups)) for task in TASKS]
    sizes = [len(counted_samples(icons, task).labels) for task in TASKS]
    parts = [size**2 / n for size, n in zip(sizes, groups, strict=True)]
    sample_df = sum(parts) ** 2 / sum(
        part**2 / (n - 1) for part, n in zip(parts, groups, strict=True)
    )
    for key, of_draws in _differences_in_draws(board.statistics, *PAIR).items():
        by_seed = board.statistics.estimates[POOLED, key].by_seed
        over_seeds = stdev(by_seed[:, i] - by_seed[:, j]) ** 2 / len(SEEDS)
        over_samples = float(np.var(of_draws, ddof=1))
        variance = over_seeds + over_samples
        df = variance**2 / (over_samples**2 / sample_df + over_seeds**2 / (len(SEEDS) - 1))
        difference = Pair(board, *PAIR).difference(POOLED, key)
        assert difference is not None
        half = scipy.stats.t.ppf(0.975, df) * math.sqrt(variance)
        assert difference.half == pytest.approx(half, rel=1e-4), key
        p = 2 * scipy.stats.t.sf(abs(difference.value) / math.sqrt(variance), df)
        assert difference.p == pytest.approx(p, rel=1e-3), key


@settings(deadline=None, database=None, max_examples=8)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_tasks_of_the_same_outcomes_have_the_difference_of_one(
    icons: Manifest, seed: int, times: int
) -> None:
    """Of one task, or of several that are drawn alike: every pooled value is that of each."""
    task, generator = TASKS[0], np.random.default_rng(seed)
    known = resampling.Resampling([task], icons)
    size = len(counted_samples(icons, task).labels)
    runs = [
        [
            Outcomes(right, right, np.zeros(size, dtype=np.float32))
            for right in generator.random((2, size)) < generator.random()
        ]
        for _ in range(2)
    ]
    drawn = known.drawn(task, runs)
    zeros = {column.key: np.zeros(2) for column in resampling.SAMPLED}
    of_task, of_pooled = (
        resampling.in_draws(draws, ["first", "second"], zeros)
        for draws in (drawn, pooled.PooledDrawn([drawn] * times))
    )
    for key in KEYS:
        alone, together = (of[key][:, 0] - of[key][:, 1] for of in (of_task, of_pooled))
        assert together == pytest.approx(alone, abs=1e-3), key


def test_every_form_of_output_has_a_row_of_them(board: Board) -> None:
    pair = Pair(board, *PAIR)
    difference = pair.difference(POOLED)
    assert difference is not None
    shown = f"{difference.value:+.1f} ± {difference.half:.1f}"
    assert pair.tasks == [MEAN, POOLED, *TASKS]
    for text in (pair_terminal(pair, Screen(200)), pair_markdown(pair)):
        (line,) = (line for line in text.splitlines() if "pooled test images  " in line)
        assert shown in line
        assert "pooled test images: accuracies, also those of a class, over the test images" in text
    lines = pair_latex(pair).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("pooled test images &"))
    assert shown.replace("±", r"\pm") in lines[at]
    assert lines[at + 1] == r"\midrule"
    of_pooled = json.loads(pair_json(pair))["tasks"][1]
    assert of_pooled["task"] == POOLED
    names = ("difference", "low", "high", "p")
    expected = [difference.value, difference.low, difference.high, difference.p]
    assert [of_pooled["overall"][name] for name in names] == expected
    assert "pooled test images" in compare_figure.draw(pair, "svg").decode()


def test_tasks_that_share_a_test_set_have_none(icons: Manifest) -> None:
    tasks = ("outline-color", "solid-color")
    rows = [row(icons, of, task, seed) for of in PAIR for task in tasks for seed in SEEDS]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    (built,) = build_boards(suite_of(icons, tasks), icons, table)
    pair = Pair(built, *PAIR)
    assert pair.tasks == [MEAN, *tasks]
    assert "pooled" not in pair_markdown(pair)


def test_accuracies_of_classes_need_outcomes(suite: Suite, icons: Manifest) -> None:
    pair = Pair(macro_board(suite, icons), "mine", "finetune")
    difference = pair.difference(POOLED)
    assert difference is not None
    assert math.isnan(difference.value)
    assert math.isnan(difference.p)
    text = pair_markdown(pair)
    assert re.search(r"\| pooled test images( +\| +-){6} +\|", text)
    assert "; not known here, because accuracies of classes need the outcome of each image" in text
    assert json.loads(pair_json(pair))["tasks"][1]["macro_overall"]["p"] is None


def _draw(icons: Manifest, task: str, number: int) -> list[int]:
    """The samples of a test set in a draw, one after the other."""
    groups = counted_samples(icons, task).groups
    names = sorted(set(groups))
    most = max(len(set(counted_samples(icons, of).groups)) for of in TASKS)
    seed = int(digest_json(icons.task(task).target)[:8], 16)
    counts = statistics.draw_counts(len(names), statistics.draws_for(most), seed)[number]
    return [
        sample
        for name, count in zip(names, counts, strict=True)
        for sample in np.flatnonzero(groups == name).tolist() * int(count)
    ]


def _differences_in_draws(varying: Statistics, first: str, second: str) -> dict[str, Any]:
    """By key, the differences of pooled values in each draw."""
    i, j = (varying.labels[POOLED].index(label) for label in (first, second))
    found = {}
    for key in KEYS:
        estimates = varying.estimates[POOLED, key]
        assert estimates.replicates is not None
        values = estimates.replicates.astype(np.float64) + estimates.values
        found[key] = values[:, i] - values[:, j]
    return found
