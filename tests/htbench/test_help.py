"""The help of every command is fast to print, and its examples can be run as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from benchmark.sources.export import choose_specs, manifest_and_sources, only_spec
from tests.htbench.command import Htbench, all_commands, parse

COMMANDS = dict(all_commands())
HEAVY = (
    "datasets",
    "importlib.metadata",
    "matplotlib",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "safetensors",
    "tabulate",
    "torch",
    "torchvision",
)
FILES = (".csv", ".parquet", ".pth", ".py", ".safetensors", ".toml", ".zip")
PRINT_LOADED = "\nprint('@', *sorted(set(sys.argv[1:]) & set(sys.modules)))"


def loaded_after(code: str) -> list[str]:
    """The heavy modules that a new interpreter has loaded after some code."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}{PRINT_LOADED}", *HEAVY],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()[-1].split()[1:]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import htbench") == []


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    code = (
        "from htbench.cli.main import main\n"
        f"for path in {list(COMMANDS)!r}:\n"
        "    try:\n"
        "        main([*path, '--help'])\n"
        "    except SystemExit as error:\n"
        "        assert not error.code, path\n"
        "    loaded = set(sys.argv[1:]) & set(sys.modules)\n"
        "    assert not loaded, (path, loaded)"
    )
    assert len(COMMANDS) > 25
    assert loaded_after(code) == []


def examples(command: click.Command, path: tuple[str, ...]) -> list[str]:
    """The examples of a command's help, without comments and continued lines joined."""
    text = command.get_help(click.Context(command, info_name=" ".join(["htbench", *path])))
    section = re.split(r"\n\s*\n", text.partition("Examples:\n")[2].replace("\\\n", " "))[0]
    lines = [re.split(r"\s{2,}(?=[a-z])|\s+#", line.strip())[0] for line in section.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_has_two_examples_that_can_be_parsed(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = examples(COMMANDS[path], path)
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line.partition(" > ")[0])
        assert words[: len(path) + 1] == ["htbench", *path]
        words = [str(Path(word).expanduser()) if word[0] == "~" else word for word in words[1:]]
        for word in words:
            # A file or folder of the user.
            if word.endswith((*FILES, "/PACS")) or "OfficeHome" in word:
                Path(word).parent.mkdir(exist_ok=True)
                Path(word).touch() if Path(word).suffix else Path(word).mkdir(exist_ok=True)
        parse(words)


@pytest.mark.parametrize(
    "words",
    [["nope"], ["run"], ["run", "--suite"], ["score"], ["list", "nope"], ["doctor", "--nope"]],
    ids=" ".join,
)
def test_a_mistake_is_explained(htbench: Htbench, words: list[str]) -> None:
    status, out, err = htbench(*words)
    assert (status, out) == (2, "")
    assert re.match("Usage: htbench|Error: Option", err)


def test_version(htbench: Htbench) -> None:
    status, out, _ = htbench("--version")
    assert status == 0
    assert re.fullmatch(r"htbench, version \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize(
    "line", examples(COMMANDS["source", "export"], ("source", "export")), ids=str
)
def test_the_examples_of_source_export_run(
    line: str, htbench: Htbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = htbench(*shlex.split(line)[1:])
    assert (status, err) == (0, "")
    assert out.startswith("wrote model.safetensors and README.md to ")


@pytest.mark.parametrize(
    "line", examples(COMMANDS["source", "import"], ("source", "import")), ids=str
)
def test_the_examples_of_source_import_name_one_model_that_no_manifest_fixes(line: str) -> None:
    words = shlex.split(line)
    manifest, of_tasks = manifest_and_sources(None, words[words.index("--manifest") + 1])
    source = words[words.index("--source") + 1]
    assert only_spec(choose_specs(manifest, of_tasks, [source], "cpu", [])).pin is None
