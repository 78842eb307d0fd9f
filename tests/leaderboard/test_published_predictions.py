"""The predictions that are published give the published scores."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.errors import DataError, UsageError
from benchmark.files import digest_file
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, load_suite
from benchmark.records import write_predictions
from leaderboard.published import FOLDER, publish
from leaderboard.published_predictions import (
    predictions_of,
    publish_predictions,
    published_predictions,
)
from leaderboard.rows import METRICS, SCHEMA, Row
from leaderboard.scoring import match_samples, score
from tests.leaderboard.grids import grid


def test_they_give_the_published_scores(icons: Manifest) -> None:
    # One run of each method on one of the tasks, as docs/board.md shows it.
    suite = load_suite("icons")
    seen: set[str] = set()
    for row, ids, logits in itertools.islice(published_predictions(), 3 * len(suite.methods)):
        if row["method"] in seen:
            continue
        seen.add(row["method"])
        task = icons.task(row["task"])
        test = icons.samples(task.target, "test")
        order = match_samples(ids, test.ids)
        scores = score(logits[order], test.labels, icons.seen_mask(task))
        assert {name: getattr(scores, name) for name in METRICS} == {
            name: row[name] for name in METRICS
        }
    assert seen == set(suite.methods)


def test_every_run_of_the_suite_is_there_once() -> None:
    keys = pq.read_table(FOLDER / "predictions" / "icons.parquet", columns=["key"])["key"]
    suite = load_suite("icons")
    assert len(keys.unique()) == len(suite.methods) * len(suite.tasks) * len(suite.seeds)


@pytest.fixture
def few(tmp_path: Path, suite: Suite, icons: Manifest) -> Path:
    """Published results with the predictions of two runs."""
    rows = grid(icons, "source")[:2]
    random = np.random.default_rng(0)
    files = tmp_path / "files"
    files.mkdir()
    for row in rows:
        logits = random.normal(size=(5, 65)).astype(np.float32)
        write_predictions(files / row["key"], [f"{row['key'][:4]}{i}" for i in range(5)], logits)
        row["predictions_sha256"] = digest_file(files / row["key"])
    others = grid(icons, "finetune") + grid(icons, "source")[2:]
    table = pa.Table.from_pylist(rows + others, schema=SCHEMA)
    publish(suite, icons, table, {"command": "c", "commit": "c", "machine": "m"}, tmp_path)
    publish_predictions("icons", rows, lambda row: files / row["key"], tmp_path)
    return tmp_path


def test_ids_and_logits_are_kept_exactly(few: Path, tmp_path: Path) -> None:
    entries = list(published_predictions("icons", few))
    assert len(entries) == 2
    for row, ids, logits in entries:
        write_predictions(tmp_path / "again", ids, logits)
        assert digest_file(tmp_path / "again") == row["predictions_sha256"]


def test_the_predictions_of_some_rows(few: Path) -> None:
    first, second = (row for row, _, _ in published_predictions("icons", few))
    assert [row["key"] for row, _, _ in predictions_of("icons", [second], few)] == [second["key"]]
    assert first["key"] != second["key"]


def test_a_flipped_bit_in_the_logits_is_noticed(few: Path) -> None:
    file = few / "predictions" / "icons.parquet"
    content = bytearray(file.read_bytes())
    column = pq.ParquetFile(file).metadata.row_group(0).column(2)
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"icons\.parquet are damaged .*`git -C .* checkout -- "):
        list(published_predictions("icons", few))


def test_a_run_without_a_row_is_refused(few: Path, tmp_path: Path) -> None:
    unknown: Row = {"key": "f" * 64, "status": "ok", "method": "source", "task": "outline-solid"}
    write_predictions(tmp_path / "one", ["a"], np.zeros((1, 65), np.float32))
    publish_predictions("icons", [unknown], lambda row: tmp_path / "one", few)
    with pytest.raises(DataError, match="damaged"):
        list(published_predictions("icons", few))


def test_a_suite_without_predictions_is_named(few: Path) -> None:
    with pytest.raises(UsageError, match=r"icons-hot\.parquet does not exist: .*clone"):
        next(published_predictions("icons-hot", few))


def test_equal_predictions_give_equal_bytes(few: Path) -> None:
    file = few / "predictions" / "icons.parquet"
    before = file.read_bytes()
    rows = [row for row, _, _ in published_predictions("icons", few)]
    publish_predictions("icons", rows[::-1], lambda row: few / "files" / row["key"], few)
    assert file.read_bytes() == before
