"""The driver's side of a cluster, with nodes that have computed their runs before."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import RunError, UsageError
from benchmark.files import digest_file
from benchmark.progress import Silent
from benchmark.records import PREDICTIONS_FILE, RunRecord
from benchmark.remote import executor as module
from benchmark.remote.chains import Chain
from benchmark.remote.executor import (
    MAX_TRIES,
    DataFile,
    NodeLostError,
    RemoteExecutor,
    RemoteNode,
    data_files,
    send_missing,
)
from benchmark.remote.node import Node, versions
from benchmark.runs.workspace import Workspace
from leaderboard.rows import check_record
from tests.conftest import WriteRun


class FakeNode(Node):
    """A node whose worker copies runs that are in a folder instead of computing them.

    Args:
        computed: a workspace.
        dies_at: of its calls, the number of the one at which it is lost.
        answers: what methods return instead.
    """

    def __init__(
        self, computed: Path, name: str = "one", dies_at: int | None = None, **answers: object
    ) -> None:
        super().__init__()
        self.name, self.slots = name, 2
        self._computed, self._dies_at, self._given = computed, dies_at, answers
        self.calls: list[str] = []
        self.ran: list[str] = []
        self._counting = threading.Lock()

    def call(self, method: str, *arguments: Any) -> Any:
        with self._counting:
            self.calls.append(method)
            if self._dies_at is not None and len(self.calls) >= self._dies_at:
                raise NodeLostError("it was switched off")
        if method in self._given:
            return self._given[method]
        return getattr(self, method)(*arguments)

    def start(self, options: Mapping[str, Any], keys: Sequence[str], slots: int) -> dict[str, Any]:
        return {"keys": [folder.name for folder in (self._computed / "runs").iterdir()]}

    def run(self, keys: Sequence[str]) -> dict[str, Any]:
        for key in keys:
            shutil.copytree(self._computed / "runs" / key, self._run_folder(key))
            self.ran.append(key)
        return {"statuses": dict.fromkeys(keys, "ok")}


@pytest.fixture
def computed(tmp_path: Path, write_run: WriteRun) -> dict[str, RunRecord]:
    """Runs of six seeds in the folder ``computed``, by key."""
    records = [write_run(tmp_path / "computed", "source", seed=seed) for seed in range(6)]
    return {record.key: record for record in records}


def chain(*records: RunRecord) -> Chain:
    runs: Any = tuple(
        SimpleNamespace(key=r.key, name=f"source seed {r.seed}", base=None) for r in records
    )
    return Chain(runs, 1.0)


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # nodes that are lost leave theirs


Execute = Callable[..., list[RunRecord]]


@pytest.fixture
def execute(
    tmp_path: Path, computed: dict[str, RunRecord], monkeypatch: pytest.MonkeyPatch
) -> Execute:
    """Carries out all runs, two to a chain, on nodes that join one after the other."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "data_files", lambda runs: [])

    def run(
        *nodes: RemoteNode,
        log: Callable[[str], None] = lambda text: None,
        reporter: Silent | None = None,
    ) -> list[RunRecord]:
        joining: Iterator[RemoteNode] = iter(nodes)
        records = list(computed.values())
        with Workspace(tmp_path / "into") as place:
            driver = RemoteExecutor(
                discover=lambda: [node] if (node := next(joining, None)) else [],
                options={},
                workspace=place,
                check=check_record,
                reporter=reporter or Silent(),
                log=log,
                patience=0.05,
            )
            return driver.execute([chain(*records[i : i + 2]) for i in (0, 2, 4)])

    return run


def contents(workspace: Path) -> dict[str, bytes]:
    runs = workspace / "runs"
    return {str(p.relative_to(runs)): p.read_bytes() for p in runs.rglob("*") if p.is_file()}


def test_runs_arrive_byte_for_byte(
    tmp_path: Path, computed: dict[str, RunRecord], execute: Execute
) -> None:
    node = FakeNode(tmp_path / "computed")
    assert [record.key for record in execute(node)] == list(computed)
    assert contents(tmp_path / "into") == contents(tmp_path / "computed")
    assert not node._folder.exists()
    journal = (tmp_path / "into" / "journal.jsonl").read_text()
    assert journal.count('"source": "node one"') == len(computed)
    assert not list((tmp_path / "into" / "tmp").iterdir())


@pytest.mark.parametrize("dies_at", [*range(1, 12), 15, 19, 24])
def test_a_lost_node_loses_nothing(tmp_path: Path, execute: Execute, dies_at: int) -> None:
    first = FakeNode(tmp_path / "computed", "first", dies_at)
    second = FakeNode(tmp_path / "computed", "second")
    lines: list[str] = []
    execute(first, second, log=lines.append)
    assert contents(tmp_path / "into") == contents(tmp_path / "computed")
    if len(first.calls) >= dies_at:
        assert lines == ["node first is lost: it was switched off"]


def test_a_node_of_another_version_is_not_used(tmp_path: Path, execute: Execute) -> None:
    other = FakeNode(tmp_path / "computed", "old", versions={**versions(), "torch": "1.0"})
    lines: list[str] = []
    execute(other, FakeNode(tmp_path / "computed"), log=lines.append)
    here = versions()["torch"]
    (line,) = lines
    assert line == (
        f"node old is not used: it has torch 1.0 instead of {here}; use the same environment on "
        "all machines"
    )
    assert other.calls == ["versions", "stop"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"versions": {}}, "Python missing instead of"),
        ({"start": {"keys": ["0" * 64]}}, "its runs have other keys"),
        ({"start": {"refused": "mine.py does\nnot exist"}}, "mine.py does not exist"),
    ],
)
def test_without_a_node_that_can_be_used(
    tmp_path: Path, execute: Execute, answers: dict[str, object], reason: str
) -> None:
    with pytest.raises(UsageError, match="no node of the cluster can be used: one: ") as error:
        execute(FakeNode(tmp_path / "computed", **answers))
    assert reason in str(error.value)


def test_without_any_node(execute: Execute) -> None:
    with pytest.raises(UsageError, match="no node that answers; start some with `ray start`"):
        execute()


def test_a_machine_that_fails_again_and_again_ends_it(tmp_path: Path, execute: Execute) -> None:
    node = FakeNode(tmp_path / "computed", run={"error": "no space left on device"})
    with pytest.raises(RunError, match="no space left on device"):
        execute(node)
    assert MAX_TRIES <= node.calls.count("run") <= 3 * MAX_TRIES
    assert not (tmp_path / "into" / "runs").exists()


def test_a_node_whose_worker_has_ended_is_not_asked_again(tmp_path: Path, execute: Execute) -> None:
    """It would fail all tries of a chain before another node takes it."""
    ended = FakeNode(tmp_path / "computed", "first", run={"ended": "its worker has ended: killed"})
    lines: list[str] = []
    execute(ended, FakeNode(tmp_path / "computed", "second"), log=lines.append)
    assert contents(tmp_path / "into") == contents(tmp_path / "computed")
    assert ended.calls.count("run") <= ended.slots
    assert ended.calls[-1] == "stop"
    assert lines == ["node first is lost: its worker has ended: killed"]


def test_without_a_node_whose_worker_lives(tmp_path: Path, execute: Execute) -> None:
    ended = FakeNode(tmp_path / "computed", run={"ended": "its worker has ended: killed"})
    with pytest.raises(UsageError, match="can be used: one: its worker has ended: killed"):
        execute(ended)


@pytest.mark.parametrize("method", ["begin", "end"])
def test_a_reader_of_the_progress_that_is_gone_ends_it(
    tmp_path: Path, execute: Execute, method: str
) -> None:
    """As in ``htbench cluster run ... 2>&1 | head``: the other slots do not wait for ever."""
    calls = itertools.count()

    def fail(*_: str) -> None:
        if next(calls) == 1:
            raise BrokenPipeError

    reporter = Silent()
    setattr(reporter, method, fail)
    with pytest.raises(BrokenPipeError):
        execute(FakeNode(tmp_path / "computed"), reporter=reporter)


def test_what_arrives_damaged_is_not_kept(
    tmp_path: Path, computed: dict[str, RunRecord], execute: Execute
) -> None:
    bad = next(iter(computed))
    path = tmp_path / "computed" / "runs" / bad / PREDICTIONS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="does not match the SHA-256"):
        execute(FakeNode(tmp_path / "computed"))
    assert not (tmp_path / "into" / "runs" / bad).exists()


class TestFiles:
    @pytest.fixture
    def away(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
        """A node with its own data folder."""
        monkeypatch.setattr("benchmark.remote.node.data_folder", lambda: tmp_path / "away")
        return FakeNode(tmp_path)

    @pytest.fixture
    def files(self, own_data: Path) -> list[DataFile]:
        paths = [own_data / "stores" / "a" / name for name in ("train.u8", "empty")]
        paths[0].parent.mkdir(parents=True)
        for path, content in zip(paths, (b"0123456789", b""), strict=True):
            path.write_bytes(content)
        names = [path.relative_to(own_data).as_posix() for path in paths]
        return [DataFile(n, p, digest_file(p)) for n, p in zip(names, paths, strict=True)]

    def test_only_missing_files_are_sent(
        self,
        tmp_path: Path,
        away: FakeNode,
        files: list[DataFile],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "PART", 4)
        send_missing(away, files)
        for name, path, _ in files:
            assert (tmp_path / "away" / name).read_bytes() == path.read_bytes()
        first = away.calls.count("write")
        send_missing(away, files)
        assert away.calls.count("write") == first == 4, "three parts, and an empty one"
        (tmp_path / "away" / files[0][0]).write_bytes(b"damaged")
        send_missing(away, files)
        assert (tmp_path / "away" / files[0][0]).read_bytes() == b"0123456789"

    def test_nothing_is_sent_to_a_shared_folder(
        self, tmp_path: Path, files: list[DataFile]
    ) -> None:
        node = FakeNode(tmp_path)
        send_missing(node, files)
        assert node.calls == ["has"]
        assert not list(files[0][1].parents[2].glob("shared-*"))

    def test_a_damaged_transfer_is_noticed(self, away: FakeNode, files: list[DataFile]) -> None:
        name, path, _ = files[0]
        away.write("data", name, 0, b"9")
        assert not away.seal("data", name, digest_file(path))
        assert not away.has(name, digest_file(path))

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
    def test_no_name_leads_out_of_the_folder(self, away: FakeNode, name: str) -> None:
        with pytest.raises(UsageError, match="is not a path inside"):
            away.write("data", name, 0, b"x")
        with pytest.raises(UsageError, match="is not a path inside"):
            away.forget([name])


def test_a_pinned_checkpoint_of_the_package_is_not_sent(tmp_path: Path, own_data: Path) -> None:
    folder = own_data / "sources" / "icons-outline-0123"
    folder.mkdir(parents=True)
    for name in ("source.json", "weights.safetensors"):
        (folder / name).touch()
    alone = own_data / "sources" / "pinned-0.safetensors"
    alone.touch()
    paths = [tmp_path / "package" / "w.safetensors", folder / "weights.safetensors", alone]
    manifest = SimpleNamespace(document={"images": "embedded"})
    runs: Any = [
        SimpleNamespace(source=SimpleNamespace(path=p), planned=SimpleNamespace(manifest=manifest))
        for p in paths
    ]
    assert [file.name for file in data_files(runs)] == [
        "sources/icons-outline-0123/source.json",
        "sources/icons-outline-0123/weights.safetensors",
        "sources/pinned-0.safetensors",
    ]
