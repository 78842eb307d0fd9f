"""The fork server: imports torch and networks' libraries once, and forks one child per job.

Started by exec as ``python -P -m benchmark.isolation.server DESCRIPTOR MODULE``, so that it
inherits nothing from the driver. ``MODULE.main(channel, sandbox)`` is what a child runs, and
``MODULE.prepare(network)`` what the server does before. A fork takes about 10 ms; a fresh
interpreter with torch takes seconds. The server must never compute with several threads: a child
that is forked from a process whose OpenMP pool has been used hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import RunError
from benchmark.failpoints import reach
from benchmark.isolation import cgroup, wire
from benchmark.isolation.allowlist import package_folders
from benchmark.isolation.kernel import separate_mounts
from benchmark.isolation.sandbox import Sandbox

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


class Entry(Protocol):
    """A module with what a child runs."""

    def main(self, channel: socket.socket, sandbox: Sandbox) -> None:
        """In a child: do one job."""

    def prepare(self, network: Mapping[str, Any]) -> None:
        """In the server: do once what children with a network have in common."""


class Server:
    """Forks children on request, kills them on request, and reports when one has exited.

    Args:
        control: channel to the driver.
        entry: what a child runs.
    """

    def __init__(self, control: socket.socket, entry: Entry) -> None:
        self.control, self.entry = control, entry
        self.children: dict[int, int] = {}  # process id -> job number
        self.sandbox: Sandbox | None = None  # built from the driver's first message
        self.prepared: Mapping[str, Any] | None = None  # the network of the last job with one
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write)

    def serve(self) -> None:
        """Serve until the driver closes its end or dies; then kill every child."""
        try:
            # The driver may die in the middle of a message, which is an end like any other.
            with contextlib.suppress(OSError, RunError):
                wire.send(self.control, {"ready": os.getpid()})
                package_folders()  # while the driver prepares its first request
                while self.serve_one():
                    pass
        finally:
            for pid in self.children:
                _kill(pid)

    def serve_one(self) -> bool:
        """Wait for a request or the exit of a child, and handle it; False at the end."""
        control = self.control.fileno()
        ready, _, _ = select.select([control, self.wake_read], [], [])
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)
            self.reap()
        return control not in ready or self.handle()

    def handle(self) -> bool:
        """Carry out one request of the driver; False when it has closed its end."""
        received = wire.receive(self.control)
        if received is None:
            return False
        message, fds = received
        if "never" in message:
            if message["folder"] is not None:
                with contextlib.suppress(OSError):  # then no relative path leads anywhere either
                    os.chdir(message["folder"])
            self.sandbox = Sandbox(never=map(Path, message["never"]), cuda=message["cuda"])
        elif "fork" in message:
            if message.get("network") is not None:
                self.prepare(message["network"])
            self.fork(int(message["fork"]), fds, message.get("group"))
        elif "kill" in message:
            for pid in [p for p, job in self.children.items() if job == message["kill"]]:
                _kill(pid)
        return True

    def prepare(self, network: Mapping[str, Any]) -> None:
        """Prepare what children with a network need, each network once."""
        if network != self.prepared:
            # If it fails, the child does it too, and reports why.
            with contextlib.suppress(Exception):
                self.entry.prepare(network)
            self.prepared = network
            gc.freeze()

    def fork(self, job: int, fds: list[int], group: str | None = None) -> None:
        """Fork the child of a job; ``fds`` are its channel and its output file.

        Args:
            group: the control group that it joins, if there is one.
        """
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # as many processes run as may, or there is no memory
            wire.send(self.control, {"refused": job, "errno": error.errno})
        else:
            if pid == 0:
                self.become_child(server, fds, group)
            self.children[pid] = job
            reach("child-forked")
            wire.send(self.control, {"forked": job, "pid": pid})
        for fd in fds:
            os.close(fd)

    def become_child(self, server: int, fds: list[int], group: str | None) -> None:
        """In the child: release what belongs to the server, do the job, exit."""
        code = 1
        try:
            channel, output = fds
            _die_with(server)
            _offer_to_the_kernel()
            keep_freed_memory()
            if group is not None:
                cgroup.join(group)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            os.close(self.wake_read)
            os.close(self.wake_write)
            os.setsid()  # one process group per run, to be killed as a whole
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            # Two runs that inherit one open file share its flags and its offset.
            close_all_but({0, 1, 2, channel})
            assert self.sandbox is not None
            self.entry.main(socket.socket(fileno=channel), self.sandbox)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def reap(self) -> None:
        """Report every child that has exited to the driver."""
        for pid in list(self.children):
            exited, status, usage = os.wait4(pid, os.WNOHANG)
            if not exited:
                continue
            job = self.children.pop(pid)
            peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            message: dict[str, Any] = {"exited": job, "status": status, "peak_memory": peak}
            with contextlib.suppress(OSError):
                wire.send(self.control, message)


def close_all_but(kept: set[int]) -> None:
    """Close every other descriptor of this process."""
    for descriptor in _open_descriptors() - kept:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _open_descriptors() -> set[int]:
    """The open descriptors of this process; where /proc does not list them, the usual range."""
    with contextlib.suppress(OSError):
        return {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    return set(range(256))


def _offer_to_the_kernel() -> None:
    """Have the kernel kill this process first if memory runs out, not the driver."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def keep_freed_memory() -> None:
    """Have glibc keep freed memory instead of returning large blocks to the kernel.

    Each step of training frees the same tensors and allocates them again, and the kernel fills
    every page that it gives out with zeros: a third of the time of a step of MobileNetV2.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries do not have it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens.

    Nothing else would: the driver knows the children through the server only.
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


def import_entry(module: str) -> Entry:
    """Import what children need; what they run."""
    entry: Entry = importlib.import_module(module)
    # A child that looks for garbage among the objects of these modules would copy their memory.
    gc.freeze()
    return entry


def main() -> None:
    """Import what children need, then serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    separate_mounts()
    Server(control, import_entry(sys.argv[2])).serve()
    os._exit(0)  # what Python does at its end takes a while with so many modules


if __name__ == "__main__":
    main()
