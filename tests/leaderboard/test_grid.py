"""The numbers of many runs as arrays: from rows and from columns, and the same board from them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard import columns
from leaderboard.grid import Grid, with_columns
from leaderboard.row_columns import Rows
from leaderboard.rows import SCHEMA, Row
from leaderboard.task_ranks import friedman, mean_ranks
from tests.leaderboard.grids import TASKS, build, cell, failed, row


@pytest.fixture
def rows(icons: Manifest) -> list[Row]:
    """Rows with random scores in random order; of one method, a run failed and one is missing."""
    random = np.random.default_rng(3)
    labels = ("source", "finetune", "oracle-finetune", "Zed")
    rows = [row(icons, label, task, s) for label in labels for task in TASKS for s in (2, 0, 1)]
    for each in rows:
        each |= {name: random.uniform(1, 99) for name in ("overall", "seen", "missing", "ausuc")}
    rows = [r for r in rows if (r["label"], r["task"]) != ("Zed", TASKS[1]) or r["seed"] == 1]
    rows.append(failed(icons, "Zed", TASKS[1], 0))
    return [rows[i] for i in random.permutation(len(rows))]


def test_rows_and_columns_give_the_same_arrays(rows: list[Row]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    one = Grid.of_rows(rows, TASKS, (2, 0, 1))
    other = Grid.of_rows(Rows(table), TASKS, (2, 0, 1))
    assert one.labels == other.labels == ("Zed", "finetune", "oracle-finetune", "source")
    for name in ("overall", "ausuc", "total_steps"):
        np.testing.assert_array_equal(one.values(name), other.values(name))
    np.testing.assert_array_equal(one.complete, other.complete)
    assert one.present.sum() == len(rows)
    by_cell = {(r["task"], r["label"], r["seed"]): r["overall"] for r in rows}
    for (t, i, k), value in np.ndenumerate(one.values("overall")):
        expected = by_cell.get((TASKS[t], one.labels[i], (2, 0, 1)[k]))
        assert math.isnan(value) if expected is None else value == expected


def test_columns_are_those_that_each_run_has_by_itself(rows: list[Row]) -> None:
    for of_run in with_columns(rows, TASKS, (0, 1, 2)):
        place = of_run["task"], of_run["seed"]
        peers = {
            r["label"]: r for r in rows if (r["task"], r["seed"]) == place and r["status"] == "ok"
        }
        for key, value in columns.column_values(of_run, peers).items():
            if of_run[key] is None:  # an entry of the row, which keeps its type
                assert key in SCHEMA.names
                assert math.isnan(value), key
            else:
                assert of_run[key] == value or (math.isnan(of_run[key]) and math.isnan(value)), key
        assert {name: of_run[name] for name in SCHEMA.names} in rows


def test_the_cells_of_a_board_are_means_of_the_runs(
    suite: Suite, icons: Manifest, rows: list[Row]
) -> None:
    (board,) = build(suite, icons, [dict(r) for r in rows])
    for label in ("source", "finetune"):
        for task in TASKS:
            values = [r["ausuc"] for r in rows if (r["label"], r["task"]) == (label, task)]
            of_task = cell(board, label, task)
            assert of_task["ausuc"] == pytest.approx(np.mean(values), rel=1e-12)
            assert of_task["ausuc_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert cell(board, "Zed", TASKS[1])["state"] == "failed"
    assert math.isnan(cell(board, "Zed", TASKS[1])["overall"])


def test_mean_ranks_with_and_without_ties() -> None:
    assert mean_ranks(np.array([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])).tolist() == [2.0, 2.5, 1.5]
    assert mean_ranks(np.array([[3.0, 3.0, 2.0], [1.0, 2.0, 3.0]])).tolist() == [2.25, 1.75, 2.0]
    assert (0.1 + 0.2) + 0.3 != 0.1 + (0.2 + 0.3)
    assert mean_ranks(np.array([[(0.1 + 0.2) + 0.3, 0.1 + (0.2 + 0.3)]])).tolist() == [1.5, 1.5]


def test_friedman_finds_nothing_in_accuracies_that_differ_by_rounding() -> None:
    equal = np.full((9, 3), 50.0)
    equal[::2, 1] += 7e-15
    p, ranks = friedman(equal)
    assert (p, ranks.tolist()) == (1.0, [2.0, 2.0, 2.0])
