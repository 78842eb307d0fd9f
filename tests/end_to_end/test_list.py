"""`htbench list`: methods, tasks, suites, data sets and runs; the table of methods in a file."""

from __future__ import annotations

import json
import re

import pytest

from leaderboard.gamma_star import NAME as GAMMA_STAR

MINI_METHODS = ("source", "finetune", "calibrated-alg", "frozen-classifier")


def test_list_runs_has_a_line_for_gamma_star(htbench, mini, finished, at):
    entries = json.loads(htbench("list", "runs", "--suite", mini.suite, *at, "--json").stdout)
    stars = [entry for entry in entries if entry["label"] == GAMMA_STAR]
    assert len(stars) == 4
    for entry in stars:
        row = finished.row(key=entry["key"])
        assert (entry["overall"], entry["seconds"]) == (row["overall"], None)
    text = htbench("list", "runs", "--suite", mini.suite, *at).stdout
    line = next(line for line in text.splitlines() if line.startswith(stars[0]["key"][:12]))
    assert line.split()[-2] == "convnet"
    assert line.split()[8] == "-", "it takes no seconds"


def test_list_methods(htbench, plugin):
    path = plugin("return source.copy()", name="of-a-test")
    entries = json.loads(htbench("list", "methods", "--plugin", path, "--json").stdout)
    assert [m["method"] for m in entries] == sorted(m["method"] for m in entries)
    by_name = {m["method"]: m for m in entries}
    assert {"source", "finetune", "lolsgd", "of-a-test"} <= set(by_name)
    assert by_name["of-a-test"]["from"] == str(path)
    assert by_name["of-a-test"]["summary"] == "A method of a test."
    assert by_name["calibrated-alg"]["base"] == "finetune"
    assert by_name["lolsgd"]["fields"]["local_models"] == 10
    text = htbench("list", "methods", "--plugin", path).stdout
    for name in by_name:
        assert name in text


def test_list_methods_with_the_means_of_a_suite(htbench, mini, finished, at):
    arguments = ("list", "methods", "--suite", mini.suite, *at)
    entries = {e["method"]: e for e in json.loads(htbench(*arguments, "--json").stdout)}
    assert sorted(entries) == list(entries)
    assert set(entries) == {*MINI_METHODS, GAMMA_STAR}
    for name, entry in entries.items():
        rows = [r for r in finished.rows() if r["method"] == name]
        for metric in ("seen", "missing", "overall"):
            mean = sum(r[metric] for r in rows) / 4
            assert entry[metric] == pytest.approx(mean)
    assert entries[GAMMA_STAR]["track"] == "oracle"
    assert entries[GAMMA_STAR]["papers"][0] == "mai2024finetuning"
    text = htbench(*arguments).stdout
    assert f"{entries['finetune']['seen']:.1f}" in text
    table = htbench(*arguments, "--markdown").stdout
    names = re.findall(r"^\| ([a-z0-9-]+) ", table, re.MULTILINE)
    assert names == [
        "method",
        "source",
        "finetune",
        "calibrated-alg",
        "frozen-classifier",
        GAMMA_STAR,
    ]
    assert f" {entries['finetune']['overall']:.1f} |" in table


def test_list_methods_without_any_run(htbench, mini, tmp_path):
    workspace = tmp_path / "ws"
    arguments = ("list", "methods", *mini.options(workspace))
    entries = json.loads(htbench(*arguments, "--json").stdout)
    assert {entry["overall"] for entry in entries} == {None}
    rows = [r for r in htbench(*arguments, "--markdown").stdout.splitlines() if r[:3] == "| s"]
    assert len(rows) == 1
    assert [cell.strip() for cell in rows[0].split("|")[-4:-1]] == ["-", "-", "-"]
    assert not workspace.exists()


def test_gamma_star_cannot_be_run_and_is_listed_only_with_numbers(htbench):
    plain = {m["method"] for m in json.loads(htbench("list", "methods", "--json").stdout)}
    assert GAMMA_STAR not in plain
    assert f"| {GAMMA_STAR} " in htbench("list", "methods", "--markdown").stdout


def test_a_list_of_no_runs_says_so(htbench, mini, finished, at, tmp_path):
    for words, message in (
        (at, "that match"),
        (["--workspace", tmp_path / "none"], "has no runs of suite"),
    ):
        options = ["--suite", mini.suite, "--seed", "99", *words]
        result = htbench("list", "runs", *options)
        assert (result.stdout, message in result.stderr) == ("", True)
        assert json.loads(htbench("list", "runs", *options, "--json").stdout) == []


def test_a_workspace_without_a_suite_is_not_ignored(htbench, at):
    sentence = htbench("list", "methods", *at).sentence
    assert "--workspace is only for the accuracies that --suite adds; leave it out" in sentence


def test_a_table_is_not_json(htbench):
    assert "cannot be combined" in htbench("list", "methods", "--json", "--markdown").sentence


@pytest.mark.parametrize("kind", ["methods", "tasks"])
def test_an_empty_suite_is_not_the_same_as_none(htbench, kind):
    """A script with an unset variable got the list of everything."""
    assert "unknown suite ''" in htbench("list", kind, "--suite", "").sentence


def test_list_tasks_suites_and_data_sets(htbench, mini):
    def listed(*arguments):
        entries = json.loads(htbench("list", *arguments, "--json").stdout)
        text = htbench("list", *arguments).stdout
        lines = text.partition("\n\n")[0].splitlines()  # recipes to expand come after a blank
        assert len(lines) == len(entries) + 2, "a heading, a line and the entries"
        return entries

    suites = {s["name"]: s for s in listed("suites")}
    suite = suites["icons"]
    count = len(suites["icons-full"]["methods"])
    assert count > len(suite["methods"])
    lines = map(str.split, htbench("list", "suites").stdout.splitlines())
    (line,) = [line for line in lines if line[0] == "icons-full"]
    assert line[:5] == ["icons-full", "icons@2.0", "5", str(count), "3"]
    (icons,) = [d for d in listed("datasets") if d["manifest"] == suite["manifest"]]
    assert icons["classes"] == 65
    tasks = {t["task"]: t for t in listed("tasks", "--suite", "icons")}
    assert list(tasks) == suite["tasks"]
    assert set(tasks) <= {t["task"] for t in listed("tasks")}
    assert tasks["outline-solid"]["seen"] + tasks["outline-solid"]["missing"] == 65
    assert [t["task"] for t in listed("tasks", "--suite", mini.suite)] == [
        "outline-solid",
        "solid-outline",
    ]
    assert "nope" in htbench("list", "tasks", "--suite", "nope").sentence
