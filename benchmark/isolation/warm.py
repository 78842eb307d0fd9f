"""The process that has imported torch and stays: it forks the fork server of one session each.

Started as ``python -P start.py benchmark.isolation.warm DESCRIPTOR MODULE ADDRESS SECONDS`` by the
first session, see ``launch.py``. It imports what children need, forks the server of that session,
and then waits at a socket in a folder of the user for the next ones. It reads nothing from
anybody, so it never holds a plugin, a label or a run: a server gets all of that over its own
channel. Killing it costs the next session its start-up, and running ones nothing.

It ends when nobody has needed it for some time, or when a file that it has imported changes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.isolation.kernel import separate_mounts
from benchmark.isolation.launch import peer_user
from benchmark.isolation.server import Entry, Server, close_all_but, import_entry

LOOK_SECONDS = 10.0  # between two looks at whether its socket is still there

State = dict[str, object]


class Warm:
    """Waits at an address and forks a server for each session.

    Args:
        entry: what a child runs.
        address: of the socket.
        seconds: how long it stays without a session.
    """

    def __init__(self, entry: Entry, address: Path, seconds: float) -> None:
        self._entry, self._address, self._seconds = entry, address, seconds
        self._servers: set[int] = set()
        self._wake, wake_write = os.pipe()
        for end in (self._wake, wake_write):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write)

    def wait(self, state: State) -> None:
        """Fork servers until nobody has needed one for long, or the files of ``state`` change."""
        with _listener(self._address) as listener:
            place = _place(self._address)
            end = time.monotonic() + self._seconds
            while self._servers or time.monotonic() < end:
                rest = LOOK_SECONDS if self._servers else max(0.0, end - time.monotonic())
                requests = listener.fileno()
                ready, _, _ = select.select([requests, self._wake], [], [], min(rest, LOOK_SECONDS))
                if _place(self._address) != place:
                    return  # another process waits here now, or the folder is gone
                if self._reap():
                    end = time.monotonic() + self._seconds
                if requests in ready:
                    end = time.monotonic() + self._seconds
                    if not self._accept(listener, state):
                        break
            self._address.unlink(missing_ok=True)

    def _accept(self, listener: socket.socket, state: State) -> bool:
        """Fork a server for the next session; False if this process is out of date."""
        channel, _ = listener.accept()
        with channel:
            if imported_state() != state:
                return False
            if peer_user(channel) == os.geteuid():
                self.fork(channel)
        return True

    def fork(self, channel: socket.socket) -> None:
        """Fork a server that serves a channel."""
        pid = os.fork()
        if pid == 0:
            serve(channel, self._entry)
        self._servers.add(pid)

    def _reap(self) -> bool:
        """Forget the servers that have ended; whether there are any."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        ended = {pid for pid in self._servers if os.waitpid(pid, os.WNOHANG)[0]}
        self._servers -= ended
        return bool(ended)


def serve(channel: socket.socket, entry: Entry) -> None:
    """In the fork: become the server of one session; does not return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        close_all_but({0, 1, 2, channel.fileno()})
        os.setsid()
        separate_mounts()
        importlib.invalidate_caches()  # of names of files, which may have changed
        channel.setblocking(True)
        Server(channel, entry).serve()
        code = 0
    finally:
        os._exit(code)


@contextlib.contextmanager
def _listener(address: Path) -> Iterator[socket.socket]:
    """A socket at an address; it takes the place of one that nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        building = address.with_name(f"{address.name}.{os.getpid()}")  # others may start as well
        building.unlink(missing_ok=True)
        listener.bind(os.fspath(building))
        listener.listen(16)
        building.rename(address)
        yield listener


def _place(address: Path) -> int | None:
    """Which socket is at an address."""
    try:
        return address.lstat().st_ino
    except OSError:
        return None


def imported_state() -> State:
    """What shows that something has changed of all that this process has imported.

    Files are those of modules, of libraries in memory and of the interpreter's settings; folders
    are those that an import looks into, by the names in them.
    """
    modules = [vars(m) for m in list(sys.modules.values()) if hasattr(m, "__dict__")]
    files = {Path(names["__file__"]) for names in modules if names.get("__file__")}
    files |= {Path(name) for name in _mapped()}
    files |= {Path(sys.executable), Path(sys.executable).resolve()}
    files |= {Path(prefix, "pyvenv.cfg") for prefix in (sys.prefix, sys.exec_prefix)}
    searched = [Path(entry) for entry in sys.path]
    folders = {file.parent for file in files}.union(searched)
    state: State = {str(folder): _names(folder) for folder in folders}
    files |= {
        folder / name for folder in searched for name in _names(folder) if name.endswith(".pth")
    }
    return state | {str(file): _status(file) for file in files}


def _mapped() -> set[str]:
    """The files that this process has mapped."""
    text = Path("/proc/self/maps").read_text("utf-8", "surrogateescape")
    fields = (line.split(maxsplit=5) for line in text.splitlines())
    return {line[5] for line in fields if len(line) == 6 and line[5].startswith("/")}


def _names(folder: Path) -> frozenset[str]:
    """The names in a folder that an import may find."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - of hundreds of folders
    except OSError:
        return frozenset()
    return frozenset(name for name in names if name[0] != "." and name != "__pycache__")


def _status(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _changed_since(state: State, begun: float) -> bool:
    """Whether a file may have changed after this process had read it."""
    times = [entry[4] for entry in state.values() if isinstance(entry, tuple)]
    return max(times, default=0) >= begun * 10**9


def _begun() -> float:
    """When this process was started, in seconds since the epoch."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


def main() -> None:
    """Leave the session's driver, import, fork its server, then wait for others."""
    descriptor, module, address, seconds = sys.argv[1:]
    begun = _begun()
    if os.fork():
        os._exit(0)
    channel = socket.socket(fileno=int(descriptor))
    os.set_inheritable(channel.fileno(), False)
    os.chdir("/")
    entry = import_entry(module)
    warm = Warm(entry, Path(address), float(seconds))
    with channel:
        warm.fork(channel)
    state = imported_state()
    if not _changed_since(state, begun):
        warm.wait(state)


if __name__ == "__main__":
    main()
