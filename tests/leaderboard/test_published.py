"""Published results: the rows of a suite's main table, and the facts of what made them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.errors import DataError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.board import build_boards
from leaderboard.outcomes import Outcomes
from leaderboard.published import (
    publish,
    published_outcomes,
    published_rows,
    read_published,
    relative_costs,
)
from leaderboard.results_file import write_table
from leaderboard.rows import SCHEMA, rows_of_table
from leaderboard.rows_file import STORED
from tests.leaderboard.grids import grid

FACTS = {"command": "make leaderboard", "commit": "abc", "machine": "a computer"}


def results(icons: Manifest, *labels: str, **changes: object) -> pa.Table:
    rows = [row for label in labels for row in grid(icons, label, **changes)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_what_is_published_gives_the_same_board(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    table = results(icons, "source", "finetune")
    publish(suite, icons, table, FACTS, tmp_path)
    (published,) = read_published(tmp_path)
    assert (published.suite, published.facts) == ("icons", FACTS)
    (board,), (again,) = (build_boards(suite, icons, t) for t in (table, published.results))
    assert again.cells.equals(board.cells)
    assert again.context == board.context
    # The file is an ordinary Parquet file to others.
    assert pq.read_table(tmp_path / "icons.parquet").num_rows == 18


def test_equal_rows_give_equal_bytes(tmp_path: Path, suite: Suite, icons: Manifest) -> None:
    table = results(icons, "source", "finetune")
    contents = []
    for shuffled in (table, table.take(pa.array(range(table.num_rows - 1, -1, -1)))):
        publish(suite, icons, shuffled, FACTS, tmp_path)
        contents.append((tmp_path / "icons.parquet").read_bytes())
    assert contents[0] == contents[1]


def test_rows_of_other_tables_are_not_published(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    older = {"measured_finished": 1.0, "source_digest": "another checkpoint"}
    table = pa.concat_tables(
        [results(icons, "source", "finetune"), results(icons, "source", **older)]
    )
    published = publish(suite, icons, table, FACTS, tmp_path)
    assert published.results.num_rows == 18
    assert "another checkpoint" not in published.results["source_digest"].to_pylist()


def test_of_other_methods_only_the_runs_that_rows_start_from_are_published(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    bases = grid(icons, "linear-probe")
    rows = [*bases, *grid(icons, "source"), *grid(icons, "lolsgd")]
    by_cell = {(row["task"], row["seed"]): row["key"] for row in bases}
    rows += [{**row, "base": by_cell[row["task"], row["seed"]]} for row in grid(icons, "finetune")]
    published = publish(suite, icons, pa.Table.from_pylist(rows, schema=SCHEMA), FACTS, tmp_path)
    assert set(published.results["method"].to_pylist()) == {"source", "finetune", "linear-probe"}


@pytest.mark.parametrize("labels", [(), ("source",), ("source", "lolsgd")])
def test_missing_runs(
    tmp_path: Path, suite: Suite, icons: Manifest, labels: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=r"do not have all of their runs: .*finetune"):
        publish(suite, icons, results(icons, *labels), FACTS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_two_suites_share_is_read_once(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    full = dataclasses.replace(suite, name="icons-full", methods=(*suite.methods, "lolsgd"))
    table = results(icons, "source", "finetune", "lolsgd")
    publish(full, icons, table, FACTS, tmp_path)
    publish(suite, icons, results(icons, "source", "finetune"), FACTS, tmp_path)
    assert [p.results.num_rows for p in read_published(tmp_path)] == [27, 18]
    keys = published_rows(read_published(tmp_path))["key"].to_pylist()
    assert sorted(keys) == sorted(table["key"].to_pylist())


def test_published_rows_complete_those_of_a_workspace(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    right = np.arange(20) % 3 == 0
    outcomes = {
        name: Outcomes(right, ~right, np.full(20, value, dtype=np.float32))
        for name, value in (("earlier", 0.0), ("own", 1.0))
    }
    first = dataclasses.replace(suite, name="first", seeds=(0,))
    rows = rows_of_table(results(icons, "source", "finetune"))
    of_seed = {
        is_first: pa.Table.from_pylist(
            [row for row in rows if (row["seed"] == 0) is is_first], schema=SCHEMA
        )
        for is_first in (True, False)
    }
    facts = {**FACTS, "command": "the first seed"}
    publish(first, icons, of_seed[True], facts, tmp_path, lambda _: outcomes["earlier"])
    with pytest.raises(UsageError, match="do not have all of their runs"):
        publish(suite, icons, of_seed[False], FACTS, tmp_path, lambda _: outcomes["own"])

    # A row that both have is the workspace's.
    own = pa.concat_tables([of_seed[False], of_seed[True].slice(0, 1)])
    earlier = read_published(tmp_path)
    for _ in range(2):  # published again, with itself among the earlier results, nothing changes
        published = publish(
            suite, icons, own, FACTS, tmp_path, lambda _: outcomes["own"], earlier=earlier
        )
        assert published.results.num_rows == 18
        assert published.facts == {**FACTS, "command": "the first seed; make leaderboard"}
        earlier = read_published(tmp_path)
    assert [entry.facts for entry in earlier] == [facts, published.facts]
    empty, later = SCHEMA.empty_table(), {**FACTS, "command": "that made nothing"}
    again = publish(suite, icons, empty, later, tmp_path, earlier=earlier)
    assert (again.facts, again.results) == (published.facts, published.results)
    of_row = published_outcomes([published])
    own_keys = set(own["key"].to_pylist())
    for row in rows_of_table(published.results):
        name = "own" if row["key"] in own_keys else "earlier"
        assert of_row(row).to_bytes() == outcomes[name].to_bytes()  # type: ignore[union-attr]


def test_of_a_row_that_is_published_twice_the_first_says_what_made_it(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    rows = rows_of_table(results(icons, "source", "finetune"))
    of_seed_0, others = (
        pa.Table.from_pylist([row for row in rows if (row["seed"] == 0) is is_0], schema=SCHEMA)
        for is_0 in (True, False)
    )
    for name in ("a", "b"):
        alone = dataclasses.replace(suite, name=name, seeds=(0,))
        publish(alone, icons, of_seed_0, {**FACTS, "command": name}, tmp_path)
    published = publish(suite, icons, others, FACTS, tmp_path, earlier=read_published(tmp_path))
    assert published.facts == {**FACTS, "command": f"a; {FACTS['command']}"}


def test_published_rows_of_another_source_model_complete_nothing(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    alone = dataclasses.replace(suite, name="alone", methods=("source",))
    other = results(icons, "source", source_digest="other")
    publish(alone, icons, other, FACTS, tmp_path)
    reason = "with seed 0 adapt the source model other and these .*do not complete each other"
    with pytest.raises(UsageError, match=f"do not have all of their runs: source.*{reason}"):
        publish(
            suite,
            icons,
            results(icons, "finetune"),
            FACTS,
            tmp_path,
            earlier=read_published(tmp_path),
        )
    assert not (tmp_path / "icons.parquet").exists()


def test_nothing_is_published(tmp_path: Path) -> None:
    assert read_published(tmp_path) == []
    assert published_rows(read_published(tmp_path)).equals(SCHEMA.empty_table())


def test_a_damaged_file_is_named(tmp_path: Path, suite: Suite, icons: Manifest) -> None:
    publish(suite, icons, results(icons, "source", "finetune"), FACTS, tmp_path)
    path = tmp_path / "icons.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"icons\.parquet are damaged"):
        read_published(tmp_path)


def test_outcomes_are_published_beside_the_rows(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    right = np.arange(20) % 3 == 0
    outcomes = Outcomes(right, ~right, np.linspace(-1, 1, 20, dtype=np.float32))
    table = results(icons, "source", "finetune")
    known = lambda row: outcomes if row["label"] == "source" else None  # noqa: E731
    publish(suite, icons, table, FACTS, tmp_path, outcomes=known)
    of_row = published_outcomes(read_published(tmp_path))
    for row in rows_of_table(published_rows(read_published(tmp_path))):
        read = of_row(row)
        if row["label"] == "finetune":
            assert read is None
            continue
        assert read is not None
        assert (read.right == right).all()
        assert (read.within == ~right).all()
        assert (read.margin == outcomes.margin).all()


def test_relative_costs_are_those_of_the_method_alone() -> None:
    costs = relative_costs()
    every = rows_of_table(published_rows(read_published()))
    rows = [row for row in every if row["method"] == "finetune"]
    assert costs["finetune"] == 1
    assert min(row["measured_adapt_seconds"] for row in rows) > 0
    assert costs["wise-ft"] < 0.1, "it starts from finetune"
    assert costs["source"] < 0.1
    assert 1.5 < costs["calibrated-pcv"] < 6
    assert 6 < costs["lolsgd-deep"] < 20


def test_relative_costs_compare_runs_of_the_same_cell(tmp_path: Path, icons: Manifest) -> None:
    def rows(method: str, seconds: float, **changes: object) -> list[dict[str, Any]]:
        return grid(icons, method, measured_adapt_seconds=seconds, **changes)

    slow = {"manifest_digest": "of images that take ten times as long"}
    every = [
        *rows("finetune", 2.0),
        *rows("swa", 3.0),
        *rows("lora", 5.0),
        *rows("finetune", 20.0, **slow),
        *rows("lora", 25.0, **slow),
        *rows("vls", 50.0, manifest_digest="of images on which finetune did not run"),
        *rows("bma", 70.0, environment='{"cpu": "slow"}'),
        *rows("ewc", 8.0, search="{}"),
        *rows("finetune", 9.0, search="{}"),
    ]
    table = pa.Table.from_pylist([{**row, "outcomes": None} for row in every], schema=STORED)
    write_table(tmp_path / "icons.parquet", table, json.dumps(FACTS))
    # lora: 9 cells with a ratio of 2.5 and 9 with one of 1.25. swa: none of the slow images.
    assert relative_costs(tmp_path) == {"finetune": 1.0, "swa": 1.5, "lora": 1.875}


def test_the_costs_of_a_base_are_not_its_methods(tmp_path: Path, icons: Manifest) -> None:
    base = grid(icons, "finetune", measured_adapt_seconds=4.0)
    dependent = [
        {**row, "key": f"{row['key']} and more", "method": "wise-ft", "base": row["key"]}
        | {"measured_adapt_seconds": 5.0}
        for row in base
    ]
    rows = [{**row, "outcomes": None} for row in (*base, *dependent)]
    table = pa.Table.from_pylist(rows, schema=STORED)
    write_table(tmp_path / "icons.parquet", table, json.dumps(FACTS))
    assert relative_costs(tmp_path) == {"finetune": 1.0, "wise-ft": 0.25}


def test_there_are_no_relative_costs_without_published_results(tmp_path: Path) -> None:
    assert relative_costs(tmp_path) == {}
