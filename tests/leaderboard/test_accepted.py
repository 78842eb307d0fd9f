"""Accepted submissions: their rows, the log, and what the published board shows of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmark.errors import DataError, UsageError
from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.accepted import (
    SUBMITTED,
    VERIFIED,
    add,
    describe_submission,
    read_accepted,
    read_log,
    submissions_on,
    verification_of,
    withdraw,
)
from leaderboard.published import publish, published_rows, read_all
from leaderboard.render.cells import cell_note
from leaderboard.rows import SCHEMA
from leaderboard.rows_file import STORED
from tests.leaderboard.grids import build, cell, grid

FORM = {
    "name": "half-way",
    "suite": "icons",
    "plugins": ["half_way.py:HalfWay"],
    "authors": ["A. Author", "B. Author"],
    "paper": "none",
    "code": "https://example.org",
    "licence": "MIT",
}
VERIFICATION = {
    "by": "A. Maintainer",
    "when": "2026-01-02T03:04:05+00:00",
    "cells": [{"task": "outline-solid", "seed": 0, "outcome": "identical"}],
}


def part(icons: Manifest, provenance: str = SUBMITTED, **changes: Any) -> pa.Table:
    rows = grid(icons, "half-way", provenance=provenance, **changes)
    return pa.Table.from_pylist([{**row, "outcomes": b"o"} for row in rows], schema=STORED)


def accept(
    published: Path, table: pa.Table, verification: Any = None, submission: str = "digest"
) -> Any:
    return add(published, table, FORM, verification, submission, "A. Maintainer", "good")


def parts(published: Path) -> list[str]:
    return sorted(path.name for path in published.glob("submissions/*/*"))


def test_accepted_rows_are_published_beside_those_of_suites(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    ours = pa.Table.from_pylist(grid(icons, "source") + grid(icons, "finetune"), schema=SCHEMA)
    facts = {"command": "c", "commit": "c", "machine": "m"}
    publish(suite, icons, ours, facts, tmp_path)
    accept(tmp_path, part(icons))
    rows = published_rows(read_all(tmp_path)).to_pylist()
    assert {row["method"] for row in rows} == {"source", "finetune", "half-way"}
    assert len(rows) == 27
    # A row with the key of a row of the suite does not replace it.
    copied = {row["key"] for row in ours.to_pylist() if row["method"] == "source"}
    stolen = part(icons).set_column(
        SCHEMA.get_field_index("key"), "key", pa.array(sorted(copied), pa.string())
    )
    accept(tmp_path, stolen)
    assert published_rows(read_all(tmp_path)).num_rows == 18


def test_the_log_says_what_was_added_and_removed(tmp_path: Path, icons: Manifest) -> None:
    assert read_log(tmp_path) == []
    accept(tmp_path, part(icons))
    accept(tmp_path, part(icons, overall=51.0))
    accept(tmp_path, part(icons, VERIFIED, overall=51.0), VERIFICATION)
    verified = part(icons, VERIFIED, overall=51.0)
    accept(tmp_path, verified, {**VERIFICATION, "by": "C. Maintainer"})
    accept(tmp_path, part(icons, VERIFIED), {**VERIFICATION, "by": "C. Maintainer"})
    withdraw(tmp_path, "half-way", None, "B. Maintainer", "asked by its author")
    log = read_log(tmp_path)
    actions = [entry.action for entry in log]
    assert actions == ["accept", "rescore", "verify", "verify", "rescore", "withdraw"]
    assert (log[-1].by, log[-1].why) == ("B. Maintainer", "asked by its author")
    lines = (tmp_path / "submissions" / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert [e.previous for e in log[1:]] == [hashlib.sha256(n).hexdigest() for n in lines[:-1]]
    assert parts(tmp_path) == []
    assert read_accepted(tmp_path) == []


def test_a_file_of_rows_has_the_digest_of_the_log(tmp_path: Path, icons: Manifest) -> None:
    entry = accept(tmp_path, part(icons))
    (path,) = (tmp_path / "submissions" / "icons").iterdir()
    assert path.name == f"half-way-{entry.part[:12]}.parquet"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.part
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="are damaged or of another version"):
        read_accepted(tmp_path)


def test_a_file_that_the_log_does_not_name_is_ignored(tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons))
    (path,) = (tmp_path / "submissions" / "icons").iterdir()
    path.with_name("mine-0123456789ab.parquet").write_bytes(path.read_bytes())
    assert [a.entry.name for a in read_accepted(tmp_path)] == ["half-way"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: [lines[0].replace(b"good", b"best"), lines[1]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0]],
        lambda lines: [*lines, b"[" * 100_000],
        lambda lines: [*lines, lines[1]],
    ],
    ids=["changed", "first-removed", "swapped", "not-json", "repeated"],
)
def test_a_changed_log_is_refused(edit: Any, tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons))
    accept(tmp_path, part(icons, overall=51.0))
    path = tmp_path / "submissions" / "log.jsonl"
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(DataError, match=r"of .*log.jsonl does not follow from the line before"):
        read_log(tmp_path)


def test_a_log_that_is_too_large_is_not_read(
    tmp_path: Path, icons: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(tmp_path, part(icons))
    monkeypatch.setattr("leaderboard.accepted.MAX_LOG_BYTES", 100)
    with pytest.raises(DataError, match=r"log\.jsonl is larger than 100 bytes; restore it"):
        read_log(tmp_path)


def test_the_same_rows_cannot_be_added_twice(tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons))
    with pytest.raises(UsageError, match="half-way is on the board of icons already"):
        accept(tmp_path, part(icons))
    assert len(read_log(tmp_path)) == 1
    assert len(parts(tmp_path)) == 1


def test_a_withdrawal_names_a_submission_that_is_there(tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons))
    with pytest.raises(UsageError, match=r"no accepted submission is named 'half-wy'.* half-way"):
        withdraw(tmp_path, "half-wy", None, "me", "why")
    with pytest.raises(UsageError, match=r"not on the board of suite icons-full; it is on: icons$"):
        withdraw(tmp_path, "half-way", "icons-full", "me", "why")
    assert len(read_log(tmp_path)) == 1


def test_a_verification_is_that_of_the_same_folder(tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons, VERIFIED), VERIFICATION)
    assert verification_of(tmp_path, "icons", "half-way", "digest") == VERIFICATION
    assert verification_of(tmp_path, "icons", "half-way", "another") is None
    assert verification_of(tmp_path, "icons", "other", "digest") is None


def test_a_submission_is_on_the_boards_whose_cells_it_has(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    accept(tmp_path, part(icons))
    accepted = read_accepted(tmp_path)
    assert submissions_on(suite, icons, accepted) == accepted
    longer = dataclasses.replace(suite, seeds=(0, 1, 2, 3))
    assert submissions_on(longer, icons, accepted) == []


def test_the_board_says_what_is_submitted_and_what_is_verified(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    rows = [
        *grid(icons, "finetune", provenance="local"),
        *grid(icons, "half-way", provenance=SUBMITTED),
        *grid(icons, "other-way", provenance=VERIFIED),
    ]
    (board,) = build(suite, icons, rows)
    notes = {
        label: cell_note(board, cell(board, label, "outline-solid"))  # type: ignore[arg-type]
        for label in ("finetune", "half-way", "other-way")
    }
    assert notes == {"finetune": "", "half-way": " (submitted)", "other-way": " (verified)"}


def test_a_submission_is_described_in_a_line(tmp_path: Path, icons: Manifest) -> None:
    accept(tmp_path, part(icons))
    (submission,) = read_accepted(tmp_path)
    line = (
        "half-way: submitted by A. Author, B. Author; paper: none; code: https://example.org (MIT)"
    )
    assert describe_submission(submission) == f"{line}; not verified"
    accept(tmp_path, part(icons, VERIFIED), json.loads(json.dumps(VERIFICATION)))
    (submission,) = read_accepted(tmp_path)
    assert describe_submission(submission) == (
        f"{line}; verified 2026-01-02 by A. Maintainer: outline-solid, seed 0: identical"
    )
