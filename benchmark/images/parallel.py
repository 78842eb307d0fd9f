"""Work on many images on all cores, in processes that end with the one that started them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from benchmark.errors import DataError

POOL_FROM = 1024  # fewer images are worked on in this process: starting others takes longer

J = TypeVar("J")
T = TypeVar("T")


def workers(images: int) -> int:
    """How many processes work on that many images: this one, or one on every core."""
    return len(os.sched_getaffinity(0)) if images >= POOL_FROM else 1


def each(work: Callable[[J], T], jobs: Sequence[J], images: int) -> Iterator[T]:
    """What the work gives for each job, in the order in which they are done.

    Args:
        work: a function of a module, that loads no torch.
        jobs: some images each.
        images: in all jobs together.

    Raises:
        DataError: a process was killed from outside.
    """
    if workers(images) == 1:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers(images), mp_context=context, initializer=_begin) as pool:
        try:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise DataError(
                "a process that decodes images was killed, as where memory runs out; the same "
                "command goes on where this one stopped"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin() -> None:
    """Ctrl-C is for the first process, which ends this one in order; its death is this one's too.

    A pool's processes would wait for work for ever if the one that gives it were killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first, daemon=True).start()


def _end_with_the_first() -> None:
    first = multiprocessing.parent_process()
    assert first is not None
    multiprocessing.connection.wait([first.sentinel])
    os._exit(1)
