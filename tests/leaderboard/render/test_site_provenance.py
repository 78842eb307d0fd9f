"""The site says which methods were submitted, by whom, and who repeated which runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.manifest.suite import Suite
from leaderboard.accepted import SUBMITTED, VERIFIED, Accepted, Entry
from leaderboard.render.site.folder import page_name
from leaderboard.render.site.provenance import provenance_of
from leaderboard.rows import SCHEMA
from tests.leaderboard.grids import build, grid
from tests.leaderboard.render.sites import write

ENTRY = Entry("0" * 64, "accept", "icons", "half-way", "d", "p", "2026-01-01T00:00Z", "M", "")
FORM = {
    "authors": ["A. Author", "B. Author"],
    "paper": "https://example.org/paper?a=1&b=2",
    "code": "none",
    "licence": "MIT",
}
CELLS = [
    {
        "task": "outline-solid",
        "seed": 0,
        "announced": True,
        "outcome": "identical",
        "difference": {"missing": 1.25, "overall": -0.001, "seen": -0.5},
    },
    {"task": "outline-solid", "seed": 71, "announced": False, "outcome": "as other seeds"},
]
VERIFICATION = {
    "by": "V. Maintainer",
    "when": "2026-01-02T03:04:05+00:00",
    "chosen": "at random",
    "machine": {"cpu": "a CPU", "torch": "2.6"},
    "cells": CELLS,
}


def submission(verification: Any = None, why: str = "", **form: Any) -> Accepted:
    entry = replace(ENTRY, why=why)
    return Accepted(entry, {**FORM, **form}, verification, SCHEMA.empty_table(), {})


def pages(
    folder: Path, suite: Suite, icons: Manifest, provenance: str, of: Accepted
) -> tuple[str, str]:
    """The home page, and that of the submitted method."""
    rows = [*grid(icons, "finetune"), *grid(icons, "half-way", provenance=provenance)]
    boards = [replace(b, submissions={"half-way": of}) for b in build(suite, icons, rows)]
    site = write(folder / "site", boards)
    home = (site / "index.html").read_text("utf-8")
    return home, (site / page_name("methods", "half-way")).read_text("utf-8")


def test_a_verified_method_has_a_badge_and_says_who_repeated_what(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    home, page = pages(tmp_path, suite, icons, VERIFIED, submission(VERIFICATION, "read its code"))
    assert home.count('<span class="badge">verified</span>') == 1
    assert '<h1>half-way <span class="badge">verified</span></h1>' in page
    for text in (
        "<dt>authors</dt><dd>A. Author, B. Author</dd>",
        '<a href="https://example.org/paper?a=1&amp;b=2" rel="noreferrer nofollow">',
        "<dt>licence</dt><dd>MIT</dd>",
        "<dt>accepted</dt><dd>2026-01-01 by M: read its code</dd>",
        "<dt>verified</dt><dd>2026-01-02 by V. Maintainer; runs chosen at random</dd>",
        "<dt>repeated on</dt><dd>cpu: a CPU, torch: 2.6</dd>",
        "outline-solid</th><td>0</td><td>identical</td>"
        "<td>overall +0.00, seen -0.50, missing +1.25</td>",
        "outline-solid</th><td>71, not announced</td><td>as other seeds</td><td>–</td>",
    ):
        assert text in page
    assert "<dt>code</dt>" not in page


def test_a_submitted_method_says_that_no_run_was_repeated(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    home, page = pages(tmp_path, suite, icons, SUBMITTED, submission())
    assert home.count('<span class="badge">submitted</span>') == 1
    assert "<dt>verified</dt><dd>no run was repeated</dd>" in page


def test_texts_of_a_form_are_escaped_and_never_a_link_that_runs_code(
    tmp_path: Path, suite: Suite, icons: Manifest
) -> None:
    hostile = submission(
        {**VERIFICATION, "by": "<script>1</script>"},
        authors=["<img src=x onerror=alert(1)>"],
        paper="javascript:alert(1)",
        licence='"><b>',
    )
    _, page = pages(tmp_path, suite, icons, VERIFIED, hostile)
    assert "<dt>paper</dt><dd>javascript:alert(1)</dd>" in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&#34;&gt;&lt;b&gt;" in page
    assert "by &lt;script&gt;1&lt;/script&gt;" in page


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "data:text/html,x", "https:x", "//example.org", "x", "http://[1"],
)
def test_only_addresses_of_the_web_are_links(address: str) -> None:
    assert provenance_of(submission(paper=address)).addresses["paper"] == (address, None)
