"""`htbench score`, `show`, `leaderboard`, `manifest` and `doctor`: text and JSON."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil

import pytest

from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.gamma_star import derived_key
from leaderboard.rows import METRICS

DIGEST = re.compile(r"[0-9a-f]{64}")


# --- score -------------------------------------------------------------------------------------


def test_score_of_a_key_is_the_row_of_the_results(htbench, mini, finished, at):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    result = htbench("score", row["key"][:12], "--suite", mini.suite, *at, "--json")
    score = json.loads(result.stdout)
    assert score["run"] == row["key"]
    assert {name: score[name] for name in METRICS} == {name: row[name] for name in METRICS}
    assert (score["n_seen"], score["n_missing"]) == (row["n_seen"], row["n_missing"])


def test_score_of_a_bare_file_is_that_of_its_run(htbench, mini, finished, tmp_path):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    file = tmp_path / "anything.parquet"
    shutil.copy(finished.workspace / "runs" / row["key"] / "predictions.parquet", file)
    result = htbench("score", file, "--suite", mini.suite, "--task", "outline-solid", "--json")
    score = json.loads(result.stdout)
    assert {name: score[name] for name in METRICS} == {name: row[name] for name in METRICS}
    text = htbench("score", file, "--suite", mini.suite, "--task", "outline-solid").stdout
    assert f"{row['overall']:.2f}" in text


def test_score_of_what_cannot_be_scored(htbench, mini, finished, at, tmp_path):
    row = finished.row(method="finetune", task="outline-solid", seed=0)
    file = finished.workspace / "runs" / row["key"] / "predictions.parquet"
    text = tmp_path / "text.parquet"
    text.write_text("not Parquet")
    suite = ("--suite", mini.suite)
    for arguments, words in {
        (file, *suite): ["give its task with --task"],
        (file, *suite, "--task", "nope"): ["nope"],
        (file, *suite, "--task", "solid-outline"): [str(file), "unknown"],
        (text, *suite, "--task", "outline-solid"): [str(text), "Parquet"],
        ("0" * 12, *suite, *at): ["no run", "0" * 12],
        ("", *suite, *at): ["nor the beginning of a run's key; `htbench list runs --suite"],
        ("nope", *suite, *at): [
            "'nope'",
            "nor the beginning of a run's key; `htbench list runs --suite",
        ],
        (row["key"][:12], *suite, *at, "--task", "solid-outline"): ["outline-solid, not"],
        (row["key"][:12], *at): ["mini@0.1", "--suite"],
    }.items():
        result = htbench("score", *arguments)
        for word in words:
            assert word in result.sentence


def test_the_beginning_of_several_keys_is_ambiguous(htbench, mini, finished, at, tmp_path):
    keys = sorted(r["key"] for r in finished.runs())
    firsts = [key[0] for key in keys]
    digit = next(d for d in firsts if firsts.count(d) > 1)  # 17 runs at most have none
    result = htbench("score", digit, "--suite", mini.suite, *at)
    assert f"'{digit}' matches {firsts.count(digit)} runs: " in result.sentence
    assert next(key for key in keys if key[0] == digit)[:12] in result.sentence


@pytest.mark.parametrize("command", ["show", "score"])
def test_the_key_of_gamma_star_is_refused_and_the_message_names_the_run_behind_it(
    htbench, mini, finished, at, command
):
    base = finished.row(method="finetune", task="outline-solid", seed=0)
    star = finished.row(method=GAMMA_STAR, task="outline-solid", seed=0)
    for key in (star["key"], star["key"][:12]):
        sentence = htbench(command, key, "--suite", mini.suite, *at).sentence
        assert sentence.count("\n") == 1
        row = f"it is the gamma-star row derived from run {base['key'][:12]}."
        assert f"is not a run; {row}" in sentence
        assert f"`htbench show {base['key'][:12]} --suite " in sentence
        assert "` shows both" in sentence
    other = finished.row(method="source", task="outline-solid", seed=0)
    sentence = htbench(command, derived_key(other["key"]), "--suite", mini.suite, *at).sentence
    assert "no run in" in sentence, "it is beside finetune only"
    text = htbench("show", base["key"], "--suite", mini.suite, *at).stdout
    assert f"gamma-star (oracle): overall {star['overall']:.2f}, seen {star['seen']:.2f}" in text


# --- leaderboard -------------------------------------------------------------------------------


def test_the_board_in_every_format(htbench, mini, finished, at, tmp_path):
    boards = {
        kind: htbench("leaderboard", "--suite", mini.suite, *at, "--format", kind).stdout
        for kind in ("markdown", "csv", "json")
    }
    assert boards["markdown"] == finished.first.stdout
    lines = list(csv.DictReader(io.StringIO(boards["csv"])))
    (table,) = json.loads(boards["json"])
    # Five methods, with gamma-star, on two tasks, in their mean and in their pooled images.
    assert len(lines) == len(table["cells"]) == 5 * 4
    rows = [
        r for r in finished.rows() if r["method"] == "finetune" and r["task"] == "solid-outline"
    ]
    mean = sum(r["overall"] for r in rows) / 2
    for cells in (lines, table["cells"]):
        (cell,) = [c for c in cells if (c["label"], c["task"]) == ("finetune", "solid-outline")]
        assert float(cell["overall"]) == pytest.approx(mean)
    for kind, text in boards.items():
        out = tmp_path / f"board.{kind}"
        result = htbench("leaderboard", "--suite", mini.suite, *at, "--format", kind, "--out", out)
        assert (result.returncode, result.stdout) == (0, "")
        assert str(out) in result.stderr
        assert out.read_text() == text


def test_a_workspace_without_runs(htbench, mini, tmp_path):
    result = htbench("leaderboard", *mini.options(tmp_path / "ws"))
    assert f"the workspace {tmp_path / 'ws'} has no runs of suite mini" in result.sentence
    assert f"run `htbench run --suite {mini.suite} --workspace " in result.sentence
    assert not (tmp_path / "ws").exists()


# --- manifest ----------------------------------------------------------------------------------


def test_manifest_show(htbench, mini):
    report = json.loads(htbench("manifest", "show", mini.manifest, "--json").stdout)
    assert (report["manifest"], len(report["classes"])) == ("mini@0.1", 12)
    task = report["tasks"][0]
    assert (task["task"], task["test_seen"], task["test_missing"]) == ("outline-solid", 58, 78)
    text = htbench("manifest", "show", mini.manifest).stdout
    assert report["digest"] in text
    assert "outline-solid" in text


def test_manifest_digest_and_verify(htbench, mini):
    digest = htbench("manifest", "digest", mini.manifest).stdout.strip()
    assert DIGEST.fullmatch(digest)
    report = json.loads(htbench("manifest", "verify", mini.manifest, "--json").stdout)
    assert (report["manifest"], report["digest"], report["pinned"]) == ("mini@0.1", digest, False)
    text = htbench("manifest", "verify", mini.manifest).stdout
    assert f"{report['images']:,} images decoded; all checks passed" in text
    assert "no pinned digest" in text


def test_the_shipped_manifest_is_the_pinned_one(htbench):
    report = json.loads(htbench("manifest", "verify", "icons@2.0", "--json").stdout)
    assert report["pinned"] is True


@pytest.mark.parametrize("action", ["show", "verify", "digest"])
def test_a_manifest_that_is_not_there(htbench, tmp_path, action):
    for name in ("nope@1.0", "icons@9.9", "icons", tmp_path):
        assert str(name) in htbench("manifest", action, name).sentence


def test_verify_finds_what_was_changed(htbench, mini, tmp_path):
    folder = shutil.copytree(mini.manifest, tmp_path / "mini" / "0.1")
    digest = htbench("manifest", "digest", folder).stdout
    text = (folder / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text(text.replace("steps = 20", "steps = 21"))
    assert htbench("manifest", "digest", folder).stdout != digest
    (folder / "manifest.toml").write_text(text.replace('"outline-solid"', '"outline/solid"'))
    assert "outline/solid" in htbench("manifest", "verify", folder).sentence
    (folder / "manifest.toml").write_text(text)
    (folder / "images.parquet").write_bytes(b"PAR1")
    assert "images.parquet" in htbench("manifest", "verify", folder).sentence


# --- doctor ------------------------------------------------------------------------------------


def test_doctor(htbench, mini, finished, at, tmp_path):
    report = json.loads(htbench("doctor", *at, "--json").stdout)
    assert report["versions"]["holistic-transfer-bench"]
    assert report["workspace"] == {"folder": str(finished.workspace), "runs": 16}
    assert report["data"]["folder"] == str(mini.data)
    assert " at /" in report["file systems"]["workspace"]
    assert report["data"]["cached sources"].startswith("2 (")
    text = htbench("doctor", "--workspace", tmp_path / "ws").stdout
    assert "(does not exist yet)" in text
    assert not (tmp_path / "ws").exists()
