"""Every command line in a message or a docstring of the suite exists, with its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.htbench.command import all_commands

ROOT = Path(__file__).parents[2]
BUILDERS = ("command", "recommended")  # names of the function that builds commands
PACKAGES = ("htbench", "benchmark", "leaderboard", "baselines", "data_manifests")
COMMANDS = dict(all_commands())
# Its end is that of the line or of the quotation, a semicolon, or the next command.
COMMAND_LINE = re.compile(r"(?<!from )\bhtbench (?=[a-z])((?:(?!\bhtbench\b)[^`;\n])*)")
OTHER_TEXTS = ("htbench stream", "htbench order")  # hashed to seed a random stream


def texts(path: Path) -> Iterator[str]:
    """The strings of a file, and the commands it builds; what it inserts becomes ``X``."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    formatted = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in formatted for part in node.values}
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in BUILDERS:
            words = [w for w in node.args if not isinstance(w, ast.Starred)]
            yield " ".join(
                ["htbench", *(w.value if isinstance(w, ast.Constant) else "X" for w in words)]
            )
    for node in formatted:
        yield "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def command_lines() -> list[tuple[str, str]]:
    """Each command line after the word ``htbench``, with the file that names it."""
    return sorted(
        {
            (str(path.relative_to(ROOT)), match[1].strip())
            for package in PACKAGES
            for path in (ROOT / package).rglob("*.py")
            for text in texts(path)
            for match in COMMAND_LINE.finditer(text)
            if not match[0].startswith(OTHER_TEXTS)
        }
    )


@pytest.mark.parametrize(("file", "line"), command_lines())
def test_a_command_line_that_is_named_exists(file: str, line: str) -> None:
    words = line.split()
    path: tuple[str, ...] = ()
    while isinstance(COMMANDS[path], click.Group) and len(path) < len(words):
        path += (words[len(path)],)
        assert path in COMMANDS, f"{file} names htbench {' '.join(path)}"
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}
    own, _, _ = line.partition(" -- ")  # what follows are options of another command
    for option in re.findall(r"(?<!\S)--[a-z-]+", own):
        assert option in options, f"{file}: htbench {' '.join(path)} has no option {option}"


def test_command_lines_are_found_in_every_kind_of_string() -> None:
    lines = command_lines()
    assert ("benchmark/manifest/suite.py", "run --suite X") in lines
    assert ("htbench/cli/run.py", "run --suite icons") in lines
    assert len(lines) > 80
