"""The bytes of predictions do not depend on when, where or how many side by side they were made."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from leaderboard.scoring import Scores

SCORES = [f.name for f in fields(Scores)]


def predictions(workspace):
    """The bytes of every predictions file by the run's key."""
    files = {p.parent.name: p.read_bytes() for p in workspace.glob("runs/*/predictions.parquet")}
    assert files
    return files


def scores(mini, workspace):
    return {r["key"]: {name: r[name] for name in SCORES} for r in mini.rows(workspace)}


@pytest.fixture(scope="module")
def alone(mini, finished, command, tmp_path_factory):
    """One task and seed again, in an empty workspace, with one run at a time."""
    workspace = tmp_path_factory.mktemp("alone") / "ws"
    result = command(
        mini,
        "run",
        *mini.options(workspace),
        "--task",
        "solid-outline",
        "--seed",
        "1",
        "--jobs",
        "1",
    )
    assert result.returncode == 0, result.stderr
    return workspace


@pytest.fixture(scope="module")
def from_nothing(mini, finished, command, tmp_path_factory):
    """Everything again, in an empty workspace and an empty data folder: stores and sources too."""
    root = tmp_path_factory.mktemp("from-nothing")
    empty = replace(mini, data=root / "data")
    result = command(empty, "run", *mini.options(root / "ws"), "--jobs", "3")
    assert result.returncode == 0, result.stderr
    return root / "ws"


def test_one_run_at_a_time_gives_the_same_bytes(mini, finished, alone):
    ours, theirs = predictions(alone), predictions(finished.workspace)
    assert len(ours) == 4
    assert ours == {key: theirs[key] for key in ours}
    first = scores(mini, finished.workspace)
    assert len(scores(mini, alone)) == 5, "gamma-star is a row without a run"
    assert all(first[key] == new for key, new in scores(mini, alone).items())


def test_new_stores_and_source_models_give_the_same_bytes(mini, finished, from_nothing):
    assert predictions(from_nothing) == predictions(finished.workspace)
    assert scores(mini, from_nothing) == scores(mini, finished.workspace)
    ours, theirs = mini.rows(from_nothing), finished.rows()
    assert [r["source_digest"] for r in ours] == [r["source_digest"] for r in theirs]


def test_weights_that_other_runs_start_from_are_the_same_bytes_too(finished, from_nothing):
    ours, theirs = (
        {p.parent.name: p.read_bytes() for p in root.glob("runs/*/weights.safetensors")}
        for root in (from_nothing, finished.workspace)
    )
    assert len(ours) == 4, "finetune, on two tasks with two seeds"
    assert ours == theirs


def test_a_seed_changes_what_is_random_and_nothing_else(finished):
    def row(method, seed):
        return finished.row(method=method, task="outline-solid", seed=seed)

    assert row("finetune", 0)["predictions_sha256"] != row("finetune", 1)["predictions_sha256"]
    assert row("source", 0)["predictions_sha256"] == row("source", 1)["predictions_sha256"]
    assert row("source", 0)["source_digest"] == row("finetune", 1)["source_digest"]
