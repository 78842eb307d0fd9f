"""`htbench run`: the first call does the work, the next one none; what may be chosen and set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

METHODS = ["source", "finetune", "frozen-classifier", "calibrated-alg"]
TASKS = ["outline-solid", "solid-outline"]
PLUGIN = '''
from dataclasses import dataclass

import torch

import scaling
from benchmark import Method


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
    """Every file that stands for work done, with its time of change and its bytes."""
    kept = [*workspace.glob("runs/*/*"), workspace / "journal.jsonl", workspace / "results.parquet"]
    return {str(p.relative_to(workspace)): (p.stat().st_mtime_ns, p.read_bytes()) for p in kept}


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
        assert board.count(f"| {method} ") == 1 + len(TASKS), "once in the mean, once a task"
    assert "Not in the table" not in board
    assert (finished.workspace / "leaderboard.md").read_text() == board


def test_every_run_leaves_its_record_its_predictions_and_a_row(finished):
    found = {(r["task"], r["method"], r["seed"]): r for r in finished.rows()}
    assert set(found) == {(t, m, s) for t in TASKS for m in METHODS for s in (0, 1)}
    for row in found.values():
        folder = finished.workspace / "runs" / row["key"]
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == row["status"] == "ok"
        assert (record["key"], record["task"]) == (row["key"], row["task"])
        assert (folder / "predictions.parquet").is_file()
    assert len(list((finished.workspace / "runs").iterdir())) == len(found)


def test_progress_goes_to_standard_error_and_leaves_nothing_in_hand(finished):
    assert "[16/16]" in finished.first.stderr
    assert "[16/16]" not in finished.first.stdout
    assert list((finished.workspace / "tmp").iterdir()) == []


def test_the_second_call_runs_nothing_and_prints_the_same_bytes(mini, finished, tmp_path):
    workspace = finished.copy(tmp_path / "ws")
    before = state(workspace)
    again = mini.run(workspace)
    assert (again.returncode, again.stdout) == (0, finished.first.stdout)
    assert again.stderr == ""
    assert state(workspace) == before


def test_a_run_whose_folder_is_gone_is_done_again_and_no_other(mini, finished, tmp_path):
    workspace = finished.copy(tmp_path / "ws")
    before = state(workspace)
    lost = finished.row(method="source", task="solid-outline", seed=1)["key"]
    shutil.rmtree(workspace / "runs" / lost)
    again = mini.run(workspace)
    assert again.returncode == 0, again.stderr
    assert again.stdout == finished.first.stdout
    events = [json.loads(line) for line in (workspace / "journal.jsonl").read_text().splitlines()]
    assert [(e["event"], e["key"]) for e in events[-2:]] == [("start", lost), ("ok", lost)]
    assert len(events) == 2 * (16 + 1)
    after = state(workspace)
    others = [n for n in before if n.startswith("runs/") and lost not in n]
    assert {n: after[n] for n in others} == {n: before[n] for n in others}


# --- what to run -------------------------------------------------------------------------------


def plan(htbench, mini, workspace, *arguments):
    said = htbench(
        "run", "--suite", mini.suite, "--workspace", workspace, "--dry-run", "--json", *arguments
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.parametrize(
    ("arguments", "cells"),
    [
        ([], [(t, m, s) for t in TASKS for m in METHODS for s in (0, 1)]),
        (["--task", "solid-outline", "--method", "source"], [("solid-outline", "source", 0),
                                                            ("solid-outline", "source", 1)]),
        (["--seed", "1", "--method", "finetune", "--method", "source", "--task", "outline-solid"],
         [("outline-solid", "finetune", 1), ("outline-solid", "source", 1)]),
        (["--seed", "1", "--method", "calibrated-alg", "--task", "outline-solid"],
         [("outline-solid", "finetune", 1), ("outline-solid", "calibrated-alg", 1)]),
    ],
    ids=["whole suite", "one task and method", "in the order given", "with the base"],
)  # fmt: skip
def test_task_method_and_seed_choose_the_runs(
    htbench, mini, finished, tmp_path, arguments, cells
):
    rows = plan(htbench, mini, tmp_path / "ws", *arguments)
    assert [(r["task"], r["method"], r["seed"]) for r in rows] == cells
    assert {r["state"] for r in rows} == {"to run"}


def test_a_dry_run_writes_nothing(htbench, mini, finished, tmp_path):
    said = htbench("run", "--suite", mini.suite, "--workspace", tmp_path / "ws", "--dry-run")
    assert said.returncode == 0
    assert "16 runs: 0 done, 16 to run" in said.stdout
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
    assert {r["key"] for r in rows} == {r["key"] for r in finished.rows()}
    text = htbench("run", "--suite", mini.suite, "--workspace", workspace, "--dry-run").stdout
    assert "16 runs: 15 done, 1 to run" in text
    assert state(workspace) == before


# --- a method of one's own ---------------------------------------------------------------------


def test_a_plugin_gets_its_rows_and_only_it_is_run(mini, finished, scaled, tmp_path):
    workspace = finished.copy(tmp_path / "ws")
    before = state(workspace)
    done = mini.run(workspace, "--plugin", scaled, "--task", "outline-solid", "--set", "alpha=3")
    assert done.returncode == 0, done.stderr
    new = [r for r in mini.records(workspace) if r["method"] == "scaled"]
    assert [(r["label"], r["task"], r["status"]) for r in new] == [
        ("scaled(alpha=3.0)", "outline-solid", "ok")
    ] * 2
    assert {r["seed"] for r in new} == {0, 1}
    assert {json.dumps(r["config"]) for r in new} == {'{"alpha": 3.0, "shift": false}'}
    assert "| scaled(alpha=3.0) " in done.stdout
    assert "- not run: scaled(alpha=3.0) on solid-outline, seeds 0, 1" in done.stdout
    after = state(workspace)
    assert len(after) == len(before) + 2 * 2, "two folders of two files"
    assert {n for n in before if before[n] != after[n]} == {"journal.jsonl", "results.parquet"}


def test_one_byte_of_a_helper_runs_the_plugin_again_and_nothing_else(
    mini, finished, scaled, tmp_path
):
    workspace = finished.copy(tmp_path / "ws")
    arguments = ["--plugin", scaled, "--method", "source", "--method", "finetune",
                 "--task", "outline-solid", "--seed", "0"]  # fmt: skip
    assert mini.run(workspace, *arguments).returncode == 0
    keys = {r["key"] for r in mini.rows(workspace)}
    scaled.with_name("scaling.py").write_text(HELPER.replace("1.0", "1.5"))
    again = mini.run(workspace, *arguments)
    assert again.returncode == 0, again.stderr
    (new,) = [r for r in mini.rows(workspace) if r["key"] not in keys]
    (old,) = [r for r in mini.rows(workspace) if r["method"] == "scaled" and r["key"] in keys]
    assert new["method"] == "scaled"
    assert new["predictions_sha256"] != old["predictions_sha256"], "the helper's new byte counted"
    assert again.stdout.count("| scaled ") == 1 + len(TASKS), "the newest row of a method counts"


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "nope"], ["--task nope", "mini", "outline-solid, solid-outline"]),
        (["--seed", "7"], ["--seed 7", "0, 1"]),
        (["--method", "finetun"], ["no method 'finetun'", "did you mean finetune"]),
        (["--set", "alpha"], ["--set alpha", "field=value"]),
        (["--set", "=1"], ["--set =1", "field=value"]),
        (["--set", "a=1", "--set", "a=2"], ["--set a", "twice"]),
        (["--method", "source", "--set", "momentum=1"], ["--set momentum", "no chosen method"]),
        (["--plugin", "nowhere.py"], ["nowhere.py", "no file"]),
        (["--plugin", "README.md:A"], ["README.md"]),
        (["--jobs", "0"], ["--jobs"]),
        (["--time-limit", "-1"], ["--time-limit"]),
        (["--seed", "one"], ["--seed", "one"]),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence(htbench, mini, finished, tmp_path, arguments, words):
    workspace = tmp_path / "ws"
    said = htbench("run", "--suite", mini.suite, "--workspace", workspace, *arguments)
    for word in words:
        assert word in said.sentence
    assert not workspace.exists()


@pytest.mark.parametrize("setting", ["alpha=much", "shift=maybe"])
def test_a_value_of_the_wrong_type(htbench, mini, finished, scaled, tmp_path, setting):
    name, value = setting.split("=")
    said = htbench("run", "--suite", mini.suite, "--workspace", tmp_path / "ws",
                   "--plugin", scaled, "--set", setting)  # fmt: skip
    assert f"scaled.{name} must be" in said.sentence
    assert value in said.sentence
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize("suite", ["icon", "nowhere.toml"])
def test_an_unknown_suite(htbench, tmp_path, suite):
    said = htbench("run", "--suite", suite, "--workspace", tmp_path / "ws")
    assert suite in said.sentence
    assert not (tmp_path / "ws").exists()


def test_cuda_on_a_machine_without_it(mini, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    said = mini.run(tmp_path / "ws", "--device", "cuda")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("htbench: --device cuda: torch finds no CUDA device")
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "ws").exists()


def test_a_plugin_named_like_a_built_in_method_names_both(mini, plugin, tmp_path):
    path = plugin("return source.copy()", name="finetune")
    said = mini.run(tmp_path / "ws", "--plugin", path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("htbench: two methods are named 'finetune'")
    assert "baselines.finetune" in said.stderr
    assert str(path) in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "ws").exists()
