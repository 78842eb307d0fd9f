"""A small real slice of the icons data set, and the real command run on it as a user would."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmark.folders import packaged_manifests
from benchmark.isolation.client import Limits
from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.toml import to_toml
from benchmark.session import Session
from htbench.cli.main import main
from leaderboard.gamma_star import NAME as GAMMA_STAR
from tests.conftest import MINI_RATES, Once
from tests.end_to_end.warm import Driver

CHECKOUT = Path(__file__).resolve().parents[2]
WARM = Path(__file__).with_name("warm.py")
CLASSES = 12
SEEN = 6


def execute(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    cwd: Path | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for it; the caller checks its exit status."""
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )


@dataclass(frozen=True)
class Mini:
    """A suite of two short tasks on real icons, with its own data folder."""

    suite: Path
    manifest: Path
    data: Path

    def options(self, workspace: Path) -> tuple[str | Path, ...]:
        """The suite and a workspace, as options of most commands."""
        return "--suite", self.suite, "--workspace", workspace

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HTBENCH_DATA": str(self.data)}

    def htbench(
        self, *arguments: str | Path, timeout: float = 300, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command and wait for it."""
        command = [sys.executable, "-m", "htbench", *map(str, arguments)]
        return execute(command, self.environment(), cwd, timeout)

    def run(
        self, workspace: Path, *arguments: str | Path, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """``htbench run`` on the slice, into a workspace."""
        return self.htbench("run", *self.options(workspace), *arguments, timeout=timeout)

    @staticmethod
    def rows(workspace: Path) -> list[dict[str, Any]]:
        """The rows of a workspace's results."""
        return pq.read_table(workspace / "results.parquet").to_pylist()

    @staticmethod
    def records(workspace: Path) -> list[dict[str, Any]]:
        """The content of every ``run.json`` of a workspace."""
        paths = sorted(workspace.glob("runs/*/run.json"))
        return [json.loads(path.read_text()) for path in paths]


@pytest.fixture(scope="session")
def mini(once: Once) -> Mini:
    """The slice: 12 of 65 classes, two tasks, recipes of a few steps; source models are shared."""
    root = once("mini", write_mini)
    folder = root / "manifests" / "mini" / "0.1"
    return Mini(root / "mini.toml", folder, root / "data")


def trained_source(document: Mapping[str, Any]) -> dict[str, Any]:
    """``[source]`` with one source model for each source, which the first run trains."""
    source = document["source"].items()
    return {name: value for name, value in source if name not in ("seeds", "checkpoints")}


def write_mini(root: Path) -> None:
    """Write the slice's manifest and its suite."""
    folder = root / "manifests" / "mini" / "0.1"
    folder.mkdir(parents=True)
    icons = load_manifest("icons@2.0")
    classes = list(icons.classes[:CLASSES])
    table = pq.read_table(packaged_manifests() / "icons" / "2.0" / "images.parquet")
    table = table.filter(pc.is_in(table["class"], value_set=pa.array(classes)))
    pq.write_table(table, folder / "images.parquet")
    document = dict(icons.document)
    document |= {"name": "mini", "version": "0.1", "classes": classes}
    del document["recipes"]
    document["source"] = {**trained_source(document), "steps": 60}
    document["recipe"] = {**document["recipe"], **MINI_RATES, "steps": 20}
    tasks = [
        {"id": t.id, "sources": list(t.sources), "target": t.target, "seen": classes[:SEEN]}
        for t in icons.tasks[:2]
    ]
    document["tasks"] = tasks
    (folder / "manifest.toml").write_text(to_toml(document))
    (root / "mini.toml").write_text(
        'title = "A slice of icons"\n'
        f'manifest = "{folder}"\n'
        'tasks = ["outline-solid", "solid-outline"]\n'
        'methods = ["source", "finetune", "frozen-classifier", "calibrated-alg"]\n'
        "seeds = [0, 1]\n"
    )


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit status."""

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


@dataclass(frozen=True)
class Finished:
    """A workspace with every run of the slice finished, and what the command printed.

    Tests only read it: a test that changes something takes a copy.
    """

    workspace: Path
    first: Result

    def rows(self) -> list[dict[str, Any]]:
        return Mini.rows(self.workspace)

    def runs(self) -> list[dict[str, Any]]:
        """The rows of runs, without those that the scorer makes beside them."""
        return [row for row in self.rows() if row["method"] != GAMMA_STAR]

    def row(self, **values: object) -> dict[str, Any]:
        """The one row with these values, such as ``row(method="source", seed=0, task=...)``."""
        (row,) = [r for r in self.rows() if all(r[k] == v for k, v in values.items())]
        return row

    def copy(self, to: Path) -> Path:
        return shutil.copytree(self.workspace, to)


@pytest.fixture(scope="session")
def finished(mini: Mini, once: Once) -> Finished:
    """The slice, run once by the real command with two runs side by side."""

    def fill(folder: Path) -> None:
        result = mini.run(folder / "workspace", "--jobs", "2")
        assert result.returncode == 0, result.stderr
        (folder / "printed.json").write_text(json.dumps([result.stdout, result.stderr]))

    folder = once("finished", fill)
    out, err = json.loads((folder / "printed.json").read_text())
    return Finished(folder / "workspace", Result(0, out, err))


@pytest.fixture
def at(finished: Finished) -> tuple[str | Path, ...]:
    """The finished workspace, as an option."""
    return "--workspace", finished.workspace


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    """One fork server for every command that runs in this process: it imports torch once."""
    with Session() as session:
        yield session


def call(session: Session, *arguments: str | Path) -> Result:
    """Run a command in this process, on the shared fork server where its options allow that."""

    def shared(**options: Any) -> contextlib.AbstractContextManager[Session]:
        if options.get("limits", Limits()) == Limits() and not options.get("cuda"):
            return contextlib.nullcontext(session)
        return Session(**options)

    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for module in ("driver", "session"):
            patch.setattr(f"benchmark.{module}.Session", shared)
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
    return Result(int(exit.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def htbench(mini: Mini, session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command in this process, with the slice's data folder unless the test sets another.

    It takes a fraction of a second where `Mini.htbench` takes five. Its fork server hides only the
    data folder from methods, so tests of isolation and of signals start the real command.
    """
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    return functools.partial(call, session)


@pytest.fixture(scope="session")
def command(session: Session) -> Callable[..., Result]:
    """The same for fixtures of a module: ``command(mini, "run", ...)``."""

    def run(mini: Mini, *arguments: str | Path) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HTBENCH_DATA", str(mini.data))
            return call(session, *arguments)

    return run


@pytest.fixture(scope="session")
def wheel(once: Once) -> Path:
    """The wheel of this checkout."""

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT)

    (wheel,) = once("wheel", build).glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def wheel_python(once: Once, wheel: Path) -> Path:
    """The interpreter of an environment in which the wheel is installed."""

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        for command in (
            [sys.executable, "-m", "venv", "--without-pip", folder],
            [
                sys.executable,
                "-m",
                "pip",
                "--python",
                python,
                "install",
                "--quiet",
                "--no-deps",
                "--no-index",
                "--disable-pip-version-check",
                wheel,
            ],
        ):
            subprocess.run(command, check=True, capture_output=True)
        # What the wheel depends on comes from the environment that runs the tests. Python does
        # not read .pth files in a folder added by a .pth file, so the editable install stays out.
        (site,) = folder.glob("lib/python*/site-packages")
        others = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
        (site / "others.pth").write_text("".join(f"{path}\n" for path in others))

    return once("wheel-environment", install) / "bin" / "python"


@pytest.fixture(scope="session")
def drivers() -> Iterator[Path]:
    """The socket of a process that forks drivers; see ``warm.py``."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        address = Path(folder) / "drivers"
        command = [sys.executable, "-W", "ignore::DeprecationWarning", WARM, address]
        with subprocess.Popen(list(map(str, command))) as process:
            end = time.monotonic() + 120
            while not address.exists():
                assert process.poll() is None
                assert time.monotonic() < end, "the process that forks drivers did not start"
                time.sleep(0.02)
            yield address
            process.kill()


@pytest.fixture
def start(drivers: Path, tmp_path: Path) -> Callable[..., Driver]:
    """Start a command in its own process: ``start(mini, "run", ...)``; see ``warm.py``.

    ``name`` names all its processes; ``variables`` are added to its environment.
    """

    def begin(
        mini: Mini,
        *arguments: str | Path,
        name: str = "htbench",
        variables: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Driver:
        environment = {**mini.environment(), **variables}
        words = [str(argument) for argument in arguments]
        return Driver(drivers, words, environment, tmp_path / "printed", name, **options)

    return begin


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
