"""The driver's side of the children: start the fork server, hand out jobs, survive any answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from benchmark.errors import RunError
from benchmark.numerics import ENVIRONMENT
from benchmark.runs import wire

FINISH_SECONDS = 5
START_SECONDS = 120  # importing torch from a cold disk takes long
# What a child may know of the user's environment; everything else stays out of its reach.
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT",
                  "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES",
                  "OPENBLAS_CORETYPE")  # fmt: skip


@dataclass(frozen=True)
class Exit:
    """How a child ended: exit code or signal, and its peak resident memory in bytes."""

    code: int | None
    signal: int | None
    peak_memory: int

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was killed by {signal.Signals(self.signal).name}"
        return f"ended with exit code {self.code}"


class Child:
    """One running child, seen from the driver."""

    def __init__(self, server: ForkServer, job: int, channel: socket.socket) -> None:
        self._server, self._job, self._channel = server, job, channel
        self._exit: Future[Exit] = server.exits[job]

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a message; a child that is gone is noticed at the next :meth:`receive`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._channel, message, fds)

    def receive(self) -> dict[str, Any] | None:
        """The child's next message, or None when it has closed its end.

        Raises:
            RunError: what came is no message.
        """
        try:
            received = wire.receive(self._channel, limit=1 << 20)
        except ConnectionResetError:
            return None
        if received is None:
            return None
        message, fds = received
        for fd in fds:  # a child has no business sending any
            os.close(fd)
        return message

    def kill(self) -> None:
        """Kill the child's whole process group."""
        self._server.kill(self._job)

    def finish(self) -> Exit:
        """How it ended; a child that goes on after its last word is killed."""
        try:
            return self._exit.result(timeout=FINISH_SECONDS)
        except TimeoutError:
            self.kill()
            return self._exit.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._exit.done():
            self.kill()
        self._channel.close()


class ForkServer:
    """A context manager that runs the fork server; safe to use from several threads."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        kept = {k: os.environ[k] for k in KEPT_VARIABLES if k in os.environ}
        environment = {
            **kept,
            **ENVIRONMENT,
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/nonexistent",
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmark.runs.server", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the driver, which then ends the children
            )
        self._control = ours
        self.alive = True  # False once it is being closed or has died: its children are no more
        self._lock = threading.Lock()
        self._jobs = 0
        self.exits: dict[int, Future[Exit]] = {}
        self._await_ready()
        self._reader = threading.Thread(target=self._read_exits, daemon=True)
        self._reader.start()

    def _await_ready(self) -> None:
        self._control.settimeout(START_SECONDS)
        try:
            ready = wire.receive(self._control)
        except TimeoutError:
            ready = None
        if ready is None:
            self.close()
            raise RunError(
                "the process that runs methods did not start; `htbench doctor` may tell why"
            )
        self._control.settimeout(None)

    def start(self, job: Mapping[str, Any], output: int) -> Child:
        """Fork a child and hand it a job (see ``runs/child.py``).

        Args:
            job: JSON-able description of the work.
            output: open descriptor that becomes the child's standard output and error.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            self._jobs += 1
            number = self._jobs
            self.exits[number] = Future()
            wire.send(self._control, {"fork": number}, [theirs.fileno(), output])
        child = Child(self, number, ours)
        child.send(job)
        return child

    def kill(self, job: int) -> None:
        """Kill the child of a job."""
        with self._lock, contextlib.suppress(OSError):
            wire.send(self._control, {"kill": job})

    def close(self) -> None:
        """End the server and with it every child."""
        self.alive = False
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_exits(self) -> None:
        with contextlib.suppress(OSError, RunError):
            while (received := wire.receive(self._control)) is not None:
                message, _ = received
                status = int(message["status"])
                done = Exit(
                    code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                    signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
                    peak_memory=int(message["peak_memory"]),
                )
                self.exits[message["exited"]].set_result(done)
        self.alive = False
        for future in self.exits.values():  # the server is gone, and its children with it
            if not future.done():
                future.set_result(Exit(None, signal.SIGKILL, 0))
