"""Run a function over many items on all cores, in worker processes.

A worker is a new interpreter that imports this module and nothing of the caller's: unlike the
workers of ``multiprocessing``, it does not import ``__main__`` again, so a plain script, a
notebook and ``python < script`` all work, whatever files lie in the working directory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import benchmark
from benchmark.errors import DataError, HTBenchError
from benchmark.isolation.cgroup import cores

POOL_FROM = 1024  # with fewer items, starting workers takes longer than it saves
# Bytes that a job may take: the largest image, with transparency, takes 0.8 GiB, its file 0.25 GiB.
MEMORY = 3 << 29
STOP_SECONDS = 5.0  # for a worker to remove its temporary files
PARENT_SECONDS = 0.5  # between two checks that the parent is alive

J = TypeVar("J")
T = TypeVar("T")

# The parent folder of our package comes first, so that no other `benchmark` can be imported.
_START = "import sys; sys.path.insert(0, sys.argv[1]); from benchmark.pool import _work; _work()"


def worker_count(items: int) -> int:
    """How many processes work on that many items: 1 (this process), or one per core."""
    return cores() if items >= POOL_FROM else 1


def each(function: Callable[[J], T], jobs: Iterable[J], items: int) -> Iterator[T]:
    """Apply a function to every job, on all cores if there are many items.

    Args:
        function: a function at the top level of an importable module that does not import torch.
        jobs: its arguments; each covers some of the items, and is asked for when it is needed.
        items: the total number of items, such as images.

    Yields:
        The result of each job, in order of completion.

    Raises:
        DataError: a worker was killed.
        Exception: what the function raised; MemoryError if it needed more than ``MEMORY`` in a
            worker.
    """
    count = worker_count(items)
    if count <= 1:
        yield from map(function, jobs)
        return
    waiting = iter(jobs)
    workers: dict[connection.Connection, _Worker] = {}
    try:
        for job in islice(waiting, count):
            worker = _Worker()
            workers[worker.channel] = worker
            worker.send((function, job))
        busy = set(workers)
        while busy:
            for channel in connection.wait(busy):
                assert isinstance(channel, connection.Connection)
                result, error = workers[channel].receive()
                if error is not None:
                    raise error
                busy.discard(channel)
                for job in islice(waiting, 1):
                    workers[channel].send((function, job))
                    busy.add(channel)
                yield result
    finally:
        _stop(list(workers.values()))


class _Worker:
    """A worker process, seen from the process that started it."""

    def __init__(self) -> None:
        self.channel, theirs = connection.Pipe()
        package = Path(benchmark.__file__).resolve().parent
        command = [sys.executable, "-P", "-c", _START, str(package.parent)]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,  # the caller's script may be on standard input
                stdout=subprocess.DEVNULL,  # standard output is the caller's alone
                process_group=0,  # Ctrl-C reaches the caller alone, which then stops the workers
            )
        self.send(([path for path in sys.path if path], MEMORY))

    def send(self, message: object) -> None:
        """Send a message; :meth:`receive` notices a dead worker."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(message)

    def receive(self) -> tuple[Any, Exception | None]:
        """The result of the last job, or the exception that it raised.

        Raises:
            DataError: the worker is dead.
        """
        try:
            result, error = self.channel.recv()
            return result, error
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
        if code < 0:
            problem = (
                f"was killed by signal {-code}, perhaps because the machine ran out of memory; run "
                "the same command again to continue"
            )
        else:
            problem = f"exited with code {code}; see its error output"
        raise DataError(f"a worker process {problem}") from None


def _stop(workers: Sequence[_Worker]) -> None:
    """End all workers now; none is left when this returns."""
    for worker in workers:
        worker.channel.close()
        worker.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:  # including a second Ctrl-C
            for other in workers:
                other.process.kill()
            worker.process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise


# --- in the worker --------------------------------------------------------------------------------


def _work() -> None:
    """Do the jobs that the parent sends, until it closes the channel or dies."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # clean-up handlers run
    package, descriptor, parent = sys.argv[1:]
    threading.Thread(target=_exit_with, args=(int(parent),), daemon=True).start()
    try:
        with (
            contextlib.suppress(EOFError, OSError),
            connection.Connection(int(descriptor)) as channel,
        ):
            # Our package is imported; its folder must not hide the standard library from here on.
            sys.path.remove(package)
            paths, memory = channel.recv()
            sys.path.extend(path for path in paths if path not in sys.path)
            while True:
                function, job = channel.recv()  # imports the function's module
                _limit_memory(memory)
                channel.send(_attempt(function, job))
    finally:
        gc.freeze()  # garbage that the end of the process leaves anyway is not looked for
        # The exit has begun: a late request to exit would raise inside the interpreter's shutdown.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _limit_memory(size: int) -> None:
    """Refuse this process more than ``size`` bytes beyond what it takes now, where Linux tells."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, most))


def _attempt(function: Callable[[Any], Any], job: object) -> tuple[Any, Exception | None]:
    try:
        return function(job), None
    except HTBenchError as error:
        return None, error
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


def _exit_with(parent: int) -> None:
    """End this process soon after its parent, also in the middle of a job."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
