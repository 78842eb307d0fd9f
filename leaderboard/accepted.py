"""Accepted submissions: one immutable file of rows each, and an append-only log.

    submissions/log.jsonl                        what was accepted, scored again or withdrawn
    submissions/<suite>/<method>-<digest>.parquet    the rows, named by the digest of the file

Each line of the log holds the SHA-256 of the line before, and of the file that it adds. A file that
the log does not name is ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmark.commands import restore_it
from benchmark.errors import DataError, UsageError
from benchmark.files import canonical_json, digest_file, digest_json, read_bounded, write_file
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from benchmark.text import near
from leaderboard.rows_file import read_rows, write_rows

FOLDER = "submissions"  # of the published results
LOG_FILE = "log.jsonl"
# What a row's provenance says of it.
SUBMITTED, VERIFIED = "submitted", "verified"
ACCEPT, RESCORE, VERIFY, WITHDRAW = "accept", "rescore", "verify", "withdraw"
MAX_LOG_BYTES = 64 << 20
_FIRST = "0" * 64  # in place of the digest of the line before the first
_DIGITS = 12


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        previous: SHA-256 of the line before.
        action: ``accept``, ``rescore`` (other scores or facts of the same submission), ``verify``
            (a verification that was not there) or ``withdraw``.
        suite, name: of the submission.
        submission: digest of its folder.
        part: SHA-256 of the file of rows that is added or, if withdrawn, removed.
        when: ISO 8601, in UTC; ``by``, ``why``: who did it, and the reason.
    """

    previous: str
    action: str
    suite: str
    name: str
    submission: str
    part: str
    when: str
    by: str
    why: str

    def line(self) -> bytes:
        """The entry as it is in the log."""
        return canonical_json(vars(self)) + b"\n"


@dataclass(frozen=True)
class Accepted:
    """An accepted submission.

    Attributes:
        entry: the line of the log that added its rows.
        form: the entries of its ``submission.toml``.
        verification: who repeated which of its runs, when and with what result; None if nobody has.
        results: its rows, with the columns of ``SCHEMA``.
        outcomes: of the rows' test samples, by key.
    """

    entry: Entry
    form: Mapping[str, Any]
    verification: Mapping[str, Any] | None
    results: pa.Table
    outcomes: Mapping[str, bytes]

    @property
    def cells(self) -> set[tuple[str, int]]:
        """The tasks and seeds of its rows."""
        names = (self.results[name].to_pylist() for name in ("task", "seed"))
        return set(zip(*names, strict=True))


def read_log(published: Path) -> list[Entry]:
    """Read the log, oldest first; empty if there is none.

    Raises:
        DataError: a line was changed, added out of turn or removed, or the log is too large.
    """
    path = published / FOLDER / LOG_FILE
    try:
        content = read_bounded(path, MAX_LOG_BYTES)
    except FileNotFoundError:
        return []
    if len(content) > MAX_LOG_BYTES:
        raise DataError(f"{path} is larger than {MAX_LOG_BYTES} bytes; {restore_it(path)}")
    entries: list[Entry] = []
    previous = _FIRST
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            entry = Entry(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            raise _damaged(path, number) from None
        if entry.previous != previous or entry.line() != line:
            raise _damaged(path, number)
        previous = hashlib.sha256(line).hexdigest()
        entries.append(entry)
    return entries


def _damaged(path: Path, number: int) -> DataError:
    return DataError(
        f"line {number} of {path} does not follow from the line before it, so the log was "
        f"changed; {restore_it(path)}"
    )


def shown_entries(log: Sequence[Entry]) -> dict[tuple[str, str], Entry]:
    """The entries whose rows are shown, by suite and name."""
    shown: dict[tuple[str, str], Entry] = {}
    for entry in log:
        if entry.action == WITHDRAW:
            shown.pop((entry.suite, entry.name), None)
        else:
            shown[entry.suite, entry.name] = entry
    return shown


def read_accepted(published: Path) -> list[Accepted]:
    """Read the submissions that are shown, by suite and name.

    Raises:
        DataError: the log or a file is damaged, or of another version.
    """
    return [
        _read(published, entry) for _, entry in sorted(shown_entries(read_log(published)).items())
    ]


def _read(published: Path, entry: Entry) -> Accepted:
    path = _path(published, entry.suite, entry.name, entry.part)
    stored = read_rows(path)
    if stored is None or digest_file(path) != entry.part:
        raise DataError(
            f"the rows of a submission, {path}, are damaged or of another version; "
            f"{restore_it(path)}"
        )
    facts = stored.facts
    return Accepted(entry, facts["form"], facts["verification"], stored.results, stored.outcomes)


def submissions_on(
    suite: Suite, manifest: Manifest, submissions: Iterable[Accepted]
) -> list[Accepted]:
    """The submissions that have a run with the suite's recipe in every cell of a suite."""
    cells = {(task, seed) for task in suite.tasks for seed in suite.seeds}
    facts = [manifest.digest, digest_json(manifest.recipe)]
    return [
        submission
        for submission in submissions
        if cells <= submission.cells
        and [submission.results[n][0].as_py() for n in ("manifest_digest", "recipe_digest")]
        == facts
    ]


def describe_submission(submission: Accepted) -> str:
    """A line for people: who submitted the method, and who has repeated which runs."""
    form, verification = submission.form, submission.verification
    line = (
        f"{form['name']}: submitted by {', '.join(form['authors'])}; paper: {form['paper']}; "
        f"code: {form['code']} ({form['licence']})"
    )
    if verification is None:
        return f"{line}; not verified"
    cells = "; ".join(
        f"{cell['task']}, seed {cell['seed']}: {cell['outcome']}" for cell in verification["cells"]
    )
    return f"{line}; verified {verification['when'][:10]} by {verification['by']}: {cells}"


def _path(published: Path, suite: str, name: str, part: str) -> Path:
    return published / FOLDER / suite / f"{name}-{part[:_DIGITS]}.parquet"


def verification_of(
    published: Path, suite: str, name: str, submission: str
) -> Mapping[str, Any] | None:
    """The verification that an accepted submission has, if exactly this one is shown."""
    entry = shown_entries(read_log(published)).get((suite, name))
    if entry is None or entry.submission != submission:
        return None
    return _read(published, entry).verification


def add(
    published: Path,
    table: pa.Table,
    form: Mapping[str, Any],
    verification: Mapping[str, Any] | None,
    submission: str,
    by: str,
    why: str,
) -> Entry:
    """Add the rows of a submission, or replace those that it has, and write the line of the log.

    Args:
        published: the folder of the published results.
        table: its rows, as :func:`leaderboard.rows_file.with_outcomes` returns them.
        form: see :class:`Accepted`, as JSON; ``verification``: likewise.
        submission: digest of its folder.
        by, why: for the log.

    Raises:
        UsageError: the same rows are there already.
    """
    suite, name = form["suite"], form["name"]
    log = read_log(published)
    before = shown_entries(log).get((suite, name))
    building = published / FOLDER / suite / f".{name}.parquet"
    write_rows(building, table, {"form": form, "verification": verification})
    part = digest_file(building)
    if before is not None and before.part == part:
        building.unlink()
        raise UsageError(f"{name} is on the board of {suite} already, with the same rows")
    action = ACCEPT if before is None else RESCORE
    if before is not None and verification not in (None, _read(published, before).verification):
        action = VERIFY
    building.replace(_path(published, suite, name, part))
    entry = _append(
        published,
        log,
        action=action,
        suite=suite,
        name=name,
        submission=submission,
        part=part,
        by=by,
        why=why,
    )
    if before is not None:
        _path(published, suite, name, before.part).unlink(missing_ok=True)
    return entry


def withdraw(published: Path, name: str, suite: str | None, by: str, why: str) -> list[Entry]:
    """Remove the rows of accepted submissions, and write lines of the log.

    Args:
        published: the folder of the published results.
        name: the method's.
        suite: the suite's name; None for all suites.
        by, why: for the log.

    Raises:
        UsageError: there is no such submission.
    """
    log = read_log(published)
    shown = shown_entries(log)
    entries = [e for (of_suite, n), e in shown.items() if n == name and suite in (None, of_suite)]
    if not entries:
        if suites := [of_suite for of_suite, n in shown if n == name]:
            raise UsageError(
                f"{name} is not on the board of suite {suite}; it is on: {', '.join(suites)}"
            )
        known = sorted({n for _, n in shown})
        raise UsageError(
            f"no accepted submission is named {name!r}; {near(name, known)}there are: "
            f"{', '.join(known) or 'none'}"
        )
    lines: list[Entry] = []
    for entry in entries:
        line = _append(
            published,
            [*log, *lines],
            action=WITHDRAW,
            suite=entry.suite,
            name=name,
            submission=entry.submission,
            part=entry.part,
            by=by,
            why=why,
        )
        lines.append(line)
        _path(published, entry.suite, name, entry.part).unlink(missing_ok=True)
    return lines


def _append(published: Path, log: Sequence[Entry], **facts: str) -> Entry:
    """Write the log with one more line, whose ``previous`` and ``when`` are added here."""
    previous = hashlib.sha256(log[-1].line()).hexdigest() if log else _FIRST
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = Entry(previous=previous, when=when, **facts)
    write_file(published / FOLDER / LOG_FILE, b"".join(e.line() for e in (*log, entry)))
    return entry
