"""The cells that a run was asked for, beside reference methods on the same cells."""

from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import MEAN
from leaderboard.render.asked import AskedCells, asked_markdown, asked_terminal, difference_text
from leaderboard.render.terminal import Screen
from leaderboard.statistics import Difference
from tests.leaderboard.grids import TASKS, build, failed, grid, macro_board

WHOLE = ("leaderboard", "--suite", "icons")


@pytest.fixture
def cells(suite: Suite, icons: Manifest) -> AskedCells:
    scores = {"source": 40.0, "finetune": 50.0, "best": 70.0, "other": 60.0, "mine": 45.0}
    rows = [row for label, overall in scores.items() for row in grid(icons, label, overall=overall)]
    rows += grid(icons, "oracle-finetune", track="oracle", overall=90.0)
    for i, row in enumerate(row for row in rows if row["label"] == "mine"):
        row["overall"] += i % 3  # seeds differ
    (board,) = build(suite, icons, rows)
    return AskedCells(board, {"mine"}, WHOLE)


def test_what_was_asked_for_is_beside_source_finetune_the_best_and_the_oracle(
    cells: AskedCells,
) -> None:
    for task in (MEAN, *TASKS):
        assert cells.labels(task) == ["best", "finetune", "mine", "source", "oracle-finetune"]
    assert cells.tasks == (MEAN, *TASKS)


def test_the_difference_is_paired_with_finetune(cells: AskedCells) -> None:
    lines = asked_markdown(cells).splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {TASKS[0]}") and " mine " in line]
    # Of 45, 46 and 47 minus 50: t = 4.303 with 2 degrees of freedom, times 1 / sqrt(3).
    parts = [cell.strip() for cell in line.split("|")]
    assert parts[2:5] == [r"\* mine", "46.0 ± 2.5", "-4.0 ± 2.5"]
    assert lines[-1] == "The whole board: `htbench leaderboard --suite icons`"


def test_a_macro_board_shows_macro_accuracy(suite: Suite, icons: Manifest) -> None:
    cells = AskedCells(macro_board(suite, icons), {"mine"}, WHOLE)
    assert cells.headings == ["macro overall", "vs finetune", "macro seen", "macro missing"]
    mine = cells.board.of_task(TASKS[0])["mine"]
    assert [value.split()[0] for value in cells.values(TASKS[0], mine)] == [
        "35.0",
        "+15.0",
        "35.0",
        "35.0",
    ]
    assert "difference in macro overall accuracy" in asked_markdown(cells)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_table_fits_the_terminal(cells: AskedCells, width: int) -> None:
    text = asked_terminal(cells, Screen(width))
    assert max(map(cell_len, text.splitlines())) <= width
    assert "* mine" in text
    assert "-4.0 ± 2.5" in text
    assert text.endswith("The whole board:\n  htbench leaderboard --suite icons\n")


def test_absent_references_can_be_run_and_failures_are_named(suite: Suite, icons: Manifest) -> None:
    part = dataclasses.replace(suite, tasks=TASKS[:1], seeds=(0, 1, 2))
    rows = [r for r in grid(icons, "mine") if r["task"] == TASKS[0]][:2]
    rows.append(failed(icons, "mine", TASKS[0], 2, "out of memory"))
    (board,) = build(part, icons, rows)
    for text in (
        asked_markdown(AskedCells(board, {"mine"}, WHOLE)),
        asked_terminal(AskedCells(board, {"mine"}, WHOLE), Screen(80)),
    ):
        assert "mine (failed)" in text
        assert f"- failed: mine on {TASKS[0]}, seed 2: out of memory" in text
        assert "No runs of source, finetune, oracle-finetune to compare with" in text
        assert (
            f"htbench run --suite icons --task {TASKS[0]} --seed 0-2 --method source "
            "--method finetune --method oracle-finetune"
        ) in text


def test_the_command_for_absent_references_names_another_network(
    suite: Suite, icons: Manifest
) -> None:
    (board,) = build(suite, icons, grid(icons, "mine", model='{"name":"resnet18"}'))
    (_, words), _ = AskedCells(board, {"mine"}, WHOLE).ways_on
    assert words.startswith("htbench run --suite icons --model resnet18 --task ")


def test_a_difference_has_a_sign() -> None:
    assert difference_text(Difference(1.25, float("nan"), 1.0, 1.0)) == "+1.2"
    assert difference_text(Difference(-0.01, 0.5, 1.0, 1.0)) == "+0.0 ± 0.5"
