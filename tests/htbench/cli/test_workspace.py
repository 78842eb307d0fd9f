"""`htbench workspace`: what merge, check and repair say, and what a repair leaves."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.manifest.manifest import Manifest
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, RunRecord
from benchmark.runs.drivers import this_driver
from benchmark.runs.workspace import Workspace
from leaderboard.gamma_star import derived_key
from leaderboard.outcome_files import outcomes_path
from leaderboard.results import update_results
from tests.conftest import WriteRun
from tests.htbench.command import Htbench

ERROR = {"kind": "exception", "message": "m", "traceback": "t"}


@pytest.fixture
def records(tmp_path: Path, write_run: WriteRun) -> list[RunRecord]:
    """The runs of :func:`workspace`."""
    root = tmp_path / "ws"
    return [
        write_run(root, "finetune"),
        write_run(root, "lwf"),
        write_run(root, "lwf", seed=1, status="failed", error=ERROR),
    ]


@pytest.fixture
def workspace(tmp_path: Path, records: list[RunRecord], icons: Manifest) -> Path:
    """Three runs, of which two succeeded, with their results and outcomes."""
    update_results(tmp_path / "ws", [icons])
    return tmp_path / "ws"


def check(htbench: Htbench, workspace: Path) -> tuple[int, dict[str, Any]]:
    status, out, _ = htbench("workspace", "check", "--workspace", workspace, "--json")
    return status, json.loads(out)


def files(workspace: Path) -> dict[str, int]:
    """The files of a workspace and when each was changed."""
    return {str(p): p.stat().st_mtime_ns for p in workspace.rglob("*") if p.is_file()}


class TestMerge:
    def test_it_says_what_it_did(self, htbench: Htbench, workspace: Path, tmp_path: Path) -> None:
        words = ("workspace", "merge", workspace, "--into", tmp_path / "w")
        assert htbench(*words) == (
            0,
            f"copied 3 runs to {tmp_path / 'w'}; 0 runs already there\n",
            "",
        )
        assert htbench(*words)[:2] == (
            0,
            f"copied nothing to {tmp_path / 'w'}; 3 runs already there\n",
        )

    def test_what_was_not_copied_is_named(
        self, htbench: Htbench, workspace: Path, tmp_path: Path, records: list[RunRecord]
    ) -> None:
        folder = workspace / "runs" / records[0].key
        (folder / PREDICTIONS_FILE).write_bytes(b"")
        words = ("workspace", "merge", workspace, "--into", tmp_path / "w")
        status, out, _ = htbench(*words)
        assert status == 1
        assert out.startswith(f"{folder} was not copied: ")
        assert out.endswith("copied 2 runs to " + f"{tmp_path / 'w'}; 0 runs already there\n")
        status, out, _ = htbench(*words, "--json")
        assert status == 1
        merged = json.loads(out)
        assert (merged["copied"], merged["present"], len(merged["problems"])) == ([], 2, 1)

    def test_the_merged_board_is_that_of_one_workspace(
        self, htbench: Htbench, workspace: Path, tmp_path: Path, records: list[RunRecord]
    ) -> None:
        parts = [tmp_path / str(number) for number in range(3)]
        for part, record in zip(parts, records, strict=True):
            shutil.copytree(workspace / "runs" / record.key, part / "runs" / record.key)
        htbench("workspace", "merge", *parts, "--into", tmp_path / "w")
        board = ("leaderboard", "--suite", "icons", "--format", "csv", "--workspace")
        assert htbench(*board, tmp_path / "w") == htbench(*board, workspace)
        results = [(place / "results.parquet") for place in (tmp_path / "w", workspace)]
        assert all(path.is_file() for path in results)

    def test_a_path_that_does_not_exist(self, htbench: Htbench, tmp_path: Path) -> None:
        status, _, err = htbench("workspace", "merge", tmp_path / "x", "--into", tmp_path / "w")
        assert status == 2
        assert f"{tmp_path / 'x'} is not a folder" in err
        assert not (tmp_path / "w").exists()


class TestCheck:
    def test_a_workspace_that_is_well(self, htbench: Htbench, workspace: Path) -> None:
        before = files(workspace)
        status, state = check(htbench, workspace)
        assert (status, state["well"]) == (0, True)
        assert state["runs"]["statuses"] == {"ok": 2, "failed": 1}
        size = sum(p.lstat().st_size for p in (workspace / "runs").rglob("*"))
        assert state["runs"]["size"] == size
        # Of two runs, and of the row that is derived from one of them.
        assert (state["outcomes"], state["useless"], state["results"]) == (3, [], "present")
        assert state["intervals"] == 0
        status, out, _ = htbench("workspace", "check", "--workspace", workspace)
        assert status == 0
        assert "runs        3: 1 failed, 2 ok; " in out
        assert "outcomes    3 files\nintervals   0 files\n" in out
        assert files(workspace) == before

    def test_a_folder_that_is_not_a_workspace(self, htbench: Htbench, tmp_path: Path) -> None:
        for command in ("check", "repair"):
            status, _, err = htbench("workspace", command, "--workspace", tmp_path / "x")
            assert status == 2
            assert "is not a workspace" in err
        assert not (tmp_path / "x").exists()

    def test_a_run_of_a_later_version_is_left_alone(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        path = workspace / "runs" / records[1].key / RECORD_FILE
        path.write_bytes(replace(records[1], format=3).to_bytes())
        status, state = check(htbench, workspace)
        assert (status, state["runs"]["newer"]) == (1, [records[1].key])
        status, out, _ = htbench("workspace", "repair", "--workspace", workspace)
        assert status == 1
        assert "a later version of the benchmark wrote it" in out
        assert path.is_file()

    def test_commands_of_other_machines_are_named(self, htbench: Htbench, workspace: Path) -> None:
        folder = workspace / "tmp" / f"{replace(this_driver(), host='n7').prefix}x"
        folder.mkdir(parents=True)
        status, out, _ = htbench("workspace", "check", "--workspace", workspace)
        assert status == 0
        assert f"perhaps left over: tmp/{folder.name}" in out
        htbench("workspace", "repair", "--workspace", workspace)
        assert folder.is_dir()


def damage(workspace: Path, records: list[RunRecord]) -> list[str]:
    """Damage everything that can be mended; returns a part of each line that names it."""
    runs = workspace / "runs"
    (runs / records[1].key / PREDICTIONS_FILE).write_bytes(b"damaged")
    (runs / "a (copy)").mkdir()
    (runs / ("0" * 64)).symlink_to(runs / records[0].key)
    (workspace / "results.parquet").write_bytes(b"damaged")
    outcomes_path(workspace, records[0].key).write_bytes(b"damaged")
    left = outcomes_path(workspace, "ff" + records[0].key[2:])
    left.parent.mkdir(exist_ok=True)
    left.touch()
    (workspace / "intervals").mkdir()
    for name in ("ab" * 32, f"{'cd' * 32}.7"):
        (workspace / "intervals" / name).write_bytes(b"damaged")
    (workspace / "intervals" / "notes.txt").touch()  # somebody's own, which stays
    dead = workspace / "tmp" / f"{replace(this_driver(), boot='an earlier boot').prefix}x"
    dead.mkdir(parents=True)
    fold = workspace / "tuning" / "runs" / records[2].key
    fold.mkdir(parents=True)
    return [
        f"damaged: runs/{records[1].key}: ",
        "damaged: runs/a (copy): its name is not the key of a run",
        f"damaged: runs/{'0' * 64}: ",
        "damaged: results.parquet",
        f"damaged or left over: {outcomes_path(Path(), records[0].key)}",
        f"damaged or left over: {outcomes_path(Path(), left.name)}",
        f"damaged or left over: intervals/{'ab' * 32}",
        f"damaged or left over: intervals/{'cd' * 32}.7",
        f"left over: tmp/{dead.name}",
        f"damaged: tuning/runs/{records[2].key}: ",
    ]


class TestRepair:
    def test_a_check_names_everything_and_a_repair_mends_it(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        named = damage(workspace, records)
        status, out, _ = htbench("workspace", "check", "--workspace", workspace)
        assert status == 1
        assert [text for text in named if text not in out] == []
        assert f"`htbench workspace repair --workspace {workspace}`" in out
        status, out, _ = htbench("workspace", "repair", "--workspace", workspace)
        assert (status, len(out.splitlines())) == (0, 8), out
        assert "removed 2 damaged files of intervals" in out
        assert [path.name for path in (workspace / "intervals").iterdir()] == ["notes.txt"]
        status, state = check(htbench, workspace)
        assert (status, state["well"], state["set_aside"]) == (0, True, 3)
        assert state["results"] == "present"
        out = htbench("workspace", "repair", "--workspace", workspace)[1]
        assert out == "nothing to repair\n"

    def test_nothing_that_a_run_wrote_is_deleted(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        damage(workspace, records)
        htbench("workspace", "repair", "--workspace", workspace)
        aside = workspace / "set-aside"
        assert (aside / records[1].key / PREDICTIONS_FILE).read_bytes() == b"damaged"
        assert (aside / records[1].key / RECORD_FILE).is_file()
        assert (aside / "a (copy)").is_dir()
        assert (aside / ("0" * 64)).is_symlink()
        assert (workspace / "tuning" / "set-aside" / records[2].key).is_dir()
        assert Workspace(workspace).finished(records[0].key) is not None
        journal = (workspace / "journal.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in journal]
        assert {e["key"] for e in events} == {records[1].key, "a (copy)", "0" * 64}
        assert all(e["event"] == "set-aside" and e["why"] for e in events)

    def test_the_board_is_that_of_the_other_runs(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        board = ("leaderboard", "--suite", "icons", "--workspace", workspace)
        damage(workspace, records)
        assert htbench(*board)[0] == 1
        htbench("workspace", "repair", "--workspace", workspace)
        assert htbench(*board)[0] == 0

    def test_a_second_damaged_folder_of_a_run_gets_another_name(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        for _ in range(2):
            folder = workspace / "runs" / records[0].key
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            htbench("workspace", "repair", "--workspace", workspace)
        names = {path.name for path in (workspace / "set-aside").iterdir()}
        assert names == {records[0].key, f"{records[0].key}-1"}
        left = [records[0].key, derived_key(records[0].key)]
        assert not any(os.path.lexists(outcomes_path(workspace, key)) for key in left)

    def test_files_elsewhere_are_not_touched(
        self, htbench: Htbench, workspace: Path, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere" / "ff" / ("f" * 64)
        elsewhere.parent.mkdir(parents=True)
        elsewhere.write_bytes(b"kept")
        (workspace / "outcomes" / "gg").symlink_to(elsewhere.parent)
        notes = workspace / "outcomes" / "notes.txt"
        notes.write_bytes(b"kept")
        assert htbench("workspace", "repair", "--workspace", workspace)[0] == 0
        assert notes.read_bytes() == b"kept"
        shutil.rmtree(workspace / "outcomes")
        (workspace / "outcomes").symlink_to(tmp_path / "elsewhere")
        assert htbench("workspace", "repair", "--workspace", workspace)[0] == 0
        assert elsewhere.read_bytes() == b"kept"

    def test_a_run_that_another_command_repeats_is_left(
        self, htbench: Htbench, workspace: Path, records: list[RunRecord]
    ) -> None:
        folder = workspace / "runs" / records[0].key
        (folder / PREDICTIONS_FILE).unlink()
        with Workspace(workspace) as other, other.claim(records[0].key):
            status, out, _ = htbench("workspace", "repair", "--workspace", workspace)
        assert status == 1
        assert f"left {records[0].key} as it is: another process is carrying it out" in out
        assert folder.is_dir()
