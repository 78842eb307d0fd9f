"""`htbench compare`: where its output goes and in which form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import RunRecord
from benchmark.runs.workspace import Workspace
from tests.htbench.command import Htbench

WriteRun = Callable[..., RunRecord]
TASK = "outline-solid"


@pytest.fixture
def words(tmp_path: Path, write_run: WriteRun) -> tuple[object, ...]:
    for seed in range(3):
        write_run(tmp_path / "ws", "lwf", TASK, seed, skill=2.0)
        write_run(tmp_path / "ws", "finetune", TASK, seed, skill=1.0)
    where = ("--workspace", tmp_path / "ws", "--suite", "icons", "--task", TASK)
    return ("compare", "lw", "finetune", *where)


def test_every_form(htbench: Htbench, words: tuple[object, ...], tmp_path: Path) -> None:
    status, markdown, _ = htbench(*words)
    assert status == 0
    assert markdown.startswith("# lwf against finetune\n")
    (task,) = json.loads(htbench(*words, "--format", "json")[1])["tasks"]
    assert task["task"] == TASK
    assert f"{task['overall']['difference']:+.1f} ± " in markdown
    starts = {"a.svg": b"<?xml", "a.png": b"\x89PNG", "a.pdf": b"%PDF", "a.tex": b"% \\usepack"}
    for name, start in {**starts, "a.md": b"# lwf", "a.json": b"{"}.items():
        status, out, err = htbench(*words, "--out", tmp_path / name)
        assert (status, out, err) == (0, "", f"wrote {tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().startswith(start)


def test_a_file_of_an_unknown_kind_is_refused(
    htbench: Htbench, words: tuple[object, ...], tmp_path: Path
) -> None:
    absent = ("--workspace", tmp_path / "absent")  # the file is checked before runs are read
    status, _, err = htbench(*words, *absent, "--out", tmp_path / "a.docx")
    assert status == 2
    assert "does not end in one of .svg, .png, .pdf, .tex, .md, .json, .txt" in err
    assert not (tmp_path / "a.docx").exists()
    (tmp_path / "link.svg").symlink_to("a.svg")
    status, _, err = htbench(*words, *absent, "--out", tmp_path / "link.svg")
    assert status == 2
    assert "is a symbolic link to a.svg" in err


def test_unknown_methods_get_suggestions(htbench: Htbench, words: tuple[object, ...]) -> None:
    status, _, err = htbench("compare", "lfw", *words[2:])
    assert (status, err) == (2, "htbench: no runs of method 'lfw'; did you mean lwf?\n")


def test_methods_that_share_no_runs_get_a_command_for_their_workspace(
    htbench: Htbench, words: tuple[object, ...], write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path / "ws", "gla", TASK, 0, skill=1.0)
    status, _, err = htbench("compare", "gla", *words[2:])
    assert status == 2
    assert f"`htbench list runs --suite icons --workspace {tmp_path}/ws` shows the runs" in err


def test_seeds_that_both_have_are_compared(
    htbench: Htbench, words: tuple[object, ...], write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path / "ws", "gla", TASK, 1, skill=1.0)
    status, _, err = htbench("compare", "gla", *words[2:])
    assert status == 2
    assert err.endswith("shows the runs that exist, and --seed compares runs of some seeds\n")
    status, markdown, _ = htbench("compare", "gla", *words[2:], "--seed", "1")
    assert status == 0
    assert "for this pair alone; seed 1\n" in markdown


def test_tasks_that_only_one_has_are_named(
    htbench: Htbench, words: tuple[object, ...], write_run: WriteRun, tmp_path: Path
) -> None:
    """The mean, the groups and the classes are those of the tasks that both have."""
    for seed in range(3):
        write_run(tmp_path / "ws", "lwf", "solid-outline", seed, skill=2.0)
        write_run(tmp_path / "ws", "finetune", "solid-outline", seed, skill=1.0)
        write_run(tmp_path / "ws", "finetune", "outline-color", seed, skill=1.0)
    broken = write_run(tmp_path / "ws", "gla", TASK, 0, skill=1.0).key
    (Workspace(tmp_path / "ws").folder(broken) / "run.json").write_text("{")
    both = ("--task", "solid-outline", "--task", TASK)
    status, markdown, err = htbench(*words[:7])
    assert status == 1
    assert err.count("is not valid JSON") == 1, err
    assert htbench(*words[:7], *both)[1] == "\n".join(
        line for line in markdown.split("\n") if not line.startswith("- not compared")
    )
    assert "\n| mean over 2 tasks " in markdown
    (line,) = [line for line in markdown.split("\n") if line.startswith("- not compared")]
    left_out = ["outline-color", "solid-color", "outline+solid-color"]
    why = "because runs are missing, failed or not applicable"
    assert line == f"- not compared, {why}: {', '.join(left_out)}"
    assert json.loads(htbench(*words[:7], "--format", "json")[1])["left_out"] == left_out


def test_shared_tasks_show_the_version_that_the_board_shows(
    htbench: Htbench, words: tuple[object, ...], write_run: WriteRun, tmp_path: Path
) -> None:
    """The version with the most runs of the suite, not the newest that has the shared tasks."""
    others = ("solid-outline", "outline-color")
    for seed in range(3):
        for task in others:
            write_run(tmp_path / "ws", "lwf", task, seed, skill=2.0)
        write_run(tmp_path / "ws", "finetune", others[0], seed, skill=1.0)
    before = json.loads(htbench(*words[:7], "--format", "json")[1])
    code = {"method": {"name": "lwf", "code": {"files": [["lwf.py", "edited"]]}}}
    for seed in range(3):
        for task in (TASK, others[0]):
            write_run(tmp_path / "ws", "lwf", task, seed, made=code, skill=0.1, finished=2000.0)
    after = json.loads(htbench(*words[:7], "--format", "json")[1])
    assert len(after["left_out"]) == 3
    assert after == before


def test_suites_without_published_results_are_refused(htbench: Htbench) -> None:
    status, _, err = htbench("compare", "a", "b", "--suite", "office-home", "--published")
    assert status == 2
    assert "no results are published for suite office-home" in err
    status, _, err = htbench("compare", "a", "b", "--published", "--workspace", "workspace")
    assert (status, "--workspace cannot be combined with --published" in err) == (2, True), err
