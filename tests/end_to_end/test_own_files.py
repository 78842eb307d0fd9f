"""A run reads the files that its key covers and no other, from wherever Python finds them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from hashlib import sha256
from pathlib import Path

import pytest

from benchmark.folders import ROOT
from benchmark.isolation import sandbox
from tests.end_to_end.conftest import execute

TASK = ("--task", "outline-solid")
CELL = (*TASK, "--seed", "0")


def write(folder: Path, name: str, head: str = "", body: str = "", attributes: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace('-', '_')}.py"
    path.write_text(
        "from pathlib import Path\nfrom htbench import Method\n"
        f"{head}\nclass Mine(Method):\n    'A method of a test.'\n    name = {name!r}\n"
        f"    {attributes}\n    def adapt(self, source, target, run):\n"
        f"{textwrap.indent(body or 'pass', ' ' * 8)}\n        return source.copy()\n"
    )
    return path


READS = "text = Path(__file__).with_name({!r}).read_text()"
WORKING = {
    "package": ("from mylib import X\nimport mylib.inner", ""),
    "lazy": ("", "import mylib.inner\nassert mylib.inner.Y == 2"),
    "library": ("from extlib.core import Z", "import importlib\nimport extlib.late\n"),
    "declares": (
        READS.format("prompts.json"),
        "assert text == '{}'\n(Path(__file__).parent / 'd' / 'x.txt').read_text()",
    ),
    "builds-on-ours": ("from baselines.l2_sp import L2SP", ""),
    "asks-who": ("", "import getpass; assert getpass.getuser()"),
}
REFUSED = {
    "reads": (READS.format("payload.py"), "declare the data files that it reads"),
    "reads-code": (
        "(Path(__file__).parent / 'mylib' / 'unused.py').read_text()",
        "declare the data files that it reads",
    ),
    "finds": ("__import__('pay' + 'load')", "write `import payload` in the"),
    "finds-ours": ("__import__('baselines.' + 'ewc')", "modules that an import statement names"),
    "imports-labels": ("import leaderboard", "are closed to runs"),
    "lists": ("import os; os.listdir(Path(__file__).parent)", "reads only its own files"),
    "writes": ("Path(__file__).with_name('new').touch()", "writes only to run.scratch"),
    "starts": ("import subprocess; subprocess.run(['ls'])", "cannot start processes"),
    "connects": ("import socket; socket.create_connection(('1.1.1.1', 80))", "has no network"),
    "downloads": ("import torch; torch.hub.load('a/b', 'c')", "has no network"),
    "workers": (
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "list(DataLoader(TensorDataset(target.labels), num_workers=1))",
        "use DataLoader(num_workers=0)",
    ),
    "compiles": (
        "import torch\ntorch.compile(source.copy())(run.transforms.evaluate(target.images[:2]))",
        "leave the model uncompiled",
    ),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library that is not installed."""
    folder = tmp_path_factory.mktemp("ext")
    (folder / "extlib").mkdir()
    for name, text in {"__init__": "", "core": "Z = 3", "late": ""}.items():
        (folder / "extlib" / f"{name}.py").write_text(f"{text}\n")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plugins, with modules, packages and data beside them."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "d").mkdir()
    (folder / "mylib").mkdir()
    for name, text in {
        "mylib/__init__.py": "X = 1",
        "mylib/inner.py": "from . import X\nY = X + 1",
        "mylib/unused.py": "",
        "payload.py": "",
    }.items():
        (folder / name).write_text(f"{text}\n")
    (folder / "prompts.json").write_text("{}")
    (folder / "d" / "x.txt").touch()
    for name, (head, body) in WORKING.items():
        declared = "files = ('prompts.json', 'd/x.txt')" if name == "declares" else ""
        write(folder, name, head, body, declared)
    for name, (body, _) in REFUSED.items():
        write(folder, name, "", body)
    write(folder / "pk", "relative", "from .helper import X")
    (folder / "pk" / "__init__.py").touch()
    (folder / "pk" / "helper.py").write_text("X = 1\n")
    return folder


@pytest.fixture(scope="module")
def night(mini, finished, library, written, tmp_path_factory) -> dict:
    """All of them in one command."""
    workspace = tmp_path_factory.mktemp("own") / "ws"
    plugins = [*sorted(written.glob("*.py")), written / "pk" / "relative.py"]
    plugins.remove(written / "payload.py")
    arguments = [word for path in plugins for word in ("--plugin", str(path))]
    command = [sys.executable, "-m", "htbench", "run", *mini.options(workspace), *CELL, *arguments]
    result = execute(command, {**mini.environment(), "PYTHONPATH": str(library)})
    assert result.returncode == 1, result.stderr
    return {
        "workspace": workspace,
        "records": {record["method"]: record for record in mini.records(workspace)},
    }


@pytest.mark.parametrize("name", [*WORKING, "relative"])
def test_a_run_reads_its_own_files(night, name):
    record = night["records"][name]
    assert record["status"] == "ok", record["error"]


@pytest.mark.skipif(bool(sandbox.available().missing), reason="no sandbox")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_the_rule_and_the_way_out(night, name):
    error = night["records"][name]["error"]
    assert error is not None, "it was not refused"
    assert REFUSED[name][1] in error["message"]
    assert "in adapt" in error["traceback"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("package", ["mylib/__init__.py", "mylib/inner.py", "package.py"]),
        ("lazy", ["lazy.py", "mylib/__init__.py", "mylib/inner.py"]),
        ("relative", ["pk/__init__.py", "pk/helper.py", "pk/relative.py"]),
        ("declares", ["d/x.txt", "declares.py", "prompts.json"]),
        ("library", ["extlib/__init__.py", "extlib/core.py", "extlib/late.py", "library.py"]),
        ("reads", ["reads.py"]),
    ],
)
def test_the_key_covers_them_and_the_runs_folder_keeps_them(night, name, files):
    record = night["records"][name]
    covered = record["made_from"]["method"]["code"]["files"]
    assert [file for file, _ in covered] == files
    folder = night["workspace"] / "runs" / record["key"] / "code"
    copies = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert sorted(copies) == files
    for file, digest in covered:
        assert sha256(copies[file].read_bytes()).hexdigest() == digest


def test_the_suites_own_files_are_in_the_key_and_not_kept(night):
    record = night["records"]["builds-on-ours"]
    names = [file for file, _ in record["made_from"]["method"]["code"]["files"]]
    assert names == ["baselines/__init__.py", "baselines/l2_sp.py", "builds_on_ours.py"]
    folder = night["workspace"] / "runs" / record["key"] / "code"
    assert [path.name for path in folder.iterdir()] == ["builds_on_ours.py"]


def test_show_names_them(htbench, mini, night):
    record = night["records"]["builds-on-ours"]
    details = htbench("show", record["key"], *mini.options(night["workspace"])).stdout
    (kept,) = [line for line in details.splitlines() if line.startswith("  code ")]
    assert kept.split()[1] == "builds_on_ours.py"
    assert kept.endswith(f"{record['key']}/code)")
    (others,) = [line for line in details.splitlines() if line.startswith("  other code ")]
    assert "baselines/l2_sp.py" in others


def test_an_edit_of_a_data_file_during_a_run_is_found(start, mini, finished, tmp_path):
    """Nothing imports it, and the run has read it long before."""
    body = READS.format("prompts.json") + "\nimport time; time.sleep(1)"
    path = write(tmp_path, "edited", "", body, "files = ('prompts.json',)")
    (tmp_path / "prompts.json").write_text("{}")
    workspace = tmp_path / "ws"
    arguments = ["run", *mini.options(workspace), "--plugin", path, *TASK, "--jobs", "1"]
    with start(mini, *arguments) as driver:
        while "\n" not in driver.errors():  # a line when the first run has ended
            assert driver.poll() is None
            time.sleep(0.01)
        (tmp_path / "prompts.json").write_text("{ }")
        driver.communicate(timeout=120)
    by_seed = {record["seed"]: record for record in mini.records(workspace)}
    assert by_seed[0]["status"] == "ok"
    assert "prompts.json is not among the files recorded" in by_seed[1]["error"]["message"]
    folder = workspace / "runs" / by_seed[1]["key"]
    assert not (folder / "predictions.parquet").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("'prompts.json'", "a tuple: files = ('prompts.json',)"),
        ("('nowhere.json',)", "'nowhere.json', which cannot be read"),
        ("('/etc/passwd',)", "'/etc/passwd', which is outside the plugin's folder"),
        ("tuple(['prompts.json'])", "which is not a literal in the body of the class"),
    ],
)
def test_a_declaration_that_cannot_be_used(htbench, mini, finished, tmp_path, files, words):
    path = write(tmp_path, "declares", attributes=f"files = {files}")
    (tmp_path / "prompts.json").write_text("{}")
    result = htbench("run", *mini.options(tmp_path / "ws"), "--plugin", path, *CELL)
    assert words in result.sentence


def test_layers_of_an_environment(mini, finished, library, tmp_path):
    """Packages of one environment, found from another: modules, system-site-packages, .pth."""
    environment = {k: v for k, v in mini.environment().items() if k != "PYTHONPATH"}
    create = [sys.executable, "-m", "venv", "--without-pip", tmp_path / "layer"]
    subprocess.run(create, check=True, env=environment)
    (site,) = (tmp_path / "layer").glob("lib/python3*/site-packages")
    below = [path for path in sys.path if path.endswith("site-packages")]
    (site / "layers.pth").write_text("\n".join([*below, str(ROOT), str(library)]) + "\n")
    path = write(tmp_path, "layered", "from extlib.core import Z")
    workspace = tmp_path / "ws"
    python = tmp_path / "layer" / "bin" / "python"
    command = [python, "-m", "htbench", "run", *mini.options(workspace), *CELL]
    command += ["--method", "wise-ft", "--plugin", path]
    result = execute(command, environment, tmp_path)
    assert result.returncode == 0, result.stderr
    records = {record["method"]: record for record in mini.records(workspace)}
    assert {name: record["status"] for name, record in records.items()} == {
        "finetune": "ok",
        "wise-ft": "ok",
        "layered": "ok",
    }
    files = [name for name, _ in records["layered"]["made_from"]["method"]["code"]["files"]]
    assert files[0] == "extlib/__init__.py"
    alone = finished.row(method="finetune", task="outline-solid", seed=0)
    assert records["finetune"]["key"] == alone["key"], "the same code as in the layer below"
