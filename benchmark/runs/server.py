"""The fork server: imports torch once, computes nothing, and forks one child per job.

Started by exec as ``python -P -m benchmark.runs.server DESCRIPTOR``, so that it inherits nothing
of the driver. A fork costs about 10 ms where a fresh interpreter with torch takes seconds. It
must never compute: a child forked from a process whose OpenMP pool has been used hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmark.errors import RunError
from benchmark.failpoints import reach
from benchmark.runs import wire
from benchmark.runs.sandbox import Sandbox

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Server:
    """Forks children on request, kills them on request, and tells when one has ended."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: dict[int, int] = {}  # process id -> job number
        self.sandbox: Sandbox | None = None  # the driver's first message says what to keep closed
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write)

    def serve(self) -> None:
        """Until the driver closes its end or dies; then every child is killed."""
        try:
            # The driver may die in the middle of a word: that is an end like any other.
            with contextlib.suppress(OSError, RunError):
                wire.send(self.control, {"ready": os.getpid()})
                while self.serve_one():
                    pass
        finally:
            for pid in self.children:
                _kill(pid)

    def serve_one(self) -> bool:
        """Wait for a request or the end of a child, and see to it; False at the end."""
        control = self.control.fileno()
        ready, _, _ = select.select([control, self.wake_read], [], [])
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)
            self.reap()
        return control not in ready or self.handle()

    def handle(self) -> bool:
        """Carry out one request of the driver; False when there is none to come."""
        received = wire.receive(self.control)
        if received is None:
            return False
        message, fds = received
        if "never" in message:
            self.sandbox = Sandbox(never=map(Path, message["never"]), cuda=message["cuda"])
        elif "fork" in message:
            self.fork(int(message["fork"]), fds)
        elif "kill" in message:
            for pid in [p for p, job in self.children.items() if job == message["kill"]]:
                _kill(pid)
        return True

    def fork(self, job: int, fds: list[int]) -> None:
        """Fork the child of a job; ``fds`` are its channel and its output file."""
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self.become_child(server, *fds)
        self.children[pid] = job
        reach("child-forked")
        wire.send(self.control, {"forked": job, "pid": pid})
        for fd in fds:
            os.close(fd)

    def become_child(self, server: int, channel: int, output: int) -> None:
        """In the child: let go of everything of the server's, do the job, never return."""
        code = 1
        try:
            _die_with(server)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            os.setsid()  # one process group per run, to be killed as a whole
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            from benchmark.runs import child

            assert self.sandbox is not None
            child.main(socket.socket(fileno=channel), self.sandbox)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def reap(self) -> None:
        """Tell the driver about every child that has ended."""
        for pid in list(self.children):
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if not done:
                continue
            job = self.children.pop(pid)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            note: dict[str, Any] = {"exited": job, "status": status, "peak_memory": peak}
            with contextlib.suppress(OSError):
                wire.send(self.control, note)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens.

    Nobody else would: the driver knows of the children through the server only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _kill(pid: int) -> None:
    """Kill a child and the rest of its process group."""
    for send in (os.killpg, os.kill):  # it may not have made its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def main() -> None:
    """Import what children need, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    # Imported for their modules, before the first fork. The first optimizer that is made imports
    # torch._dynamo, which takes a second: not once a run.
    for name in ("torch._dynamo", "torch.optim", "benchmark.runs.child"):
        importlib.import_module(name)
    Server(control).serve()


if __name__ == "__main__":
    main()
