"""README's method runs as printed; the tables of docs/ list what the benchmark has."""

from __future__ import annotations

import re
from pathlib import Path

import click

from htbench.cli.main import htbench as group

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
    assert "half-way(alpha=0.3)" in result.stdout


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
