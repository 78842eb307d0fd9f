"""`htbench tune` as a user types it: search on folds, choose, run, and say so on the row."""

from __future__ import annotations

import json

import pytest

from benchmark.manifest.catalogue import load_manifest
from benchmark.records import RunRecord
from tests.end_to_end.conftest import Mini

TASK = "outline-solid"


@pytest.fixture(scope="module")
def tuned(mini, command, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("tune") / "ws"
    result = command(
        mini,
        "tune",
        "wise-ft",
        "--suite",
        mini.suite,
        "--task",
        TASK,
        "--seed",
        "0",
        "--grid",
        "alpha=0.0,0.5,1.0",
        "--repeats",
        "2",
        "--json",
        "--workspace",
        workspace,
    )
    assert result.returncode == 0, result.stderr
    return workspace, json.loads(result.stdout)


def test_the_choice_is_the_best_of_the_grid_and_is_run(tuned):
    workspace, searches = tuned
    search = searches[TASK]
    assert [entry["settings"]["alpha"] for entry in search["tried"]] == ["0.0", "0.5", "1.0"]
    scores = [(entry["seen"] + entry["missing"]) / 2 for entry in search["tried"]]
    assert search["chosen"] == search["tried"][scores.index(max(scores))]["settings"]
    (row,) = [row for row in Mini.rows(workspace) if row["label"] == "wise-ft(tuned)"]
    assert json.loads(row["config"])["alpha"] == float(search["chosen"]["alpha"])
    assert json.loads(row["search"]) == search


def test_the_board_says_what_was_chosen_and_what_that_cost(tuned, htbench, mini):
    workspace, searches = tuned
    search = searches[TASK]
    alpha = search["chosen"]["alpha"]
    result = htbench("leaderboard", *mini.options(workspace)).stdout
    assert search["steps"] == 2 * 20  # wise-ft trains nothing: finetune once a fold
    line = (
        f"- wise-ft(tuned) on {TASK}, seed 0: alpha={alpha}, chosen by pseudo cross-validation "
        "on seen training images (2 folds; settings tried: alpha=0.0; alpha=0.5; alpha=1.0; "
        "40 gradient steps)"
    )
    assert line in result.partition("## Notes")[2].splitlines()


def test_the_ends_of_wise_ft_are_the_source_and_the_fine_tuned_model_on_the_folds(tuned):
    """alpha = 0 is the source model, which has lost nothing; alpha = 1 has lost the most."""
    _, searches = tuned
    first, *_, last = searches[TASK]["tried"]
    assert first["missing"] > last["missing"]
    assert first["seen"] < last["seen"]


def test_no_run_of_the_search_was_given_a_test_image(tuned, mini):
    workspace, _ = tuned
    manifest = load_manifest(mini.manifest)
    tests = set(manifest.samples("solid", "test").ids)
    folders = list((workspace / "tuning" / "runs").iterdir())
    assert folders
    from benchmark.records import PREDICTIONS_FILE, read_predictions

    for folder in folders:
        ids, _ = read_predictions(folder / PREDICTIONS_FILE)
        assert not set(ids) & tests
        assert RunRecord.read(folder).made_from["manifest"] != manifest.digest


def test_the_same_command_has_nothing_left_to_do(tuned, htbench, mini):
    workspace, searches = tuned
    before = sorted(path.name for path in (workspace / "tuning" / "runs").iterdir())
    again = htbench(
        "tune",
        "wise-ft",
        "--suite",
        mini.suite,
        "--task",
        TASK,
        "--seed",
        "0",
        "--grid",
        "alpha=0.0,0.5,1.0",
        "--repeats",
        "2",
        "--json",
        "--workspace",
        workspace,
    )
    assert json.loads(again.stdout) == searches
    assert sorted(path.name for path in (workspace / "tuning" / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wise-ft", "--grid", "alpha"], "field=a,b,c"),
        (["wise-ft", "--grid", "beta=1"], "wise-ft has no such field; fields: alpha"),
        (["wise-ft", "--grid", "alpha=0.1,x"], "alpha"),
        (["wise-ft", "--grid", "alpha=0.1,0.1"], "repeated"),
        (["oracle-finetune", "--grid", "alpha=1"], "is an oracle"),
        (["wise-fit", "--grid", "alpha=1"], "wise-ft"),
        (["--grid", "alpha=1"], "METHOD"),
    ],
)
def test_wrong_input_is_one_sentence(htbench, mini, tmp_path, arguments, words):
    result = htbench("tune", *arguments, *mini.options(tmp_path / "ws"))
    assert words in result.sentence
