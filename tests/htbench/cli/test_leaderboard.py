"""`htbench leaderboard` and `htbench list runs`: what they show, and in which form."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.manifest.suite import load_suite
from benchmark.records import RunRecord
from htbench.published_boards import published_board
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


def test_a_recommended_command_has_the_options_that_chose_the_board(
    htbench: Htbench, workspace: Path
) -> None:
    words = ("leaderboard", "--workspace", workspace, "--format", "terminal")
    options = ("--method", "finetune", "--method", "source", "--seed", "0-1", "--allow-partial")
    shown = htbench(*words, *options, "--status", "partial")[1]
    (line,) = [line for line in shown.splitlines() if line.startswith("  htbench ")]
    assert line.endswith(f" {' '.join(options)} --task {TASKS[0]}")
    assert htbench(*shlex.split(line)[1:])[0] == 0


def test_the_table_of_some_seeds_has_ranks(
    htbench: Htbench, write_run: WriteRun, tmp_path: Path
) -> None:
    for method in ("source", "finetune"):
        write_run(tmp_path, method, TASKS[0], 1, skill=1.0)
    words = ("leaderboard", "--suite", "icons", "--workspace", tmp_path, "--format", "json")
    (table,) = json.loads(htbench(*words, "--task", TASKS[0], "--seed", "1")[1])
    ranks = {cell["label"]: cell["rank"] for cell in table["cells"] if cell["seeds"] == 1}
    assert ranks.keys() == {"source", "finetune", "gamma-star"}
    assert None not in (ranks["source"], ranks["finetune"])
    status, _, err = htbench(*words, "--seed", "3")
    assert (status, err) == (2, "htbench: --seed 3 is not in suite icons; it has: 0-2\n")


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


def test_a_site_has_what_the_installed_methods_declare_and_the_losses_of_their_runs(
    htbench: Htbench, tmp_path: Path, write_run: WriteRun
) -> None:
    log = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    write_run(tmp_path, "source", skill=0.5)
    write_run(tmp_path, "wise-ft", skill=1.5)
    write_run(tmp_path, "finetune", skill=2.0, log=log)
    write_run(tmp_path, "mine", skill=2.0)
    out = tmp_path / "site"
    words = ("--workspace", tmp_path, "--format", "html", "--out", out)
    status, printed, err = htbench("leaderboard", *words)
    assert (status, printed) == (0, "")
    assert f"wrote {out}; open {out / 'index.html'} in a browser" in err
    pages = {
        name: next(out.glob(f"methods/{name}-????????.html")).read_text()
        for name in ("finetune", "wise-ft", "mine")
    }
    assert "Fine-tune all parameters with cross-entropy" in pages["finetune"]
    assert "Training loss" in pages["finetune"]
    assert re.search(r"starts from</dt><dd><a href=[^>]*>finetune<", pages["wise-ft"])
    assert "Wortsman et al., CVPR 2022" in pages["wise-ft"]
    assert "Training loss" not in pages["wise-ft"]
    assert "This method was not installed where this page was written" in pages["mine"]
    task = next(out.glob(f"tasks/{TASKS[0]}-????????.html")).read_text()
    assert "data:image/png;base64," in task  # icons may be shown


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes", "notes has files that are not part of a site written by htbench, such as 'mine'"),
        ("file", "file is a file; give the path of a new folder"),
        ("link", "link is a symbolic link to notes, which will not be written through"),
        (None, "--format html writes a folder; name it with --out, such as --out site"),
    ],
)
def test_a_site_is_refused_before_runs_are_scored(
    htbench: Htbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("notes")
    # The workspace does not exist, which would be the error if runs were scored first.
    words = ("leaderboard", "--workspace", "absent", "--format", "html")
    status, _, err = htbench(*words, *(("--out", name) if name else ()))
    assert (status, message in err) == (2, True), err
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine"]
    assert (tmp_path / "file").read_text() == "mine"


def test_no_site_is_written_without_runs(htbench: Htbench, tmp_path: Path) -> None:
    words = ("--workspace", tmp_path / "empty", "--format", "html", "--out", tmp_path / "site")
    status, _, err = htbench("leaderboard", "--suite", "icons", *words)
    assert (status, "has no runs of suite icons; run `htbench run" in err) == (2, True), err
    assert not (tmp_path / "site").exists()


def test_pooled_values_are_those_of_the_tables_that_have_them(
    htbench: Htbench, write_run: WriteRun, tmp_path: Path
) -> None:
    for task in TASKS:
        write_run(tmp_path, "source", task)
    write_run(tmp_path, "source", made={"model": {"name": "resnet18", "weights": "none"}})
    tasks = ("--task", TASKS[0], "--task", TASKS[1])
    words = ("leaderboard", "--workspace", tmp_path, "--seed", "0", "--pooled", *tasks)
    status, out, _ = htbench(*words, "--format", "terminal")
    assert (status, out.count("Test images of 2 tasks pooled (")) == (0, 1)
    status, out, _ = htbench(*words, "--format", "latex")
    assert (status, out.count("test images of 2 tasks pooled;")) == (0, 1)
    assert out.count("mean over 2 tasks;") == 1


def test_pooled_values_of_a_suite_without_are_refused(htbench: Htbench, workspace: Path) -> None:
    status, out, err = htbench("leaderboard", "--workspace", workspace, "--pooled")
    assert (status, out) == (2, "")
    assert "--pooled: no pooled values; a suite has them if it has several tasks, no two" in err


def test_published_results_are_shown_in_every_form(htbench: Htbench, tmp_path: Path) -> None:
    status, text, err = htbench("leaderboard", "--published", "--format", "json")
    assert (status, err) == (0, "")
    (table,) = json.loads(text)
    (lwf,) = [cell for cell in table["cells"] if (cell["label"], cell["task"]) == ("lwf", "mean")]
    expected = published_board(load_suite("icons")).of_task("mean")["lwf"]
    assert {name: lwf[name] for name in ("overall", "overall_half", "rank", "seeds")} == {
        name: expected[name] for name in ("overall", "overall_half", "rank", "seeds")
    }
    words = ("leaderboard", "--published", "--suite", "icons-tuned")
    shown = htbench(*words, "--format", "terminal")[1]
    lines = [line for line in shown.splitlines() if line.startswith("  htbench ")]
    assert all("--suite icons-tuned --published" in line for line in lines)
    (line,) = [line for line in lines if line.endswith(f" --task {TASKS[0]}")]
    status, text, err = htbench(*shlex.split(line)[1:], "--method", "finetune", "--format", "csv")
    assert (status, err) == (0, "")
    assert {row["label"] for row in csv.DictReader(text.splitlines())} == {"finetune(tuned)"}
    assert htbench(*words, "--format", "html", "--out", tmp_path / "site")[0] == 0
    assert (tmp_path / "site" / "index.html").is_file()
    status, out, err = htbench(*words, "--workspace", tmp_path)
    assert (status, out) == (2, "")
    assert "--workspace cannot be combined with --published" in err
