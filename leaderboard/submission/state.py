"""A submission while it is checked, and the rows that its runs give."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from benchmark.errors import MAX_ITEM
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite, known_suites, load_suite, manifest_of
from benchmark.records import RECORD_FILE, RunRecord
from benchmark.text import one_line
from leaderboard.outcomes import Outcomes
from leaderboard.published import published_rows, read_all
from leaderboard.results import STORED, stored_row, with_base_costs
from leaderboard.rows import SCHEMA, check_record, row_of_record, rows_of_table
from leaderboard.rows_file import with_outcomes
from leaderboard.submission.folder import RUNS_FOLDER, Form, RefusedError, digest_of, read_form
from leaderboard.versions import version_of

OK, FAILED, FLAGGED, NOT_RUN = "ok", "failed", "flagged", "not run"


class FlaggedError(Exception):
    """What a person has to look at."""


class Result(NamedTuple):
    """The result of a check; the reason is empty if it passed or was not run."""

    check: str
    purpose: str
    state: str
    reason: str


@dataclass(eq=False)
class Submission:
    """A submission while it is checked: every check uses what those before it have read.

    Attributes:
        root: its folder.
        taken: names that no method may have: those of the benchmark's own methods.
        compute: digest of the benchmark's code that computes predictions.
        published: the folder of the published results.
        own_suite: checks against this suite instead of the published one of that name.
        results: of the checks, in order.
        files: its files with their sizes.
        outcomes: of the test samples of the method's runs, by key; ``scores``: the entries of
            their rows that depend on the predictions.
    """

    root: Path
    taken: Collection[str]
    compute: str
    published: Path
    own_suite: Suite | None = None
    results: list[Result] = field(default_factory=list)
    files: Mapping[str, int] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_refused(self) -> bool:
        """Whether a check has failed."""
        return any(result.state == FAILED for result in self.results)

    @property
    def flags(self) -> list[str]:
        """What a person has to look at."""
        return [f"{r.check}: {r.reason}" for r in self.results if r.state == FLAGGED]

    @cached_property
    def form(self) -> Form:
        """The content of ``submission.toml``."""
        return read_form(self.root)

    @cached_property
    def digest(self) -> str:
        """Identifies the submission."""
        return digest_of(self.root)

    @cached_property
    def suite(self) -> Suite:
        """The suite that it was run on."""
        if self.own_suite is not None:
            return self.own_suite
        if self.form.suite not in known_suites():
            raise RefusedError(
                f"{one_line(repr(self.form.suite), MAX_ITEM)} is not a published suite; there are: "
                f"{', '.join(known_suites())}"
            )
        return load_suite(self.form.suite)

    @cached_property
    def manifest(self) -> Manifest:
        """The suite's manifest, with its recipe."""
        return manifest_of(self.suite)

    @cached_property
    def records(self) -> dict[str, RunRecord]:
        """The records of its runs, by key."""
        folders = sorted({path.split("/")[1] for path in self.files if path.startswith("runs/")})
        records = {}
        for key in folders:
            folder = self.root / RUNS_FOLDER / key
            records[key] = RunRecord.read(folder, key)
            check_record(records[key], folder / RECORD_FILE)
        return records

    @property
    def of_method(self) -> list[RunRecord]:
        """The records of the method's runs, by task and seed, without what they start from."""
        runs = [record for record in self.records.values() if record.method == self.form.name]
        return sorted(runs, key=lambda record: (record.task, record.seed))

    @cached_property
    def by_key(self) -> dict[str, dict[str, Any]]:
        """A row without scores for each record."""
        return {key: row_of_record(record) for key, record in self.records.items()}

    @cached_property
    def others(self) -> pa.Table:
        """The published rows."""
        return published_rows(read_all(self.published))

    def table(self, provenance: str) -> pa.Table:
        """The scored rows of the method, with the columns of ``SCHEMA``, sorted by key.

        Their cost includes the runs that they start from. These have no rows of their own, so
        ``base`` is the digest of their version.
        """
        rows = [
            stored_row({**row, **self.scores.get(key, {})}, key, None)
            for key, row in self.by_key.items()
        ]
        table = with_base_costs(pa.Table.from_pylist(rows, schema=STORED)).select(SCHEMA.names)
        return pa.Table.from_pylist(
            [
                {
                    **row,
                    "base": version_of(self.by_key[row["key"]], self.by_key).base,
                    "provenance": provenance,
                }
                for row in rows_of_table(table.sort_by("key"))
                if row["key"] in self.scores
            ],
            schema=SCHEMA,
        )

    def part(self, provenance: str) -> pa.Table:
        """The same with the outcomes of each row: what :func:`leaderboard.accepted.add` takes."""
        table = self.table(provenance)
        return with_outcomes(table, {key: one.to_bytes() for key, one in self.outcomes.items()})
