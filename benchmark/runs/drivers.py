"""Which driver a folder in a workspace's ``tmp`` belongs to: its name says host, boot and process.

A lock alone does not tell: file systems such as NFS may keep locks local to a node, so that the
lock of a driver on another node looks free.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "driver-"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAME = re.compile(
    rf"{PREFIX}(?P<host>[A-Za-z0-9_-]+)~(?P<boot>[^~]+)~(?P<process>\d+)~(?P<start>\d+)~[^~]*"
)


@dataclass(frozen=True)
class Driver:
    """A process on a host.

    Attributes:
        host: its name; characters other than letters, digits and dashes are underscores.
        boot: id of the host's boot.
        process: process id; ``start``: when the process started, in clock ticks after the boot.
    """

    host: str
    boot: str
    process: int
    start: int

    @property
    def prefix(self) -> str:
        """What the names of its folders begin with."""
        return f"{PREFIX}{self.host}~{self.boot}~{self.process}~{self.start}~"

    @property
    def is_here(self) -> bool:
        """Whether it is of this host, which then knows whether it runs."""
        return self.host == host_name()

    @property
    def is_alive(self) -> bool:
        """Whether a driver of this host runs."""
        return self.boot == boot_id() and self.start == _start_of(self.process)


def this_driver() -> Driver:
    """This process."""
    process = os.getpid()
    return Driver(host_name(), boot_id(), process, _start_of(process) or 0)


def driver_of(folder: Path) -> Driver | None:
    """The driver that a folder or its lock belongs to; None for a name of an earlier version."""
    parts = _NAME.fullmatch(folder.stem)
    if parts is None:
        return None
    return Driver(parts["host"], parts["boot"], int(parts["process"]), int(parts["start"]))


def driver_folders(base: Path) -> list[Path]:
    """The folders of drivers in a workspace's ``tmp``; of some, only the lock may exist."""
    return sorted({path.with_suffix("") for path in base.glob(f"{PREFIX}*")})


def foreign_drivers(base: Path) -> Iterator[tuple[Path, Driver]]:
    """The folders of drivers of other hosts, dead or alive."""
    for folder in driver_folders(base):
        driver = driver_of(folder)
        if driver is not None and not driver.is_here:
            yield folder, driver


def may_be_swept(folder: Path) -> bool:
    """Whether a folder's driver is dead, as far as its name says; its lock must be free as well."""
    driver = driver_of(folder)
    if driver is None:
        return True
    return driver.is_here and not driver.is_alive


def host_name() -> str:
    """The name of this host, as part of a file name."""
    return re.sub(r"[^A-Za-z0-9-]", "_", socket.gethostname())[:64] or "unknown"


def boot_id() -> str:
    """Identifies the boot of this host."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return "unknown"


def _start_of(process: int) -> int | None:
    """When a process started, in clock ticks after the boot; None if it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])
