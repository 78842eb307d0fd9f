"""Merging workspaces: what is copied, what is refused and named, and what a kill leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmark import failpoints
from benchmark.errors import UsageError
from benchmark.files import digest_file, digest_json
from benchmark.records import PREDICTIONS_FILE, RECORD_FILE, WEIGHTS_FILE, RunRecord
from benchmark.runs.merge import Merged, merge_workspaces
from benchmark.runs.workspace import Workspace
from leaderboard.rows import check_record
from tests.conftest import WriteRun

ERROR = {"kind": "exception", "message": "m", "traceback": "t"}
WEIGHTS = b"weights"
CODE = b"class Mine: ...\n"


def merge(sources: Sequence[Path], into: Path) -> Merged:
    return merge_workspaces(sources, into, check_record, lambda name: lambda done, total: None)


def content(workspace: Path) -> dict[str, bytes]:
    """The bytes of every file in ``runs``, by path."""
    runs = workspace / "runs"
    return {str(p.relative_to(runs)): p.read_bytes() for p in runs.rglob("*") if p.is_file()}


@pytest.fixture
def full(write_run: WriteRun) -> Callable[..., RunRecord]:
    """Writes a run with all kinds of files: weights, output and code."""

    def write(workspace: Path, seed: int = 0) -> RunRecord:
        code = {"files": [["helpers/mine.py", hashlib.sha256(CODE).hexdigest()]]}
        record = write_run(
            workspace,
            "mine",
            seed=seed,
            made={"method": {"name": "mine", "code": code}},
            weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
            log=[{"step": 1.0, "loss": 0.1 + 0.2}],
            notes=["ünï\ud800"],
        )
        folder = workspace / "runs" / record.key
        (folder / WEIGHTS_FILE).write_bytes(WEIGHTS)
        (folder / "output.txt").write_bytes(b"printed\n")
        (folder / "code" / "helpers").mkdir(parents=True)
        (folder / "code" / "helpers" / "mine.py").write_bytes(CODE)
        return record

    return write


@pytest.fixture
def two(tmp_path: Path, write_run: WriteRun, full: Callable[..., RunRecord]) -> list[Path]:
    """Two workspaces; one run is in both."""
    a, b = tmp_path / "a", tmp_path / "b"
    full(a)
    shared = write_run(a, "finetune")
    shutil.copytree(a / "runs" / shared.key, b / "runs" / shared.key)
    write_run(b, "finetune", seed=1)
    write_run(b, "lwf", status="failed", error=ERROR)
    write_run(b / "tuning", "lwf", seed=3)
    return [a, b]


class TestCopies:
    def test_all_runs_are_there_byte_for_byte(self, two: list[Path], tmp_path: Path) -> None:
        merged = merge(two, tmp_path / "w")
        assert (len(merged.copied), merged.present, merged.problems) == (5, 1, [])
        assert content(tmp_path / "w") == {**content(two[0]), **content(two[1])}
        assert content(tmp_path / "w" / "tuning") == content(two[1] / "tuning")
        assert list((tmp_path / "w" / "tmp").iterdir()) == []

    def test_a_second_call_copies_nothing(self, two: list[Path], tmp_path: Path) -> None:
        merge(two, tmp_path / "w")
        journal = (tmp_path / "w" / "journal.jsonl").read_bytes()
        merged = merge(two, tmp_path / "w")
        assert (merged.copied, merged.present, merged.problems) == ([], 6, [])
        assert (tmp_path / "w" / "journal.jsonl").read_bytes() == journal

    def test_the_other_workspace_may_begin_with_a_tilde(
        self, two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(two[0])
        merge(two, Path("~/into"))
        assert content(tmp_path / "into").keys() >= content(two[0]).keys()
        assert not Path("~").exists()

    def test_the_journal_says_where_each_run_came_from(
        self, two: list[Path], tmp_path: Path
    ) -> None:
        with Workspace(two[0]) as first:
            first.suite = "icons"
            first.note("start", "x", "a run")
        merge(two, tmp_path / "w")
        lines = list(map(json.loads, (tmp_path / "w" / "journal.jsonl").read_text().splitlines()))
        assert {line["event"] for line in lines} == {"merged"}
        places = {line["key"]: line["source"] for line in lines}
        assert set(places.values()) == {str(path) for path in two}
        assert all((Path(place) / "runs" / key).is_dir() for key, place in places.items())
        assert {line.get("suite") for line in lines} == {"icons", None}
        assert Workspace(tmp_path / "w").newest_suite() == "icons"


class TestTheSameRunTwice:
    def test_other_predictions_are_refused_by_name(
        self, write_run: WriteRun, tmp_path: Path
    ) -> None:
        a, b, w = tmp_path / "a", tmp_path / "b", tmp_path / "w"
        record = write_run(a, "finetune")
        assert write_run(b, "finetune", skill=2.0).key == record.key
        merged = merge([a, b], w)
        (problem,) = merged.problems
        assert problem.startswith(f"{b / 'runs' / record.key} was not copied: its predictions diff")
        assert content(w) == content(a)
        assert merge([b], w).copied == []
        assert content(w) == content(a)

    def test_the_same_predictions_of_another_version_of_pyarrow(
        self, write_run: WriteRun, tmp_path: Path
    ) -> None:
        a, b, w = tmp_path / "a", tmp_path / "b", tmp_path / "w"
        record = write_run(a, "finetune")
        folder = b / "runs" / write_run(b, "finetune").key
        path = folder / PREDICTIONS_FILE
        pq.write_table(pq.read_table(path), path, compression="zstd")
        (folder / RECORD_FILE).write_bytes(
            replace(record, predictions_sha256=digest_file(path)).to_bytes()
        )
        merged = merge([a, b], w)
        assert merged.problems == []
        assert merged.present == 1
        assert content(w) == content(a)

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_the_more_complete_one_is_kept(
        self, order: tuple[int, int], full: Callable[..., RunRecord], tmp_path: Path
    ) -> None:
        full(tmp_path / "0")
        key = full(tmp_path / "1").key
        (tmp_path / "0" / "runs" / key / WEIGHTS_FILE).unlink()
        merged = merge([tmp_path / str(number) for number in order], tmp_path / "w")
        assert content(tmp_path / "w") == content(tmp_path / "1")
        assert merged.copied == [key]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_a_failed_one_gives_way(
        self, order: tuple[int, int], write_run: WriteRun, tmp_path: Path
    ) -> None:
        write_run(tmp_path / "0", "finetune", status="failed", error=ERROR)
        write_run(tmp_path / "1", "finetune")
        assert merge([tmp_path / str(number) for number in order], tmp_path / "w").problems == []
        assert content(tmp_path / "w") == content(tmp_path / "1")

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_of_two_failures_the_later_is_kept(
        self, order: tuple[int, int], write_run: WriteRun, tmp_path: Path
    ) -> None:
        """Its reason is that of the last try."""
        for number, message in enumerate(("too little memory", "a bug")):
            error = {**ERROR, "message": message}
            folder = tmp_path / str(number)
            write_run(folder, "finetune", status="failed", error=error, finished=1000.0 + number)
        for _ in range(2):
            merge([tmp_path / str(number) for number in order], tmp_path / "w")
            assert content(tmp_path / "w") == content(tmp_path / "1")

    def test_a_damaged_one_gives_way_and_is_set_aside(
        self, two: list[Path], tmp_path: Path
    ) -> None:
        w = tmp_path / "w"
        merge(two, w)
        expected = content(w)
        path = next((w / "runs").glob(f"*/{PREDICTIONS_FILE}"))
        path.write_bytes(b"damaged")
        merged = merge(two, w)
        assert merged.copied == [path.parent.name]
        assert content(w) == expected
        aside = w / "set-aside" / path.parent.name / PREDICTIONS_FILE
        assert aside.read_bytes() == b"damaged"

    def test_one_that_another_command_carries_out_is_left(
        self, two: list[Path], tmp_path: Path
    ) -> None:
        key = next((two[0] / "runs").iterdir()).name
        with Workspace(tmp_path / "w") as other, other.claim(key):
            (problem,) = merge(two[:1], tmp_path / "w").problems
            assert "another process is carrying it out" in problem
            assert not (tmp_path / "w" / "runs" / key).exists()
        assert merge(two[:1], tmp_path / "w").copied == [key]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


class TestDamage:
    """Each costs its own run or file only, and is named."""

    @pytest.mark.parametrize("damage", [flip, link, fifo, huge, Path.unlink])
    @pytest.mark.parametrize("name", [RECORD_FILE, PREDICTIONS_FILE])
    def test_a_run_that_cannot_be_used(
        self, damage: Callable[[Path], None], name: str, two: list[Path], tmp_path: Path
    ) -> None:
        folder = next(path.parent for path in (two[0] / "runs").glob("*/output.txt"))
        damage(folder / name)
        merged = merge(two, tmp_path / "w")
        (problem,) = merged.problems
        assert problem.startswith(f"{folder} was not copied: ")
        assert str(folder / name) in problem
        assert len(merged.copied) == 4
        assert not (tmp_path / "w" / "runs" / folder.name).exists()

    @pytest.mark.parametrize("damage", [flip, link, fifo, huge])
    @pytest.mark.parametrize("name", [WEIGHTS_FILE, "code/helpers/mine.py"])
    def test_a_file_that_the_row_does_not_need(
        self, damage: Callable[[Path], None], name: str, two: list[Path], tmp_path: Path
    ) -> None:
        folder = next(path.parent for path in (two[0] / "runs").glob("*/output.txt"))
        damage(folder / name)
        merged = merge(two, tmp_path / "w")
        (problem,) = merged.problems
        assert problem.startswith(f"{folder / name} was not copied: it ")
        assert len(merged.copied) == 5
        copy = tmp_path / "w" / "runs" / folder.name
        assert (copy / PREDICTIONS_FILE).exists()
        assert not os.path.lexists(copy / name)

    def test_links_to_folders(self, two: list[Path], tmp_path: Path) -> None:
        folder = next(path.parent for path in (two[0] / "runs").glob("*/output.txt"))
        link(folder / "code")
        link(next(p for p in folder.parent.iterdir() if p != folder))
        merged = merge(two[:1], tmp_path / "w")
        assert merged.copied == [folder.name]
        assert [p for p in merged.problems if "a link or not a regular file" in p]
        assert not (tmp_path / "w" / "runs" / folder.name / "code").exists()

    def test_names_that_lead_outside(self, write_run: WriteRun, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"x")
        digest = hashlib.sha256(b"x").hexdigest()
        names = ["../../../../secret", str(secret), "", "a//b", ".", "x\0y", "n" * 300]
        code = {"files": [[name, digest] for name in names]}
        record = write_run(tmp_path / "a", "m", made={"method": {"name": "m", "code": code}})
        (tmp_path / "a" / "runs" / record.key / "code").mkdir()
        merged = merge([tmp_path / "a"], tmp_path / "w")
        assert merged.copied == [record.key]
        assert len(merged.problems) == len(names)
        assert set(content(tmp_path / "w")) == {
            f"{record.key}/{name}" for name in (RECORD_FILE, PREDICTIONS_FILE)
        }
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "secret", "w"]

    def test_what_is_not_a_run(self, two: list[Path], tmp_path: Path) -> None:
        runs = two[0] / "runs"
        shutil.copytree(next(runs.iterdir()), runs / "a (copy)")
        shutil.copytree(next(runs.iterdir()), runs / digest_json("another key"))
        (runs / "notes.txt").touch()
        (runs / digest_json("a file")).touch()
        merged = merge(two, tmp_path / "w")
        assert len(merged.copied) == 5
        assert len(merged.problems) == 3
        assert "because its name is not the key of a run" in merged.problems[0]

    def test_a_record_that_contradicts_itself(self, write_run: WriteRun, tmp_path: Path) -> None:
        write_run(tmp_path / "a", "finetune", label="lwf")
        (problem,) = merge([tmp_path / "a"], tmp_path / "w").problems
        assert "does not match made_from" in problem

    def test_a_folder_that_is_not_a_workspace(self, two: list[Path], tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        merged = merge([tmp_path / "empty", *two], tmp_path / "w")
        assert len(merged.copied) == 5
        assert "empty is not a workspace" in merged.problems[0]

    def test_a_path_that_does_not_exist_stops_it_first(
        self, two: list[Path], tmp_path: Path
    ) -> None:
        for sources in ([*two, tmp_path / "c"], [*two, tmp_path / "w"]):
            with pytest.raises(UsageError, match=r"is not a folder|into itself"):
                merge(sources, tmp_path / "w")
            assert not (tmp_path / "w" / "runs").exists()
            (tmp_path / "w").mkdir(exist_ok=True)


def killed(point: str, work: Callable[[], Any]) -> None:
    """Do something in a process that is killed at a failpoint."""
    pid = os.fork()
    if pid == 0:
        failpoints._SETTING = f"{point}=kill"
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize(
    "point", ["run-copied", "run-copied@3", "folder-renamed@2", "run-finished", "run-finished@4"]
)
def test_a_merge_that_is_killed(point: str, two: list[Path], tmp_path: Path) -> None:
    w = tmp_path / "w"
    killed(point, lambda: merge(two, w))
    sources = {**content(two[0]), **content(two[1])}
    for key in {path.partition("/")[0] for path in content(w)}:
        of_run = {path: data for path, data in sources.items() if path.startswith(key)}
        assert {p: data for p, data in content(w).items() if p.startswith(key)} == of_run
        assert f'"event": "merged", "key": "{key}"' in (w / "journal.jsonl").read_text()
    assert merge(two, w).problems == []
    assert content(w) == sources
    assert list((w / "tmp").iterdir()) == []


def test_a_merge_that_is_killed_while_it_replaces_a_run(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run(tmp_path / "w", "finetune", status="failed", error=ERROR)
    write_run(tmp_path / "a", "finetune")
    killed("old-folder-moved", lambda: merge([tmp_path / "a"], tmp_path / "w"))
    merge([tmp_path / "a"], tmp_path / "w")
    assert content(tmp_path / "w") == content(tmp_path / "a")
    assert list((tmp_path / "w" / "tmp").iterdir()) == []
