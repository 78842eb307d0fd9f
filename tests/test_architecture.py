"""The rules of the tree: who imports whom, what loads torch, and how long a file may be."""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("htbench", "benchmark", "baselines", "leaderboard", "data_manifests")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NO_TORCH = "Loads no torch."  # ends the docstring of a module or package that promises it
MAX_LINES = 450
# Forbidden imports, by the contract in pyproject.toml that must report them: the importing module,
# the import, and the line of the report.
FORBIDDEN = {
    "layers": [
        ("benchmark.files", "leaderboard.board", "benchmark.files -> leaderboard.board"),
        ("benchmark.folders", "data_manifests", "benchmark.folders -> data_manifests"),
        ("benchmark.text", "htbench", "benchmark.text -> htbench"),
        ("benchmark.records", "baselines.finetune", "benchmark.records -> baselines.finetune"),
        ("leaderboard.scoring", "htbench", "leaderboard.scoring -> htbench"),
        ("leaderboard.rows", "data_manifests", "leaderboard.rows -> data_manifests"),
        ("data_manifests.builders", "leaderboard", "data_manifests.builders -> leaderboard"),
        ("htbench.run", "baselines", "htbench.run -> baselines"),
    ],
    "baselines": [
        ("baselines.finetune", "benchmark.training", "baselines.finetune -> benchmark.training"),
        ("baselines.source", "htbench.run", "baselines.source -> htbench.run"),
        ("baselines.lwf", "leaderboard", "baselines.lwf -> leaderboard"),
        ("baselines.ncm", "data_manifests", "baselines.ncm -> data_manifests"),
    ],
    "leaderboard": [
        (
            "leaderboard.board",
            "benchmark.images.augment",
            "leaderboard.board -> benchmark.images.augment",
        ),
        ("leaderboard.results", "benchmark.driver", "leaderboard.results -> benchmark.driver"),
    ],
    "cycles": [
        ("benchmark.manifest.read", "benchmark.splits.export", ".manifest -> .splits"),  # packages
        ("leaderboard.columns", "leaderboard.board", ".columns -> .board"),  # modules
    ],
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lint_imports(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo", "--contract", contract],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def broken_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with every forbidden import."""
    tree = tmp_path_factory.mktemp("tree")
    for path in SOURCES:
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(ROOT / "pyproject.toml", tree)
    for importer, imported, _ in itertools.chain(*FORBIDDEN.values()):
        (path,) = (path for path in SOURCES if module_name(path) == importer)
        with (tree / path.relative_to(ROOT)).open("a", encoding="utf-8") as file:
            file.write(f"\nimport {imported}\n")
    return tree


def test_every_contract_is_tested() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert {contract["id"] for contract in contracts} == set(FORBIDDEN)


@pytest.mark.parametrize("contract", FORBIDDEN)
def test_a_contract_reports_each_forbidden_import(broken_tree: Path, contract: str) -> None:
    result = lint_imports(broken_tree, contract)
    assert result.returncode == 1, result.stdout + result.stderr
    unreported = [line for *_, line in FORBIDDEN[contract] if line not in result.stdout]
    assert not unreported, result.stdout


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""


def promises_no_torch(path: Path) -> bool:
    """Whether the docstring of a module, or that of a package that holds it, ends with it."""
    packages = (folder / "__init__.py" for folder in path.parents if folder.is_relative_to(ROOT))
    holders = (package for package in packages if package.is_file())
    return any(docstring(file).endswith(NO_TORCH) for file in (path, *holders))


def test_a_module_that_promises_it_loads_no_torch() -> None:
    names = [module_name(path) for path in SOURCES if promises_no_torch(path)]
    assert len(names) > 30
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    loaded = {'torch', 'torchvision'} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-500:]


def test_a_long_file_says_why() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (*SOURCES, *sorted((ROOT / "tests").rglob("*.py")))
        if len(path.read_text("utf-8").splitlines()) > MAX_LINES
        and "one file because" not in docstring(path).lower()
    ]
    assert silent == [], f"these files have more than {MAX_LINES} lines"
