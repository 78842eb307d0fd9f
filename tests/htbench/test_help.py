"""Every help text is fast to print, and every public name resolves."""

from __future__ import annotations

import subprocess
import sys

import pytest

import htbench

HEAVY = ("torch", "torchvision", "pandas", "numpy", "pyarrow", "datasets", "matplotlib", "rich",
         "tabulate", "safetensors")  # fmt: skip

HELP = """
import sys
import click
from htbench.cli.main import htbench

def walk(command, path):
    context = click.Context(command, info_name=path[-1])
    print("###", *path)
    print(command.get_help(context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            walk(command.get_command(context, name), [*path, name])

walk(htbench, ["htbench"])
print("@@@", *sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run(
        [sys.executable, "-c", HELP, *HEAVY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_of_every_command_imports_nothing_slow(printed: str) -> None:
    assert printed.splitlines()[-1].split() == ["@@@"]


def test_the_help_of_every_command_has_at_least_two_examples(printed: str) -> None:
    sections = printed.partition("@@@")[0].split("### ")[1:]
    assert len(sections) > 25
    for section in sections:
        examples = section.partition("Examples:")[2].splitlines()
        count = sum(line.strip().startswith("htbench ") for line in examples)
        assert count >= 2, section.splitlines()[0]


def test_every_public_name_resolves() -> None:
    assert {
        "Method",
        "fit",
        "load_manifest",
        "load_results",
        "open_task",
        "run_suite",
        "score",
    } <= {*htbench.__all__}
    for name in htbench.__all__:
        assert callable(getattr(htbench, name)), name
        assert getattr(htbench, name).__doc__, name
    assert set(htbench.__all__) <= set(dir(htbench))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        htbench.nope  # noqa: B018


def test_importing_the_package_imports_nothing_slow() -> None:
    code = "import sys, htbench; print(*sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
