"""The rows of the results: their schema, how they are built from records, and their grouping.

Each row describes one run (or one that the leaderboard derives, see ``gamma_star.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.errors import MAX_ITEM, RecordError
from benchmark.files import canonical_json, digest_json
from benchmark.patterns import METHOD_NAME
from benchmark.records import DEVICE_MEMORY, RunRecord
from benchmark.text import one_line
from leaderboard.scoring import Scores

Row = Mapping[str, Any]  # by the names of SCHEMA

FAILED = "failed"  # a status
MEAN = "mean"  # the pseudo-task that averages over a suite's tasks
POOLED = "pooled"  # the pseudo-task of the test samples of all tasks together
GAMMA_STAR = "gamma-star"  # the method of rows that are derived from runs; see gamma_star.py
COUNTS = ("n_seen", "n_missing")
EXCLUDED = "n_excluded"  # test samples that are in neither group of the task
METRICS = tuple(f.name for f in fields(Scores) if f.name not in COUNTS)
STEPS = ("total_steps", "sequential_steps", "declared_steps")
# Seconds and bytes differ between two runs of the same key: in the schema their names get the
# prefix ``measured_``, which separates them from what is reproducible.
MEASURED = (
    "adapt_seconds",
    "predict_seconds",
    "wall_seconds",
    "peak_memory",
    DEVICE_MEMORY,
    "finished",
)

_TEXT = (
    "key",
    "provenance",
    "status",
    "manifest",
    "manifest_digest",
    "protocol",
    "model",
    "recipe_digest",
    "source_digest",
    "device",
    "task",
    "method",
    "method_code",
    "computation",
    "label",
    "config",
    "search",
    "track",
    "base",
    "predictions_sha256",
    "scorer_digest",
    "error_kind",
    "error_message",
    "error_traceback",
    "notes",
    "environment",
    "isolation",
)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXT),
        ("seed", pa.int64()),
        *((name, pa.float64()) for name in METRICS),
        *((name, pa.int64()) for name in (*COUNTS, EXCLUDED)),
        *((name, pa.int64()) for name in STEPS),
        *((f"measured_{name}", pa.float64()) for name in MEASURED),
    ]
)

# The entries of a record's ``made_from`` that a row needs, with their types.
_MADE_FROM: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("manifest", "protocol", "source", "device", "task"), str),
    **dict.fromkeys(("model", "recipe", "config", "method"), dict),
    "seed": int,
    "base": (str, type(None)),
    "search": (dict, type(None)),
}
# The entries that make up ``computation``: all but these, which have columns or name the cell.
_NOT_COMPUTATION = (*_MADE_FROM, "store")
# What the board reports of the search that chose a run's settings.
_SEARCH: dict[str, type] = {"by": str, "folds": int, "steps": int, "chosen": dict, "tried": list}
# Of seconds, bytes and steps, if not 0. What nothing takes would overflow means and axes. A method
# may declare as many steps as a count can have.
_MIN_COST, _MAX_COST = 1e-9, 2.0**53


def row_of_record(record: RunRecord) -> dict[str, Any]:
    """Build a run's row without ``scorer_digest`` and the metrics.

    Args:
        record: a record that has passed :func:`check_record`.
    """
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    made_from = record.made_from
    error = record.error or {}
    row |= {
        "key": record.key,
        "provenance": "local",
        "status": record.status,
        "manifest": record.manifest,
        "manifest_digest": made_from["manifest"],
        "protocol": made_from["protocol"],
        "model": json_text(made_from["model"]),
        "recipe_digest": digest_json(made_from["recipe"]),
        "source_digest": made_from["source"],
        "device": made_from["device"],
        "task": record.task,
        "method": record.method,
        "method_code": digest_json(made_from["method"]),
        "computation": json_text(
            {name: v for name, v in made_from.items() if name not in _NOT_COMPUTATION}
        ),
        "label": record.label,
        "config": json_text(record.config),
        "search": json_text(made_from["search"]) if made_from.get("search") else None,
        "track": record.track,
        "base": made_from["base"],
        "seed": record.seed,
        "predictions_sha256": record.predictions_sha256,
        "error_kind": error.get("kind"),
        "error_message": error.get("message"),
        "error_traceback": error.get("traceback"),
        "environment": json_text(record.environment),
        "isolation": json_text(list(record.isolation)),
        "notes": json_text(list(record.notes)),
        **{name: record.cost.get(name) for name in STEPS},
        **{f"measured_{name}": record.cost.get(name) for name in MEASURED},
    }
    # A lone surrogate (from a file name in an error message) cannot be encoded as UTF-8.
    return {
        name: value
        if not isinstance(value, str) or value.isascii()
        else value.encode(errors="replace").decode()
        for name, value in row.items()
    }


def check_record(record: RunRecord, path: Path) -> None:
    """Check that a record is consistent with its run's inputs (``made_from``).

    The run's key is a digest of ``made_from`` only, so the other fields that a row shows must agree
    with it.

    Args:
        record: the record; ``path``: its file, for messages.

    Raises:
        RecordError: an entry of ``made_from`` is missing or has the wrong type, the record
            contradicts it, or the method's name or a cost is impossible.
    """
    if (problem := _problem(record)) is not None:
        raise RecordError(f"{path}: {problem}; delete the run's folder and run it again")


def _problem(record: RunRecord) -> str | None:
    """What is inconsistent in a record."""
    made_from = record.made_from
    for name, kind in _MADE_FROM.items():
        is_absent = name not in made_from and name != "search"
        if is_absent or not isinstance(made_from.get(name), kind):
            return f"{name} in made_from is missing or invalid"
    search = made_from.get("search") or {}
    for name, kind in _SEARCH.items() if search else ():
        if not isinstance(search.get(name), kind):
            return f"{name} in made_from.search is missing or invalid"
    for entry in search.get("tried", ()):
        if not (isinstance(entry, dict) and isinstance(entry.get("settings"), dict)):
            return f"made_from.search has an invalid entry {entry!r:.100}"
    shown = (record.task, record.seed, record.config, record.method, record.label.split("(")[0])
    method = made_from["method"].get("name")
    if shown != (made_from["task"], made_from["seed"], made_from["config"], method, method):
        return (
            "task, seed, method, label or config does not match made_from, so the file was modified"
        )
    if not METHOD_NAME.fullmatch(record.method) or record.method == GAMMA_STAR:
        return f"{one_line(repr(record.method), MAX_ITEM)} cannot be the name of a method"
    return _cost_problem(record.cost)


def _cost_problem(cost: Mapping[str, float]) -> str | None:
    """What cannot be in the cost of a run."""
    for name, value in cost.items():
        if value and not _MIN_COST <= value <= _MAX_COST:
            return f"{one_line(name, MAX_ITEM)} in cost is {value}, which is impossible"
    declared, total = (cost.get(name, 0) for name in ("declared_steps", "total_steps"))
    if declared > total:
        return f"{declared} of {total} steps in cost are declared, which is impossible"
    return None


def json_text(value: object) -> str:
    """Format a value as canonical JSON, to store it in a text column."""
    return canonical_json(value).decode()


def group_rows(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Group rows by key, in order of first appearance."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def with_status(rows: Iterable[Row], status: str) -> list[Row]:
    """Return the rows with the given status, in order."""
    return [row for row in rows if row["status"] == status]


def rows_of_table(table: pa.Table, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries: as ``Table.to_pylist``, but ten times faster.

    Args:
        table: columns of text, whole numbers and floating-point numbers.
        names: only these columns; all if None.
    """
    names = table.column_names if names is None else names
    columns = [column_values(table[name]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def column_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column of text or numbers; None where there is none."""
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) or pa.types.is_null(column.type):
        return list(column.to_numpy().tolist())
    if column.null_count == 0:
        return list(column.to_numpy().tolist())
    values = pc.fill_null(column, 0).to_numpy().tolist()
    is_valid = column.is_valid().to_numpy().tolist()
    return [value if valid else None for value, valid in zip(values, is_valid, strict=True)]
