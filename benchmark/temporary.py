"""Temporary folders: those of a killed process are removed by the next one on its host."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmark.files import adding_path
from benchmark.trees import remove_tree


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new folder that is removed afterwards, however deeply a child has nested folders in it.

    Args:
        parent: where to create it; whoever owns that folder also removes what a kill leaves in it.
            Default: the system's temporary folder.
    """
    if parent is None:
        folder, descriptor = locked_folder("run")
    else:
        folder, descriptor = Path(tempfile.mkdtemp(prefix="htbench-", dir=parent)), None
    try:
        with adding_path(folder):
            yield folder
    finally:
        remove_tree(folder)
        if descriptor is not None:
            os.close(descriptor)


def locked_folder(kind: str) -> tuple[Path, int]:
    """A new folder in the system's temporary folder, locked while its descriptor is open.

    Those of this kind whose processes on this host were killed are removed first.

    Args:
        kind: a word for its name.
    """
    # The temporary folder may be shared by hosts, which may not see each other's locks.
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
    prefix = f"htbench-{kind}-{host}-"
    for other in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # it has been removed, or is another user's
            _remove_if_left(other)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        with contextlib.suppress(FileNotFoundError):  # another process thought that it was left
            descriptor = _opened(folder)
            try:
                is_ours = _lock(descriptor) and folder.exists()
            except OSError:  # a file system without locks: then nobody removes it, either
                is_ours = True
            if is_ours:
                return folder, descriptor
            os.close(descriptor)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder of this user that no process has locked."""
    descriptor = _opened(folder)
    try:
        # What another user owns may become a link to anywhere before it is removed.
        if os.fstat(descriptor).st_uid == os.geteuid() and _lock(descriptor):
            remove_tree(folder)
    finally:
        os.close(descriptor)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _lock(descriptor: int) -> bool:
    """Lock an open folder; whether no other process has locked it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
