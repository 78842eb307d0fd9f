"""The fork server and its children, seen from the driver: limits, exits, and a dead server."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.errors import RunError, UsageError
from benchmark.isolation import cgroup, client, launch, sandbox
from benchmark.isolation.client import Child, Exit, ForkServer, Limits
from benchmark.isolation.conversation import request
from benchmark.isolation.server import Server
from benchmark.jobs import (
    AddressJob,
    ConfigureJob,
    DescribeJob,
)
from benchmark.manifest.catalogue import load_manifest
from benchmark.methods.code import collect_code
from benchmark.methods.find import file_source
from benchmark.session import Session
from benchmark.sources.network import try_network
from benchmark.temporary import temporary_folder
from benchmark.trees import remove_tree
from tests.benchmark.isolation.scripted import FakeServer

# --- limits --------------------------------------------------------------------------------------


class TestLimits:
    @pytest.fixture
    def child(self, tmp_path: Path) -> Iterator[Callable[..., Child]]:
        scratch, output = tmp_path / "scratch", tmp_path / "output.txt"
        scratch.mkdir()
        with contextlib.ExitStack() as stack:

            def make(**limits: Any) -> Child:
                server: Any = FakeServer(lambda child: None)
                server.pids = {1: os.getpid()}
                ours, theirs = socket.socketpair()
                stack.enter_context(theirs)
                file = stack.enter_context(output.open("ab"))
                process = Child(server, 1, ours, scratch, file.fileno(), Limits(**limits))
                return stack.enter_context(process)

            yield make

    def test_none_is_passed_by_doing_nothing(self, child: Callable[..., Child]) -> None:
        quiet = child()
        quiet.check_limits()
        assert quiet.killed_for == ""

    def test_time(self, child: Callable[..., Child]) -> None:
        slow = child(seconds=0.01)
        time.sleep(0.02)
        slow.check_limits()
        assert "exceeded the time limit of 0.01 s" in slow.killed_for

    def test_memory(self, child: Callable[..., Child]) -> None:
        fat = child(memory=1 << 20)
        fat.check_limits()
        assert "of memory; the limit is 1 MiB" in fat.killed_for

    def test_printed_output(self, child: Callable[..., Child], tmp_path: Path) -> None:
        loud = child(output=10)
        (tmp_path / "output.txt").write_text("x" * 11)
        loud.check_limits()
        assert "of printed output" in loud.killed_for

    def test_scratch_files(self, child: Callable[..., Child], tmp_path: Path) -> None:
        big = child(scratch=200_000)
        folder = tmp_path / "scratch" / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"x" * 100_000)
        (tmp_path / "scratch" / "link").symlink_to("/usr")
        big.check_limits()
        assert big.killed_for == ""
        big._checked_scratch = 0
        (tmp_path / "scratch" / "y").write_bytes(b"x" * 150_000)
        big.check_limits()
        assert "of scratch files" in big.killed_for

    def test_folders_nested_too_deeply(self, child: Callable[..., Child], tmp_path: Path) -> None:
        """A walk by recursion would end the thread that watches over every run."""
        deep, here = child(), os.open(tmp_path / "scratch", os.O_RDONLY)
        for _ in range(2048):  # a path holds no more
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
        deep.check_limits()
        remove_tree(tmp_path / "scratch")  # pytest's own cleaning recurses
        assert "cannot be read: File name too long" in deep.killed_for

    @pytest.mark.skipif(os.geteuid() == 0, reason="root sees into every folder")
    def test_folders_that_are_closed(self, child: Callable[..., Child], tmp_path: Path) -> None:
        closed = child()
        (tmp_path / "scratch" / "a").mkdir(0o300)
        closed.check_limits()
        assert "cannot be read: Permission denied" in closed.killed_for

    def test_once_is_enough(self, child: Callable[..., Child]) -> None:
        slow = child(seconds=0)
        slow.check_limits()
        slow.check_limits()
        assert slow._server.killed == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Exit(3, None, 0), "exited with code 3"),
        (Exit(None, signal.SIGSEGV, 0), "was killed by SIGSEGV"),
        (Exit(None, 40, 0), "was killed by signal 40"),
        (Exit(None, 64, 0), "was killed by SIGRTMAX"),
    ],
)
def test_an_end_in_words(how: Exit, words: str) -> None:
    assert str(how) == words


# --- the fork server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTBENCH_TEST_SECRET", "secret")
        with ForkServer() as running:
            yield running


def test_a_server_shares_no_memory_that_children_can_write_to(server: ForkServer) -> None:
    """Torch and all that it imports leave none: runs of later sessions would see it as well."""
    maps = Path(f"/proc/{server._process.pid}/maps").read_text().splitlines()
    assert len(maps) > 100
    assert not [line for line in maps if line.split()[1][1::2] == "ws"]


def test_the_library_of_a_network_is_imported_once_in_the_server(
    server: ForkServer, tmp_path: Path
) -> None:
    manifest = load_manifest("icons@2.0").with_model({"name": "mobilenet_v3_small"})
    maps = Path(f"/proc/{server._process.pid}/maps")
    assert "torchvision" not in maps.read_text()
    try_network(server, manifest, "cpu", tmp_path)
    assert "torchvision" in maps.read_text()


@pytest.mark.parametrize("name", ["no_such_network", "timm/no_such_network", ""])
def test_a_network_that_cannot_be_prepared_is_the_childs_error(
    server: ForkServer, tmp_path: Path, name: str
) -> None:
    """It is not the server's: the child starts."""
    network = {"model": {"name": name}, "classes": 3, "size": 32, "is_built": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_network_of", lambda job: network)
        try_network(server, load_manifest("icons@2.0"), "cpu", tmp_path)


@pytest.fixture
def described(server: ForkServer, tmp_path: Path) -> Callable[[str], tuple[dict[str, Any], str]]:
    """The answer of a child that imports some code, and what it printed."""

    def run(code: str) -> tuple[dict[str, Any], str]:
        path = tmp_path / "method.py"
        path.write_text(code)
        (tmp_path / "scratch").mkdir(exist_ok=True)
        code = collect_code(file_source(str(path))).message
        job = DescribeJob(str(tmp_path / "scratch"), code)
        answer = request(server, job, tmp_path)
        return answer, (tmp_path / "output.txt").read_text()

    return run


class TestForkServer:
    def test_a_child_knows_nothing_of_the_users_environment(
        self, described: Callable[[str], tuple[dict[str, Any], str]]
    ) -> None:
        _, printed = described("import os\nprint(dict(os.environ), flush=True)")
        names = set(eval(printed))
        assert "HTBENCH_TEST_SECRET" not in names
        assert "HTBENCH_DATA" not in names
        assert "secret" not in printed
        assert "OMP_WAIT_POLICY" in names

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import os; os._exit(7)", "exited with code 7"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
            ("import os; os.kill(os.getpid(), 40)", "was killed by signal 40"),
            ("raise KeyboardInterrupt", "exited with code 1"),
            ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ],
    )
    def test_a_child_that_ends_is_told_of(
        self, described: Callable[[str], tuple[dict[str, Any], str]], code: str, words: str
    ) -> None:
        answer, _ = described(code)
        assert answer["failed"]["kind"] == "died"
        assert words in answer["failed"]["message"]

    @pytest.mark.parametrize("code", ["0", "'enough'", ""])
    def test_a_method_that_calls_exit_is_told_of_it(
        self, described: Callable[[str], tuple[dict[str, Any], str]], code: str
    ) -> None:
        answer, _ = described(f"import sys\nsys.exit({code})")
        assert answer["failed"]["kind"] == "contract"
        assert f"sys.exit({code}) was called" in answer["failed"]["message"]
        assert "method.py" in answer["failed"]["traceback"]

    def test_a_child_that_closes_its_channel_is_ended(
        self,
        described: Callable[[str], tuple[dict[str, Any], str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(client, "FINISH_SECONDS", 0.3)
        answer, _ = described("import os, time\nos.closerange(3, 99)\ntime.sleep(60)")
        assert "killed by SIGKILL" in answer["failed"]["message"]

    def test_an_endless_recursion_is_a_failure(
        self, described: Callable[[str], tuple[dict[str, Any], str]]
    ) -> None:
        answer, _ = described("def f():\n    f()\nf()")
        assert "RecursionError" in answer["failed"]["message"]

    def test_a_tower_of_folders_is_removed(self, server: ForkServer, tmp_path: Path) -> None:
        """Deeper than a path can be long, and than a removal by recursion gets."""
        code = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nos._exit(0)"
        (tmp_path / "method.py").write_text(code)
        with temporary_folder(tmp_path) as folder:
            (folder / "scratch").mkdir()
            method = collect_code(file_source(str(tmp_path / "method.py"))).message
            job = DescribeJob(str(folder / "scratch"), method)
            answer = request(server, job, folder)
        assert answer["failed"]["kind"] in ("died", "limit")
        assert not folder.exists()

    def test_it_serves_on_after_all_that(
        self, described: Callable[[str], tuple[dict[str, Any], str]]
    ) -> None:
        answer, _ = described(
            "from htbench import Method\nclass A(Method):\n    name = 'a'\n"
            "    def adapt(self, source, target, run): ..."
        )
        assert answer["done"]["name"] == "a"


def test_the_working_directory_need_not_be_accessible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``su`` in a private folder, or once another process has removed it."""
    monkeypatch.setattr(client, "_working_folder", lambda: str(tmp_path / "gone"))
    with ForkServer() as running:
        try_network(running, load_manifest("icons@2.0"), "cpu", tmp_path)


MEMORY = "MiB of memory; the limit is 1024 MiB; to raise it, use --memory-limit GIB"
SECONDS = "it exceeded the time limit of 1 s; to raise it, use --time-limit SECONDS"


@pytest.mark.parametrize("kind", [DescribeJob, ConfigureJob])
@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (Limits.of_run(1, None), "while True: pass", SECONDS),
        (Limits.of_run(300, 1), "x = bytearray(2 << 30)\nwhile True: pass", MEMORY),
    ],
)
def test_the_limits_of_a_run_hold_while_its_method_is_asked(
    tmp_path: Path, kind: type, limits: Limits, code: str, words: str
) -> None:
    (tmp_path / "method.py").write_text(code)
    (tmp_path / "scratch").mkdir()
    method = collect_code(file_source(str(tmp_path / "method.py"))).message
    job = kind(str(tmp_path / "scratch"), method, *([{}] if kind is ConfigureJob else []))
    with ForkServer(limits=limits) as running:
        answer = request(running, job, tmp_path)
    assert answer["failed"]["kind"] == "limit"
    assert answer["failed"]["message"].endswith(words)


def test_a_limit_that_no_option_raises_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of loading a method, whatever the time limit of its runs is."""
    monkeypatch.setattr(client, "DESCRIBE_SECONDS", 1)
    (tmp_path / "method.py").write_text("while True: pass")
    (tmp_path / "scratch").mkdir()
    method = collect_code(file_source(str(tmp_path / "method.py"))).message
    with ForkServer(limits=Limits.of_run(60, None)) as running:
        answer = request(running, DescribeJob(str(tmp_path / "scratch"), method), tmp_path)
    assert answer["failed"]["message"].endswith("it exceeded the time limit of 1 s")


def test_a_child_joins_a_control_group_before_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a folder that looks like the kernel's, which keeps what was written to it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    groups = cgroup.Groups(tree)
    monkeypatch.setattr(cgroup, "open_groups", lambda: groups)
    (tmp_path / "method.py").write_text(
        "from htbench import Method\nclass M(Method):\n    name = 'm'\n    def adapt(*_): ..."
    )
    (tmp_path / "scratch").mkdir()
    method = collect_code(file_source(str(tmp_path / "method.py"))).message
    with ForkServer(limits=Limits(memory=1 << 32)) as running:
        answer = request(running, DescribeJob(str(tmp_path / "scratch"), method), tmp_path)
    assert answer["done"]["name"] == "m"
    (group,) = tree.glob(f"htbench-{os.getpid()}-*")
    assert (group / "cgroup.procs").read_text() == "0"
    assert (group / "memory.max").read_text() == str(1 << 32)


def test_a_server_that_is_gone_starts_nothing(tmp_path: Path) -> None:
    with ForkServer() as running:
        os.kill(running._process.pid, signal.SIGKILL)
        running._process.wait()
        with (tmp_path / "out").open("wb") as output, pytest.raises(RunError, match="exited"):
            running.start(AddressJob(str(tmp_path), {}), output.fileno())
    assert not running.alive


def test_a_system_that_starts_no_process_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither the end of the other runs nor a failure of this one."""

    def fail() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fail)
    ours, theirs = socket.socketpair()
    forks = Server.__new__(Server)  # its signals are those of a process
    forks.control, forks.children, forks.sandbox, forks.prepared = theirs, {}, None, None
    process = SimpleNamespace(wait=lambda timeout=None: 0, kill=lambda: None)
    monkeypatch.setattr(client, "start_server", lambda keep: (ours, process))
    with theirs, ForkServer() as running:
        forks.handle()  # the folders that stay closed
        asked = threading.Thread(target=forks.handle)
        asked.start()
        with pytest.raises(BlockingIOError) as refused:
            request(running, AddressJob(str(tmp_path), {}), tmp_path)
        asked.join()
        assert running.alive
    assert (refused.value.errno, refused.value.filename) == (errno.EAGAIN, "the process of a run")


def test_required_isolation_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a kernel without Landlock: one sentence that says what is missing."""
    without_landlock = sandbox.Availability(0, True, ("Landlock: this kernel does not have it",))
    monkeypatch.setattr(sandbox, "available", lambda: without_landlock)
    monkeypatch.setattr(launch.subprocess, "Popen", None)
    with Session(isolation="required") as session, pytest.raises(UsageError) as refused:
        _ = session.server
    assert "Landlock: this kernel does not have it" in str(refused.value)
    assert "--isolation auto" in str(refused.value)


@pytest.mark.parametrize("number", [float("nan"), 0.0, -1.0])
def test_limits_are_positive_numbers(number: float) -> None:
    with pytest.raises(UsageError, match=f"the time limit is {number:g}; give a positive number"):
        Limits.of_run(number, None)
    for memory in (number, float("inf"), 1e300):
        with pytest.raises(UsageError, match=rf"the memory limit is {re.escape(f'{memory:g}')}; g"):
            Limits.of_run(1.0, memory)
    assert Limits.of_run(float("inf"), 0.5).memory == 1 << 29
