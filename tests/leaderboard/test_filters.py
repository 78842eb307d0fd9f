"""A part of a suite's tables: some tasks, methods or states."""

from __future__ import annotations

import pytest

from benchmark.errors import UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import MEAN, Board
from leaderboard.filters import STATES, check_known, only
from tests.leaderboard.grids import TASKS, build, failed, grid, row


@pytest.fixture
def board(suite: Suite, icons: Manifest) -> Board:
    """Complete, partial, failed and inapplicable methods."""
    rows = grid(icons, "source") + grid(icons, "mine") + grid(icons, "mine(alpha=2.0)")
    rows += grid(icons, "part")[1:]
    rows += [*grid(icons, "bad")[1:], failed(icons, "bad", TASKS[0], 0)]
    rows += grid(icons, "na", status="not-applicable", error_message="no BatchNorm")
    (board,) = build(suite, icons, rows)
    return board


def test_no_filter_changes_nothing(board: Board) -> None:
    assert only([board], (), ()) == [board]


def test_a_method_is_a_name_or_a_label(board: Board) -> None:
    (mine,) = only([board], ["mine"], ())
    assert mine.labels == ["mine", "mine(alpha=2.0)"]
    (one,) = only([board], ["mine(alpha=2.0)", "bad"], ())
    assert sorted(one.labels) == ["bad", "mine(alpha=2.0)"]
    assert one.problems == (f"failed: bad on {TASKS[0]}, seed 0: m",)
    assert one.context["shown"] == "2 of 6 methods; ranks are among all of them"


def test_a_derived_row_without_its_base_is_not_called_not_run(
    suite: Suite, icons: Manifest
) -> None:
    rows = [row(icons, label, TASKS[0], method=label) for label in ("finetune", "gamma-star")]
    rows[1]["base"] = rows[0]["key"]
    (board,) = build(suite, icons, rows)
    elsewhere = f"{TASKS[0]}, seeds 1-2; {TASKS[1]}, {TASKS[2]}, seeds 0-2"
    assert board.problems[1] == f"not run: finetune on {elsewhere}"
    (shown,) = only([board], ["gamma-star"], ())
    assert shown.labels == ["gamma-star"]
    assert shown.problems == ()


def test_methods_are_shown_by_their_state(board: Board) -> None:
    labels = {state: only([board], (), [state])[0].labels for state in STATES}
    assert labels == {
        "ok": ["mine", "mine(alpha=2.0)", "source"],
        "partial": ["part"],
        "failed": ["bad"],
        "not-applicable": ["na"],
    }
    (ok,) = only([board], (), ["ok"])
    assert (ok.problems, ok.not_applicable) == ((), ())
    names = ["state", "rank", "overall", "overall_half"]
    before, after = (b.of_task(MEAN)["mine"] for b in (board, ok))
    assert [after[name] for name in names] == [before[name] for name in names]


def test_an_unknown_method_gets_suggestions(board: Board) -> None:
    with pytest.raises(UsageError, match=r"no runs of method 'minne'; did you mean mine\?"):
        only([board], ["minne"], ())
    with pytest.raises(UsageError, match="no runs of method 'zzz'; there are: bad, mine, "):
        only([board], ["zzz"], ())
    with pytest.raises(UsageError, match="'zzz'; there are no runs of any method; choose"):
        check_known("zzz", [])


def test_nothing_left_is_an_error(board: Board) -> None:
    with pytest.raises(UsageError, match=r"^no method has the state failed; leave out --status"):
        only(only([board], ["mine"], ()), (), ["failed"])
    with pytest.raises(UsageError, match=r"^none of the chosen methods has the state failed; "):
        only([board], ["mine"], ["failed"])


def test_the_mean_is_over_the_tasks_that_are_shown(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, "mine", TASKS[0], seed, overall=10.0) for seed in range(3)]
    rows += [row(icons, "mine", TASKS[2], seed, overall=30.0) for seed in range(3)]
    (board,) = build(suite.part([TASKS[0], TASKS[2]]), icons, rows)
    assert board.of_task(MEAN)["mine"]["overall"] == 20.0
