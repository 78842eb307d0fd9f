"""The driver's side: start the fork server, submit jobs, tolerate any reply."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from benchmark.choices import TIME_LIMIT
from benchmark.errors import RunError, UsageError
from benchmark.isolation import cgroup, measure, wire
from benchmark.isolation.launch import start_server
from benchmark.jobs import ConfigureJob, DescribeJob, FeaturesJob, Job, Network, RunJob, job_message

GONE = "the worker process exited before the run finished"
FINISH_SECONDS = 5
LOCK_SECONDS = 0.5  # between two looks at a lock that another driver holds
WATCH_SECONDS = 0.1
SCRATCH_SECONDS = 1.0
MAX_GIB = 1 << 33  # 2 ** 63 bytes
DESCRIBE_SECONDS = 300  # enough to import a method's code, and to check its settings
RAISE_SECONDS = "; to raise it, use --time-limit SECONDS"
RAISE_MEMORY = "; to raise it, use --memory-limit GIB"


@dataclass(frozen=True)
class Limits:
    """What one run may use; a run that uses more is killed and becomes a failed row.

    Attributes:
        seconds: wall time from fork to answer.
        memory: bytes of its process in memory or swapped out, without mapped files; about 0.4 GiB
            are the shared interpreter.
        scratch: bytes on disk of its files, those included that are open or mapped but no longer
            have a name, and at least 4 KiB for each; and the length of any one file that it writes.
        output: bytes of printed output.
        raise_seconds, raise_memory: how a user raises the limit, as the end of a sentence.
    """

    seconds: float = float(TIME_LIMIT)
    memory: int = field(default_factory=lambda: measure.default_memory(cgroup.memory_limit()))
    scratch: int = 16 << 30
    output: int = 16 << 20
    raise_seconds: str = ""
    raise_memory: str = ""

    @classmethod
    def of_run(cls, seconds: float, memory: float | None) -> Self:
        """Limits that are options of a command: seconds, and GiB of memory; None for the default.

        Raises:
            UsageError: one is not a positive number, or has more bytes than an address.
        """
        if not seconds > 0:
            raise UsageError(f"the time limit is {seconds:g}; give a positive number of seconds")
        if memory is not None and not 0 < memory < MAX_GIB:
            raise UsageError(
                f"the memory limit is {memory:g}; give a positive number of GiB, below {MAX_GIB}"
            )
        limits = cls(seconds=seconds, raise_seconds=RAISE_SECONDS, raise_memory=RAISE_MEMORY)
        return limits if memory is None else replace(limits, memory=round(memory * 2**30))


@dataclass(frozen=True)
class Exit:
    """How a child exited: exit code or signal, and its peak resident memory in bytes."""

    code: int | None
    signal: int | None
    peak_memory: int

    def __str__(self) -> str:
        if self.signal is not None:
            named = self.signal in set(signal.Signals)  # most real-time signals have no name
            name = signal.Signals(self.signal).name if named else f"signal {self.signal}"
            return f"was killed by {name}"
        return f"exited with code {self.code}"


class Child:
    """One running child, seen from the driver.

    Attributes:
        killed_for: why the driver killed it, if it did.
    """

    def __init__(
        self,
        server: ForkServer,
        job: int,
        channel: socket.socket,
        scratch: Path,
        output: int,
        limits: Limits,
        group: Path | None = None,
    ) -> None:
        self._group = group
        self._server, self._job, self._channel = server, job, channel
        self._scratch, self._output = scratch, os.dup(output)
        self._exit: Future[Exit] = server.exits[job]
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._checked_scratch = 0.0
        self.killed_for = ""

    def check_limits(self) -> None:
        """Kill the child if it exceeds one of the limits."""
        limits, pid = self._limits, self._server.pids.get(self._job)
        if self._exit.done() or self.killed_for:
            return
        if time.monotonic() > self._deadline:
            self.killed_for = (
                f"it exceeded the time limit of {limits.seconds:g} s{limits.raise_seconds}"
            )
        elif pid is not None and (used := measure.memory(pid)) > limits.memory:
            self.killed_for = f"{_too_much(used, limits.memory, 'memory')}{limits.raise_memory}"
        elif (used := measure.bytes_taken(os.fstat(self._output))) > limits.output:
            self.killed_for = _too_much(used, limits.output, "printed output")
        elif (problem := self._scratch_problem()) is not None:
            self.killed_for = problem
        if self.killed_for:
            self.kill()

    def _scratch_problem(self) -> str | None:
        """What is wrong with the scratch folder; checked rarely, because it may be large."""
        now = time.monotonic()
        if now - self._checked_scratch < SCRATCH_SECONDS:
            return None
        self._checked_scratch = now
        limit = self._limits.scratch
        try:
            used = measure.disk(self._scratch, self._server.pids.get(self._job))
        except OSError as error:  # hidden by its mode, or too deep
            return f"its scratch folder cannot be read: {error.strerror}"
        return _too_much(used, limit, "scratch files") if used > limit else None

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a message and data; the next :meth:`receive` notices a child that has exited."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._channel, message, data=data)

    def receive(self) -> dict[str, Any] | None:
        """The child's next message, or None when it has closed its end.

        Raises:
            RunError: it is not a valid message.
        """
        try:
            received = wire.receive(self._channel, limit=1 << 20)
        except ConnectionResetError:
            return None
        if received is None:
            return None
        message, fds = received
        for fd in fds:  # a child must not send any
            os.close(fd)
        return message

    def receive_data(self, size: int) -> bytearray | None:
        """The data after the child's message, or None when it closed its end before their end."""
        try:
            return wire.receive_data(self._channel, size)
        except (ConnectionResetError, RunError):
            return None

    def kill(self) -> None:
        """Kill the child's whole process group."""
        self._server.kill(self._job)

    def hang_up(self) -> None:
        """End the conversation: a thread that waits for the child's next message gets None."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def finish(self) -> Exit:
        """How it exited; a child that keeps running after its last message is killed.

        Raises:
            OSError: the system could not start it.
        """
        try:
            how = self._exit.result(timeout=FINISH_SECONDS)
        except TimeoutError:
            self.kill()
            how = self._exit.result()
        if self._group is not None and not self.killed_for and cgroup.exceeded_memory(self._group):
            limits = self._limits
            self.killed_for = (
                f"it used more memory than the limit of {limits.memory / 2**20:.0f} MiB"
                f"{limits.raise_memory}"
            )
        return how

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._exit.done():
            self.kill()
        self._server.forget(self._job)
        self._channel.close()
        os.close(self._output)
        if self._group is not None:
            with contextlib.suppress(OSError):  # it still runs, or never did
                self._exit.result(timeout=FINISH_SECONDS)
            cgroup.remove(self._group)


def _too_much(used: int, limit: int, what: str) -> str:
    return f"it used {used / 2**20:.0f} MiB of {what}; the limit is {limit / 2**20:.0f} MiB"


def _network_of(job: Job) -> dict[str, Any] | None:
    """What the server prepares for a job; see ``prepare`` in ``benchmark/child/main.py``."""
    network: Network | None = getattr(job, "network", None)
    if network is None:
        return None
    return {
        "model": network.model,
        "classes": len(network.classes),
        "size": network.input_size,
        # Only of runs and their like: another job has built this network before, on trial.
        "is_built": isinstance(job, FeaturesJob | RunJob),
    }


def _working_folder() -> str | None:
    """The working directory, which files of jobs may be relative to; None if it was removed."""
    with contextlib.suppress(OSError):
        return str(Path.cwd())
    return None


class ForkServer:
    """A context manager that runs the fork server; safe to use from several threads.

    Args:
        never: folders that no child may read (data, workspace), whatever else it may.
        cuda: whether children use an NVIDIA GPU.
        limits: of each child.
        required: facts of the sandbox without which no method may run.
    """

    def __init__(
        self,
        *,
        never: Iterable[Path] = (),
        cuda: bool = False,
        limits: Limits | None = None,
        required: Iterable[str] = (),
    ) -> None:
        self.limits = limits or Limits()
        self.required = frozenset(required)
        self._groups = cgroup.open_groups()  # before the server starts, which is then in none
        # A group goes with its command: no process may stay in it.
        self._control, self._process = start_server(keep=self._groups is None)
        self.alive = True  # False once it is closing or has died, and its children with it
        self._lock = threading.Lock()
        self._jobs = 0
        self.exits: dict[int, Future[Exit]] = {}
        self.pids: dict[int, int] = {}
        self._children: dict[int, Child] = {}
        closed = [str(path) for path in never]
        wire.send(self._control, {"never": closed, "cuda": cuda, "folder": _working_folder()})
        for loop in (self._read_control, self._watch):
            threading.Thread(target=loop, daemon=True).start()

    def start(self, job: Job, output: int) -> Child:
        """Fork a child and send it a job (see ``benchmark/child/main.py``).

        Args:
            job: what the child does.
            output: open descriptor that becomes the child's standard output and error.

        Raises:
            RunError: the server has exited.
        """
        # The user's limits are those of a method's code; training a source model may take more.
        of_run = short = self.limits
        if of_run.seconds > DESCRIBE_SECONDS:
            short = replace(of_run, seconds=DESCRIBE_SECONDS, raise_seconds="")
        kinds = {RunJob.kind: of_run, DescribeJob.kind: short, ConfigureJob.kind: short}
        limits = kinds.get(job.kind) or Limits(
            memory=max(of_run.memory, Limits().memory), raise_memory=of_run.raise_memory
        )
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._lock:
                self._jobs += 1
                number = self._jobs
                self.exits[number] = Future()
                group = self._groups.create(number, limits.memory) if self._groups else None
                request = {
                    "fork": number,
                    "group": group and str(group),
                    "network": _network_of(job),
                }
                wire.send(self._control, request, [theirs.fileno(), output])
        except OSError:
            ours.close()
            raise RunError(GONE) from None
        child = Child(self, number, ours, Path(job.scratch), output, limits, group)
        self._children[number] = child
        child.send(job_message(job, limits.scratch))
        return child

    def forget(self, job: int) -> None:
        """Stop watching a child whose job is over."""
        self._children.pop(job, None)

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

    def _watch(self) -> None:
        while self.alive:
            time.sleep(WATCH_SECONDS)
            for child in list(self._children.values()):
                with contextlib.suppress(OSError):  # it exited meanwhile
                    child.check_limits()

    def _read_control(self) -> None:
        with contextlib.suppress(OSError, RunError):
            while (received := wire.receive(self._control)) is not None:
                message, _ = received
                if "forked" in message:
                    self.pids[message["forked"]] = message["pid"]
                    continue
                if "refused" in message:
                    number = int(message["errno"])
                    error = OSError(number, os.strerror(number), "the process of a run")
                    self.exits[message["refused"]].set_exception(error)
                    continue
                status, job = int(message["status"]), message["exited"]
                self.pids.pop(job, None)  # the number may soon be another process's
                how = Exit(
                    code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
                    signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
                    peak_memory=int(message["peak_memory"]),
                )
                self.exits[job].set_result(how)
        self.alive = False
        for future in list(self.exits.values()):  # the server is gone, and its children with it
            if not future.done():
                future.set_result(Exit(None, signal.SIGKILL, 0))
        for child in list(self._children.values()):
            child.hang_up()


@contextlib.contextmanager
def held(lock: FileLock, server: ForkServer) -> Iterator[None]:
    """Hold a lock; give up waiting for it once the server has ended, as after Ctrl-C.

    A thread waits so for another driver: Ctrl-C interrupts the main thread only.

    Raises:
        RunError: the server has ended.
    """
    while True:
        try:
            lock.acquire(timeout=LOCK_SECONDS)
            break
        except Timeout:
            if not server.alive:
                raise RunError(GONE) from None
    try:
        yield
    finally:
        lock.release()
