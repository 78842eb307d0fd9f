"""The README's example method runs as it is printed, and its commands are real."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from benchmark.cli.main import htbench

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def text() -> str:
    return README.read_text("utf-8")


def test_the_example_method_runs(mini, text, tmp_path):
    (code,) = re.findall(r"<!-- plugin -->\n```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "half_way.py"
    path.write_text(code)
    done = mini.run(
        tmp_path / "ws", "--plugin", path, "--task", "outline-solid", "--seed", "0",
        "--set", "alpha=0.3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| half-way(alpha=0.3)" in done.stdout


def test_every_command_of_the_table_exists(text):
    context = click.Context(htbench)
    rows = re.findall(r"^\| `htbench ([a-z]+)([^`]*)` \|", text, re.MULTILINE)
    assert {name for name, _ in rows} == set(htbench.list_commands(context))
    for name, rest in rows:
        command = htbench.get_command(context, name)
        if isinstance(command, click.Group):
            named = re.match(r" ([a-z\\|]+)", rest).group(1).split("\\|")
            assert set(named) == set(command.list_commands(context)), name


def test_the_board_has_every_method_of_the_suite(text):
    from benchmark.manifest import load_suite

    board = text.partition("<!-- board")[2].partition("<!-- end of board -->")[0]
    rows = {row.split("|")[1].split()[0] for row in board.splitlines() if row.startswith("| ")}
    assert rows == {"method", *load_suite("icons").methods}


def test_linked_files_exist(text):
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (README.parent / target).exists(), target
