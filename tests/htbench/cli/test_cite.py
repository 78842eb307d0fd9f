"""`htbench cite`: what it prints."""

from __future__ import annotations

import json
from typing import Any

from tests.htbench.command import Htbench


def test_prints_each_paper_once(htbench: Htbench) -> None:
    _, out, _ = htbench("cite", "wise-ft", "board", "icons@2.0")
    assert out.count("2311.01420") == 1
    assert "% wise-ft, board\n@inproceedings{tu2023holistic," in out
    assert "@misc{holistic-transfer-bench-icons," in out


def test_prints_every_entry_as_json(htbench: Htbench) -> None:
    _, out, _ = htbench("cite", "--json")
    entries: list[dict[str, Any]] = json.loads(out)
    assert {"icons@2.0", "iwildcam@1.1", "wise-ft", "board"} <= {entry["for"] for entry in entries}
    assert all(entry["bibtex"].startswith("@") for entry in entries)


def test_an_unknown_name_lists_the_known_ones(htbench: Htbench) -> None:
    status, _, err = htbench("cite", "nope")
    assert status == 2
    assert "icons@2.0" in err
    assert "wise-ft" in err
