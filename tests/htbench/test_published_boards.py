"""The published board with an accepted submission."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.manifest.suite import load_suite
from htbench.published_boards import published_board
from leaderboard.accepted import VERIFIED, add
from leaderboard.board import MEAN
from leaderboard.published import FOLDER, published_outcomes, published_rows, read_all
from leaderboard.render.markdown import to_markdown
from leaderboard.rows_file import STORED

FORM = {
    "name": "half-way",
    "suite": "icons",
    "plugins": ["half_way.py:HalfWay"],
    "authors": ["<b>A. Author</b>"],
    "paper": "none",
    "code": "none",
    "licence": "MIT",
}
VERIFICATION = {"by": "A. Maintainer", "when": "2026-01-02T03:04:05+00:00", "cells": []}


def test_a_submission_is_a_row_of_the_published_board(tmp_path: Path) -> None:
    suite = load_suite("icons")
    shutil.copy(FOLDER / "icons-full.parquet", tmp_path)
    before = published_board(suite, tmp_path)
    # The rows of a published method under the name of another.
    rows = published_rows(read_all(tmp_path))
    outcomes = published_outcomes(read_all(tmp_path))
    rows = rows.filter(pc.equal(rows["method"], "lwf"))
    changes = {"method": "half-way", "label": "half-way", "provenance": VERIFIED}
    part = [
        {
            **row,
            **changes,
            "key": f"half-way {row['key']}",
            "outcomes": of_row.to_bytes() if (of_row := outcomes(row)) else None,
        }
        for row in rows.to_pylist()
    ]
    add(tmp_path, pa.Table.from_pylist(part, schema=STORED), FORM, VERIFICATION, "d", "me", "")
    board = published_board(suite, tmp_path)
    cells = board.of_task(MEAN)
    assert set(cells) == {*before.of_task(MEAN), "half-way"}
    for name in ("overall", "seen", "missing", "overall_half"):
        assert cells["half-way"][name] == cells["lwf"][name]
    assert board.submissions["half-way"].verification == VERIFICATION
    text = to_markdown([board])
    assert "| half-way (verified)" in text
    (note,) = [line for line in text.splitlines() if "submitted by" in line]
    assert r"\<b\>A. Author" in note
    assert "verified 2026-01-02 by A. Maintainer" in note


def test_tuned_runs_are_on_the_board_of_their_own_suite(tmp_path: Path) -> None:
    """The table of tuned runs beside it had the tasks and seeds of another suite."""
    for name in ("icons-draws", "icons-tuned"):
        shutil.copy(FOLDER / f"{name}.parquet", tmp_path)
    for name, is_tuned in (("icons-draws", False), ("icons-tuned", True)):
        board = published_board(load_suite(name), tmp_path)
        assert any(row["search"] is not None for row in board.rows) is is_tuned
        assert "partial" not in {cell["state"] for cell in board.of_task(MEAN).values()}
