"""The remarks below a leaderboard table: failed and missing runs, inapplicable methods, notes."""

from __future__ import annotations

import json
import math

import pytest

from benchmark.isolation.facts import FULL_ISOLATION
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import MEAN
from leaderboard.columns import COLUMNS
from leaderboard.remarks import MAX_MESSAGE
from tests.leaderboard.grids import TASKS, build, cell, failed, grid, row


def test_a_failure_is_named_and_never_averaged_over(suite: Suite, icons: Manifest) -> None:
    rows = grid(icons, "source") + grid(icons, "finetune")
    rows = [r for r in rows if (r["label"], r["task"], r["seed"]) != ("finetune", TASKS[0], 1)]
    rows.append(failed(icons, "finetune", TASKS[0], 1, "out of memory\nsecond line"))
    (board,) = build(suite, icons, rows)
    for task in (TASKS[0], MEAN):
        row = cell(board, "finetune", task)
        assert row["state"] == "failed"
        assert all(math.isnan(row[c.key]) for c in COLUMNS)
    assert cell(board, "finetune", TASKS[1])["overall"] == 50.0
    assert cell(board, "source", MEAN)["overall"] == 50.0
    assert board.problems == ("failed: finetune on outline-solid, seed 1: out of memory",)


def test_what_was_not_run_is_named(suite: Suite, icons: Manifest) -> None:
    rows = [r for r in grid(icons, "mine") if (r["task"], r["seed"]) != (TASKS[2], 2)]
    rows = [r for r in rows if r["task"] != TASKS[1]]
    (board,) = build(suite, icons, rows)
    assert board.problems == (
        "not run: source, finetune",
        "not run: mine on solid-outline, seeds 0-2; outline+solid-color, seed 2",
    )
    assert (cell(board, "mine", TASKS[2])["state"], cell(board, "mine", TASKS[2])["seeds"]) == (
        "partial",
        2,
    )
    assert cell(board, "mine", TASKS[1])["seeds"] == 0
    assert cell(board, "mine", MEAN)["state"] == "partial"
    assert math.isnan(cell(board, "mine", MEAN)["overall"])


def test_tasks_that_miss_the_same_seeds_are_named_together(suite: Suite, icons: Manifest) -> None:
    (board,) = build(suite, icons, [row(icons, "mine", task) for task in TASKS])
    assert board.problems[1] == "not run: mine on every task, seeds 1-2"
    (board,) = build(suite, icons, [*grid(icons, "mine")[:3], *grid(icons, "finetune")])
    assert board.problems[1] == f"not run: mine on {TASKS[1]}, {TASKS[2]}, seeds 0-2"


def test_methods_that_miss_the_same_runs_are_named_together(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, label, TASKS[0]) for label in ("mine", "other")]
    rows += [row(icons, "third", TASKS[0], 1), *grid(icons, "source"), *grid(icons, "finetune")]
    (board,) = build(suite, icons, rows)
    elsewhere = f"{TASKS[1]}, {TASKS[2]}, seeds 0-2"
    assert board.problems == (
        f"not run: mine, other on {TASKS[0]}, seeds 1-2; {elsewhere}",
        f"not run: third on {TASKS[0]}, seeds 0, 2; {elsewhere}",
    )


def test_what_does_not_apply_is_not_called_not_run(suite: Suite, icons: Manifest) -> None:
    rows = grid(icons, "source") + grid(icons, "finetune")
    rows.append(row(icons, "bn-stats", TASKS[0], status="not-applicable", error_message="no"))
    rows.append(row(icons, "bn-stats", TASKS[1]))
    (board,) = build(suite, icons, rows)
    assert [p for p in board.problems if "bn-stats" in p] == [
        f"not run: bn-stats on {TASKS[1]}, seeds 1-2; {TASKS[2]}, seeds 0-2",
    ]
    assert board.not_applicable == (f"bn-stats on {TASKS[0]}: no",)


def test_a_method_that_applies_to_no_task(suite: Suite, icons: Manifest) -> None:
    rows = grid(icons, "bn-stats", status="not-applicable", error_message="no BatchNorm\nmore")
    (board,) = build(suite, icons, rows)
    assert board.not_applicable == ("bn-stats on every task: no BatchNorm",)
    assert cell(board, "bn-stats", MEAN)["state"] == "not-applicable"


def test_equal_notes_of_several_seeds_are_one_line(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, "mine", TASKS[1], s, notes=json.dumps(["slow"])) for s in range(3)]
    rows.append(row(icons, "mine", TASKS[0], 1, notes=json.dumps(["slow", "odd"])))
    (board,) = build(suite, icons, rows)
    assert board.notes == (
        "mine on outline-solid, seed 1: odd",
        "mine on outline-solid, seed 1: slow",
        "mine on solid-outline, seeds 0-2: slow",
    )


def test_searches_of_a_method_are_one_note(suite: Suite, icons: Manifest) -> None:
    def searched(task: str, seed: int, alpha: str) -> dict[str, object]:
        tried = [{"settings": {"alpha": a}, "seen": 1.0, "missing": 2.0} for a in ("0", "1")]
        tried.append({"settings": {"alpha": "9"}, "seen": None, "missing": None})
        search = {"by": "x", "folds": 3, "steps": 7, "chosen": {"alpha": alpha}, "tried": tried}
        return row(icons, "mine", task, seed, search=json.dumps(search))

    rows = [searched(task, seed, "1") for task in (TASKS[0], TASKS[2]) for seed in (0, 1)]
    rows += [searched(TASKS[1], seed, "0") for seed in (0, 1)]
    (board,) = build(suite, icons, rows)
    assert board.notes == (
        "mine, seeds 0-1, chosen by x (3 folds, 9 settings tried, 3 of them failed, "
        f"21 gradient steps): alpha=1 on {TASKS[0]}, {TASKS[2]}; alpha=0 on {TASKS[1]}",
    )


def test_a_tuned_method_has_been_run(suite: Suite, icons: Manifest) -> None:
    search = {"by": "x", "folds": 3, "steps": 7, "chosen": {}, "tried": []}
    rows = grid(icons, "source", search=json.dumps(search))
    (board,) = build(suite, icons, rows)
    assert not any("source" in line for line in board.problems)


def test_a_message_is_cut(suite: Suite, icons: Manifest) -> None:
    text = f"what it is {'x' * MAX_MESSAGE} what to do (as it says\nin the details)"
    (board,) = build(suite, icons, [failed(icons, "source", TASKS[0], 0, text)])
    start = "failed: source on outline-solid, seed 0: "
    assert board.problems[0].startswith(f"{start}what it is xx")
    assert board.problems[0].endswith("xx what to do (as it says …)")
    assert " … xx" in board.problems[0]
    assert len(board.problems[0].removeprefix(start).encode()) <= MAX_MESSAGE


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", "a\u009bx", "a\u202eb", "a\r", "a\ud800"])
def test_control_characters_are_replaced(suite: Suite, icons: Manifest, text: str) -> None:
    rows = [failed(icons, "source", TASKS[0], 0, f"boom {text}")] if "\ud800" not in text else []
    label = f"mine(x={text})".encode(errors="replace").decode()
    (board,) = build(suite, icons, [*rows, *grid(icons, label)])
    texts = [*board.labels, *board.problems]
    assert all(line.isprintable() for line in texts)
    assert board.problems[0].startswith("failed: source") or not rows


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", "a\u202eb"])
def test_control_characters_in_what_a_run_was_made_from_are_replaced(
    suite: Suite, icons: Manifest, text: str
) -> None:
    search = {"by": text, "folds": 3, "steps": 7, "chosen": {text: text}, "tried": []}
    rows = [
        *grid(icons, "tuned", search=json.dumps(search)),
        *grid(icons, "mine"),
        *grid(icons, "mine", computation=json.dumps({text: 1})),
        row(icons, "other", TASKS[0], source_digest=text),
    ]
    boards = build(suite, icons, rows)
    versions = [line for board in boards for line in board.versions]
    notes = [line for board in boards for line in board.notes]
    sources = [board.context["source models"] for board in boards]
    assert any("not averaged: 9 runs of code - (other a" in line for line in versions)
    assert any("tuned, seeds 0-2, chosen by a" in line for line in notes)
    assert any(line.startswith("outline a") for line in sources)
    assert all(line.isprintable() for line in (*versions, *notes, *sources))


def test_methods_that_ran_without_full_isolation_are_named(suite: Suite, icons: Manifest) -> None:
    full, partial = json.dumps(FULL_ISOLATION), json.dumps(FULL_ISOLATION[1:])
    rows = [
        *(r | {"isolation": full} for r in grid(icons, "source")),
        *(r | {"isolation": "[]"} for r in grid(icons, "finetune")),
        *(r | {"isolation": full} for r in grid(icons, "other")[1:]),
        *(r | {"isolation": partial} for r in [*grid(icons, "mine"), *grid(icons, "other")[:1]]),
    ]
    (board,) = build(suite, icons, rows)
    without = "ran without these measures"
    assert [note.partition("; ")[0] for note in board.notes] == [
        f"not fully isolated: mine, other {without}: no-filesystem",
        f"not fully isolated: finetune {without}: no-filesystem, no-network, no-processes, "
        "no-inspection",
    ]
    rows = [r | {"isolation": full} for r in grid(icons, "source")]
    assert build(suite, icons, rows)[0].notes == ()
