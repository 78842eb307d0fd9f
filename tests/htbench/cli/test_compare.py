"""`htbench compare`: where its output goes and in which form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import RunRecord
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
    status, _, err = htbench(*words, "--out", tmp_path / "a.docx")
    assert status == 2
    assert "does not end in one of .svg, .png, .pdf, .tex, .md, .json, .txt" in err
    assert not (tmp_path / "a.docx").exists()


def test_unknown_methods_get_suggestions(htbench: Htbench, words: tuple[object, ...]) -> None:
    status, _, err = htbench("compare", "lfw", *words[2:])
    assert (status, err) == (2, "htbench: no runs of method 'lfw'; did you mean lwf?\n")


def test_suites_without_published_results_are_refused(htbench: Htbench) -> None:
    status, _, err = htbench("compare", "a", "b", "--suite", "office-home", "--published")
    assert status == 2
    assert "no results are published for suite office-home" in err
