"""The table of methods: means of the first board, dashes where a run is missing, markup escaped."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.records import RunRecord
from leaderboard.board import Board, build_boards
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.render.methods import SHOWN, MethodLine, means, methods_table
from leaderboard.results import update_results

WriteRun = Callable[..., RunRecord]
TASKS = ("outline-solid", "solid-outline")


@pytest.fixture(scope="module")
def suite() -> Suite:
    return dataclasses.replace(load_suite("icons"), tasks=TASKS, seeds=(0, 1))


@pytest.fixture
def boards(tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun) -> list[Board]:
    """Whole rows of finetune, one of other settings, a part of lolsgd, an older table of source."""
    for task in TASKS:
        for seed in suite.seeds:
            write_run(tmp_path, "finetune", task, seed, skill=2.0, bias=2.0)
            write_run(tmp_path, "wise-ft", task, seed, config={"a": 1}, label="wise-ft(a=1)")
            write_run(tmp_path, "source", task, seed, made={"source": "f" * 64}, finished=1.0)
    write_run(tmp_path, "lolsgd", TASKS[0])
    return build_boards(suite, icons, update_results(tmp_path, [icons]))


def line(name: str, **changes: object) -> MethodLine:
    known = {"summary": "Does.", "paper": "Li et al., ICML 2018", "link": "https://x/1"}
    return MethodLine(**{"name": name, "track": "standard", **known, **changes})  # type: ignore[arg-type]


def cells(table: str) -> list[list[str]]:
    rows = [row for row in table.splitlines() if row.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_means_are_over_tasks_and_seeds(
    tmp_path: Path, boards: list[Board], suite: Suite, icons: Manifest
) -> None:
    rows = update_results(tmp_path, [icons]).to_pylist()
    for method in ("finetune", GAMMA_STAR):
        row = means(boards, method)
        assert list(row) == ["seen", "missing", "overall"]
        for name in SHOWN:
            values = [row[name] for row in rows if row["method"] == method]
            assert len(values) == 4
            assert row[name] == pytest.approx(statistics.fmean(values))


@pytest.mark.parametrize("method", ["lolsgd", "source", "wise-ft", "nope"])
def test_no_mean_of_a_part_of_other_settings_or_of_another_table(
    boards: list[Board], method: str
) -> None:
    assert means(boards, method) == dict.fromkeys(SHOWN)
    assert means([], method) == dict.fromkeys(SHOWN)


def test_the_table(boards: list[Board], suite: Suite) -> None:
    lines = [line("lolsgd"), line("finetune", link=None), line(GAMMA_STAR, track="oracle")]
    table = methods_table(lines, suite, boards)
    assert table.startswith(
        "Mean accuracies over 2 tasks and 2 seeds of the suite `icons`, in per cent"
    )
    head, rule, lolsgd, finetune, star = cells(table)
    assert head == ["method", "what it does", "source", "track", "seen", "missing", "overall"]
    assert [cell[-1] for cell in rule] == ["-"] * 4 + [":"] * 3
    paper = "[Li et al., ICML 2018](https://x/1)"
    assert lolsgd == ["lolsgd", "Does.", paper, "standard", "-", "-", "-"]
    assert finetune[2] == "Li et al., ICML 2018"
    assert finetune[4:] == [f"{means(boards, 'finetune')[name]:.1f}" for name in SHOWN]
    assert star[:4] == [GAMMA_STAR, "Does.", paper, "oracle"]
    assert len({len(row) for row in table.splitlines()[2:]}) == 1, "aligned for the terminal"


def test_without_a_suite_there_are_no_numbers() -> None:
    table = methods_table([line("lolsgd", paper="", link=None)])
    assert cells(table)[0] == ["method", "what it does", "source", "track"]
    assert cells(table)[2] == ["lolsgd", "Does.", "-", "standard"]


def test_markup_of_a_method_is_escaped() -> None:
    table = methods_table([line("mine", summary="a|b <img> [x](y) `z`")])
    assert r"| a\|b \<img\> \[x\](y) \`z\` |" in table
