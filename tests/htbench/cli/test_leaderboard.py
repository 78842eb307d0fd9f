"""`htbench leaderboard` and `htbench list runs`: what they show, and in which form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import RunRecord
from tests.htbench.command import Htbench

WriteRun = Callable[..., RunRecord]
TASKS = ("outline-solid", "solid-outline")


@pytest.fixture
def workspace(tmp_path: Path, write_run: WriteRun) -> Path:
    for task in TASKS:
        write_run(tmp_path, "source", task, skill=0.5)
        write_run(tmp_path, "finetune", task, skill=2.0, finished=86400.5)
    error = {"kind": "exception", "message": "no memory", "traceback": "t"}
    write_run(tmp_path, "lwf", status="failed", error=error)
    return tmp_path


def test_a_pipe_and_a_file_get_markdown_and_a_terminal_a_table_that_fits(
    htbench: Htbench, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("leaderboard", "--workspace", workspace)
    status, markdown, _ = htbench(*words)
    assert status == 0
    assert markdown.startswith("# Leaderboard: icons\n")
    err = htbench(*words, "--format", "terminal", "--out", tmp_path / "board.txt")[2]
    assert err.startswith("suite icons, that of the newest runs in ")
    monkeypatch.setattr("htbench.cli.leaderboard.is_terminal", lambda: True)
    htbench(*words, "--out", tmp_path / "board.md")
    assert (tmp_path / "board.md").read_text() == markdown
    assert (tmp_path / "board.txt").read_text().startswith("icons - Icons: ")


def test_the_suffix_of_the_file_chooses_the_format(
    htbench: Htbench, workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("leaderboard", "--workspace", workspace)
    beginnings = {
        "board.tex": b"% In the preamble: ",
        "board.csv": b"table,label,",
        "board.json": b"[\n  {\n",
        "board.parquet": b"PAR1",
    }
    for name, beginning in beginnings.items():
        assert htbench(*words, "--out", tmp_path / name)[0] == 0
        assert (tmp_path / name).read_bytes().startswith(beginning)
    status, _, err = htbench(*words, "--out", tmp_path / "board.foo")
    assert (status, "does not end in one of .md, " in err) == (2, True)
    assert not (tmp_path / "board.foo").exists()
    htbench(*words, "--format", "csv", "--out", tmp_path / "board.md")
    assert (tmp_path / "board.md").read_bytes() == (tmp_path / "board.csv").read_bytes()
    monkeypatch.setattr("htbench.cli.leaderboard.is_terminal", lambda: True)
    status, out, err = htbench(*words, "--format", "parquet")
    assert (status, out) == (2, "")
    assert "name it with --out, such as --out board.parquet" in err


def test_partial_means_are_shown_on_request(htbench: Htbench, workspace: Path) -> None:
    words = ("leaderboard", "--workspace", workspace)
    assert "finetune (2 of 5 tasks)" not in htbench(*words)[1]
    assert "| finetune (2 of 5 tasks) " in htbench(*words, "--allow-partial")[1]


@pytest.mark.parametrize("columns", [80, 200])
def test_a_table_for_the_terminal_has_the_width_of_columns(
    htbench: Htbench, workspace: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    status, out, _ = htbench(
        "leaderboard", "--workspace", workspace, "--format", "terminal", "--task", TASKS[0]
    )
    assert status == 0
    assert max(map(len, out.splitlines())) <= columns
    assert ("Hidden at this width" in out) is (columns == 80)
    assert "finetune (1 of 3 seeds)" in out


def test_filters_of_the_leaderboard(htbench: Htbench, workspace: Path) -> None:
    words = ("leaderboard", "--workspace", workspace, "--format", "json")
    options = ("--task", TASKS[0], "--method", "finetune", "--method", "lwf", "--status", "failed")
    (table,) = json.loads(htbench(*words, *options)[1])
    assert table["tasks"] == [TASKS[0]]
    assert {cell["label"] for cell in table["cells"]} == {"lwf"}
    assert table["problems"] == [
        f"failed: lwf on {TASKS[0]}, seed 0: no memory",
        f"not run: lwf on {TASKS[0]}, seeds 1-2",
    ]
    status, _, err = htbench(*words, "--method", "lfw")
    assert status == 2
    assert err.endswith("htbench: no runs of method 'lfw'; did you mean lwf?\n")


def test_filters_of_the_runs(htbench: Htbench, workspace: Path) -> None:
    def listed(*options: str) -> list[tuple[str, str]]:
        words = ("list", "runs", "--workspace", workspace, "--json")
        entries = json.loads(htbench(*words, *options)[1])
        return [(entry["label"], entry["task"]) for entry in entries]

    assert len(listed()) == 5 + 2  # gamma-star is beside finetune
    assert listed("--method", "finetune", "--task", TASKS[1]) == [("finetune", TASKS[1])]
    assert listed("--status", "failed") == [("lwf", TASKS[0])]
    assert listed("--seed", "1-2") == []
    assert "no runs of method 'x'" in htbench("list", "runs", "--method", "x")[2]


def test_runs_have_the_time_when_they_finished(
    htbench: Htbench, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("list", "runs", "--workspace", workspace, "--method", "finetune", "--task", TASKS[0])
    (entry,) = json.loads(htbench(*words, "--json")[1])
    assert entry["finished"] == "1970-01-02T00:00:00Z"
    assert "1970-01-02 00:00:00" in htbench(*words)[1]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("htbench.cli.list.is_terminal", lambda: True)
    _, out, _ = htbench(*words)
    assert max(map(len, out.splitlines())) <= 80
    assert "hidden at this width: " in out
