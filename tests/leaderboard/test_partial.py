"""Means over the tasks that are there: only on request, with a badge and without a rank."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import NOT_APPLICABLE
from leaderboard.board import MEAN, Board
from leaderboard.partial import with_partial_means
from leaderboard.render import FORMATS
from tests.leaderboard.grids import TASKS, build, cell, failed, grid, row


@pytest.fixture
def board(suite: Suite, icons: Manifest) -> Board:
    """Methods with failed, missing and inapplicable runs beside a complete one."""
    rows = grid(icons, "source", overall=50.0)
    for seed in range(3):
        for task, overall in zip(TASKS, (10.0, 20.0, 60.0), strict=True):
            mine = row(icons, "mine", task, seed, overall=overall + seed)
            is_failed = (task, seed) == (TASKS[0], 1)
            rows.append(failed(icons, "mine", task, seed) if is_failed else mine)
        rows.append(row(icons, "some", TASKS[2], seed, overall=70.0))
        rows += [row(icons, "bn", task, seed, overall=80.0) for task in TASKS[:2]]
    rows += [row(icons, "seedy", task, 0, overall=30.0) for task in TASKS]
    rows += [failed(icons, "broken", task, 0) for task in TASKS]
    status = {"status": NOT_APPLICABLE, "error_message": "m"}
    rows.append(failed(icons, "bn", TASKS[2], 0) | status)
    (board,) = build(suite, icons, rows)
    return board


@pytest.mark.parametrize(
    ("label", "overall", "tasks", "seeds", "badge"),
    [
        ("mine", 41.0, 2, 3, "(2 of 3 tasks)"),  # without the task of the failed run
        ("some", 70.0, 1, 3, "(1 of 3 tasks)"),
        ("bn", 80.0, 2, 3, "(2 of 3 tasks)"),
        ("seedy", 30.0, 3, 1, "(1 of 3 seeds)"),
    ],
)
def test_a_partial_mean(
    board: Board, label: str, overall: float, tasks: int, seeds: int, badge: str
) -> None:
    before = cell(board, label, MEAN)
    assert math.isnan(before["overall"])
    assert before["tasks"] == 0
    shown = with_partial_means(board)
    mean = cell(shown, label, MEAN)
    assert (mean["overall"], mean["tasks"], mean["seeds"]) == (overall, tasks, seeds)
    assert math.isnan(mean["rank"])
    assert math.isnan(mean["overall_std"])
    assert math.isnan(mean["overall_half"])
    text = FORMATS["markdown"]([shown]).partition("## outline-solid")[0]
    assert f" {label} {badge} " in text
    latex = FORMATS["latex"]([shown])
    assert f"{label} {badge} & ${overall:.1f}$" in latex, "not marked as the best"


def test_other_cells_stay(board: Board) -> None:
    shown = with_partial_means(board)
    partial = ("mine", "some", "bn", "seedy")

    def rest(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame["task"] != MEAN) | ~frame["label"].isin(partial)]

    pd.testing.assert_frame_equal(rest(shown.cells), rest(board.cells))
    assert cell(shown, "broken", MEAN)["state"] == "failed"
    assert shown.problems == board.problems
    assert cell(board, "source", MEAN)["tasks"] == 3
    no_value = cell(board, "mine", TASKS[0])  # two runs have scores, and the third failed
    assert (no_value["tasks"], no_value["seeds"], no_value["runs"]) == (0, 0, 3)


def test_an_incomplete_method_is_listed_once(board: Board) -> None:
    text = FORMATS["markdown"]([with_partial_means(board)])
    assert text.count("- not run: some on ") == 1
    assert text.count("- failed: mine on ") == 1
