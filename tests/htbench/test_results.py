"""What a record says of a method's files is untrusted, and never more than shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.records import RunRecord
from htbench.results import RunDetails


def details(folder: Path, made_from: dict[str, Any]) -> RunDetails:
    texts = dict.fromkeys(("key", "manifest", "task", "method", "label", "track"), "x")
    record = RunRecord(**texts, made_from=made_from, config={}, seed=0, status="failed")
    return RunDetails(folder, record, {}, {}, [])


@pytest.mark.parametrize(
    "made_from",
    [
        {},
        {"method": None},
        {"method": {"code": []}},
        {"method": {"code": {"files": "text"}}},
        {"method": {"code": {"files": [3, ["one"], None]}}},
    ],
)
def test_a_record_without_files(tmp_path: Path, made_from: dict[str, Any]) -> None:
    assert details(tmp_path, made_from).code() == []


def test_files_that_are_kept_and_files_that_are_not(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    files = [["mine.py", empty], ["other.py", empty], ["mine.py", "0" * 64], [3, None]]
    made_from = {"method": {"code": {"files": files}}}
    assert details(tmp_path, made_from).code() == [
        ("mine.py", True),
        ("other.py", False),
        ("mine.py", False),
        ("3", False),
    ]
