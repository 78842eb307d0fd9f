"""The board as Parquet: the numbers of the CSV, the digest chain, and the readers that open it."""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.records import PROTOCOL
from leaderboard.board import MEAN, Board
from leaderboard.columns import file_columns
from leaderboard.partial import with_partial_means
from leaderboard.render import FORMATS
from leaderboard.render.parquet import CHAIN, SHARED, schema, to_parquet
from tests.leaderboard.grids import TASKS, build, failed, grid, row


@pytest.fixture
def boards(suite: Suite, icons: Manifest) -> list[Board]:
    """Complete, failed, partial and oracle cells, and a second table."""
    rows = grid(icons, "source", predictions_sha256="p", scorer_digest="s", method_code="code")
    rows += [*grid(icons, "finetune", overall=60.0)[1:], failed(icons, "finetune", TASKS[0], 0)]
    rows += grid(icons, "part", base="b")[:2] + grid(icons, "o", track="oracle")
    rows += grid(icons, "source", source_digest="other", measured_finished=1.0)
    return build(suite, icons, rows)


@pytest.fixture
def path(tmp_path: Path, boards: list[Board]) -> Path:
    path = tmp_path / "board.parquet"
    path.write_bytes(to_parquet(boards))
    return path


def test_the_values_are_those_of_the_csv(boards: list[Board], path: Path) -> None:
    expected = pd.read_csv(io.StringIO(str(FORMATS["csv"].render(boards))))
    frame = pd.read_parquet(path)
    assert list(frame.columns) == [*file_columns(), *SHARED, *CHAIN]
    for name in file_columns():
        for one, other in zip(frame[name], expected[name], strict=True):
            assert one == other or (pd.isna(one) and pd.isna(other)), name
    assert pq.read_schema(path).remove_metadata() == schema()


def test_a_row_has_the_digests_of_what_it_was_computed_from(
    boards: list[Board], icons: Manifest, path: Path
) -> None:
    rows = {(r["table"], r["label"], r["task"]): r for r in pq.read_table(path).to_pylist()}
    one = rows["icons", "source", TASKS[1]]
    assert one["manifest_digest"] == icons.digest
    assert one["protocol"] == PROTOCOL
    assert one["method_code"] == "code"
    keys = [run["key"] for run in boards[0].rows if run["label"] == "source"]
    assert set(one["run_keys"]) < set(keys)
    assert len(one["run_keys"]) == 3
    assert one["run_seeds"] == [0, 1, 2]
    assert one["predictions_sha256"] == ["p"] * 3
    assert one["scorer_digests"] == ["s"] * 3
    assert one["source_digests"] == ["checkpoint of solid"] * 3
    mean = rows["icons", "source", MEAN]
    assert mean["run_tasks"] == [task for task in TASKS for _ in range(3)]
    assert sorted(mean["run_keys"]) == sorted(keys)
    assert rows["icons, table 2", "source", TASKS[0]]["source_digests"] == ["other"] * 3
    # A cell without a value still says which runs there are.
    broken = rows["icons", "finetune", TASKS[0]]
    assert (broken["overall"], len(broken["run_keys"])) == (None, 3)
    assert rows["icons", "part", MEAN]["base_keys"] == ["b", "b"]
    assert rows["icons", "part", TASKS[2]]["run_keys"] == []
    assert len(rows["icons", "finetune", MEAN]["run_keys"]) == 9
    # A mean over some of the tasks is of the runs of these.
    partial = pq.read_table(pa.BufferReader(to_parquet([with_partial_means(boards[0])])))
    (mean,) = [r for r in partial.to_pylist() if (r["label"], r["task"]) == ("finetune", MEAN)]
    assert (mean["tasks"], mean["overall"]) == (2, 60.0)
    assert mean["run_tasks"] == [TASKS[1]] * 3 + [TASKS[2]] * 3


def test_the_metadata_names_the_suite_the_manifest_and_the_version(
    icons: Manifest, path: Path
) -> None:
    assert pq.read_schema(path).metadata == {
        b"htbench.version": version("holistic-transfer-bench").encode(),
        b"htbench.suite": b"icons",
        b"htbench.manifest": f"icons@2.0 ({icons.digest[:12]})".encode(),
    }


def test_no_board_is_a_file_without_rows() -> None:
    table = pq.read_table(pa.BufferReader(to_parquet([])))
    assert (table.num_rows, table.schema.remove_metadata()) == (0, schema())


def _pandas(path: Path) -> list[dict[str, Any]]:
    frame = pd.read_parquet(path)  # whole numbers with gaps are floating-point in it
    return pa.Table.from_pandas(frame, schema=schema(), preserve_index=False).to_pylist()


def _polars(path: Path) -> list[dict[str, Any]]:
    import polars

    return polars.read_parquet(path).to_dicts()


def _duckdb(path: Path) -> list[dict[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute("select * from read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def _datasets(path: Path) -> list[dict[str, Any]]:
    from datasets import Dataset

    return Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache")).to_list()


@pytest.mark.parametrize("read", [_pandas, _polars, _duckdb, _datasets])
def test_users_readers_open_it(path: Path, read: Any) -> None:
    assert read(path) == pq.read_table(path).to_pylist()


def test_a_label_may_have_any_printable_character(suite: Suite, icons: Manifest) -> None:
    (board,) = build(suite, icons, [row(icons, "m(x=中é\U0001f600)", TASKS[0])])
    (labels,) = {*pq.read_table(pa.BufferReader(to_parquet([board])))["label"].to_pylist()}
    assert labels == "m(x=中é\U0001f600)"
