"""When the last of some runs ends, by the two ways to divide runs between workers."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def makespan(parts: Iterable[Iterable[T]], seconds: Mapping[T, float]) -> float:
    """Seconds until the last shard ends, from the seconds of each run."""
    return max(sum(seconds[run] for run in part) for part in parts)


def pulled(lengths: Sequence[float], workers: int) -> float:
    """Seconds until the last chain ends if an idle worker takes the next one."""
    free = [0.0] * workers
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free)
