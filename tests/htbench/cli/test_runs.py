"""`htbench runs remove`: what is removed, what is kept, and when it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import RunRecord
from benchmark.runs.remove import plan_removal
from benchmark.runs.workspace import Workspace
from leaderboard.gamma_star import derived_key
from leaderboard.outcome_files import outcomes_path
from tests.htbench.command import Htbench

WriteRun = Callable[..., RunRecord]
ERROR = {"kind": "exception", "message": "m", "traceback": "t"}


@pytest.fixture
def workspace(tmp_path: Path, write_run: WriteRun) -> Path:
    """Two seeds of finetune, wise-ft that starts from seed 0, and a failed run of mine."""
    root = tmp_path / "ws"
    base = write_run(root, "finetune", seed=0)
    write_run(root, "finetune", seed=1)
    write_run(root, "wise-ft", seed=0, made={"base": base.key})
    write_run(root, "mine", seed=0)
    write_run(root, "mine", seed=1, status="failed", error=ERROR)
    return root


def left(workspace: Path) -> list[tuple[str, int]]:
    records = Workspace(workspace).records()
    return sorted((record.label, record.seed) for record in records)


def removed(htbench: Htbench, workspace: Path, *options: str) -> tuple[int, str, str]:
    return htbench("runs", "remove", "--workspace", workspace, *options)


def test_runs_of_a_method_are_removed_and_their_rows_too(htbench: Htbench, workspace: Path) -> None:
    listing = ("list", "runs", "--suite", "icons", "--workspace", workspace, "--json")
    before = json.loads(htbench(*listing)[1])
    status, out, _ = removed(htbench, workspace, "--method", "mine", "--yes")
    assert (status, out.splitlines()[-1]) == (0, "removed 2 runs")
    assert left(workspace) == [("finetune", 0), ("finetune", 1), ("wise-ft", 0)]
    after = json.loads(htbench(*listing)[1])
    assert after == [entry for entry in before if entry["label"] != "mine"]
    assert list((workspace / "tmp").iterdir()) == []


def test_outcomes_are_removed_too_with_those_of_gamma_star(
    htbench: Htbench, workspace: Path
) -> None:
    paths = {}
    for record in Workspace(workspace).records():
        for key in (record.key, derived_key(record.key)):
            paths[key] = outcomes_path(workspace, key)
            paths[key].parent.mkdir(parents=True, exist_ok=True)
            paths[key].touch()
    removed(htbench, workspace, "--method", "finetune", "--method", "wise-ft", "--yes")
    kept = [record.key for record in Workspace(workspace).records()]
    left = {key for key, path in paths.items() if path.exists()}
    assert left == {*kept, *map(derived_key, kept)}


def test_status_task_and_seed_select(
    htbench: Htbench, workspace: Path, write_run: WriteRun
) -> None:
    write_run(workspace, "mine", "solid-outline", seed=0)
    removed(htbench, workspace, "--method", "mine", "--task", "solid-outline", "--yes")
    removed(htbench, workspace, "--method", "mine", "--seed", "2-5", "--yes")
    assert len(left(workspace)) == 5
    removed(htbench, workspace, "--method", "mine", "--status", "failed", "--yes")
    assert ("mine", 1) not in left(workspace)
    assert ("mine", 0) in left(workspace)


def test_a_task_without_runs_is_named(htbench: Htbench, workspace: Path) -> None:
    """A mistyped task ended with status 0 and nothing removed."""
    before = left(workspace)
    for task, hint in (("outline-solidd", "did you mean outline-solid? "), ("art", "")):
        code, _, err = removed(htbench, workspace, "--method", "mine", "--task", task, "--yes")
        assert code == 2
        assert f"--task {task}: {workspace} has no runs of this task; {hint}it has: " in err
    assert left(workspace) == before


def test_a_run_that_others_start_from_is_kept_unless_these_are_chosen(
    htbench: Htbench, workspace: Path
) -> None:
    _, out, err = removed(htbench, workspace, "--method", "finetune", "--yes")
    assert err.startswith("kept: 1 run of finetune, because runs of 'wise-ft' start from them; ")
    assert out.endswith("removed 1 run\n")
    assert ("finetune", 0) in left(workspace)
    both = ("--method", "finetune", "--method", "wise-ft", "--yes")
    assert removed(htbench, workspace, *both)[2] == ""
    assert left(workspace) == [("mine", 0), ("mine", 1)]


def test_json_lists_keys(htbench: Htbench, workspace: Path) -> None:
    keys = {(r.label, r.seed): r.key for r in Workspace(workspace).records()}
    expected = {
        "removed": [keys["finetune", 1]],
        "kept": [keys["finetune", 0]],
        "in progress": [],
    }
    for option in ("--dry-run", "--yes"):
        out = removed(htbench, workspace, "--method", "finetune", "--json", option)[1]
        assert json.loads(out) == expected
    assert ("finetune", 1) not in left(workspace)


def test_a_chain_of_runs_is_kept_whole(tmp_path: Path, write_run: WriteRun) -> None:
    a = write_run(tmp_path, "a")
    b = write_run(tmp_path, "b", made={"base": a.key})
    c = write_run(tmp_path, "c", made={"base": b.key})
    plan = plan_removal([a, b, c], lambda record: record.label in "ab")
    assert ([*plan.runs], [*plan.kept], [*plan.dependents]) == ([], [a, b], [c])
    assert plan_removal([a, b, c], lambda record: record.label in "bc").runs == [b, c]


def test_nothing_is_removed_without_consent(htbench: Htbench, workspace: Path) -> None:
    before = left(workspace)
    status, out, err = removed(htbench, workspace, "--method", "mine")
    assert status == 2
    assert "this would remove 2 runs in " in err
    assert "add --yes to remove them" in err
    status, out, _ = removed(htbench, workspace, "--method", "mine", "--dry-run")
    assert status == 0
    assert "would remove 2 runs in " in out
    assert left(workspace) == before
    assert "name the method" in removed(htbench, workspace)[2]
    assert (
        "no runs of method 'mien'; did you mean mine?"
        in removed(htbench, workspace, "--method", "mien", "--yes")[2]
    )


def test_a_run_in_progress_is_kept(htbench: Htbench, workspace: Path) -> None:
    record = next(r for r in Workspace(workspace).records() if (r.label, r.seed) == ("mine", 0))
    with Workspace(workspace) as other, other.claim(record.key) as claimed:
        assert claimed
        _, out, err = removed(htbench, workspace, "--method", "mine", "--yes")
    assert "kept 1 run that another process is carrying out" in err
    assert out.endswith("removed 1 run\n")
    assert ("mine", 0) in left(workspace)
