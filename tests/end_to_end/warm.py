"""Start drivers fast: fork each from a process that has already imported everything.

Run as ``python warm.py SOCKET``. Tests that kill a driver, its fork server or its runs need many
real processes, and starting one by exec takes four seconds. Here the driver is forked, and forks
its fork server in turn: they behave, and descend from each other, as in the real command. The
warm process computes nothing before a fork. Tests of what a process inherits start the real
command instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NAME, PARENT_DEATH = 15, 1  # PR_SET_NAME, PR_SET_PDEATHSIG of <linux/prctl.h>
IMPORTED = (
    "torch._dynamo",
    "torch.optim",
    "benchmark.child.main",
    "benchmark.driver",
    "htbench.cli.run",
    "htbench.sources",
    "htbench.cli.leaderboard",
    "htbench.run",
    "htbench.tune",
    "pandas",
)


class Driver:
    """A command in its own process, with the interface of `subprocess.Popen` that the tests use.

    Args:
        address: the socket of the process that forks drivers.
        arguments: the command's arguments.
        environment: the process's environment.
        folder: where its output is written.
        name: the name of the process and of all that it starts (``/proc/PID/comm``), at most
            15 characters.
        settings: module attributes to set in the driver: ``{"benchmark.checkpoint.SECONDS": 0}``
        screen: a file descriptor to write all output to instead.
    """

    def __init__(
        self,
        address: Path,
        arguments: list[str],
        environment: dict[str, str],
        folder: Path,
        name: str,
        settings: dict[str, Any] | None = None,
        screen: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        self._printed = [folder / f"{number}-{stream}.txt" for stream in ("out", "err")]
        request = {"arguments": arguments, "environment": environment, "name": name}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.fspath(address))
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in self._printed]
            data = json.dumps(request | {"settings": settings or {}}).encode()
            outputs = [file.fileno() for file in files] if screen is None else [screen, screen]
            socket.send_fds(self._connection, [data], outputs)
        self._lines = self._connection.makefile("r")
        self.pid = int(self._lines.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status, negative for a signal.

        Raises:
            TimeoutError: the command is still running after ``timeout`` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise TimeoutError(f"the command is still running after {timeout} s")
            self.returncode = os.waitstatus_to_exitcode(int(self._lines.readline()))
            self._lines.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit status, or None while the command runs."""
        with contextlib.suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def errors(self) -> str:
        """Standard error so far."""
        return self._printed[1].read_text()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait, then return standard output and standard error."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._printed)
        return out, err

    def kill(self) -> None:
        """Kill the driver only."""
        os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *problem: object) -> None:
        if problem[0] is not None and self.poll() is None:
            self.kill()
        self.wait(60)


# --- in the process that forks drivers ----------------------------------------------------------


class ForkedServer:
    """Replaces `subprocess.Popen` where the driver starts its fork server: forks instead."""

    def __init__(self, command: list[str], env: dict[str, str], pass_fds: list[int], **_: Any):
        from benchmark.isolation import server

        module, _, child = command[-3:]
        assert module == server.__name__
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            with exiting():
                (control,) = pass_fds
                os.setsid()
                os.closerange(3, control)
                os.closerange(control + 1, 4096)  # locks are the driver's only
                os.environ.clear()
                os.environ.update(env)
                sys.argv = [module, str(control), child]
                server.main()

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 3600)
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("server", timeout or 3600)
            else:
                time.sleep(0.005)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def exiting():
    """Exit the process after the block, with the status that the block asked for."""
    code: Any = 1
    try:
        yield
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def drive(request: dict[str, Any], files: list[int]) -> None:
    """Turn this forked process into the driver that ``request`` describes."""
    from benchmark import failpoints
    from htbench.cli.main import main

    os.setsid()
    ctypes.CDLL(None).prctl(NAME, request["name"].encode(), 0, 0, 0)
    for standard, file in enumerate(files, start=1):
        os.dup2(file, standard)
    os.closerange(3, 4096)
    os.environ.clear()
    os.environ.update(request["environment"])
    failpoints._SETTING = os.environ.get(failpoints.VARIABLE)
    for path, value in request["settings"].items():
        module, _, name = path.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    # A test session in the background would pass on its ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(request["arguments"])


def watch(connection: socket.socket) -> None:
    """Fork one driver; send back its process id, then its wait status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, files, *_ = socket.recv_fds(connection, 1 << 20, 2)
    pid = os.fork()
    if pid == 0:
        with exiting():
            drive(json.loads(data), files)
    connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the test has stopped waiting
        connection.sendall(f"{status}\n".encode())


def serve(address: str) -> None:
    """Import everything, then fork a watcher, which forks a driver, for each connection."""
    ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    for name in IMPORTED:
        importlib.import_module(name)
    from benchmark.isolation import launch
    from htbench.cli.run import _BOARD_MODULES

    # A driver imports these in a thread. A fork server that is forked meanwhile would have the lock
    # of a module whose import never ends, and its runs would wait for it.
    for name in _BOARD_MODULES:
        importlib.import_module(name)

    launch.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=ForkedServer,
        DEVNULL=subprocess.DEVNULL,
        TimeoutExpired=subprocess.TimeoutExpired,
    )
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers are not waited for
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                with exiting():
                    listener.close()
                    watch(connection)
            connection.close()


if __name__ == "__main__":
    serve(sys.argv[1])
