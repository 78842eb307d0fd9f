"""A user's files with the names of our packages do not hide the suite."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.end_to_end.conftest import Mini

COMMAND = Path(sys.executable).with_name("htbench")
RAISE = "raise SystemExit('a file of the user was imported')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with files and folders that are named like our packages."""
    (tmp_path / "benchmark.py").write_text(RAISE)
    for name in ("baselines", "leaderboard", "data_manifests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(RAISE)
    return tmp_path


def output(
    folder: Path,
    *command: str | Path,
    text: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """What a command prints in a folder.

    Args:
        folder: the working directory.
        command: the command.
        text: its standard input.
        variables: additional environment variables.
    """
    environment = {**os.environ, **variables}
    process = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


SCRIPT = (
    "import htbench\n"
    "print(htbench.load_manifest('icons@2.0').reference, htbench.score.__module__)\n"
)


@pytest.mark.parametrize("path", [None, "."], ids=["", "on PYTHONPATH"])
@pytest.mark.parametrize(
    "command", [(COMMAND,), (sys.executable, "-m", "htbench")], ids=["command", "module"]
)
def test_from_the_command(folder: Path, command: tuple[str, ...], path: str | None) -> None:
    variables = {"PYTHONPATH": path} if path else {}
    assert "icons-full" in output(folder, *command, "list", "suites", variables=variables)


def test_from_a_script_beside_them(folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    assert output(folder, sys.executable, folder / "script.py") == "icons@2.0 leaderboard.scoring\n"


def test_from_the_interpreter_in_that_folder(folder: Path) -> None:
    assert output(folder, sys.executable, "-c", SCRIPT) == "icons@2.0 leaderboard.scoring\n"
    assert output(folder, sys.executable, text=SCRIPT) == "icons@2.0 leaderboard.scoring\n"


def test_a_script_keeps_its_own_modules_of_these_names(folder: Path) -> None:
    (folder / "benchmark.py").write_text("VALUE = 3\n")
    (folder / "leaderboard" / "__init__.py").write_text("from leaderboard import part\n")
    (folder / "leaderboard" / "part.py").write_text("VALUE = 4\n")
    (folder / "script.py").write_text(
        f"import benchmark, leaderboard.part\n{SCRIPT}"
        "print(benchmark.VALUE, leaderboard.part.VALUE)\n"
    )
    assert (
        output(folder, sys.executable, folder / "script.py")
        == "icons@2.0 leaderboard.scoring\n3 4\n"
    )


def test_from_a_run_with_a_plugin_beside_them(folder: Path, mini: Mini) -> None:
    (folder / "plugin.py").write_text(
        "from dataclasses import dataclass\n\nfrom baselines.finetune import Finetune\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Finetune):\n"
        '    """Fine-tune."""\n\n    name = "mine"\n'
    )
    cell = ("--suite", mini.suite, "--task", "outline-solid", "--seed", "0")
    variables = {**mini.environment(), "PYTHONPATH": str(folder)}
    output(folder, COMMAND, "run", *cell, "--plugin", "plugin.py", variables=variables)
    assert [record["status"] for record in mini.records(folder / "workspace")] == ["ok"]
