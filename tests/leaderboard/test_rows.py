"""Rows: what they take from a record, and records that contradict what their run was made from."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest

from benchmark.errors import RecordError
from benchmark.manifest.manifest import Manifest
from leaderboard.predictions import scorer_digest
from leaderboard.results import update_results
from leaderboard.rows import (
    COUNTS,
    MEASURED,
    METRICS,
    SCHEMA,
    check_record,
    group_rows,
    with_status,
)
from tests.leaderboard.runs import FAILED, WriteRun, change_record


def test_identity(tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
    config = {"alpha": 0.5}
    record = write_run(
        tmp_path, "wise", seed=1, config=config, label="wise(alpha=0.5)", track="oracle"
    )
    (row,) = update_results(tmp_path, [icons]).to_pylist()
    expected = {
        "key": record.key,
        "provenance": "local",
        "status": "ok",
        "manifest": "icons@2.0",
        "manifest_digest": icons.digest,
        "source_digest": record.made_from["source"],
        "task": "outline-solid",
        "method": "wise",
        "label": "wise(alpha=0.5)",
        "config": '{"alpha":0.5}',
        "track": "oracle",
        "seed": 1,
        "predictions_sha256": record.predictions_sha256,
        "scorer_digest": scorer_digest(),
        "isolation": '["no-filesystem","no-network","no-processes","no-inspection"]',
        "total_steps": 200,
        "sequential_steps": 100,
        "measured_adapt_seconds": 2.0,
        "measured_peak_memory": 512 * 2**20,
        "error_kind": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert set(row) == set(SCHEMA.names)
    assert all(f"measured_{name}" in row for name in MEASURED)


def test_a_failed_run_is_a_row_without_scores(
    tmp_path: Path, write_run: WriteRun, icons: Manifest
) -> None:
    write_run(tmp_path, "finetune", **FAILED)
    (row,) = update_results(tmp_path, [icons]).to_pylist()
    assert row["status"] == "failed"
    assert (row["error_kind"], row["error_message"], row["error_traceback"]) == (
        "exception",
        "m",
        "t",
    )
    assert all(row[name] is None for name in (*METRICS, *COUNTS))


def test_a_message_that_has_no_utf8(tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
    """A method may name a file whose name is not valid text; the board must still be built."""
    message = os.fsdecode(b"no file caf\xe9")
    error = {"kind": "exception", "message": message, "traceback": ""}
    write_run(tmp_path, "finetune", status="failed", error=error)
    (row,) = update_results(tmp_path, [icons]).to_pylist()
    assert row["error_message"] == "no file caf?"
    assert update_results(tmp_path, [icons]).to_pylist() == [row]


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "solid-outline"},
        {"seed": 1},
        {"method": "lolsgd"},
        {"label": "lolsgd"},
        {"config": {"alpha": 1}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_table_shows_is_what_the_run_was_made_from(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, changes: dict[str, object]
) -> None:
    change_record(tmp_path, write_run(tmp_path, "finetune"), **changes)
    with pytest.warns(UserWarning, match="does not match made_from"):
        update_results(tmp_path, [icons])


@pytest.mark.parametrize("name", ["manifest", "recipe", "source", "seed", "method"])
def test_a_key_of_too_little(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, name: str
) -> None:
    write_run(tmp_path, "finetune", made={name: None})
    with pytest.warns(UserWarning, match=f"{name} in made_from is missing or invalid"):
        update_results(tmp_path, [icons])


def test_a_key_without_an_entry(tmp_path: Path, write_run: WriteRun) -> None:
    record = write_run(tmp_path, "finetune")
    made_from = {name: value for name, value in record.made_from.items() if name != "base"}
    with pytest.raises(RecordError, match="base in made_from is missing or invalid"):
        check_record(dataclasses.replace(record, made_from=made_from), tmp_path)


def test_a_search_of_too_little(tmp_path: Path, write_run: WriteRun, icons: Manifest) -> None:
    write_run(tmp_path, "finetune", made={"search": {"by": "nobody", "folds": "3"}})
    with pytest.warns(UserWarning, match=r"folds in made_from\.search is missing or invalid"):
        update_results(tmp_path, [icons])


def test_a_search_that_tried_no_settings(
    tmp_path: Path, write_run: WriteRun, icons: Manifest
) -> None:
    search = {"by": "x", "folds": 3, "steps": 1, "chosen": {}, "tried": [{"alpha": 1}]}
    write_run(tmp_path, "finetune", made={"search": search})
    with pytest.warns(UserWarning, match=r"has an invalid entry \{'alpha': 1\}"):
        update_results(tmp_path, [icons])


@pytest.mark.parametrize("name", ["gamma-star", "=1+1", "-1", "a b", "\x1b[31m"])
def test_names_that_no_method_can_have(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, name: str
) -> None:
    """gamma-star would replace the derived row, and a spreadsheet would compute a formula."""
    write_run(tmp_path, name)
    problem = re.escape(f"{name!r} cannot be the name of a method")
    with pytest.warns(UserWarning, match=problem):
        assert update_results(tmp_path, [icons]).num_rows == 0


@pytest.mark.parametrize(
    ("cost", "problem"),
    [
        ({"adapt_seconds": 1e308}, "adapt_seconds in cost is 1e+308, which is impossible"),
        ({"peak_memory": -1}, "peak_memory in cost is -1, which is impossible"),
        ({"declared_steps": 201}, "201 of 200 steps in cost are declared, which is impossible"),
        ({"total_steps": 0, "declared_steps": 1}, "1 of 0 steps in cost are declared"),
    ],
)
def test_costs_that_cannot_be(
    tmp_path: Path, write_run: WriteRun, icons: Manifest, cost: dict[str, float], problem: str
) -> None:
    """They would end the board or a figure in a traceback."""
    record = write_run(tmp_path, "finetune")
    change_record(tmp_path, record, cost={**record.cost, **cost})
    with pytest.warns(UserWarning, match=re.escape(problem)):
        assert update_results(tmp_path, [icons]).num_rows == 0


def test_declared_steps_without_a_total(
    tmp_path: Path, write_run: WriteRun, icons: Manifest
) -> None:
    change_record(tmp_path, write_run(tmp_path, "finetune"), cost={"declared_steps": 5})
    with pytest.warns(UserWarning, match="5 of 0 steps in cost are declared"):
        update_results(tmp_path, [icons])


def test_groups_keep_the_order_of_the_rows() -> None:
    rows = [{"status": status, "seed": seed} for seed, status in enumerate("baab")]
    groups = group_rows(rows, lambda row: row["status"])
    assert {key: [row["seed"] for row in group] for key, group in groups.items()} == {
        "b": [0, 3],
        "a": [1, 2],
    }
    assert list(groups) == ["b", "a"]
    assert with_status(rows, "a") == groups["a"]
