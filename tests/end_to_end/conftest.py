"""A small real slice of the icons data set, and the real command run on it as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmark.driver import Session
from benchmark.folders import packaged_manifests
from benchmark.manifest import load_manifest
from benchmark.toml import to_toml
from htbench.cli.main import main
from leaderboard.gamma_star import NAME as GAMMA_STAR

CLASSES = 12
SEEN = 6


@dataclass(frozen=True)
class Mini:
    """A suite of two short tasks on real icons, with a data folder of its own."""

    suite: Path
    manifest: Path
    data: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HTBENCH_DATA": str(self.data)}

    def htbench(
        self, *arguments: str | Path, timeout: float = 300, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command and wait for it."""
        command = [sys.executable, "-m", "htbench", *map(str, arguments)]
        return subprocess.run(
            command,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            check=False,
        )

    def run(
        self, workspace: Path, *arguments: str | Path, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """``htbench run`` on the slice, into a workspace."""
        return self.htbench(
            "run", "--suite", self.suite, "--workspace", workspace, *arguments, timeout=timeout
        )

    @staticmethod
    def rows(workspace: Path) -> list[dict[str, Any]]:
        """The rows of a workspace's results."""
        return pq.read_table(workspace / "results.parquet").to_pylist()

    @staticmethod
    def records(workspace: Path) -> list[dict[str, Any]]:
        """What every ``run.json`` of a workspace says."""
        found = sorted(workspace.glob("runs/*/run.json"))
        return [json.loads(path.read_text()) for path in found]


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """The slice: 12 of 65 classes, two tasks, recipes of a few steps; source models are shared."""
    root = tmp_path_factory.mktemp("mini")
    folder = root / "manifests" / "mini" / "0.1"
    folder.mkdir(parents=True)
    icons = load_manifest("icons@1.0")
    classes = list(icons.classes[:CLASSES])
    table = pq.read_table(packaged_manifests() / "icons" / "1.0" / "images.parquet")
    table = table.filter(pc.is_in(table["class"], value_set=pa.array(classes)))
    pq.write_table(table, folder / "images.parquet")
    document = dict(icons.document)
    document |= {"name": "mini", "version": "0.1", "classes": classes}
    document["source"] = {**document["source"], "steps": 60}
    document["recipe"] = {**document["recipe"], "steps": 20}
    tasks = [
        {"id": t.id, "sources": list(t.sources), "target": t.target, "seen": classes[:SEEN]}
        for t in icons.tasks[:2]
    ]
    document["tasks"] = tasks
    (folder / "manifest.toml").write_text(to_toml(document))
    suite = root / "mini.toml"
    suite.write_text(
        'title = "A slice of icons"\n'
        f'manifest = "{folder}"\n'
        'tasks = ["outline-solid", "solid-outline"]\n'
        'methods = ["source", "finetune", "frozen-classifier", "calibrated-alg"]\n'
        "seeds = [0, 1]\n"
    )
    return Mini(suite, folder, root / "data")


@dataclass(frozen=True)
class Finished:
    """A workspace in which every run of the slice is done, and what the command said. Read it only.

    Whoever changes something takes a copy.
    """

    workspace: Path
    first: subprocess.CompletedProcess[str]

    def rows(self) -> list[dict[str, Any]]:
        return Mini.rows(self.workspace)

    def runs(self) -> list[dict[str, Any]]:
        """The rows of runs, without those that the scorer makes beside them."""
        return [row for row in self.rows() if row["method"] != GAMMA_STAR]

    def row(self, **wanted: object) -> dict[str, Any]:
        """The one row with these values, such as ``row(method="source", seed=0, task=...)``."""
        (found,) = [r for r in self.rows() if all(r[k] == v for k, v in wanted.items())]
        return found

    def copy(self, to: Path) -> Path:
        return shutil.copytree(self.workspace, to)


@pytest.fixture(scope="session")
def finished(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The slice, run once for the session with two runs side by side."""
    workspace = tmp_path_factory.mktemp("finished") / "workspace"
    first = mini.run(workspace, "--jobs", "2")
    assert first.returncode == 0, first.stderr
    return Finished(workspace, first)


@dataclass(frozen=True)
class Said:
    """What a command said that ran in this process."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The one sentence of a user's mistake: exit status 2, on standard error, no traceback."""
        assert self.returncode == 2, (self.stdout, self.stderr)
        assert self.stdout == ""
        assert "Traceback" not in self.stderr
        return self.stderr


@pytest.fixture(scope="session")
def describing() -> Iterator[Session]:
    """One fork server that describes methods for every command that runs in this process."""
    with Session() as session:
        yield session


@pytest.fixture
def htbench(
    mini: Mini,
    describing: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Said]:
    """A command that carries out no run, in this process, with the slice's data folder: fast."""
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    monkeypatch.setattr("benchmark.driver.Session", lambda **_: contextlib.nullcontext(describing))

    def run(*arguments: str | Path) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    """Write a method's file: ``plugin(body of adapt)`` gives its path."""

    def write(body: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name.replace('-', '_')}.py"
        indented = "\n".join(f"        {line}" for line in body.strip().splitlines())
        path.write_text(
            "from dataclasses import dataclass\n\nimport torch\n\n"
            "from htbench import Method, fit\n\n\n"
            "@dataclass(frozen=True)\nclass Mine(Method):\n"
            f'    """A method of a test."""\n\n    name = "{name}"\n\n'
            f"    def adapt(self, source, target, run):\n{indented}\n"
        )
        return path

    return write
