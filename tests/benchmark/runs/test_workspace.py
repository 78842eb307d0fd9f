"""The workspace: a run is there whole or not at all, and nothing of a dead driver stays."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmark.files import canonical_json, digest_json
from benchmark.records import (
    PREDICTIONS_FILE,
    RECORD_FILE,
    WEIGHTS_FILE,
    RunRecord,
    write_predictions,
)
from benchmark.run_folders import stamp
from benchmark.runs.workspace import Workspace, temporary_workspace
from htbench.results import open_workspace

MADE_FROM = {"task": "a-b"}
KEY = digest_json(MADE_FROM)
WEIGHTS = b"weights"


@cache
def predictions() -> bytes:
    """A file of predictions; each version of pyarrow writes other bytes."""
    stream = pa.BufferOutputStream()
    write_predictions(stream, ["x"], np.zeros((1, 2), np.float32))
    return stream.getvalue().to_pybytes()


def record(status: str = "ok", weights: str | None = None) -> RunRecord:
    """A run whose predictions are those of :func:`save`."""
    return RunRecord(
        key=KEY,
        made_from=MADE_FROM,
        manifest="mini@0.1",
        task="a-b",
        method="m",
        label="m",
        config={},
        track="standard",
        seed=0,
        status=status,  # type: ignore[arg-type]
        error=None if status == "ok" else {"kind": "died", "message": "no", "traceback": ""},
        predictions_sha256=hashlib.sha256(predictions()).hexdigest() if status == "ok" else None,
        weights_sha256=weights,
        isolation=[],
        log=[],
    )


def save(workspace: Workspace, status: str = "ok", *, weights: bool = False) -> Path:
    with workspace.new_run(KEY) as folder:
        digest = hashlib.sha256(WEIGHTS).hexdigest() if weights else None
        (folder / RECORD_FILE).write_bytes(record(status, digest).to_bytes())
        if status == "ok":
            (folder / PREDICTIONS_FILE).write_bytes(predictions())
        if weights:
            (folder / WEIGHTS_FILE).write_bytes(WEIGHTS)
    return workspace.folder(KEY)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "ws") as entered:
        yield entered


def in_hand(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.root / "tmp").iterdir())


def dig(folder: Path, depth: int) -> None:
    """Folders in folders, deeper than a path can be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_a_folder_in_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    workspace = open_workspace(Path("~/my runs"))
    assert workspace.root == tmp_path / "my runs"
    assert workspace.option == ("--workspace", "~/my runs")
    assert not workspace.is_finished(KEY)


class TestIsFinished:
    def test_known_runs_are_not_read_unless_their_files_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Workspace(tmp_path / "ws") as workspace:
            folder = save(workspace)
        known = {KEY: stamp(folder) or ""}
        monkeypatch.setattr(RunRecord, "read", lambda *_: pytest.fail("read"))
        assert Workspace(tmp_path / "ws", lambda: known).is_finished(KEY)
        monkeypatch.undo()
        (folder / PREDICTIONS_FILE).write_bytes(b"damaged")
        assert not Workspace(tmp_path / "ws", lambda: known).is_finished(KEY)

    def test_a_finished_run_is_looked_up_once_and_an_unfinished_one_again(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not workspace.is_finished(KEY)
        save(workspace)
        assert workspace.is_finished(KEY)
        monkeypatch.setattr("benchmark.runs.workspace.stamp", lambda _: pytest.fail("looked up"))
        assert workspace.is_finished(KEY)


class TestFinished:
    def test_a_run_that_is_there(self, workspace: Workspace) -> None:
        assert workspace.finished(KEY) is None
        save(workspace)
        assert workspace.finished(KEY) == record()
        assert list(workspace.records()) == [record()]

    def test_a_failed_one_is_not(self, workspace: Workspace) -> None:
        save(workspace, "failed")
        assert workspace.finished(KEY) is None
        assert [r.status for r in workspace.records()] == ["failed"]

    @pytest.mark.parametrize("name", [RECORD_FILE, PREDICTIONS_FILE])
    def test_one_that_lacks_a_file_is_not(self, workspace: Workspace, name: str) -> None:
        (save(workspace) / name).unlink()
        assert workspace.finished(KEY) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "nonsense"])
    def test_one_with_a_damaged_record_is_not(self, workspace: Workspace, text: str) -> None:
        (save(workspace) / RECORD_FILE).write_text(text)
        assert workspace.finished(KEY) is None

    def test_one_whose_record_was_changed_is_not(self, workspace: Workspace) -> None:
        path = save(workspace) / RECORD_FILE
        content = json.loads(path.read_text()) | {"made_from": {"task": "b-a"}}
        path.write_bytes(canonical_json(content))
        assert workspace.finished(KEY) is None

    def test_weights_are_asked_for_where_a_run_starts_from_them(self, workspace: Workspace) -> None:
        save(workspace)
        assert workspace.finished(KEY, weights=True) is None
        save(workspace, weights=True)
        expected = record(weights=hashlib.sha256(WEIGHTS).hexdigest())
        assert workspace.finished(KEY, weights=True) == expected

    def test_damaged_weights_do_not_count(self, workspace: Workspace) -> None:
        path = save(workspace, weights=True) / WEIGHTS_FILE
        for bit in random.Random(0).sample(range(8 * len(WEIGHTS)), 20):
            flipped = bytearray(WEIGHTS)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert workspace.finished(KEY, weights=True) is None
            assert workspace.finished(KEY) is not None
        path.unlink()
        os.mkfifo(path)
        assert workspace.finished(KEY, weights=True) is None


class TestNewRun:
    def test_it_appears_at_the_end(self, workspace: Workspace) -> None:
        with workspace.new_run(KEY) as folder:
            (folder / "a").write_text("a")
            assert not workspace.folder(KEY).exists()
        assert (workspace.folder(KEY) / "a").read_text() == "a"

    def test_an_error_leaves_nothing(self, workspace: Workspace) -> None:
        with pytest.raises(ZeroDivisionError), workspace.new_run(KEY):
            raise ZeroDivisionError
        assert not workspace.folder(KEY).exists()

    def test_it_takes_the_place_of_an_older_one(self, workspace: Workspace) -> None:
        save(workspace, "failed")
        save(workspace)
        assert workspace.finished(KEY) == record()
        assert [path.name for path in workspace.runs.iterdir()] == [KEY]


class TestTemporary:
    def test_it_goes(self, workspace: Workspace) -> None:
        with workspace.temporary() as folder:
            (folder / "a").mkdir()
            (folder / "a" / "b").write_text("b")
        assert not folder.exists()

    def test_it_goes_after_an_error_too(self, workspace: Workspace) -> None:
        with pytest.raises(ZeroDivisionError), workspace.temporary() as folder:
            raise ZeroDivisionError
        assert not folder.exists()

    def test_it_goes_however_deep_it_is(self, workspace: Workspace) -> None:
        with workspace.temporary() as folder:
            dig(folder, 1200)  # more than Python recurses
        assert not folder.exists()

    def test_it_goes_whatever_its_modes_are(self, workspace: Workspace) -> None:
        with workspace.temporary() as folder:
            (folder / "a" / "b" / "c").mkdir(parents=True)
            (folder / "a" / "b" / "c" / "file").touch(0)
            for name in ("a/b/c", "a/b", "a"):
                (folder / name).chmod(0)
        assert not folder.exists()

    def test_links_are_not_followed(self, workspace: Workspace, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").touch(0o600)
        outside.chmod(0o500)
        with workspace.temporary() as folder:
            (folder / "inner").mkdir()
            for place in (folder, folder / "inner"):
                (place / "link").symlink_to(outside)
                (place / "link2").symlink_to(outside / "kept")
        assert not folder.exists()
        assert (outside / "kept").exists()
        assert outside.stat().st_mode & 0o777 == 0o500


class TestSweep:
    def test_nothing_is_left_of_a_driver_that_ends(self, tmp_path: Path) -> None:
        with Workspace(tmp_path) as workspace:
            assert len(in_hand(workspace)) == 2
        assert in_hand(workspace) == []

    def test_what_a_dead_driver_left_is_removed(self, tmp_path: Path) -> None:
        code = """
            import os, sys
            from pathlib import Path
            from benchmark.runs.workspace import Workspace
            workspace = Workspace(Path(sys.argv[1])).__enter__()
            with workspace.temporary() as folder, workspace.new_run("ab") as building:
                (folder / "file").touch()
                (building / "file").touch()
                os._exit(1)
        """
        subprocess.run(
            [sys.executable, "-c", "\n".join(line[12:] for line in code.splitlines()), tmp_path],
            check=False,
        )
        assert len(in_hand(Workspace(tmp_path))) == 2
        with Workspace(tmp_path) as workspace:
            assert len(in_hand(workspace)) == 2, "its own"
        assert in_hand(workspace) == []
        assert not workspace.folder("ab").exists()

    def test_what_a_living_one_has_in_hand_is_not(self, workspace: Workspace) -> None:
        with workspace.temporary() as folder, Workspace(workspace.root):
            assert folder.exists()
        assert len(in_hand(workspace)) == 2

    @pytest.mark.parametrize("left", ["driver-x/", "driver-x.lock", "driver-x/deep/er/"])
    def test_half_of_what_it_left_is_removed_too(self, tmp_path: Path, left: str) -> None:
        """As when another driver was killed while it swept."""
        path = tmp_path / "tmp" / left
        path.parent.mkdir(parents=True)
        path.mkdir() if left.endswith("/") else path.touch()
        with Workspace(tmp_path):
            pass
        assert in_hand(Workspace(tmp_path)) == []


class TestClaim:
    def test_one_at_a_time(self, workspace: Workspace) -> None:
        with Workspace(workspace.root) as other, workspace.claim(KEY) as mine:
            assert mine
            with other.claim(KEY) as theirs:
                assert not theirs
            with other.claim("another") as theirs:
                assert theirs

    def test_it_ends_with_its_block_and_with_an_error(self, workspace: Workspace) -> None:
        with pytest.raises(ZeroDivisionError), workspace.claim(KEY):
            raise ZeroDivisionError
        with Workspace(workspace.root).claim(KEY) as mine:
            assert mine

    def test_it_ends_with_its_process(self, workspace: Workspace) -> None:
        code = (
            "import os, sys; from pathlib import Path\n"
            "from benchmark.runs.workspace import Workspace\n"
            "with Workspace(Path(sys.argv[1])).claim(sys.argv[2]) as mine:\n"
            "    print(mine, flush=True); sys.stdin.read(1); os._exit(1)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(workspace.root), KEY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"True\n"
            with workspace.claim(KEY) as mine:
                assert not mine
            process.kill()
        with workspace.claim(KEY) as mine:
            assert mine


def test_lines_of_the_journal_do_not_mix(workspace: Workspace) -> None:
    def write(number: int) -> None:
        for i in range(50):
            workspace.note("start", f"{number}-{i}", "a run " + "x" * 500)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (workspace.root / "journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert {line["key"] for line in events} == {f"{n}-{i}" for n in range(4) for i in range(50)}
    assert {line["driver"] for line in events} == {os.getpid()}


def test_the_journal_names_the_suite_of_the_newest_run(workspace: Workspace) -> None:
    assert workspace.newest_suite() is None
    workspace.note("start", "a", "without a suite")
    assert workspace.newest_suite() is None
    for suite in ("icons", "/data/my suite.toml"):
        workspace.suite = suite
        workspace.note("start", "b", 'finetune(x="suite": "forged") task seed 0')
        assert workspace.newest_suite() == suite
    workspace.suite = None
    workspace.note("ok", "c", "a run of an earlier version")
    assert workspace.newest_suite() == "/data/my suite.toml"
    with (workspace.root / "journal.jsonl").open("a") as file:
        file.write('{"suite": "cut')
    assert workspace.newest_suite() is None


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_a_temporary_workspace_is_kept_if_a_run_in_it_has_failed(status: str) -> None:
    with temporary_workspace() as place, place:
        save(place, status)
    try:
        assert place.root.exists() == (status == "failed")
        assert [record.status for record in place.records()] == ["failed"] * place.root.exists()
    finally:
        shutil.rmtree(place.root, ignore_errors=True)
