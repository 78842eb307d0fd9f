"""Start the fork server of a session: a fork of one that waits, or a new process.

Importing torch takes seconds, so on Linux the process that imports it stays for some minutes: see
``warm.py``, which it runs. A later session of the same user, in the same environment, gets its
fork server from there at once. Where anything is unusual, a session starts a new process, as if
there were no other.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import site
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmark import failpoints, start
from benchmark.errors import RunError
from benchmark.files import digest_json
from benchmark.isolation import wire
from benchmark.isolation.sandbox import available
from benchmark.numerics import ENVIRONMENT

VARIABLE = "HTBENCH_WARM"  # seconds that an unused process stays; 0: none is used, and none stays
IDLE_SECONDS = 600
CHILD = "benchmark.child.main"  # what a child runs; named, so that the driver does not import it
START_SECONDS = 120  # importing torch from a cold disk is slow
FORK_SECONDS = 10
MAX_ADDRESS = 107 - len(".1234567")  # bytes in the path of a socket, with a process id

# The variables of the user's environment that a child receives.
KEPT_VARIABLES = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "OPENBLAS_CORETYPE",
    failpoints.VARIABLE,
)
# glibc asks the kernel for large pages, which costs a fork and the first write to memory less; the
# values that a run computes are the same.
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")  # may name folders by relative paths
# What a process inherits, from /proc/self: a server is a fork of a process that inherited the same.
_STATUS = (
    *("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd"),
    *("CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"),
)
_INHERITED = ("cgroup", "limits", "oom_score_adj", "personality")
_SCHEDULING = slice(15, 16), slice(37, 39)  # of /proc/self/stat after the name: nice; policy


class Process(Protocol):
    """What a session does with the process of its server."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""

    def kill(self) -> None:
        """Kill it."""


class ForkedProcess:
    """A server that another process forked; it ends when the session closes its channel."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its exit code is unknown.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        if self._handle >= 0:
            if not select.select([self._handle], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("fork server", timeout or 0)
            os.close(self._handle)
            self._handle = -1
        return 0

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)


def start_server(*, keep: bool = True) -> tuple[socket.socket, Process]:
    """A fork server that is ready, with the channel to it.

    Args:
        keep: whether the process that has imported torch may stay, and be one that stayed.

    Raises:
        RunError: it cannot be started.
    """
    environment = _environment()
    if keep and (address := warm_address(environment)) is not None:
        with contextlib.suppress(OSError, RunError):
            channel = _ahead.pop(address) if address in _ahead else _connect(address)
            return _ready(channel, FORK_SECONDS)
        with contextlib.suppress(OSError, RunError):
            return _start_warm(address, environment)
    return _start_cold(environment)


_ahead: dict[Path, socket.socket] = {}


def call_ahead() -> None:
    """If a process waits, have it fork a server now, for the next :func:`start_server`.

    A command calls this first, so that the server prepares itself while the command is imported.
    The server ends with this process if nobody uses it.
    """
    address = warm_address(_environment())
    if address is not None and address not in _ahead:
        with contextlib.suppress(OSError, RunError):
            _ahead[address] = _connect(address)


def _start_cold(environment: Mapping[str, str]) -> tuple[socket.socket, Process]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            start.command("benchmark.isolation.server", str(theirs.fileno()), CHILD),
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the driver, which then ends the children
        )
    try:
        _await_ready(ours, START_SECONDS)
    except (OSError, RunError):
        ours.close()
        process.kill()
        process.wait()
        raise RunError(
            "the process that starts runs could not be started; run `htbench doctor` to find out "
            "why"
        ) from None
    return ours, process


def _start_warm(address: Path, environment: Mapping[str, str]) -> tuple[socket.socket, Process]:
    """Start a process that stays, and have its first fork."""
    ours, theirs = socket.socketpair()
    words = (str(theirs.fileno()), CHILD, str(address), str(idle_seconds()))
    with theirs:
        process = subprocess.Popen(
            start.command("benchmark.isolation.warm", *words),
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # whoever reads this command's output does not wait for it
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    process.wait()  # it has forked the one that stays
    return _ready(ours, START_SECONDS)


def _connect(address: Path) -> socket.socket:
    """Have a process that waits at an address fork a server; the channel to it.

    Raises:
        OSError: there is none.
        RunError: it belongs to another user.
    """
    channel = socket.socket(socket.AF_UNIX)
    try:
        channel.settimeout(FORK_SECONDS)
        channel.connect(os.fspath(address))
        if peer_user(channel) != os.geteuid():
            raise RunError(f"{address} belongs to another user")
    except BaseException:
        channel.close()
        raise
    return channel


def _ready(channel: socket.socket, seconds: float) -> tuple[socket.socket, Process]:
    try:
        return channel, ForkedProcess(_await_ready(channel, seconds))
    except BaseException:
        channel.close()
        raise


def _await_ready(channel: socket.socket, seconds: float) -> int:
    """Wait for a server's first message: its process id.

    Raises:
        OSError: it does not come in time.
        RunError: the server has ended, or says something else.
    """
    channel.settimeout(seconds)
    message, _ = wire.receive(channel) or ({}, [])
    if type(pid := message.get("ready")) is not int:
        raise RunError("the process that starts runs has ended")
    channel.settimeout(None)
    return pid


def peer_user(channel: socket.socket) -> int:
    """The user whose process is at the other end of a socket, as the kernel says."""
    data = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", data)[1]
    return user


def _environment() -> dict[str, str]:
    """The whole environment of a server and its children."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment |= {**ENVIRONMENT, **_LARGE_PAGES}
    # Libraries ask who the user is, and the file that says so is out of a run's reach.
    environment |= {"USER": "nobody", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    if site.ENABLE_USER_SITE:  # packages of `pip install --user` are found through HOME
        environment["PYTHONUSERBASE"] = site.getuserbase()
    return environment


# --- where a process waits ----------------------------------------------------------------------


def idle_seconds() -> int:
    """Seconds that an unused process stays; 0, or what is not a number: none may stay."""
    text = os.environ.get(VARIABLE) or str(IDLE_SECONDS)
    return int(text) if text.isdecimal() else 0


def warm_address(environment: Mapping[str, str]) -> Path | None:
    """Where the process of this user waits that has inherited the same; None if none may stay.

    None may stay where runs are not fully isolated: a run could then ask it for a server.
    """
    if sys.platform != "linux" or not idle_seconds() or available().missing:
        return None
    try:
        folder = warm_folder()
        address = folder / digest_json(_inherited(environment))[:32]
    except OSError:
        return None
    return address if len(os.fsencode(address)) <= MAX_ADDRESS else None


def warm_folder(*, create: bool = True) -> Path:
    """The folder of sockets, which no other user can enter.

    Raises:
        OSError: it does not exist, or is not private.
    """
    base, user = os.environ.get("XDG_RUNTIME_DIR"), os.geteuid()
    folder = Path(base, "htbench") if base else Path(tempfile.gettempdir(), f"htbench-{user}")
    if create:
        folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == user
    if not is_ours or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")
    return folder


def _inherited(environment: Mapping[str, str]) -> dict[str, Any]:
    """All that a server would inherit from this process, and the program that it would run.

    Raises:
        OSError: /proc does not say it.
    """
    own = Path("/proc/self")
    status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
    fields = (own / "stat").read_text().rpartition(")")[2].split()
    entries = [e for name in _SEARCHED for e in environment.get(name, "/").split(os.pathsep)]
    program = Path(sys.executable).resolve()
    return {
        "program": [*start.command("benchmark.isolation.warm"), sys.version, str(program)],
        "state": list(program.stat()[:10]),
        "environment": dict(environment),
        "folder": None if all(map(os.path.isabs, entries)) else str(Path.cwd()),
        "idle": idle_seconds(),
        "status": {name: status.get(name) for name in _STATUS},
        "files": {name: (own / name).read_text() for name in _INHERITED},
        "namespaces": {p.name: str(p.readlink()) for p in sorted((own / "ns").iterdir())},
        "root": str((own / "root").readlink()),
        "scheduling": [fields[part] for part in _SCHEDULING],
    }
