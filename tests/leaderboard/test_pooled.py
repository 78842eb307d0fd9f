"""Pooled test samples: against naive loops over samples, and where the values must agree."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.manifest.manifest import Manifest
from leaderboard import pooled, resampling, statistics
from leaderboard.board import MEAN, POOLED, Board, build_boards
from leaderboard.intervals import Statistics
from leaderboard.outcomes import Outcomes
from leaderboard.predictions import CountedSamples, counted_samples
from leaderboard.render.data import to_frame
from leaderboard.render.latex import to_latex
from leaderboard.render.markdown import to_markdown
from leaderboard.render.parquet import to_table
from leaderboard.render.terminal import Screen, to_terminal
from leaderboard.replicate_files import ReplicateFiles
from leaderboard.rows import SCHEMA, Row
from tests.leaderboard.grids import TASKS, failed, row
from tests.leaderboard.pooled_cases import (
    KEYS,
    LABELS,
    SEEDS,
    Known,
    all_samples,
    board_of,
    naive_metrics,
    random_runs,
    suite_of,
)


@pytest.fixture(scope="module")
def known(icons: Manifest) -> Known:
    return random_runs(icons)


@pytest.fixture(scope="module")
def board(icons: Manifest, known: Known) -> Board:
    return board_of(icons, known, TASKS)


def test_values_are_those_of_a_naive_loop(icons: Manifest, known: Known, board: Board) -> None:
    samples = all_samples(icons)
    naive = {
        (label, seed): naive_metrics(icons, known, label, seed, samples)
        for label in LABELS
        for seed in SEEDS
    }
    cells = board.of_task(POOLED)
    for label in LABELS:
        by_seed = {key: [naive[label, seed][key] for seed in SEEDS] for key in KEYS}
        by_seed["disruption"] = [
            naive["source", seed]["missing"] - naive[label, seed]["missing"] for seed in SEEDS
        ]
        by_seed["disruption_bn_stats"] = [
            naive["bn-stats", seed]["missing"] - naive[label, seed]["missing"] for seed in SEEDS
        ]
        by_seed["gap_closed"] = [
            100
            * (naive[label, seed]["overall"] - naive["source", seed]["overall"])
            / (naive["oracle-finetune", seed]["overall"] - naive["source", seed]["overall"])
            for seed in SEEDS
        ]
        for key, values in by_seed.items():
            assert cells[label][key] == pytest.approx(fmean(values), abs=1e-9), (label, key)
            assert cells[label][f"{key}_std"] == pytest.approx(stdev(values), abs=1e-9)


def test_standard_errors_are_those_of_a_naive_bootstrap(
    icons: Manifest, known: Known, board: Board
) -> None:
    """Each test set has one group less, and all methods and seeds share the draws."""
    assert board.statistics is not None
    generator = np.random.default_rng(1)
    members = {}
    for task in TASKS:
        groups = counted_samples(icons, task).groups
        members[task] = [np.flatnonzero(groups == name) for name in sorted(set(groups))]
    drawn_values: dict[str, list[float]] = {key: [] for key in KEYS}
    for _ in range(300):
        drawn = {
            task: np.concatenate(
                [of_task[g] for g in generator.integers(len(of_task), size=len(of_task) - 1)]
            ).tolist()
            for task, of_task in members.items()
        }
        values = naive_metrics(icons, known, "finetune", 0, drawn, one_less=True)
        for key in KEYS:
            drawn_values[key].append(values[key])
    one = {
        key: entry
        for key, entry in known.items()
        if entry[0]["label"] == "finetune" and entry[0]["seed"] == 0
    }
    alone = _statistics(icons, one)
    for key in KEYS:
        replicates = alone.estimates[POOLED, key].replicates
        assert replicates is not None
        error = float(replicates.std(ddof=1))
        # Both standard errors are estimates, of 300 and of 2,000 draws.
        assert error == pytest.approx(stdev(drawn_values[key]), rel=0.2), key


def _statistics(icons: Manifest, known: Known, tasks: Sequence[str] = TASKS) -> Statistics:
    rows = [of_run for of_run, _ in known.values()]
    seeds = sorted({of_run["seed"] for of_run in rows})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    suite = dataclasses.replace(suite_of(icons, tasks), seeds=tuple(seeds))
    (built,) = build_boards(suite, icons, table, (), lambda of_run: known[of_run["key"]][1], None)
    assert built.statistics is not None
    return built.statistics


def test_micro_values_are_weighted_means_of_tasks(known: Known, board: Board) -> None:
    for group, count in (("seen", "n_seen"), ("missing", "n_missing")):
        of_runs = [run for run, _ in known.values() if (run["label"], run["seed"]) == ("source", 0)]
        weights = [run[count] for run in of_runs]
        expected = np.average([run[group] for run in of_runs], weights=weights)
        assert board.statistics is not None
        estimates = board.statistics.estimates[POOLED, group]
        at = board.statistics.labels[POOLED].index("source")
        assert estimates.by_seed[0, at] == pytest.approx(expected, abs=1e-9)


def test_degrees_of_freedom_weigh_test_sets_by_their_images(icons: Manifest) -> None:
    known = resampling.Resampling(TASKS, icons)
    groups = [len(known.groups(task)) for task in TASKS]
    sizes = [len(counted_samples(icons, task).labels) for task in TASKS]
    expected = statistics.sample_degrees_of_freedom(groups, sizes)
    assert known.degrees_of_freedom(TASKS, pooled=True) == expected
    assert known.degrees_of_freedom(TASKS[:1], pooled=True) == groups[0] - 1


class TestAgreement:
    def test_one_task_pooled_is_that_task(self, icons: Manifest, known: Known) -> None:
        """The functions behind the board, which has no pooled values of a single task."""
        task = TASKS[0]
        rows = [run for run, _ in known.values() if run["task"] == task]
        varying = _statistics(icons, {run["key"]: known[run["key"]] for run in rows}, [task])
        assert POOLED not in varying.labels
        labels = list(varying.labels[task])

        def outcomes(_: str, label: str) -> list[Outcomes]:
            return [
                known[run["key"]][1]
                for run in sorted(rows, key=lambda run: run["seed"])
                if run["label"] == label
            ]

        micro = pooled.micro_metrics(varying.grid, labels)
        macro = pooled.macro_metrics([task], labels, icons, outcomes)
        values = pooled.column_values({**micro, **macro}, labels, {})
        means = {key: of.mean(axis=0) for key, of in values.items()}
        draws = pooled.pooled_replicates(
            resampling.Resampling([task], icons), [task], labels, outcomes, means
        )
        for key in (*KEYS, "disruption", "gap_closed"):
            of_task = varying.estimates[task, key]
            assert values[key] == pytest.approx(of_task.by_seed, abs=1e-9), key
            assert draws[key] == pytest.approx(of_task.replicates, abs=1e-4, nan_ok=True), key

    def test_equal_numbers_of_images_give_the_mean(self, icons: Manifest) -> None:
        rows = [
            row(icons, label, task, seed, seen=10.0 * number + seed, missing=5.0 * number)
            for label in ("a", "b")
            for number, task in enumerate(TASKS)
            for seed in SEEDS
        ]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        (built,) = build_boards(suite_of(icons, TASKS), icons, table)
        for label in ("a", "b"):
            for key in ("seen", "missing"):
                one, other = (built.of_task(of)[label][key] for of in (POOLED, MEAN))
                assert one == pytest.approx(other, abs=1e-9)


class TestWhatHasNone:
    def test_areas(self, board: Board) -> None:
        cells = board.of_task(POOLED).values()
        assert all(math.isnan(cell[key]) for cell in cells for key in ("ausuc", "openworld_auc"))

    def test_costs_are_means_over_tasks(self, board: Board) -> None:
        assert {cell["total_steps"] for cell in board.of_task(POOLED).values()} == {1.0}

    def test_classes_without_outcomes(self, icons: Manifest, known: Known) -> None:
        rows = [of_run for of_run, _ in known.values()]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        (built,) = build_boards(suite_of(icons, TASKS), icons, table)
        of_source = built.of_task(POOLED)["source"]
        assert math.isnan(of_source["macro_seen"])
        assert of_source["seen"] > 0

    def test_tasks_that_share_a_test_set(self, icons: Manifest) -> None:
        assert pooled.is_pooled(TASKS, icons)
        assert not pooled.is_pooled(("outline-color", "solid-color"), icons)
        assert not pooled.is_pooled(TASKS[:1], icons)

    def test_a_method_with_a_failed_run(self, icons: Manifest, known: Known) -> None:
        rows = [of_run for of_run, _ in known.values()]
        lost = rows.pop(0)
        rows.append(failed(icons, lost["label"], lost["task"], lost["seed"]))
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        (built,) = build_boards(suite_of(icons, TASKS), icons, table)
        cell = built.of_task(POOLED)[lost["label"]]
        assert cell["state"] == "failed"
        assert math.isnan(cell["overall"])
        assert built.of_task(POOLED)["source"]["overall"] > 0


def test_outcomes_are_read_once(icons: Manifest, known: Known, tmp_path: Path) -> None:
    asked: list[str] = []

    def outcomes(of_run: Row) -> Outcomes:
        asked.append(of_run["key"])
        return known[of_run["key"]][1]

    table = pa.Table.from_pylist([of_run for of_run, _ in known.values()], schema=SCHEMA)
    build_boards(suite_of(icons, TASKS), icons, table, (), outcomes, ReplicateFiles(tmp_path))
    assert sorted(asked) == sorted(known)


@settings(deadline=None, database=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_tasks_with_few_of_the_classes(seed: int) -> None:
    """Each with its own, in numbers of any distance: against loops over samples, draw by draw."""
    generator = np.random.default_rng(seed)
    tasks, everything = [], []
    for _ in range(2):
        n_groups, size, draws = 3, 12, 4
        classes = generator.choice(50, 5, replace=False)
        labels = generator.choice(classes, size)
        is_seen = np.isin(labels, classes[:2])
        groups = generator.integers(n_groups, size=size)
        counts = generator.multinomial(n_groups, [1 / 3] * 3, size=draws).astype(np.float32)
        right = generator.random((2, size)) < 0.5
        runs = [Outcomes(of_run, of_run, np.zeros(size, np.float32)) for of_run in right]
        samples = CountedSamples(labels, is_seen, groups.astype(str).tolist())
        tasks.append(resampling.Drawn(counts, groups, samples, [runs]))
        everything.append((counts, groups, labels, is_seen, right.mean(axis=0)))
    for drawn, parts in ((tasks[0], everything[:1]), (pooled.PooledDrawn(tasks), everything)):
        for key, group in (("macro_overall", None), ("macro_seen", True), ("macro_missing", False)):
            with np.errstate(invalid="ignore", divide="ignore"):
                found = drawn.mean(0, key)
            for draw in range(4):
                hits: dict[int, list[float]] = defaultdict(list)
                for counts, groups, labels, is_seen, right in parts:
                    for i, label in enumerate(labels):
                        if group in (None, is_seen[i]):
                            hits[label] += [right[i]] * int(counts[draw, groups[i]])
                means = [100 * fmean(of_class) for of_class in hits.values() if of_class]
                expected = fmean(means) if means else math.nan
                assert found[draw] == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_values_on_disk_are_the_same_and_need_no_outcomes(
    icons: Manifest, known: Known, board: Board, tmp_path: Path
) -> None:
    files = ReplicateFiles(tmp_path)
    board_of(icons, known, TASKS, files)
    rows = [of_run for of_run, _ in known.values()]

    def refuse(of_run: Row) -> Outcomes:
        pytest.fail("read again")

    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    (again,) = build_boards(suite_of(icons, TASKS), icons, table, (), refuse, files)
    expected = board.cells[board.cells["task"] == POOLED].reset_index(drop=True)
    found = again.cells[again.cells["task"] == POOLED].reset_index(drop=True)
    assert found.equals(expected)


class TestWhereTheyAreShown:
    def test_files_have_them(self, board: Board) -> None:
        frame = to_frame([board])
        assert list(frame["task"].unique()) == [*TASKS, MEAN, POOLED]
        of_pooled = frame[frame["task"] == POOLED].set_index("label")
        assert of_pooled["overall_half"].notna().all()
        assert of_pooled.loc["source", "rank"] >= 1
        rows = [one for one in to_table([board]).to_pylist() if one["task"] == POOLED]
        assert {len(one["run_keys"]) for one in rows} == {len(TASKS) * len(SEEDS)}

    def test_markdown_has_them_after_the_mean(self, board: Board) -> None:
        headings = [line for line in to_markdown([board]).splitlines() if line.startswith("## ")]
        totals = [sum(of) for of in zip(*(counts for _, *counts in board.counts), strict=True)]
        assert headings[1].startswith(
            f"## Test images of 3 tasks pooled (n_seen = {totals[0]}, n_missing = {totals[1]})"
        )

    def test_terminal_and_latex_have_them_on_request(self, board: Board) -> None:
        shown = dataclasses.replace(board, shows_pooled=True)
        assert "pooled" not in to_terminal([board], Screen(200), False)
        assert "Test images of 3 tasks pooled" in to_terminal([shown], Screen(200), False)
        assert "test images of 3 tasks pooled" in to_latex([shown])
        value = f"{board.of_task(POOLED)['source']['overall']:.1f}"
        assert value in to_latex([shown])
