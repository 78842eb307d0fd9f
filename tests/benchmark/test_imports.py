"""Code that only looks at manifests, splits and results must not wait seconds for torch."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    """Run the code in a new interpreter, and return what it prints."""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_packages_load_no_torch() -> None:
    python(
        "import sys, benchmark.manifest.suite, benchmark.records, benchmark.methods.resolve\n"
        "import benchmark.runs.plan, benchmark.images.store.store\n"
        "import leaderboard, leaderboard.results, leaderboard.board, leaderboard.render\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )


def test_expand_loads_no_torch() -> None:
    code = (
        "import sys, benchmark.manifest.expand, htbench.cli.manifest; print('torch' in sys.modules)"
    )
    assert python(code) == "False\n"


def test_every_help_and_manifest_show_load_no_torch() -> None:
    code = """
import sys

import click

from htbench.cli.main import htbench

def names(group, path=()):
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(None):
            yield from names(group.get_command(None, name), (*path, name))

def run(*arguments):
    try:
        htbench.main(list(arguments), "htbench", standalone_mode=False)
    except SystemExit as error:
        assert not error.code, arguments

for path in list(names(htbench)):
    run(*path, "--help")
assert not {"torch", "pandas", "pyarrow"} & set(sys.modules), "a help page needs click only"
run("manifest", "show", "icons@2.0")
run("list", "suites")
assert not {"torch", "torchvision"} & set(sys.modules)
"""
    out = python(code)
    assert "Usage: htbench manifest show" in out
    assert "outline+solid-color" in out
