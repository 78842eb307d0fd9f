"""The process that waits between sessions: who gets a fork of it, who does not, and its end.

It imports a small module instead of torch, which a child of it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark import doctor
from benchmark.isolation import launch, wire
from benchmark.isolation.launch import Process, start_server, warm_address, warm_folder
from benchmark.isolation.sandbox import Availability, available
from benchmark.temporary import temporary_folder

pytestmark = pytest.mark.skipif(bool(available().missing), reason="runs are not isolated here")

CHILD = """
import os, socket, sys
from benchmark.isolation import wire

SEEN = []

def main(channel, sandbox):
    message, _ = wire.receive(channel)
    SEEN.append(message["word"])
    wire.send(channel, {
        "seen": SEEN,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
        "session": os.getsid(0),
    })
"""


@dataclass
class Session:
    """A fork server of one session, as a driver sees it."""

    channel: socket.socket
    process: Process

    def __post_init__(self) -> None:
        wire.send(self.channel, {"never": [], "cuda": False, "folder": str(Path.cwd())})

    def run(self, word: str) -> dict[str, Any]:
        """What a child answers."""
        ours, theirs = socket.socketpair()
        with ours, theirs, Path(os.devnull).open("wb") as output:
            wire.send(self.channel, {"fork": 1, "group": None}, [theirs.fileno(), output.fileno()])
            theirs.close()
            ours.settimeout(30)
            wire.send(ours, {"word": word})
            answer, _ = wire.receive(ours) or ({}, [])
        return answer

    @property
    def server(self) -> int:
        """The process id of its server."""
        return self.process.pid


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


Open = Callable[[], Session]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of what a server imports, old enough not to have changed meanwhile."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "answering.py").write_text(CHILD)
    return tmp_path / "package"


@pytest.fixture
def place(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Has processes wait in a folder of one test, whose path is short enough for a socket."""
    monkeypatch.setattr(launch, "CHILD", "answering")
    monkeypatch.setenv("HTBENCH_WARM", "60")
    monkeypatch.setenv("PYTHONPATH", str(package))
    with temporary_folder() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield folder


@pytest.fixture
def sessions(place: Path) -> Iterator[Open]:
    time.sleep(0.1)  # a process does not stay if a file has changed since it was started
    processes: set[int] = set()
    with contextlib.ExitStack() as stack:

        def start() -> Session:
            session = Session(*start_server())
            stack.enter_context(session.channel)
            processes.add(parent(session.server))
            return session

        yield start
    for pid in processes - {os.getpid(), 1}:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def waits() -> bool:
    address = warm_address(launch._environment())
    return address is not None and address.exists()


def first(sessions: Open) -> Session:
    """The first session, once its process waits for the next."""
    session = sessions()
    wait_until(waits)
    return session


def test_sessions_are_forks_of_one_process_and_share_nothing(
    sessions: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "one"))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    one = first(sessions)
    answer = one.run("first")
    monkeypatch.setenv("HTBENCH_DATA", str(tmp_path / "two"))
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.chdir(tmp_path)
    two = sessions()
    other = two.run("second")
    assert parent(one.server) == parent(two.server) != os.getpid()
    assert one.server != two.server
    assert (answer["seen"], other["seen"]) == (["first"], ["second"])
    assert answer["environment"] == other["environment"]
    assert "HTBENCH_DATA" not in other["environment"]
    assert other["environment"]["OMP_NUM_THREADS"] == "1"
    assert other["folder"] == str(tmp_path)
    assert (
        answer["descriptors"]
        == other["descriptors"]
        == [0, 1, 2, 3, 4][: len(other["descriptors"])]
    )
    assert other["session"] not in (os.getsid(0), two.server)


def test_the_server_ends_with_its_session_and_its_process_stays(sessions: Open) -> None:
    one = first(sessions)
    waiting = parent(one.server)
    one.channel.close()
    one.process.wait(30)
    assert is_alive(waiting)
    assert parent(sessions().server) == waiting


def test_a_changed_package_gets_another_process(sessions: Open, package: Path) -> None:
    old = parent(first(sessions).server)
    (package / "answering.py").write_text(
        CHILD.replace("SEEN.append", "SEEN.insert(0, 'new'); SEEN.append")
    )
    new = sessions()
    assert new.run("word")["seen"] == ["new", "word"]
    assert parent(new.server) != old
    wait_until(lambda: not is_alive(old))


def test_a_new_module_gets_another_process(sessions: Open, package: Path) -> None:
    """It may be one that an import did not find before."""
    old = parent(first(sessions).server)
    (package / "answering2.py").write_text("")
    assert parent(sessions().server) != old


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "HTBENCH_FAILPOINT"]
)
def test_another_environment_has_another_address(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = warm_address(launch._environment())
    monkeypatch.setenv(name, "/elsewhere")
    assert warm_address(launch._environment()) != before


def test_relative_folders_are_those_of_the_working_directory(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = warm_address(launch._environment())
    monkeypatch.chdir(tmp_path)
    assert warm_address(launch._environment()) == before
    monkeypatch.setenv("PYTHONPATH", "package")
    before = warm_address(launch._environment())
    monkeypatch.chdir("package")
    assert warm_address(launch._environment()) != before


def test_what_a_process_inherits_is_part_of_the_address(place: Path) -> None:
    before = warm_address(launch._environment())
    mask = os.umask(0o077)
    os.umask(mask ^ 0o055)  # a user's may be 077 already
    try:
        assert warm_address(launch._environment()) != before
    finally:
        os.umask(mask)
    assert warm_address(launch._environment()) == before


def test_a_killed_process_costs_running_sessions_nothing(sessions: Open) -> None:
    one = first(sessions)
    old = parent(one.server)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not is_alive(old))
    assert one.run("still")["seen"] == ["still"]
    two = sessions()
    assert parent(two.server) != old
    assert two.run("again")["seen"] == ["again"]


def test_a_process_that_does_not_answer_is_replaced(
    sessions: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = parent(first(sessions).server)
    monkeypatch.setattr(launch, "FORK_SECONDS", 0.2)
    os.kill(old, signal.SIGSTOP)
    two = sessions()
    assert parent(two.server) != old
    os.kill(old, signal.SIGCONT)


def test_an_unused_process_ends(sessions: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTBENCH_WARM", "1")
    one = first(sessions)
    waiting = parent(one.server)
    time.sleep(1.2)
    assert is_alive(waiting)  # a session runs
    one.channel.close()
    wait_until(lambda: not is_alive(waiting))
    assert not waits()


def test_call_ahead_is_used_by_the_next_session(sessions: Open) -> None:
    waiting = parent(first(sessions).server)
    launch.call_ahead()
    ahead = dict(launch._ahead)
    two = sessions()
    assert list(ahead.values()) == [two.channel]
    assert parent(two.server) == waiting
    assert not launch._ahead


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_folder_that_others_can_enter_is_not_used(place: Path, mode: int) -> None:
    folder = warm_folder()
    folder.chmod(mode)
    assert warm_address(launch._environment()) is None
    folder.chmod(0o700)
    assert warm_address(launch._environment()) is not None
    folder.rmdir()
    folder.symlink_to("/")
    assert warm_address(launch._environment()) is None


def test_a_socket_of_another_user_is_not_used(
    sessions: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = parent(first(sessions).server)
    monkeypatch.setattr(launch, "peer_user", lambda channel: os.geteuid() + 1)
    assert parent(sessions().server) != waiting


def test_doctor_counts_the_processes(sessions: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._waiting().startswith("0; each ends 60 s after")
    first(sessions)
    assert doctor._waiting().startswith(f"1 ({warm_folder()}); each ends 60 s after")
    monkeypatch.setenv("HTBENCH_WARM", "0")
    assert doctor._waiting() == "none, because HTBENCH_WARM is 0"


@pytest.mark.parametrize("value", ["0", "off", "-1"])
def test_none_waits_where_it_is_switched_off(
    place: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTBENCH_WARM", value)
    assert warm_address(launch._environment()) is None


def test_none_waits_where_runs_are_not_isolated(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run could connect to it there."""
    monkeypatch.setattr(launch, "available", lambda: Availability(0, True, ("no Landlock",)))
    assert warm_address(launch._environment()) is None
