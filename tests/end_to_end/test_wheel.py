"""The installed wheel works without the checkout: it verifies, runs and isolates."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmark.isolation import sandbox
from benchmark.isolation.facts import FULL_ISOLATION


def call(*command: str | Path, **options) -> str:
    """Run a command that must succeed; return its standard output."""
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=500, **options
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


class Installed:
    """The wheel in its own environment, used from an unrelated folder."""

    def __init__(self, root: Path, python: Path) -> None:
        self.python, self.site = python, python.parents[1]
        self.cwd = root / "elsewhere"
        self.cwd.mkdir()
        unwanted = ("PYTHONPATH", "VIRTUAL_ENV")
        self.environment = {k: v for k, v in os.environ.items() if k not in unwanted}
        self.environment["HTBENCH_DATA"] = str(root / "data")

    def htbench(self, *arguments: str) -> str:
        command = self.python.with_name("htbench")
        return call(command, *arguments, cwd=self.cwd, env=self.environment)

    def say(self, code: str) -> str:
        return call(self.python, "-c", code, cwd=self.cwd, env=self.environment).strip()


@pytest.fixture
def installed(wheel_python, tmp_path):
    return Installed(tmp_path, wheel_python)


def test_the_wheel_holds_code_manifests_and_images_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        attribution = archive.read("data_manifests/icons/2.0/ATTRIBUTION.csv").decode()
    assert {
        "data_manifests/digests.toml",
        "data_manifests/icons/2.0/manifest.toml",
        "data_manifests/icons/2.0/images.parquet",
        "data_manifests/icons/2.0/checkpoints/outline+solid-2.safetensors",
        "data_manifests/suites/icons.toml",
        "htbench/cli/main.py",
        "baselines/finetune.py",
        "leaderboard/board.py",
    } <= set(names)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    packages = {name.partition("/")[0].partition("-")[0] for name in names}
    assert packages == {
        "htbench",
        "benchmark",
        "baselines",
        "leaderboard",
        "data_manifests",
        "holistic_transfer_bench",
    }
    assert not [name for name in names if "test" in name.lower() or "__pycache__" in name]
    assert [
        name for name in names if name.startswith("data_manifests") and name.endswith(".py")
    ] == ["data_manifests/__init__.py"]
    assert len(list(csv.DictReader(attribution.splitlines()))) > 100, "icon sets with their terms"


def test_it_is_the_installed_copy_that_is_used(installed):
    for package in ("htbench", "benchmark", "baselines", "leaderboard", "data_manifests"):
        where = Path(installed.say(f"import {package}; print({package}.__file__)"))
        assert where.is_relative_to(installed.site)


def test_a_file_of_the_user_hides_nothing_of_it(installed, tmp_path):
    (tmp_path / "benchmark.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "script.py").write_text("import htbench; print(htbench.load_manifest.__module__)\n")
    options = {"cwd": tmp_path, "env": installed.environment | {"PYTHONPATH": str(tmp_path)}}
    where = call(installed.python, tmp_path / "script.py", **options)
    assert where.startswith("benchmark.manifest")
    assert "icons" in call(installed.python.with_name("htbench"), "list", "suites", **options)


def test_its_manifest_and_its_suite_are_found(installed):
    result = installed.htbench("manifest", "verify", "icons@2.0")
    assert "all checks passed" in result
    assert "(pinned)" in result
    suites = json.loads(installed.htbench("list", "suites", "--json"))
    assert "icons" in [suite["name"] for suite in suites]


def test_it_trains_a_source_model_runs_a_task_and_locks_the_methods_in(installed, mini):
    check_a_task(installed, mini.suite, classes=12, seeds=2)


@pytest.mark.slow
def test_it_runs_a_task_of_icons(installed):
    check_a_task(installed, "icons", classes=65, seeds=3)


def check_a_task(installed, suite, classes, seeds):
    board = installed.htbench(
        "run",
        "--suite",
        suite,
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--method",
        "source",
        "--method",
        "finetune",
    )
    assert board.startswith(f"# Runs: {Path(suite).stem}\n")
    assert sorted(path.name for path in installed.cwd.iterdir()) == ["workspace"]
    records = {
        record["method"]: record
        for path in installed.cwd.glob("workspace/runs/*/run.json")
        for record in [json.loads(path.read_text())]
    }
    assert set(records) == {"source", "finetune"}
    for record in records.values():
        assert (record["status"], record["task"], record["seed"]) == ("ok", "outline-solid", 0)
        if not sandbox.available().missing:
            assert set(FULL_ISOLATION) <= set(record["isolation"])
    scores = {
        name: json.loads(installed.htbench("score", record["key"][:16], "--suite", suite, "--json"))
        for name, record in records.items()
    }
    assert scores["finetune"]["seen"] > scores["source"]["seen"] > 100 / classes
    whole = (installed.cwd / "workspace" / "leaderboard.md").read_text()
    section = whole.partition("## outline-solid ")[2].partition("##")[0]
    cells = [[cell.strip() for cell in line.split("|")] for line in section.splitlines()]
    cells_of = {line[1]: line[2:5] for line in cells if len(line) > 5}
    for name, score in scores.items():
        values = [f"{score[column]:.1f}" for column in ("overall", "seen", "missing")]
        assert cells_of[f"{name} (1 of {seeds} seeds)"] == values
