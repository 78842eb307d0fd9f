"""Time alternatives side by side, describe the machine, and print Markdown tables.

The alternatives take turns, so that a slowdown of the machine affects all of them, and ratios are
those of the same turn. Shown are medians, with the least and the largest value in brackets.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from statistics import median
from time import perf_counter, process_time

import torch
from tabulate import tabulate

from benchmark.numerics import environment

PACKAGES = ("numpy", "torch", "torchvision", "pillow", "scikit-learn", "torchmetrics")


@dataclass
class Times:
    """Seconds of each turn: on the clock, and of all processors, ended child processes included."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], object]) -> None:
        """Add a turn."""
        wall, cpu = perf_counter(), cpu_seconds()
        work()
        self.wall.append(perf_counter() - wall)
        self.cpu.append(cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Processor seconds of this process and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def take_turns(
    ways: Mapping[str, Callable[[], object]], turns: int, *, warm: int = 1
) -> dict[str, Times]:
    """Time each way once in every turn.

    Args:
        ways: functions by name.
        turns: how many are kept.
        warm: turns before those, while caches are cold.
    """
    times = {name: Times() for name in ways}
    for turn in range(-warm, turns):
        for name, way in ways.items():
            if turn < 0:
                way()
            else:
                times[name].time(way)
    return times


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range if there are several values."""
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The ratio of each turn."""
    return [a / b for a, b in zip(first, second, strict=True)]


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent between the first and the last size: 1 is linear."""
    return math.log(seconds[-1] / seconds[0]) / math.log(sizes[-1] / sizes[0])


def table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> str:
    """A Markdown table; numbers are text, so that they keep their digits."""
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align)


def machine() -> str:
    """Processor, memory, load, versions and commit, in a few lines of Markdown."""
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    processor = environment(torch.device("cpu"))["cpu"]
    return (
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.release().partition('-')[0]}; {', '.join(versions)}; "
        f"commit {commit or 'unknown'}; load average before the measurement {load}"
    )
