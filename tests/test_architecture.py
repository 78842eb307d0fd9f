"""The rules of the tree: who imports whom, what loads torch, and how long a file may be."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("htbench", "benchmark", "baselines", "leaderboard", "data_manifests")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NO_TORCH = re.compile(r"\b(no|loads no|without) torch\b", re.IGNORECASE)
MAX_LINES = 450
# One import of each forbidden kind, and the contract that must refuse it.
FORBIDDEN = {
    "benchmark/files.py": ("leaderboard.board", "benchmark.files -> leaderboard.board"),
    "benchmark/folders.py": ("data_manifests", "benchmark.folders -> data_manifests"),
    "benchmark/text.py": ("htbench", "benchmark.text -> htbench"),
    "benchmark/records.py": ("baselines.finetune", "benchmark.records -> baselines.finetune"),
    "leaderboard/scoring.py": ("htbench", "leaderboard.scoring -> htbench"),
    "leaderboard/board.py": ("benchmark.images.augment", "leaderboard.board -> benchmark.images"),
    "leaderboard/rows.py": ("data_manifests", "leaderboard.rows -> data_manifests"),
    "data_manifests/__init__.py": ("leaderboard", "data_manifests -> leaderboard"),
    "htbench/run.py": ("baselines", "htbench.run -> baselines"),
    "baselines/finetune.py": ("benchmark.training", "baselines.finetune -> benchmark.training"),
    "baselines/source.py": ("htbench.run", "baselines.source -> htbench.run"),
    "benchmark/errors.py": ("benchmark.driver", "benchmark.errors"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo", "--verbose"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_forbidden_import_of_each_kind_is_reported(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: [
                name for name in names if "." in name and not name.endswith(".py")
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, (module, _) in FORBIDDEN.items():
        path = tmp_path / file
        path.write_text(path.read_text("utf-8") + f"\nimport {module}\n", "utf-8")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    report = result.stdout
    absent = [line for _, line in FORBIDDEN.values() if line not in report]
    assert not absent, report


def says_no_torch(path: Path) -> bool:
    return bool(NO_TORCH.search(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""))


def no_torch_modules() -> list[str]:
    """Modules that promise it: by their own docstring, or by that of a package above them."""
    promised = {
        path.parent for path in SOURCES if path.name == "__init__.py" and says_no_torch(path)
    }
    return [
        module_name(path)
        for path in SOURCES
        if promised.intersection(path.parents) or says_no_torch(path)
    ]


def test_what_says_that_it_loads_no_torch_loads_none() -> None:
    names = no_torch_modules()
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


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in (*SOURCES, *sorted((ROOT / "tests").rglob("*.py")))
        if len(path.read_text("utf-8").splitlines()) > MAX_LINES
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_long_file_says_why(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    assert "one file because" in docstring.lower(), f"{path} has more than {MAX_LINES} lines"
