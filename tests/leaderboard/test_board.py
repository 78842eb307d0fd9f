"""Which rows share a table, and what is averaged."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.files import digest_json
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import PROTOCOL, RunRecord
from leaderboard.board import MEAN, POOLED, build_boards
from leaderboard.cells import cell_states
from leaderboard.columns import CELL, COLUMNS, file_columns
from leaderboard.results import update_results
from tests.leaderboard.grids import TASKS, build, cell, failed, grid, row

PROPERTY = settings(deadline=None, database=None, max_examples=20)
WriteRun = Callable[..., RunRecord]


def sources(*digests: str) -> str:
    """The caption of a table with three source models of each of the three sources."""
    names = zip(("outline", "solid", "outline+solid"), digests, strict=True)
    return ", ".join(f"{name} {digest} {digest} {digest}" for name, digest in names)


class TestFromRuns:
    def test_a_workspace(
        self, tmp_path: Path, suite: Suite, icons: Manifest, write_run: WriteRun
    ) -> None:
        for method, skill in (("source", 0.5), ("finetune", 2.0)):
            for task in TASKS:
                for seed in range(3):
                    write_run(tmp_path, method, task, seed, skill=skill)
        results = update_results(tmp_path, [icons])
        (board,) = build_boards(suite, icons, results)
        assert board.labels == ["finetune", "source", "gamma-star"]
        assert board.problems == ()
        assert board.counts == (
            ("outline-solid", 344, 376),
            ("solid-outline", 439, 461),
            ("outline+solid-color", 155, 154),
        )
        rows = results.to_pylist()
        for label in board.labels:
            for task in TASKS:
                values = [r["ausuc"] for r in rows if (r["label"], r["task"]) == (label, task)]
                mean = cell(board, label, task)
                assert mean["state"] == "ok"
                assert mean["ausuc"] == pytest.approx(statistics.fmean(values))
                assert mean["ausuc_std"] == pytest.approx(statistics.stdev(values))
            by_seed = [
                statistics.fmean(
                    r["overall"] for r in rows if (r["label"], r["seed"]) == (label, s)
                )
                for s in range(3)
            ]
            assert cell(board, label, MEAN)["overall"] == pytest.approx(statistics.fmean(by_seed))
            assert cell(board, label, MEAN)["overall_std"] == pytest.approx(
                statistics.stdev(by_seed)
            )


class TestCells:
    @pytest.mark.parametrize(
        ("statuses", "expected", "state"),
        [
            (["ok", "ok"], 2, "ok"),
            (["ok"], 2, "partial"),
            ([], 2, "partial"),
            (["ok", "failed"], 2, "failed"),
            (["ok", "not-applicable"], 3, "not-applicable"),
            (["not-applicable", "failed"], 2, "failed"),
        ],
    )
    def test_state(self, statuses: list[str], expected: int, state: str) -> None:
        names = ("ok", "failed", "not-applicable")
        counts = {name: np.array([statuses.count(name)]) for name in names}
        assert cell_states(counts, expected).tolist() == [state]

    def test_columns(self, suite: Suite, icons: Manifest) -> None:
        (board,) = build(suite, icons, grid(icons, "source"))
        values = [name for c in COLUMNS for name in (c.key, f"{c.key}_std")]
        halves = [f"{c.key}_half" for c in COLUMNS]
        assert list(board.cells.columns) == [*CELL, *values, "rank", *halves]
        assert ("table", *board.cells.columns) == file_columns()
        assert board.cells["task"].tolist() == [*TASKS, MEAN, POOLED]

    def test_one_seed_has_no_spread(self, suite: Suite, icons: Manifest) -> None:
        one = dataclasses.replace(suite, seeds=(0,))
        (board,) = build(one, icons, [row(icons, "source", t) for t in TASKS])
        assert cell(board, "source", MEAN)["state"] == "ok"
        assert math.isnan(cell(board, "source", MEAN)["overall_std"])

    def test_the_newest_of_several_runs_counts(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "source", overall=10.0, measured_finished=1.0)
        rows += grid(icons, "source", overall=20.0, measured_finished=2.0)
        for ordered in (rows, rows[::-1]):
            (board,) = build(suite, icons, ordered)
            assert cell(board, "source", MEAN)["overall"] == 20.0
            assert cell(board, "source", TASKS[0])["seeds"] == 3
        older = [failed(icons, "source", TASKS[0], 0) | {"measured_finished": 0.5}]
        (board,) = build(suite, icons, rows + older)
        assert cell(board, "source", MEAN)["state"] == "ok"

    def test_order_is_by_mean_overall_with_oracles_last(
        self, suite: Suite, icons: Manifest
    ) -> None:
        rows = grid(icons, "a", overall=10.0) + grid(icons, "b", overall=30.0)
        rows += grid(icons, "c", overall=30.0) + grid(icons, "d", overall=99.0, track="oracle")
        rows += grid(icons, "e", overall=70.0)[:-1]  # no mean
        (board,) = build(suite, icons, rows)
        assert board.labels == ["b", "c", "a", "e", "d"]

    def test_other_settings_are_another_method(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "wise") + grid(icons, "wise(alpha=0.3)", overall=60.0)
        (board,) = build(suite, icons, rows)
        assert board.labels == ["wise(alpha=0.3)", "wise"]


class TestTables:
    def test_no_rows_no_table(self, suite: Suite, icons: Manifest) -> None:
        assert build(suite, icons, []) == []

    @pytest.mark.parametrize(
        "changes", [{"manifest_digest": "other"}, {"task": "other"}, {"seed": 9}]
    )
    def test_rows_of_another_grid_are_left_out(
        self, suite: Suite, icons: Manifest, changes: dict[str, Any]
    ) -> None:
        assert build(suite, icons, [row(icons, "source", TASKS[0]) | changes]) == []

    @pytest.mark.parametrize("recipe", ["default", "hot"])
    def test_tuned_runs_of_another_recipe_are_left_out(
        self, suite: Suite, icons: Manifest, recipe: str
    ) -> None:
        """Their learning rates are those of the recipe times what the search chose."""
        rows = []
        for name, overall in (("default", 60.0), ("hot", 70.0)):
            manifest = icons.with_recipe(name)
            for factor, of_tasks in (("1/10", TASKS[:1]), ("1", TASKS[1:])):
                chosen = {"rate-factor": factor, "alpha": "0.5"}
                search = {"by": "x", "folds": 2, "steps": 1, "tried": [], "chosen": chosen}
                tuned = manifest.with_rate(0.1 if factor == "1/10" else 1.0)
                facts = {
                    "recipe_digest": digest_json(tuned.recipe),
                    "search": json.dumps(search),
                    "measured_finished": overall,  # those of the other recipe are newer
                }
                rows += [
                    row(icons, "mine(tuned)", task, seed, overall=overall, **facts)
                    for task in of_tasks
                    for seed in range(3)
                ]
        (board,) = build(
            dataclasses.replace(suite, tuned=True, recipe=recipe), icons.with_recipe(recipe), rows
        )
        assert cell(board, "mine(tuned)", MEAN)["overall"] == {"default": 60, "hot": 70}[recipe]
        assert cell(board, "mine(tuned)", MEAN)["other_runs"] == 0

    @pytest.mark.parametrize("chosen", ["x", "1/0", "inf", "9" * 5000, 1])
    def test_tuned_runs_with_a_rate_that_is_none_are_left_out(
        self, suite: Suite, icons: Manifest, chosen: object
    ) -> None:
        search = {"by": "x", "folds": 2, "steps": 1, "tried": [], "chosen": {"rate-factor": chosen}}
        assert build(suite, icons, grid(icons, "mine(tuned)", search=json.dumps(search))) == []

    def test_rows_of_source_models_without_tuned_runs_are_in_no_tuned_table(
        self, suite: Suite, icons: Manifest
    ) -> None:
        search = {"by": "x", "folds": 2, "steps": 1, "tried": [], "chosen": {}}
        rows = [
            *grid(icons, "mine(tuned)", search=json.dumps(search)),
            *grid(icons, "source"),
            *grid(icons, "source", source_digest="of another machine", measured_finished=2000.0),
        ]
        boards = build(suite, icons, rows)
        assert [board.name for board in boards] == ["icons", "icons, table 2", "icons, tuned"]
        assert boards[2].labels == ["mine(tuned)", "source"]
        (board,) = build(dataclasses.replace(suite, tuned=True), icons, rows)
        assert (board.name, board.is_tuned) == ("icons", True)

    @pytest.mark.parametrize("changes", [{"protocol": "0.9"}])
    def test_rows_that_do_not_compare_are_in_separate_tables(
        self, suite: Suite, icons: Manifest, changes: dict[str, Any]
    ) -> None:
        rows = grid(icons, "source", measured_finished=2.0)
        rows += grid(icons, "finetune", measured_finished=1.0, **changes)
        first, second = build(suite, icons, rows)
        assert (first.name, second.name) == ("icons", "icons, table 2")
        assert (first.labels, second.labels) == (["source"], ["finetune"])
        assert "not run: finetune" in first.problems
        assert "not run: source" in second.problems

    def test_another_network_has_tables_under_its_name_after_the_manifest_s_own(
        self, suite: Suite, icons: Manifest
    ) -> None:
        other = {"model": json.dumps({"name": "resnet18"}), "measured_finished": 9.0}
        table = {"name": "timm/resnet10t", "weights": "resnet10t.c3_in1k"}
        timm = {"model": json.dumps(table), "measured_finished": 1.0}
        rows = grid(icons, "source", **other, source_digest="one")
        rows += grid(icons, "source", **other | {"measured_finished": 8.0}, source_digest="two")
        rows += grid(icons, "source") + grid(icons, "finetune", **timm)
        names = [(board.name, board.context["network"]) for board in build(suite, icons, rows)]
        assert names == [
            ("icons", "convnet"),
            ("icons, resnet18", "resnet18"),
            ("icons, resnet18, table 2", "resnet18"),
            ("icons, timm/resnet10t.c3_in1k", "timm/resnet10t.c3_in1k"),
        ]

    def test_each_source_checkpoint_has_its_own_table(self, suite: Suite, icons: Manifest) -> None:
        rows = grid(icons, "source", measured_finished=1.0, source_digest="older")
        rows += grid(icons, "source", measured_finished=2.0, source_digest="newer", overall=60.0)
        rows.append(row(icons, "finetune", TASKS[0], source_digest="older", measured_finished=1.0))
        first, second = build(suite, icons, rows)
        assert first.context["source models"] == sources("newer", "newer", "newer")
        assert second.context["source models"] == sources("older", "older", "older")
        assert (first.labels, second.labels) == (["source"], ["source", "finetune"])
        assert cell(second, "finetune", TASKS[0])["disruption"] == 0.0

    def test_tasks_of_one_source_domain_share_its_checkpoint(self, draft: Any) -> None:
        """Two tasks start from outline; if one is run again, the other is in another table."""
        draft.document["tasks"][1] |= {
            "id": "outline-color",
            "sources": ["outline"],
            "target": "color",
        }
        mini = draft.read()
        tasks = ("outline-solid", "outline-color")
        suite = Suite("s", "S", "mini@0.1", tasks, ("source",), (0,))
        rows = [
            row(mini, "source", tasks[0], measured_finished=1.0, source_digest="older"),
            row(mini, "source", tasks[1], measured_finished=1.0, source_digest="older"),
            row(mini, "source", tasks[0], measured_finished=2.0, source_digest="newer"),
        ]
        first, second = build(suite, mini, rows)
        assert first.context["source models"] == "outline newer"
        assert first.problems == ("not run: source on outline-color, seed 0",)
        assert second.context["source models"] == "outline older"
        assert second.problems == ()

    def test_the_caption_has_what_all_rows_share(self, suite: Suite, icons: Manifest) -> None:
        (board,) = build(suite, icons, grid(icons, "source"))
        assert board.context == {
            "manifest": f"icons@2.0 ({icons.digest[:12]})",
            "protocol": PROTOCOL,
            "network": "convnet",
            "recipe": "default",
            "source models": sources("checkpoint o", "checkpoint o", "checkpoint o"),
        }

    @PROPERTY
    @given(data=st.data())
    def test_the_order_of_rows_does_not_matter(
        self, suite: Suite, icons: Manifest, data: st.DataObject
    ) -> None:
        rows = grid(icons, "source") + grid(icons, "finetune", overall=60.0)
        rows += grid(icons, "mine", source_digest="other", measured_finished=5.0)
        rows.append(failed(icons, "other", TASKS[1], 2))
        boards = build(suite, icons, rows)
        shuffled = build(suite, icons, data.draw(st.permutations(rows)))
        for one, other in zip(boards, shuffled, strict=True):
            assert one.cells.equals(other.cells)
            assert (one.context, one.problems) == (other.context, other.problems)
