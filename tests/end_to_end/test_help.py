"""Help and usage errors of every command."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from htbench.cli.main import htbench as group


def commands(command=group, path=("htbench",)):
    """Every command and subcommand, with the words that call it."""
    yield pytest.param(path, command, id=" ".join(path))
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                subcommand = command.get_command(context, name)
                assert subcommand is not None
                yield from commands(subcommand, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_help_has_two_examples_that_parse(htbench, path, command):
    result = htbench(*path[1:], "--help")
    assert result.returncode == 0
    examples = result.stdout.partition("Examples:\n")[2].splitlines()
    examples = [line.split() for line in examples]
    examples = [words for words in examples if words[: len(path)] == list(path)]
    assert len(examples) >= 2
    for words in examples:
        assert parses(words[1:]), " ".join(words)


def parses(words):
    """Whether the commands and options of a line exist; nothing is run."""
    words = words[: next((i for i, w in enumerate(words) if w in ("#", "|")), len(words))]
    command = group
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            subcommand = command.get_command(context, words[0])
        assert subcommand is not None, words
        command, words = subcommand, words[1:]
    options = {name for p in command.params for name in p.opts}
    return all(w in options for w in words if w.startswith("--"))


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom htbench.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"
    assert "htbench run --suite icons" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["run"], ["run", "--suite"], ["score"], ["list", "nope"], ["doctor", "--nope"]],
    ids=" ".join,
)
def test_a_command_that_click_refuses(htbench, arguments):
    assert re.match("Usage: htbench|Error: Option", htbench(*arguments).sentence)


def test_version(htbench):
    assert re.fullmatch(r"htbench, version \d+\.\d+\.\d+\n", htbench("--version").stdout)
