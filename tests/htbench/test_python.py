"""The suite from Python: scripts without a main guard and notebooks do what the command does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.errors import ManifestError, MethodError, UsageError
from benchmark.folders import packaged_manifests
from htbench import (
    load_manifest,
    load_suite,
    method_checks,
    open_task,
    run_suite,
    task_frame,
    torch_dataset,
)
from tests.end_to_end.conftest import Mini, Result

PLUGIN = '''
from dataclasses import dataclass

from htbench import Method, fit


@dataclass(frozen=True)
class Head(Method):
    """Fine-tune the head."""

    name = "head"
    quick: bool = False

    def adapt(self, source, target, run):
        model = source.copy()
        return source.copy() if self.quick else fit(model, target, run, train=model.head)
'''

# What a user would write, at the top level of a script or in the cells of a notebook.
CELLS = (
    "import json\nfrom pathlib import Path\nimport torch\nimport htbench",
    "board = htbench.run_suite(SUITE, methods=['calibrated-alg'], plugins=[PLUGIN], "
    "tasks=['outline-solid'], seeds=[0], settings={'quick': False}, workspace='ws', jobs=2)",
    "rows = htbench.load_results('ws', manifest=MANIFEST)",
    "source, target, run = htbench.open_task(SUITE, 'outline-solid', seed=0)\n"
    "model = htbench.fit(source.copy(), target, run)\n"
    "logits = htbench.predict(model, target.images, run)",
    "result = {\n"
    "    'labels': sorted(set(board['label'])), 'tasks': sorted(set(board['task'])),\n"
    "    'predictions': dict(zip(rows['label'], rows['predictions_sha256'])),\n"
    "    'source': source.digest, 'shape': list(logits.shape), 'images': len(target),\n"
    "    'seen': sorted(set(target.labels.tolist())), 'missing': target.missing is None,\n"
    "}\n"
    "from safetensors.torch import load_file\n"
    "(path,) = Path('ws').glob('runs/*/weights.safetensors')\n"
    "saved = load_file(path)\n"
    "result['same'] = all(torch.equal(saved[k], v) for k, v in model.state_dict().items() "
    "if k in saved)\n"
    "Path('result.json').write_text(json.dumps(result))",
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "head.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(scope="module")
def expected(
    mini: Mini,
    command: Callable[..., Result],
    plugin: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Digests of the command's predictions, by label."""
    workspace = tmp_path_factory.mktemp("command") / "ws"
    cell = ("--task", "outline-solid", "--seed", "0", "--jobs", "2")
    methods = ("--method", "calibrated-alg", "--plugin", plugin)
    result = command(mini, "run", *mini.options(workspace), *cell, *methods)
    assert result.returncode == 0, result.stderr
    return {row["label"]: row["predictions_sha256"] for row in mini.rows(workspace)}


def cells(mini: Mini, plugin: Path) -> list[str]:
    names = {"SUITE": mini.suite, "MANIFEST": mini.manifest, "PLUGIN": plugin}
    return ["\n".join(f"{k} = {str(v)!r}" for k, v in names.items()), *CELLS]


def check(folder: Path, expected: dict[str, str]) -> None:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result["predictions"] == expected
    assert set(result["labels"]) == set(expected)
    assert result["tasks"] == ["mean", "outline-solid", "solid-outline"], "the suite's"
    records = [json.loads(path.read_text()) for path in folder.glob("ws/runs/*/run.json")]
    assert {record["made_from"]["source"] for record in records} == {result["source"]}
    assert result["shape"] == [result["images"], 12]
    assert result["seen"] == list(range(6))
    assert result["missing"]
    assert result["same"], "what runs in this process computes what a run computes"
    assert (folder / "ws" / "leaderboard.md").is_file()


def test_windows_is_refused_with_the_way_out() -> None:
    code = "import sys; sys.platform = 'win32'; import htbench"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith(
        "ImportError: the benchmark does not run on W"
    )
    assert "Windows Subsystem for Linux" in process.stderr


def test_in_a_script_without_a_main_guard(
    mini: Mini, plugin: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text("\n".join(cells(mini, plugin)))
    # An empty data folder: stores and source models are built again, with the same bytes.
    environment = {**mini.environment(), "HTBENCH_DATA": str(tmp_path / "data")}
    process = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    check(tmp_path, expected)


def test_a_script_may_contain_the_method(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    script, imports = tmp_path / "script.py", "from htbench import run_suite\n"
    options = {"tasks": ["outline-solid"], "seeds": [0], "plugins": [script]}
    script.write_text(f"{PLUGIN}if __name__ == '__main__':\n    {imports}")
    run_suite(mini.suite, workspace=tmp_path / "ws", **options)
    assert [record["status"] for record in mini.records(tmp_path / "ws")] == ["ok"]
    script.write_text(imports + PLUGIN)
    with pytest.raises(MethodError, match=r"import names such as run_suite in another file, or"):
        run_suite(mini.suite, workspace=tmp_path / "ws", **options)


def test_in_a_notebook(
    mini: Mini,
    plugin: Path,
    expected: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells(mini, plugin)]
    )
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    check(tmp_path, expected)


def test_lists_may_be_arrays_or_generators_or_none(
    mini: Mini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTBENCH_DATA", str(mini.data))
    run_suite(
        mini.suite,
        methods=(name for name in ["source"]),
        tasks=np.array(["outline-solid"]),
        seeds=(seed for seed in np.arange(1)),
        plugins=None,
        workspace=tmp_path,
        progress=False,
    )
    assert [(r["task"], r["seed"]) for r in mini.records(tmp_path)] == [("outline-solid", 0)]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"methods": "finetune"}, r"methods must be a list, such as \['finetune'\]"),
        ({"plugins": Path("own.py")}, "plugins must be a list, such as"),
        ({"seeds": 0}, r"seeds must be a list, such as \[0\], not 0"),
        ({"seeds": ["0"]}, "--seed '0' is not in suite mini"),
        ({"jobs": -1}, "jobs is -1; give a number from 1"),
        ({"device": "gpu"}, "unknown device 'gpu'; known: auto, cpu, cuda"),
        ({"isolation": "strict"}, "unknown isolation 'strict'; known: auto, required"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(
    mini: Mini, tmp_path: Path, argument: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_suite(mini.suite, workspace=tmp_path, **argument)


@pytest.mark.parametrize("end", ["", "\nos.kill(os.getpid(), signal.SIGKILL)"])
def test_the_scratch_folder_of_an_open_task_is_removed(
    mini: Mini, tmp_path: Path, end: str
) -> None:
    """When its process ends, or if that is killed, by the next one."""

    def scratch_of(end: str) -> Path:
        code = (
            "import htbench, os, signal\n"
            f"run = htbench.open_task({str(mini.suite)!r}, 'outline-solid')[2]\n"
            f"(run.scratch / 'notes.txt').touch()\nprint(run.scratch, flush=True){end}"
        )
        process = subprocess.run(
            [sys.executable, "-W", "default::ResourceWarning", "-c", code],
            env={**mini.environment(), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert process.returncode == (-signal.SIGKILL if end else 0)
        assert "ResourceWarning" not in process.stderr
        return Path(process.stdout.strip())

    scratch = scratch_of(end)
    assert scratch.parent == tmp_path
    assert scratch.exists() == bool(end)
    scratch_of("")
    assert not scratch.exists()


@pytest.mark.parametrize("seed", [-1, 1.5, "0", 2**32])
def test_a_seed_that_no_run_has_is_refused(mini: Mini, seed: Any) -> None:
    with pytest.raises(UsageError, match=r"seed is .* give a whole number from 0 to 4294967295"):
        open_task(mini.suite, "outline-solid", seed=seed)


def test_a_suite_may_be_a_name_a_path_or_loaded() -> None:
    suite = load_suite("icons")
    assert load_suite(suite) is suite
    file = packaged_manifests() / "suites" / "icons.toml"
    assert replace(load_suite(file), given="icons") == suite


def test_a_manifest_may_be_a_reference_a_folder_or_loaded() -> None:
    manifest = load_manifest("icons@2.0")
    assert load_manifest(manifest) is manifest
    for same in ("icons@2.0", manifest.root, manifest):
        assert len(task_frame(same, "outline-solid")) == 5838
        assert len(torch_dataset(same, "outline-solid", "train")) == 826
    with pytest.raises(ManifestError, match=r"unknown manifest 'icons'; did you mean icons@2\.0"):
        task_frame("icons", "outline-solid")


@pytest.mark.parametrize("method", ["finetune", None, Path])
def test_checks_are_of_a_method_only(method: Any) -> None:
    with pytest.raises(UsageError, match="is not a method: give a class that derives from"):
        method_checks(method)
