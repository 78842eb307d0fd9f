"""A control group (cgroup v2) for each run, where the system hands a part of its tree to us.

The kernel then holds a run to its memory at every moment, and counts shared memory and files in
memory as well. A service manager does that for ``systemd-run --user --scope -p Delegate=yes``.
Elsewhere the driver looks at each run's memory ten times a second.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
ROOT_V1 = Path("/sys/fs/cgroup/memory")
CPU_ROOT_V1 = Path("/sys/fs/cgroup/cpu")
CONTROLLERS = frozenset({"memory", "pids"})
MAX_THREADS = 4096
# A group that has groups with limits below it may not hold processes: the driver moves to this one.
DRIVER = "htbench-driver"


def delegated() -> Path | None:
    """The group below which this process may create groups with limits, or None. Changes nothing.

    Any other process in that group would be in the way of its limits.
    """
    try:
        lines = OWN.read_text().splitlines()
        name = next(line[3:] for line in lines if line.startswith("0::"))
        own = ROOT / name.strip("/")
        base = own.parent if own.name == DRIVER else own
        offered = set((base / "cgroup.controllers").read_text().split())
        inside = set((base / "cgroup.procs").read_text().split()) - {str(os.getpid())}
    except (OSError, ValueError, StopIteration):
        return None
    writable = [base, base / "cgroup.procs", base / "cgroup.subtree_control"]
    is_ours = all(os.access(path, os.W_OK) for path in writable)
    return base if is_ours and offered >= CONTROLLERS and not inside else None


def memory_limit() -> int | None:
    """Bytes that the groups of this process may take, as in a container; None for no limit."""
    limits = []
    for group, is_v1 in _own_groups("memory", ROOT_V1):
        lines = _lines(group / ("memory.limit_in_bytes" if is_v1 else "memory.max"))
        limits += [int(text) for text in lines if text.isdecimal()]
    return min(limits, default=None)


def cores() -> int:
    """The processor cores that this process may use; a part of one counts as one.

    A container may be limited to the time of some cores while it sees all of them.
    """
    # Not every system has processor sets.
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = []
    for group, is_v1 in _own_groups("cpu", CPU_ROOT_V1):
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if is_v1 else ("cpu.max",)
        words = " ".join(line for file in files for line in _lines(group / file)).split()
        match words:  # microseconds; no limit is "max", or -1
            case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
                quotas.append(math.ceil(int(quota) / int(period)))
    return max(1, min([count or 1, *quotas]))


def _own_groups(controller: str, root_v1: Path) -> Iterator[tuple[Path, bool]]:
    """The groups that limit this process by a controller, and whether each is of version 1."""
    for line in _lines(OWN):
        _, controllers, name = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = root_v1 if controllers else ROOT
            own = root / name.strip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(root):
                    yield group, bool(controllers)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


class Groups:
    """Creates a group for each job below a group that is ours.

    Args:
        base: see :func:`delegated`.

    Raises:
        OSError: the kernel refuses it after all.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        (base / DRIVER).mkdir(exist_ok=True)
        (base / DRIVER / "cgroup.procs").write_text(str(os.getpid()))
        enable = " ".join(f"+{name}" for name in sorted(CONTROLLERS))
        (base / "cgroup.subtree_control").write_text(enable)

    def create(self, job: int, memory: int) -> Path | None:
        """A new group with limits, which a process joins with :func:`join`; None if refused.

        Args:
            job: distinguishes it from the others of this driver.
            memory: bytes, after which the kernel kills what is in the group.
        """
        group = self._base / f"htbench-{os.getpid()}-{job}"
        try:
            group.mkdir()
            (group / "memory.max").write_text(str(memory))
            (group / "pids.max").write_text(str(MAX_THREADS))
        except OSError:
            remove(group)
            return None
        with contextlib.suppress(OSError):  # not where the kernel does not account for swap
            (group / "memory.swap.max").write_text("0")
        return group


def open_groups() -> Groups | None:
    """Groups for the jobs of this driver, or None where it may not create any."""
    base = delegated()
    if base is None:
        return None
    try:
        return Groups(base)
    except OSError:
        return None


def join(group: str) -> None:
    """Move this process into a group, which counts the memory that it takes from now on."""
    with contextlib.suppress(OSError):  # the driver's own check remains
        Path(group, "cgroup.procs").write_text("0")


def exceeded_memory(group: Path) -> bool:
    """Whether the kernel has killed a process of a group for its memory."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in (group / "memory.events").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1]) > 0
    return False


def remove(group: Path) -> None:
    """Remove a group whose processes have ended."""
    with contextlib.suppress(OSError):
        group.rmdir()
