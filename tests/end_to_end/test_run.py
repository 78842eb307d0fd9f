"""`htbench run`: the first call does the work, the next one none; what may be chosen and set."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from benchmark.runs.plan import resolve_device
from leaderboard.gamma_star import NAME as GAMMA_STAR

METHODS = ["source", "finetune", "frozen-classifier", "calibrated-alg"]
TASKS = ["outline-solid", "solid-outline"]
PLUGIN = '''
from dataclasses import dataclass

import torch

import scaling
from htbench import Method


@dataclass(frozen=True)
class Scaled(Method):
    """The source model with its classifier scaled."""

    name = "scaled"
    alpha: float = 2.0
    shift: bool = False

    def adapt(self, source, target, run):
        model = source.copy()
        with torch.no_grad():
            model.head.weight.mul_(self.alpha * scaling.FACTOR)
        return model
'''
HELPER = "FACTOR = 1.0  # a helper beside the plugin\n"


def state(workspace: Path) -> dict[str, tuple[int, bytes]]:
    """Every file that records finished work, with its time of change and its bytes."""
    paths = [
        *(path for path in workspace.glob("runs/*/**/*") if path.is_file()),
        workspace / "journal.jsonl",
        workspace / "results.parquet",
    ]
    return {str(p.relative_to(workspace)): (p.stat().st_mtime_ns, p.read_bytes()) for p in paths}


@pytest.fixture
def scaled(tmp_path):
    """A plugin that imports a helper from its own folder."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "scaling.py").write_text(HELPER)
    (folder / "scaled.py").write_text(PLUGIN)
    return folder / "scaled.py"


# --- the first call and the next ---------------------------------------------------------------


def test_the_first_call_prints_a_board_with_every_method(finished):
    board = finished.first.stdout
    assert board.startswith("# Leaderboard: mini\n")
    for method in METHODS:
        averages = 2  # over tasks, and of their pooled images
        assert board.count(f"| {method} ") == averages + len(TASKS), "once in each table"
    assert "Not in the table" not in board
    assert (finished.workspace / "leaderboard.md").read_text() == board


def test_every_run_leaves_its_record_its_predictions_and_a_row(finished):
    by_cell = {(r["task"], r["method"], r["seed"]): r for r in finished.runs()}
    assert set(by_cell) == {(t, m, s) for t in TASKS for m in METHODS for s in (0, 1)}
    for row in by_cell.values():
        folder = finished.workspace / "runs" / row["key"]
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == row["status"] == "ok"
        assert (record["key"], record["task"]) == (row["key"], row["task"])
        assert (folder / "predictions.parquet").is_file()
        cost = ("adapt_seconds", "predict_seconds", "wall_seconds", "peak_memory")
        assert all(record["cost"][name] > 0 for name in cost)
        assert {"total_steps", "sequential_steps"} < set(record["cost"])
        assert row["measured_peak_memory"] >= record["cost"]["peak_memory"] > 50 * 2**20
    assert len(list((finished.workspace / "runs").iterdir())) == len(by_cell)


def test_progress_goes_to_standard_error_and_no_temporary_file_is_left(finished):
    assert "[16/16]" in finished.first.stderr
    assert "[16/16]" not in finished.first.stdout
    assert list((finished.workspace / "tmp").iterdir()) == []


def test_the_second_call_runs_nothing_and_prints_the_same_bytes(htbench, mini, finished, tmp_path):
    workspace = finished.copy(tmp_path / "ws")
    for call in ("which reads the files of the copy again", "which reads nothing again"):
        before = state(workspace)
        again = htbench("run", *mini.options(workspace))
        assert (again.returncode, again.stdout) == (0, finished.first.stdout), call
        assert again.stderr == ""
    assert state(workspace) == before


# --- what to run -------------------------------------------------------------------------------


def plan(htbench, mini, workspace, *arguments):
    result = htbench("run", *mini.options(workspace), "--dry-run", "--json", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        ([], [(t, m, s) for t in TASKS for m in METHODS for s in (0, 1)]),
        (
            ["--task", "solid-outline", "--method", "source"],
            [("solid-outline", "source", 0), ("solid-outline", "source", 1)],
        ),
        (
            [
                "--seed",
                "1",
                "--method",
                "finetune",
                "--method",
                "source",
                "--task",
                "outline-solid",
            ],
            [("outline-solid", "finetune", 1), ("outline-solid", "source", 1)],
        ),
        (
            ["--seed", "1", "--method", "calibrated-alg", "--task", "outline-solid"],
            [("outline-solid", "finetune", 1), ("outline-solid", "calibrated-alg", 1)],
        ),
    ],
    ids=["whole suite", "one task and method", "in the order given", "with the base"],
)
def test_task_method_and_seed_choose_the_runs(htbench, mini, finished, tmp_path, arguments, cells):
    rows = plan(htbench, mini, tmp_path / "ws", *arguments)
    assert [(r["task"], r["method"], r["seed"]) for r in rows] == cells
    assert {r["state"] for r in rows} == {"to run"}


def test_a_dry_run_writes_nothing(htbench, mini, finished, tmp_path):
    result = htbench("run", *mini.options(tmp_path / "ws"), "--dry-run")
    assert result.returncode == 0
    assert "16 runs: 0 done, 16 to run" in result.stdout
    assert not (tmp_path / "ws").exists()


def test_a_dry_run_knows_what_is_done_and_what_the_rest_will_cost(
    htbench, mini, finished, tmp_path
):
    workspace = finished.copy(tmp_path / "ws")
    lost = finished.row(method="finetune", task="outline-solid", seed=0)["key"]
    shutil.rmtree(workspace / "runs" / lost)
    before = state(workspace)
    rows = plan(htbench, mini, workspace)
    (to_run,) = [r for r in rows if r["state"] == "to run"]
    assert to_run["key"] == lost
    assert to_run["estimated_seconds"] > 0
    assert sum(r["estimated_seconds"] for r in rows) == to_run["estimated_seconds"]
    assert {r["key"] for r in rows} == {r["key"] for r in finished.runs()}
    text = htbench("run", *mini.options(workspace), "--dry-run").stdout
    assert "16 runs: 15 done, 1 to run" in text
    assert state(workspace) == before


# --- a user's own method ------------------------------------------------------------------------


def test_a_plugin_gets_its_row_and_one_byte_of_its_helper_runs_it_again(
    htbench, mini, finished, scaled, tmp_path
):
    workspace = finished.copy(tmp_path / "ws")
    before = state(workspace)
    arguments = [
        "run",
        *mini.options(workspace),
        "--plugin",
        scaled,
        "--task",
        "outline-solid",
        "--seed",
        "0",
        "--set",
        "alpha=3",
    ]
    first = htbench(*arguments)
    assert first.returncode == 0, first.stderr
    (row,) = [r for r in mini.rows(workspace) if r["method"] == "scaled"]
    assert (row["label"], row["status"], row["seed"]) == ("scaled(alpha=3.0)", "ok", 0)
    assert json.loads(row["config"]) == {"alpha": 3.0, "shift": False}
    board = (workspace / "leaderboard.md").read_text()
    assert "| scaled(alpha=3.0) (1 of 2 seeds) " in board
    assert (
        "- not run: scaled(alpha=3.0) on outline-solid, seed 1; solid-outline, seeds 0-1" in board
    )
    line = r"^\| outline-solid \| \\\* scaled\(alpha=3.0\) +\| .* \| +[+-]\d+\.\d"
    assert re.search(line, first.stdout, re.MULTILINE), first.stdout
    assert first.stdout.startswith("# Runs: mini\n")
    for name in ("source", "finetune"):  # to compare with
        assert first.stdout.count(f" {name} ") >= 1
    whole = shlex.join(map(str, ("htbench", "leaderboard", *mini.options(workspace))))
    assert first.stdout.endswith(f"The whole board: `{whole}`\n")
    after = state(workspace)
    ours = {"run.json", "predictions.parquet", "scaled.py", "scaling.py"}
    assert {Path(n).name for n in after.keys() - before} == ours, "alone, only the plugin is run"
    assert {n for n in before if before[n] != after[n]} == {"journal.jsonl", "results.parquet"}

    scaled.with_name("scaling.py").write_text(HELPER.replace("1.0", "1.5"))
    again = htbench(*arguments, "--method", "source", "--method", "finetune")
    assert again.returncode == 0, again.stderr
    rows = [r for r in mini.rows(workspace) if r["method"] != GAMMA_STAR]
    (new,) = [r for r in rows if f"runs/{r['key']}/run.json" not in after]
    assert new["label"] == "scaled(alpha=3.0)"
    assert new["predictions_sha256"] != row["predictions_sha256"], "the helper's new byte counted"
    board = (workspace / "leaderboard.md").read_text()
    assert board.count("| scaled") == 1, "the newest row of a method counts"


BUILT_ON = '''
"""A combination of the benchmark's own methods."""

from dataclasses import dataclass

from baselines.l2_sp import L2SP
from baselines.lolsgd import LOLSGD


@dataclass(frozen=True)
class Short(LOLSGD):
    """Leave-out local SGD, a shorter one."""

    name = "short"
    local_models: int = 2
    other: float = L2SP.alpha
'''


def test_a_plugin_may_build_on_the_suite_s_own_methods(htbench, mini, finished, tmp_path):
    path = tmp_path / "short.py"
    path.write_text(BUILT_ON)
    workspace = finished.copy(tmp_path / "ws")
    result = htbench(
        "run", *mini.options(workspace), "--plugin", path, "--task", "outline-solid", "--seed", "0"
    )
    assert result.returncode == 0, result.stderr
    (row,) = [r for r in mini.rows(workspace) if r["method"] == "short"]
    assert (row["status"], row["total_steps"], row["sequential_steps"]) == ("ok", 20, 10)
    code = json.loads((workspace / "runs" / row["key"] / "run.json").read_text())["made_from"]
    files = {name for name, _ in code["method"]["code"]["files"]}
    ours = {f"baselines/{name}.py" for name in ("lolsgd", "averaging", "l2_sp")}
    assert files == {"short.py", "baselines/__init__.py", *ours}  # all are in the key


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "nope"], ["--task nope", "mini", "outline-solid, solid-outline"]),
        (["--seed", "7"], ["--seed 7", "0-1"]),
        (["--method", "finetun"], ["no method 'finetun'", "did you mean finetune"]),
        (["--set", "alpha"], ["--set alpha", "FIELD=VALUE"]),
        (["--set", "=1"], ["--set =1", "FIELD=VALUE"]),
        (["--set", "a=1", "--set", "a=2"], ["--set a is given more than once"]),
        (["--method", "source", "--set", "momentum=1"], ["--set momentum", "no selected method"]),
        (["--plugin", "nowhere.py"], ["nowhere.py", "does not exist"]),
        (["--plugin", "README.md:A"], ["README.md"]),
        (["--jobs", "0"], ["--jobs"]),
        (["--time-limit", "-1"], ["--time-limit"]),
        (["--seed", "one"], ["--seed", "one"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence(htbench, mini, finished, tmp_path, arguments, words):
    workspace = tmp_path / "ws"
    result = htbench("run", *mini.options(workspace), *arguments)
    for word in words:
        assert word in result.sentence
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("method", "setting", "words"),
    [
        (
            "swad",
            "evaluations=0",
            "tolerated is 6 and evaluations is 0; all must be at least 1",
        ),
        ("wise-ft", "alpha=-1", "wise-ft(alpha=-1.0): alpha is -1.0; it must be between 0 and 1"),
        ("calibrated-pcv", "held_out=2", "held_out is 2.0; it must lie between 0 and 1"),
        (
            "gamma-star",
            "alpha=1",
            "gamma-star cannot be run: it is derived from finetune's predictions",
        ),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_before_anything_runs(
    htbench, mini, tmp_path, method, setting, words
):
    workspace = tmp_path / "ws"
    result = htbench("run", *mini.options(workspace), "--method", method, "--set", setting)
    assert words in result.sentence
    assert not workspace.exists()


def test_a_search_refuses_it_too(htbench, mini, tmp_path):
    result = htbench("tune", "wise-ft", *mini.options(tmp_path / "ws"), "--grid", "alpha=0.5,2")
    assert "wise-ft(alpha=2.0): alpha is 2.0; it must be between 0 and 1" in result.sentence


def test_a_value_of_the_wrong_type(htbench, mini, finished, scaled, tmp_path):
    for name, value in (("alpha", "much"), ("shift", "maybe"), ("alpha", "nan"), ("alpha", "inf")):
        result = htbench(
            "run", *mini.options(tmp_path / "ws"), "--plugin", scaled, "--set", f"{name}={value}"
        )
        assert f" {name}=" in result.sentence
        assert value in result.sentence
        assert f"scaled.{name} must be" in result.sentence
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize("suite", ["icon", "nowhere.toml"])
def test_an_unknown_suite(htbench, tmp_path, suite):
    result = htbench("run", "--suite", suite, "--workspace", tmp_path / "ws")
    assert suite in result.sentence
    assert not (tmp_path / "ws").exists()


def test_cuda_on_a_machine_without_it(htbench, mini, tmp_path):
    if resolve_device("auto") == "cuda":
        pytest.skip("this machine has CUDA")
    result = htbench("run", *mini.options(tmp_path), "--device", "cuda")
    assert result.sentence.startswith("htbench: --device cuda: torch finds no CUDA device")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- plugins that cannot be loaded -------------------------------------------------------------

HEAD = "from dataclasses import dataclass\nfrom htbench import Method\n\n"
ADAPT = "\n    def adapt(self, source, target, run):\n        return source.copy()\n\n"


def method(name: str, *lines: str, adapt: str = ADAPT, decorator: str = "@dataclass(frozen=True)"):
    body = "".join(f"    {line}\n" for line in lines)
    return f'{decorator}\nclass {name}(Method):\n    """{name}."""\n{body}{adapt}'


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def (:\n", ["SyntaxError", "line 1"]),
        ("import nowhere_at_all\n", ["nowhere_at_all"]),
        ("raise RuntimeError('not today')\n", ["RuntimeError: not today"]),
        ("import os\nos._exit(3)\n", ["exited with code 3"]),
        ("x = 1\n", ["the file does not define a method", "add a subclass of htbench.Method"]),
        (HEAD + method("A", "name = 'a'", adapt=""), ["A does not define adapt"]),
        (
            HEAD + method("A", "name = 'a'") + method("B", "name = 'b'"),
            ["2 methods (A, B)", "FILE.py:Class"],
        ),
        (
            HEAD + method("A", "name = 'a'", "alpha: float = 1.0", decorator=""),
            ["A has hyper-parameters (alpha)", "@dataclass(frozen=True)"],
        ),
        (HEAD + method("A"), ["A does not set its name"]),
        (HEAD + method("A", "name = 'Mine!'"), ["'Mine!'", "lower case"]),
        (HEAD + method("A", "name = 'a'", "x: list = None"), ["field 'x' of a has type 'list'"]),
        (HEAD + method("A", "name = 'a'", "x: int"), ["field 'x' of a needs a default"]),
        (HEAD + method("A", "name = 'a'", "x: int = object()"), ["field 'x'", "a whole number"]),
        (HEAD + method("A", "name = 'a'", "x: float = float('nan')"), ["'x'", "a finite number"]),
        (HEAD + method("A", "name = 'a'", "track = 'oracle'"), ["oracle track", "standard"]),
        (
            HEAD + method("A", "name = 'a'", "base = 'nope'"),
            ["declares base='nope', which is not registered"],
        ),
        (HEAD + method("A", "name = 'a'", "base = 'a'"), ["circular", "a -> a"]),
        (
            HEAD + method("A", "name = 'finetune'"),
            ["two methods are named 'finetune'", "baselines.finetune"],
        ),
    ],
    ids=[
        "syntax",
        "missing module",
        "raises",
        "exits",
        "no class",
        "no adapt",
        "two classes",
        "no dataclass",
        "no name",
        "odd name",
        "odd type",
        "no default",
        "odd default",
        "nan default",
        "oracle",
        "unknown base",
        "own base",
        "clash",
    ],
)
def test_a_plugin_that_cannot_be_used(htbench, mini, finished, tmp_path, code, words):
    path = tmp_path / "broken.py"
    path.write_text(code)
    result = htbench("run", *mini.options(tmp_path / "ws"), "--plugin", path)
    for word in words:
        assert word in result.sentence
    assert str(path) in result.sentence or "circular base methods" in result.sentence
    assert not (tmp_path / "ws").exists()


def test_a_class_that_a_plugin_does_not_have(htbench, mini, finished, scaled, tmp_path):
    result = htbench("run", *mini.options(tmp_path / "ws"), "--plugin", f"{scaled}:Nope")
    assert str(scaled) in result.sentence
    assert "Nope" in result.sentence
    assert not (tmp_path / "ws").exists()


def test_one_of_two_classes_is_named_after_a_colon(htbench, mini, finished, tmp_path):
    path = tmp_path / "two.py"
    path.write_text(HEAD + method("A", "name = 'a'") + method("B", "name = 'b'"))
    rows = plan(htbench, mini, tmp_path / "ws", "--plugin", f"{path}:B")
    assert {r["method"] for r in rows} == {"b"}
