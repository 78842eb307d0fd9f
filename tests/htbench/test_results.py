"""What a record says of a method's files is untrusted, and never more than shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.records import RunRecord
from htbench.results import RunDetails, load_results


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


def test_a_manifest_that_cannot_be_used_does_not_hide_results(
    own_data: Path, tmp_path: Path
) -> None:
    file = own_data / "manifests" / "mine" / "0.1" / "manifest.toml"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "workspace").mkdir()
    with pytest.warns(UserWarning, match=r"new runs of mine@0\.1 are not scored: .*manifest\.toml"):
        assert load_results(tmp_path / "workspace").empty


def test_a_workspace_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no folder .*typo, so there are no results"):
        load_results(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
