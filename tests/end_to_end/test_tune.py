"""`htbench tune` as a user types it: search on folds, choose, run, and say so on the row."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from fractions import Fraction

import pytest

from benchmark.manifest.catalogue import load_manifest
from benchmark.manifest.toml import to_toml
from benchmark.records import RunRecord
from tests.end_to_end.conftest import Mini

GRID = ("--grid", "alpha=0.0,0.5,1.0")
TASK = "outline-solid"
HUNDRED = ",".join(str(number / 100) for number in range(1, 101))


def tune_words(mini, workspace):
    words = ("tune", "wise-ft", "--suite", mini.suite, "--task", TASK, "--seed", "0")
    return (*words, *GRID, "--repeats", "2", "--json", "--workspace", workspace)


@pytest.fixture(scope="module")
def tuned(mini, command, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("tune") / "ws"
    result = command(mini, *tune_words(mini, workspace))
    assert result.returncode == 0, result.stderr
    return workspace, json.loads(result.stdout)


def test_the_choice_is_the_best_of_the_grid_and_is_run(tuned):
    workspace, searches = tuned
    search = searches[TASK]["wise-ft"]
    assert [entry["settings"]["alpha"] for entry in search["tried"]] == ["0.0", "0.5", "1.0"]
    scores = [(entry["seen"] + entry["missing"]) / 2 for entry in search["tried"]]
    assert search["chosen"] == search["tried"][scores.index(max(scores))]["settings"]
    (row,) = [row for row in Mini.rows(workspace) if row["label"] == "wise-ft(tuned)"]
    assert json.loads(row["config"])["alpha"] == float(search["chosen"]["alpha"])
    assert json.loads(row["search"]) == search


def test_the_board_says_what_was_chosen_and_what_that_cost(tuned, htbench, mini):
    workspace, searches = tuned
    search = searches[TASK]["wise-ft"]
    alpha = search["chosen"]["alpha"]
    result = htbench("leaderboard", *mini.options(workspace)).stdout
    assert search["steps"] == 2 * 20  # wise-ft trains nothing: finetune once a fold
    line = (
        "- mini, tuned: wise-ft(tuned), seed 0, chosen by pseudo cross-validation on seen training "
        f"images (2 folds, 3 settings tried, 40 gradient steps): alpha={alpha} on {TASK}"
    )
    assert line in result.partition("## Notes")[2].splitlines()


def test_the_ends_of_wise_ft_are_the_source_and_the_fine_tuned_model_on_the_folds(tuned):
    """alpha = 0 is the source model, which has lost nothing; alpha = 1 has lost the most."""
    _, searches = tuned
    first, *_, last = searches[TASK]["wise-ft"]["tried"]
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
    again = htbench(*tune_words(mini, workspace))
    assert json.loads(again.stdout) == searches
    assert sorted(path.name for path in (workspace / "tuning" / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["wise-ft", "--grid", "alpha"], "field=a,b,c"),
        (["wise-ft", "--grid", "beta=1"], "wise-ft has no such field; fields: alpha"),
        (["wise-ft", "--grid", "alpha=0.1,x"], "alpha"),
        (["wise-ft", "--grid", "alpha=0.1,0.1"], "--grid alpha: '0.1' is repeated"),
        (["wise-ft", "--grid", "alpha=0.5,.50"], "'.50' and '0.5' are the same value"),
        (["wise-ft", "--grid", "rate-factor=0.5,1/2"], "'1/2' and '0.5' are the same value"),
        (["wise-ft", "--grid", "alpha=0.1", "--grid", "alpha=0.2"], "all its values in one --grid"),
        (
            ["wise-ft", "--grid", f"alpha={HUNDRED}", "--grid", f"rate-factor={HUNDRED}"],
            "10,000 combinations are more than the 1,000 that one search may try",
        ),
        (["oracle-finetune", "--grid", "alpha=1"], "is an oracle"),
        (["wise-fit", "--grid", "alpha=1"], "wise-ft"),
        (["--grid", "alpha=1"], "METHOD"),
        (["finetune", "--methods", "all"], "METHOD"),
        (["source"], "source declares no search space"),
        (["--methods", "finetune,nope"], "'nope' is not in suite mini"),
        (["--methods", ""], "'' is not in suite mini"),
        ([""], "no method ''"),
        (["--plugin", ""], "--plugin"),
        (["--methods", "all", "--grid", "alpha=1"], "--grid is for a single method"),
    ],
)
def test_wrong_input_is_one_sentence(htbench, mini, tmp_path, arguments, words):
    result = htbench("tune", *arguments, *mini.options(tmp_path / "ws"))
    assert words in result.sentence


def test_methods_that_declare_nothing_are_left_to_run(htbench, mini, tmp_path):
    """All folds were read for no setting, and then every setting was said to have failed."""
    suite = tmp_path / "still.toml"
    suite.write_text(mini.suite.read_text().replace('"finetune"', '"bn-stats"'))
    words = ("--suite", suite, "--workspace", tmp_path / "ws")
    error = htbench("tune", "--methods", "source,bn-stats", *words).sentence
    assert "none of source, bn-stats declares a search space, so nothing can be tuned" in error
    run = f"htbench run --suite {suite} --method source --method bn-stats --workspace"
    assert run in error
    assert not (tmp_path / "ws").exists()


def with_few_seen_classes(mini, folder, count):
    """Write the suite with a second task of few seen classes; return it and the task's id."""
    manifest, suite = folder / "mini" / "0.1", folder / "few.toml"
    shutil.copytree(mini.manifest, manifest)
    document = load_manifest(manifest).document
    first, second = document["tasks"]
    few = {**second, "seen": second["seen"][:count]}
    (manifest / "manifest.toml").write_text(to_toml({**document, "tasks": [first, few]}))
    suite.write_text(mini.suite.read_text().replace(str(mini.manifest), str(manifest)))
    return suite, few["id"]


DOES_NOT_APPLY = """
from dataclasses import dataclass

from htbench import Method, NotApplicable


@dataclass(frozen=True)
class DoesNotApply(Method):
    name = "does-not-apply"
    search = {}

    def adapt(self, source, target, run):
        raise NotApplicable("too dark on folds")
"""


def test_settings_that_do_not_succeed_have_a_command_that_says_why(htbench, mini, tmp_path):
    """A run on the whole task, which was recommended, may well succeed."""
    plugin = tmp_path / "does_not_apply.py"
    plugin.write_text(DOES_NOT_APPLY)
    words = ("--task", TASK, "--seed", "0", "--repeats", "1", *mini.options(tmp_path / "ws"))
    for _ in range(2):  # the second command finds the runs finished
        error = htbench("tune", "--plugin", plugin, *words).sentence
        assert "htbench: no setting succeeded on every fold, so none can be chosen" in error
        (show,) = re.findall(r"`htbench (show .*)` gives a reason", error)
        assert "not-applicable: too dark on folds" in htbench(*shlex.split(show)).stdout


def test_a_task_without_a_choice_ends_the_search_with_status_1(htbench, mini, tmp_path):
    """Before, only a line of the log said that the tuned board would not have the task."""
    plugin = tmp_path / "does_not_apply.py"
    body = "if target.seen.sum() > 2:\n            return source.copy()\n        raise"
    plugin.write_text(DOES_NOT_APPLY.replace("raise", body))
    suite, few = with_few_seen_classes(mini, tmp_path, 4)  # two of them stay seen in a fold
    words = ("--seed", "0", "--repeats", "1", "--suite", suite, "--workspace", tmp_path / "ws")
    for option in ("--search-only", "--json"):
        result = htbench("tune", "--plugin", plugin, *words, option)
        assert result.returncode == 1
        assert f"does-not-apply on {few}: no setting succeeded on every fold" in result.stderr
        assert "1 search ended without a setting that succeeded on every fold" in result.stderr
    assert {task for task, of_task in json.loads(result.stdout).items() if of_task} == {TASK}
    assert {row["task"] for row in Mini.rows(tmp_path / "ws")} == {TASK}


def test_a_task_without_folds_is_refused_before_any_search(htbench, mini, tmp_path):
    suite, few = with_few_seen_classes(mini, tmp_path, 3)
    words = ("--suite", suite, "--workspace", tmp_path / "ws")
    error = htbench("tune", "finetune", *words).sentence
    assert error == (
        f"htbench: task {few} has 3 seen classes, and folds need at least 4; choose other "
        "tasks with --task\n"
    )
    assert not (tmp_path / "ws").exists()


@pytest.fixture(scope="module")
def whole(mini, command, tmp_path_factory):
    """Three methods tuned over what they declare, one of which declares nothing."""
    workspace = tmp_path_factory.mktemp("tune-all") / "ws"
    names = "source,finetune,calibrated-alg"
    cells = ("--task", TASK, "--seed", "0", "--repeats", "1")
    result = command(mini, "tune", "--methods", names, *cells, *mini.options(workspace))
    assert result.returncode == 0, result.stderr
    return workspace, result.stdout


def test_several_methods_are_tuned_over_what_they_declare(whole):
    workspace, printed = whole
    rows = {row["label"]: row for row in Mini.rows(workspace)}
    assert {"source", "finetune(tuned)", "calibrated-alg(tuned)"} <= rows.keys()
    assert rows["source"]["search"] is None
    factors = set()
    for name in ("finetune", "calibrated-alg"):
        search = json.loads(rows[f"{name}(tuned)"]["search"])
        tried = [entry["settings"] for entry in search["tried"]]
        assert tried == [{"rate-factor": f} for f in ("1", "1/3", "1/10")]
        factors.add(search["chosen"]["rate-factor"])
        # Both methods share the fine-tuning of a fold.
        assert search["steps"] == 3 * 20
    assert "chosen" in printed
    assert "6 settings tried, of which 0 failed on at least one fold" in printed
    assert printed.count("gradient steps of a search: 60\n") == 1
    assert "costs are without the searches, whose steps are in the notes" in printed
    rates = {record["made_from"]["recipe"]["head_lr"] for record in Mini.records(workspace)}
    assert sorted(rates) == pytest.approx(sorted(0.1 * float(Fraction(f)) for f in {*factors, "1"}))


def test_tuned_rows_have_a_table_of_their_own(whole, htbench, mini):
    workspace, _ = whole
    options = mini.options(workspace)
    tables = json.loads(htbench("leaderboard", *options, "--format", "json").stdout)
    names = [table["table"] for table in tables]
    assert names == ["mini", "mini, tuned"]
    labels = [{cell["label"] for cell in table["cells"]} for table in tables]
    assert labels[0] == {"source"}
    assert labels[1] == {
        "source",
        "finetune(tuned)",
        "calibrated-alg(tuned)",
        "gamma-star(tuned)",
    }


def test_a_suite_of_tuned_methods(whole, htbench, mini, tmp_path):
    workspace, _ = whole
    suite = tmp_path / "tuned.toml"
    suite.write_text(mini.suite.read_text() + "tuned = true\n")
    options = ("--suite", suite, "--workspace", workspace)
    (table,) = json.loads(htbench("leaderboard", *options, "--format", "json").stdout)
    assert table["table"] == "tuned"
    assert "finetune(tuned)" in {cell["label"] for cell in table["cells"]}
    refused = htbench("run", *options).sentence
    assert f"htbench tune --suite {suite} --methods all --workspace {workspace}" in refused
