"""Render the leaderboard as Parquet: the rows of the CSV, with what each was computed from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from leaderboard import columns
from leaderboard.board import MEAN, POOLED, Board
from leaderboard.render.data import ordered_cells
from leaderboard.rows import Row

_COUNTS = ("tasks", "seeds", "runs", "other_runs", "rank")
# What all runs of a table share: name in the rows of runs -> meaning.
SHARED = {
    "manifest": "name and version of the manifest",
    "manifest_digest": "SHA-256 of the manifest",
    "protocol": "version of the protocol",
    "model": "the network, as JSON",
}
# Lists with one entry for each run of the cell, all in the same order: name in the file -> name in
# the rows of runs, and meaning.
CHAIN = {
    "run_tasks": ("task", "tasks of the runs that the row covers, in the order of the suite"),
    "run_seeds": ("seed", "their seeds"),
    "run_keys": ("key", "their keys, which digest all of their inputs"),
    "base_keys": ("base", "keys of the runs that they start from"),
    "recipe_digests": ("recipe_digest", "SHA-256 of the recipe"),
    "source_digests": ("source_digest", "SHA-256 of the source model"),
    "predictions_sha256": ("predictions_sha256", "SHA-256 of the predictions"),
    "scorer_digests": ("scorer_digest", "SHA-256 of the code that scored them"),
}


def schema() -> pa.Schema:
    """The columns: those of the CSV, then ``SHARED`` and ``CHAIN``."""

    def kind(name: str) -> pa.DataType:
        if name in _COUNTS:
            return pa.int64()
        return pa.string() if name in ("table", *columns.CELL) else pa.float64()

    return pa.schema(
        [
            *((name, kind(name)) for name in columns.file_columns()),
            *((name, pa.string()) for name in SHARED),
            *(
                (name, pa.list_(pa.int64() if name == "run_seeds" else pa.string()))
                for name in CHAIN
            ),
        ]
    )


def to_table(boards: Sequence[Board]) -> pa.Table:
    """One row per table, method and task, in the order of the CSV.

    The metadata of its schema names the suite, the manifest and the version of this project.
    """
    table = pa.Table.from_pylist([row for b in boards for row in _rows(b)], schema=schema())
    metadata = {"htbench.version": version("holistic-transfer-bench")}
    if boards:
        metadata["htbench.suite"] = boards[0].suite.name
        metadata["htbench.manifest"] = boards[0].context["manifest"]
    return table.replace_schema_metadata(metadata)


def to_parquet(boards: Sequence[Board]) -> bytes:
    """The content of a Parquet file of :func:`to_table`."""
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(boards), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _rows(board: Board) -> Iterator[dict[str, Any]]:
    order = {task: i for i, task in enumerate(board.suite.tasks)}
    runs: dict[tuple[str, str], list[Row]] = {}
    for run in sorted(board.rows, key=lambda run: (order[run["task"]], run["seed"])):
        for task in (run["task"], MEAN, POOLED):
            runs.setdefault((run["label"], task), []).append(run)
    shared = _shared(board.rows)
    cells = ordered_cells(board).to_dict("records")
    covered = {(cell["label"], cell["task"]) for cell in cells if cell["tasks"]}
    for cell in cells:
        of_cell = runs.get((cell["label"], cell["task"]), [])
        if cell["task"] == MEAN and cell["state"] == "partial" and cell["tasks"]:
            # Not those of tasks that the mean is not over: some of their runs have failed.
            of_cell = [run for run in of_cell if (run["label"], run["task"]) in covered]
        yield {
            "table": board.name,
            **{str(name): _known(value) for name, value in cell.items()},
            **shared,
            **{name: [run[column] for run in of_cell] for name, (column, _) in CHAIN.items()},
        }


def _shared(rows: Sequence[Row]) -> Mapping[str, str]:
    """What the rows of a table have in common."""
    return {name: rows[0][name] for name in SHARED}


def _known(value: Any) -> Any:
    """A value; None for NaN. Ranks are whole numbers."""
    return None if isinstance(value, float) and math.isnan(value) else value
