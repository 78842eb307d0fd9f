"""A row shows one version of a method; other versions are named and never averaged."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import RunRecord
from leaderboard.board import MEAN, Board, build_boards
from leaderboard.gamma_star import NAME as GAMMA_STAR
from leaderboard.render import FORMATS
from leaderboard.results import update_results
from tests.leaderboard.grids import TASKS, build, cell, failed, row
from tests.leaderboard.runs import FAILED, WriteRun

TASK = TASKS[0]


def code(method: str, version: str) -> dict[str, Any]:
    """The entry of ``made_from`` for a version of a method's code."""
    return {"method": {"name": method, "code": {"files": [["mix.py", version]]}}}


@pytest.fixture
def one(suite: Suite) -> Suite:
    """The suite with one task."""
    return dataclasses.replace(suite, tasks=(TASK,))


class Mix:
    """A workspace with runs of a plugin whose code changes."""

    def __init__(self, workspace: Path, suite: Suite, icons: Manifest, write_run: WriteRun) -> None:
        self.workspace, self.suite, self.icons, self.write_run = workspace, suite, icons, write_run

    def run(self, version: str, seed: int, **options: Any) -> RunRecord:
        """Write a run; ``made`` adds to what it is made from."""
        method = options.pop("method", "mix")
        facts = {**code(method, version), **options.pop("made", {})}
        return self.write_run(self.workspace, method, TASK, seed, made=facts, **options)

    def seeds(self, version: str, *seeds: int, **options: Any) -> set[str]:
        return {self.run(version, seed, **options).key for seed in seeds or (0, 1, 2)}

    def board(self, asked: set[str] | frozenset[str] = frozenset()) -> Board:
        results = update_results(self.workspace, [self.icons])
        (board,) = build_boards(self.suite, self.icons, results, asked)
        return board

    def averages(self, label: str, keys: set[str]) -> float:
        """The mean overall accuracy of some runs."""
        rows = update_results(self.workspace, [self.icons]).to_pylist()
        values = [r["overall"] for r in rows if r["key"] in keys and r["label"] == label]
        assert len(values) == len(keys)
        return sum(values) / len(values)


@pytest.fixture
def mix(tmp_path: Path, one: Suite, icons: Manifest, write_run: WriteRun) -> Mix:
    return Mix(tmp_path, one, icons, write_run)


class TestCode:
    def test_an_edit_and_one_more_run(self, mix: Mix) -> None:
        """Three seeds; change the code; run one seed; change it back; run again."""
        old = mix.seeds("old", skill=0.5)
        new = mix.seeds("new", 0, skill=3.0, finished=2000.0)
        for board, keys, seeds in (
            (mix.board(), old, 3),
            (mix.board(new), new, 1),
            (mix.board(old), old, 3),
        ):
            row = cell(board, "mix", TASK)
            assert (row["seeds"], row["runs"]) == (seeds, 4)
            assert row["overall"] == pytest.approx(mix.averages("mix", keys))

    def test_the_newest_complete_version_is_shown(self, mix: Mix) -> None:
        versions = [mix.seeds(str(i), finished=1000.0 + i, skill=i) for i in range(3)]
        assert cell(mix.board(), "mix", TASK)["overall"] == pytest.approx(
            mix.averages("mix", versions[2])
        )

    def test_of_incomplete_versions_the_one_with_the_most_runs_is_shown(self, mix: Mix) -> None:
        mix.seeds("a", 0, finished=9000.0)
        most = mix.seeds("b", 0, 1, finished=2000.0)
        mix.seeds("c", 1, 2, finished=1000.0)
        row = cell(mix.board(), "mix", TASK)
        assert row["seeds"] == 2
        assert row["overall"] == pytest.approx(mix.averages("mix", most))

    def test_a_failed_run_is_a_run(self, mix: Mix) -> None:
        mix.seeds("old")
        mix.seeds("new", 0, 1, finished=2000.0)
        mix.run("new", 2, finished=2000.0, **FAILED)
        assert cell(mix.board(), "mix", TASK)["state"] == "failed"

    def test_a_run_that_failed_in_another_version_does_not_matter(self, mix: Mix) -> None:
        mix.seeds("old")
        mix.run("new", 2, finished=2000.0, **FAILED)
        board = mix.board()
        assert cell(board, "mix", TASK)["state"] == "ok"
        assert not [line for line in board.problems if "failed" in line]

    def test_the_table_says_which_code_is_shown(self, mix: Mix) -> None:
        mix.seeds("old")
        mix.seeds("new", 0, finished=2000.0)
        rows = update_results(mix.workspace, [mix.icons]).to_pylist()
        digests = {row["method_code"] for row in rows}
        assert len(digests) == 2
        board = mix.board()
        code_shown = cell(board, "mix", MEAN)["method_code"]
        (other,) = digests - {code_shown}
        assert board.versions == (
            f"mix: the row shows code {code_shown[:8]}; not averaged: 1 run of code {other[:8]}",
        )
        markdown = FORMATS["markdown"]([board])
        assert "## Other versions" in markdown
        assert "| mix (4 runs exist) |" in markdown
        (table,) = json.loads(FORMATS["json"]([board]))
        assert table["versions"] == list(board.versions)
        assert {entry["other_runs"] for entry in table["cells"]} == {1}
        assert ",method_code,provenance,runs,other_runs," in FORMATS["csv"]([board])

    def test_many_versions_are_counted(self, mix: Mix) -> None:
        for i in range(6):
            mix.run(str(i), 0, finished=1000.0 + i)
        (remark,) = mix.board().versions
        assert remark.endswith("; 2 runs of 2 more versions")

    def test_one_version_needs_no_remark(self, mix: Mix) -> None:
        mix.seeds("old")
        board = mix.board()
        assert board.versions == ()
        assert "Other versions" not in FORMATS["markdown"]([board])
        assert "exist" not in FORMATS["markdown"]([board])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"made": {"compute": "b"}}, "other code of the suite"),
        ({"made": {"torch": "2.7"}}, "other torch"),
        ({"made": {"device": "cuda"}}, "other device"),
        ({"made": {"some fact of a later release": [1]}}, "other some fact of a later release"),
        ({"config": {"constant": 1.0}}, "other settings"),
    ],
    ids=["compute", "torch", "device", "any other", "a default"],
)
def test_what_else_makes_a_version(mix: Mix, changes: dict[str, Any], named: str) -> None:
    """The label is the same: a default that changes does not show in it."""
    old = mix.seeds("code", made={"compute": "a", "torch": "2.6"}, config={"constant": 0.0})
    options: dict[str, Any] = {"config": {"constant": 0.0}, "finished": 2000.0} | changes
    facts = {"compute": "a", "torch": "2.6"} | options.pop("made", {})
    mix.run("code", 0, made=facts, skill=3.0, **options)
    board = mix.board()
    row = cell(board, "mix", TASK)
    assert (row["seeds"], row["runs"], row["state"]) == (3, 4, "ok")
    assert row["overall"] == pytest.approx(mix.averages("mix", old))
    (remark,) = board.versions
    assert remark.endswith(f"({named})")


class TestBase:
    """The code of the method that a run starts from is part of its version."""

    def chain(self, mix: Mix, version: str, seed: int, **options: Any) -> RunRecord:
        base = mix.run(version, seed, method="base", **options)
        return mix.run("same", seed, method="heir", made={"base": base.key}, **options)

    def test_another_base_is_another_version(self, mix: Mix) -> None:
        old = {self.chain(mix, "old", seed).key for seed in range(3)}
        new = self.chain(mix, "new", 0, skill=3.0, finished=2000.0)
        board = mix.board()
        assert cell(board, "heir", TASK)["overall"] == pytest.approx(mix.averages("heir", old))
        assert any(line.startswith("heir: ") and "(other base)" in line for line in board.versions)
        board = mix.board({new.key})
        assert cell(board, "heir", TASK)["seeds"] == 1

    def test_bases_that_are_gone_may_differ(self, mix: Mix) -> None:
        for seed in range(3):
            mix.run("same", seed, method="heir", made={"base": str(seed) * 64})
        row = cell(mix.board(), "heir", TASK)
        assert (row["state"], row["seeds"], row["runs"]) == ("partial", 1, 3)


class TestGammaStar:
    def test_it_is_derived_from_the_runs_that_are_shown(self, mix: Mix) -> None:
        old = mix.seeds("old", method="finetune", bias=2.0)
        new = mix.seeds("new", 0, method="finetune", bias=2.0, skill=3.0, finished=2000.0)
        for asked, seeds in ((set(), 3), (new, 1), (old, 3)):
            board = mix.board(asked)
            star, base = cell(board, GAMMA_STAR, TASK), cell(board, "finetune", TASK)
            assert (star["seeds"], base["seeds"]) == (seeds, seeds)
            assert star["overall"] >= base["overall"]
            assert star["method_code"] == base["method_code"]

    def test_a_failed_run_of_the_shown_version_fails_it(self, mix: Mix) -> None:
        mix.seeds("old", method="finetune")
        mix.seeds("new", 0, 1, method="finetune", finished=2000.0)
        mix.run("new", 2, method="finetune", finished=2000.0, **FAILED)
        assert cell(mix.board(), GAMMA_STAR, TASK)["state"] == "failed"


class TestColumns:
    def test_disruption_is_relative_to_the_version_of_source_that_is_shown(self, mix: Mix) -> None:
        mix.seeds("old", method="source", skill=0.5)
        mix.run("new", 0, method="source", skill=5.0, finished=2000.0)
        mix.seeds("code", skill=1.0)
        board = mix.board()
        expected = cell(board, "source", TASK)["missing"] - cell(board, "mix", TASK)["missing"]
        assert cell(board, "mix", TASK)["disruption"] == pytest.approx(expected)


class TestSearch:
    def search(self, chosen: str, grid: tuple[str, ...]) -> Mapping[str, Any]:
        tried = [{"settings": {"alpha": value}, "score": len(chosen)} for value in grid]
        chosen_settings = {"alpha": chosen}
        return {"by": "x", "folds": 3, "steps": 7, "chosen": chosen_settings, "tried": tried}

    def tuned(self, mix: Mix, task: str, alpha: float, grid: tuple[str, ...]) -> None:
        facts = {"search": self.search(str(alpha), grid), **code("mix", "code")}
        for seed in range(3):
            mix.write_run(
                mix.workspace,
                "mix",
                task,
                seed,
                label="mix(tuned)",
                config={"alpha": alpha, "beta": 1},
                made=facts,
            )

    def test_the_settings_may_differ_by_task(self, mix: Mix) -> None:
        mix.suite = dataclasses.replace(mix.suite, tasks=TASKS[:2])
        self.tuned(mix, TASKS[0], 0.1, ("0.1", "0.2"))
        self.tuned(mix, TASKS[1], 0.2, ("0.1", "0.2"))
        board = mix.board()
        assert cell(board, "mix(tuned)", MEAN)["state"] == "ok"
        assert board.versions == ()

    def test_other_settings_tried_are_another_version(self, mix: Mix) -> None:
        self.tuned(mix, TASK, 0.1, ("0.1", "0.2"))
        self.tuned(mix, TASK, 0.1, ("0.1", "0.3"))
        board = mix.board()
        assert cell(board, "mix(tuned)", TASK)["runs"] == 6
        assert board.versions[0].endswith("(other search)")


class TestCellsWithSeveralRuns:
    def test_the_newest_is_shown_and_the_others_are_counted(self, mix: Mix) -> None:
        for i, finished in enumerate((2000.0, 3000.0, 1000.0)):
            mix.run("code", 0, made={"store": str(i)}, finished=finished, skill=float(i))
        board = mix.board()
        shown = cell(board, "mix", TASK)
        assert (shown["seeds"], shown["runs"], shown["other_runs"]) == (1, 3, 2)
        rows = update_results(mix.workspace, [mix.icons]).to_pylist()
        (newest,) = [row for row in rows if row["measured_finished"] == 3000.0]
        assert shown["overall"] == newest["overall"]
        assert board.versions == (
            f"mix: the row shows the newest of several runs: {TASK}, seed 0 (3 runs)",
        )

    def test_many_cells_are_counted(self, suite: Suite, icons: Manifest) -> None:
        rows = [
            row(icons, "mine", task, seed, key=f"{task} {seed} {i}")
            for task in TASKS
            for seed in range(3)
            for i in range(2)
        ]
        (board,) = build(suite, icons, rows)
        (remark,) = board.versions
        assert remark.count("(2 runs)") == 3
        assert remark.endswith("; 6 more cells")


def test_what_is_asked_for_is_in_the_first_table(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, "mine", TASK, source_digest="older", measured_finished=1.0, key="k")]
    rows += [row(icons, "mine", TASK, source_digest="newer", measured_finished=2.0)]
    tables = [build(suite, icons, rows, asked)[0] for asked in ((), ("k",))]
    assert [table.context["source models"] for table in tables] == [
        "outline newer",
        "outline older",
    ]


def test_labels_that_look_the_same_are_not_averaged(suite: Suite, icons: Manifest) -> None:
    rows = [row(icons, "m(x=\u200b)", TASK, s, config='{"x":"a"}') for s in range(3)]
    rows += [failed(icons, "m(x=\u2060)", TASK, 0) | {"config": '{"x":"b"}'}]
    (board,) = build(suite, icons, rows)
    first_row = cell(board, board.labels[0], TASK)
    assert (first_row["state"], first_row["runs"]) == ("ok", 4)
    assert not math.isnan(first_row["overall"])


def test_long_labels_are_cut_and_stay_different(suite: Suite, icons: Manifest) -> None:
    labels = [f"finetune(x={'a' * 5000}{end})" for end in "bc"]
    rows = [
        row(icons, label, TASK, seed, key=f"{i} {seed}")
        for i, label in enumerate(labels)
        for seed in range(3)
    ]
    rows += [
        row(icons, label.replace("finetune", GAMMA_STAR), TASK, 0, key=f"star {i}", base=f"{i} 0")
        for i, label in enumerate(labels)
    ]
    (board,) = build(suite, icons, rows)
    assert len(board.labels) == 4
    assert max(map(len, board.labels)) < 200
    assert board.versions == ()
    assert "".join(board.problems).count("gamma-star(") == 2, "one for each"
