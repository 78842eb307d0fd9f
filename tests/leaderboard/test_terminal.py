"""Tables that fit the width of a terminal."""

from __future__ import annotations

import dataclasses

import pytest
from rich.cells import cell_len

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import Board
from leaderboard.render.terminal import Grid, Screen, middle, moment, to_terminal
from tests.leaderboard.grids import TASKS, build, failed, grid, row

LONG = "a-method-with-a-very-long-name(alpha=0.123456, beta=0.5)"


@pytest.fixture
def board(suite: Suite, icons: Manifest) -> Board:
    rows = grid(icons, "source") + grid(icons, LONG, overall=60.0) + grid(icons, "part")[1:]
    rows += [*grid(icons, "bad")[1:], failed(icons, "bad", TASKS[0], 0, "out of memory")]
    rows += grid(icons, "oracle-finetune", track="oracle", overall=90.0)
    (board,) = build(suite, icons, rows)
    return board


def table_lines(text: str) -> list[str]:
    """The heading of the first table and its rows."""
    lines = text.splitlines()
    rule = next(i for i, line in enumerate(lines) if line.startswith("──"))
    end = next(i for i in range(rule, len(lines)) if lines[i].startswith(("Not shown", "- ")))
    return [lines[rule - 1], *(line for line in lines[rule + 1 : end] if line)]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("tasks", [True, False])
def test_no_line_is_wider_than_the_terminal(board: Board, width: int, tasks: bool) -> None:
    text = to_terminal([board], Screen(width), tasks)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_columns_are_hidden_from_the_right_and_named(board: Board) -> None:
    narrow = to_terminal([board], Screen(64), tasks=False)
    heading = table_lines(narrow)[0].split()
    assert heading[1:5] == ["method", "overall", "seen", "missing"]
    assert "Hidden at this width: " in narrow
    assert "MiB. To see" in " ".join(narrow.split())
    wide = to_terminal([board], Screen(200), tasks=False)
    assert table_lines(wide)[0].split()[-1] == "MiB"
    assert "Hidden" not in wide


def test_a_column_of_some_tables_is_explained(suite: Suite, icons: Manifest) -> None:
    rows = [
        row(icons, label, task, seed, missing=40.0 + 40 * seed * (task == TASKS[1]))
        for label in ("source", "mine")
        for task in TASKS
        for seed in range(3)
    ]
    text = to_terminal(build(suite, icons, rows), Screen(71), tasks=True)
    headings = [line.split() for line in text.splitlines() if line.split()[1:2] == ["method"]]
    assert [heading[-1] for heading in headings] == ["disr.", "H", "disr.", "H"]
    assert "- H: harmonic mean" in text
    assert "Hidden at this width: H, " in text


def test_a_column_that_was_asked_for_is_hidden_last(board: Board) -> None:
    asked = dataclasses.replace(board, optional_columns=("openworld_auc",))
    heading = table_lines(to_terminal([asked], Screen(78), tasks=False))[0]
    assert heading.split()[-1] == "OWAUC"


def test_a_long_label_is_cut_in_the_middle(board: Board) -> None:
    (line,) = [x for x in table_lines(to_terminal([board], Screen(60), False)) if "…" in x]
    label = line.split()[1]
    assert label.startswith("a-method")
    assert "…" in label
    assert LONG in to_terminal([board], Screen(250), False)


def test_what_has_no_value_is_counted_and_failures_are_shown(board: Board) -> None:
    text = to_terminal([board], Screen(80), tasks=False)
    lines = table_lines(text)
    assert [line.split()[0] for line in lines[-2:]] == ["bad", "oracle"]
    assert "Not shown: 1 method without all runs." in text
    assert f"- failed: bad on {TASKS[0]}, seed 0: out of memory" in text


def test_problems_are_listed_once_and_commands_are_not_wrapped(board: Board) -> None:
    other = dataclasses.replace(board, name="icons, table 2")
    words = ("leaderboard", "--suite", "icons", "--workspace", "a/long/path/of/a/folder" * 3)
    text = to_terminal([board, other], Screen(60), False, words)
    assert text.count("Not in the table\n") == 1
    assert "icons, table 2: failed: bad" in text
    assert f"  htbench {' '.join(words)} --task {TASKS[0]}\n" in text


@pytest.mark.parametrize("words", ["[bold red]x[/]", "\x1b[31mred", "a\nb", ":smile:", "\u202eb"])
def test_text_of_plugins_is_shown_as_it_is(suite: Suite, icons: Manifest, words: str) -> None:
    label = f"mine(x={words})"
    rows = [*grid(icons, label), failed(icons, "bad", TASKS[0], 0, words)]
    (board,) = build(suite, icons, rows)
    text = to_terminal([board], Screen(200), tasks=False)
    assert all(c.isprintable() or c == "\n" for c in text)
    shown = "".join(c if c.isprintable() else "�" for c in words)
    assert f"mine(x={shown})" in text


def test_colours_are_only_where_the_terminal_has_them(board: Board) -> None:
    assert "\x1b[1m" in to_terminal([board], Screen(80, "standard"), tasks=False)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefgh", 6, "abc…gh"),
        ("abcdefgh", 5, "ab…gh"),
        ("漢字漢字漢字", 7, "漢 …字"),
        ("abc", 2, "ab"),
        ("abc", 0, ""),
    ],
)
def test_the_middle_is_cut(text: str, width: int, expected: str) -> None:
    result = middle(text, width)
    assert cell_len(result) <= width
    assert result == expected.replace(" ", "")


def test_a_table_of_text() -> None:
    table = Grid(["key", "method", "n"], 2, [(["k", "m" * 40, "1"], "")])
    text = Screen(40).text([table.fit(40, [2])])
    assert max(map(len, text.splitlines())) <= 40
    assert table.hidden == []


def test_one_task_has_no_mean(suite: Suite, icons: Manifest) -> None:
    one = dataclasses.replace(suite, tasks=TASKS[:1], seeds=(0,))
    (board,) = build(one, icons, [row(icons, "source", TASKS[0])])
    text = to_terminal([board], Screen(80), tasks=False)
    assert "mean" not in text.partition("- overall")[0]
    assert f"{TASKS[0]} (n_seen = 100, n_missing = 100)" in text


def test_a_moment() -> None:
    assert moment(0) == "1970-01-01 00:00 UTC"
    assert moment(1e300) == moment(-1e300) == ""


def test_a_time_that_no_calendar_has_is_left_out(suite: Suite, icons: Manifest) -> None:
    (board,) = build(suite, icons, [row(icons, "source", TASKS[0], measured_finished=1e300)])
    assert "newest run" not in to_terminal([board], Screen(80), tasks=False)
