"""A file of published rows: those of a suite or of a submission, with outcomes and some facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from benchmark.files import canonical_json
from leaderboard.results_file import read_table, write_table
from leaderboard.rows import SCHEMA

STORED = pa.schema([*SCHEMA, ("outcomes", pa.binary())])  # the columns of a file


class StoredRows(NamedTuple):
    """The content of a file.

    Attributes:
        results: the rows, with the columns of ``SCHEMA``.
        outcomes: of the rows' test samples, by key; rows without any are not in it.
        facts: what else is known of all rows, as JSON.
    """

    results: pa.Table
    outcomes: dict[str, bytes]
    facts: dict[str, Any]


def with_outcomes(results: pa.Table, outcomes: Mapping[str, bytes]) -> pa.Table:
    """Rows as they are stored, with the columns of ``STORED``.

    Args:
        results: with the columns of ``SCHEMA``.
        outcomes: of their test samples, by key, as far as they are known.
    """
    of_rows = [outcomes.get(key) for key in results["key"].to_pylist()]
    return results.append_column(STORED.field("outcomes"), pa.array(of_rows, pa.binary()))


def write_rows(path: Path, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Write a file atomically; equal input gives equal bytes.

    Args:
        path: the file.
        table: what :func:`with_outcomes` returned.
        facts: as JSON.
    """
    write_table(path, table, canonical_json(dict(facts)).decode())


def read_rows(path: Path) -> StoredRows | None:
    """Read a file; None if it is missing, damaged, or of another version."""
    table, facts = read_table(path, STORED)
    if not facts:
        return None
    stored = zip(table["key"].to_pylist(), table["outcomes"].to_pylist(), strict=True)
    outcomes = {key: content for key, content in stored if content is not None}
    return StoredRows(table.select(SCHEMA.names), outcomes, json.loads(facts))
