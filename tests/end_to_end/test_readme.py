"""README's method runs as printed; the tables of docs/ list what the benchmark has."""

from __future__ import annotations

import re
from pathlib import Path

import click

from benchmark.manifest.suite import load_suite
from benchmark.methods.find import builtin_methods
from htbench.cli.main import htbench as group
from leaderboard.gamma_star import NAME as GAMMA_STAR

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_example_method_runs(htbench, mini, tmp_path):
    text = page("README.md")
    (code,) = re.findall(r"<!-- plugin -->\n```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "half_way.py"
    path.write_text(code)
    result = htbench(
        "run",
        *mini.options(tmp_path / "ws"),
        "--plugin",
        path,
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--set",
        "alpha=0.3",
    )
    assert result.returncode == 0, result.stderr
    assert "| half-way(alpha=0.3)" in result.stdout


def test_the_table_of_commands_is_complete():
    context = click.Context(group)
    text = page("docs/commands.md")
    rows = re.findall(r"^\| `htbench ([a-z]+)([^`]*)` \|", text, re.MULTILINE)
    assert {name for name, _ in rows} == set(group.list_commands(context))
    for name, rest in rows:
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            names = re.match(r" ([a-z\\|]+)", rest).group(1).split("\\|")
            assert set(names) == set(command.list_commands(context)), name


def test_the_board_has_every_method_of_the_suite():
    board = page("docs/board.md").partition("<!-- board")[2].partition("<!-- end of board -->")[0]
    rows = {row.split("|")[1].split()[0] for row in board.splitlines() if row.startswith("| ")}
    assert rows == {"method", GAMMA_STAR, *load_suite("icons").methods}


def test_the_table_of_methods_is_what_the_methods_say(htbench):
    """``make board`` writes it. Its numbers come from a run and are not checked here."""
    table = (
        page("docs/methods.md")
        .partition("<!-- methods:")[2]
        .partition("<!-- end of methods -->")[0]
    )
    expected = htbench("list", "methods", "--suite", "icons-full", "--markdown").stdout
    ours, theirs = (_rows(table) for table in (table, expected))
    assert [row[:4] for row in ours] == [row[:4] for row in theirs], "make board"
    assert {row[0] for row in ours[2:]} == {*builtin_methods(), GAMMA_STAR}
    numbers = [cell for row in ours[2:] for cell in row[4:]]
    assert len(numbers) == 3 * len(ours[2:])
    assert all(re.fullmatch(r"-|\d+\.\d", cell) for cell in numbers)


def _rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, whatever its columns' widths."""
    rows = [row for row in table.splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    return [[re.sub("--+", "-", cell) for cell in row] for row in cells]
