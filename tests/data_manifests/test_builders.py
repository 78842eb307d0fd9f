"""One command runs every builder, with lazy imports; data set folders contain no code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmark.folders import packaged_manifests
from data_manifests.builders.__main__ import main

COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_shows_two_examples(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    prefix = " ".join(["python -m data_manifests.builders", *arguments])
    assert result.stdout.count(f"  {prefix}") == 2


@pytest.mark.parametrize("name", ["domainnet", "office-home", "pacs"])
def test_an_error_is_one_sentence_with_status_2(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [name, "--facts", str(tmp_path)])
    assert result.exit_code == 2
    assert re.fullmatch(
        r"Error: cannot read '.*': .*; use --facts to give the folder that contains it\n",
        result.stderr,
    )


def test_every_data_set_has_a_command() -> None:
    data_sets = {path.parents[1].name for path in packaged_manifests().glob("*/[0-9]*/*.toml")}
    assert len(data_sets) == 6
    assert data_sets < set(COMMANDS)


def test_the_module_runs_and_its_help_imports_no_builder() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['builders', '--help']\n"
        "try:\n    runpy.run_module('data_manifests.builders', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "office-home" in run.stdout


def test_data_set_folders_contain_no_code() -> None:
    root = packaged_manifests()
    assert {path.relative_to(root).parts[0] for path in root.glob("*/**/*.py")} == {"builders"}
